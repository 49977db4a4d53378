// Hocuspocus behind Node's own HTTP server: requests and upgrades go through the user's hooks, then the engine takes the
// sockets over.

import { createServer, type Server as HTTPServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { defaultConfiguration } from './defaults.ts'
import { Hocuspocus } from './Hocuspocus.ts'
import { report } from './hooks.ts'
import type { Configuration } from './types.ts'
import { checkWebSocketOptions } from './upgrade.ts'
import { version } from './version.ts'

export interface ServerConfiguration<Context = any> extends Configuration<Context> {
  port?: number
  address?: string
  stopOnSignals?: boolean
  /** Options of ws' server that can be honoured; others are refused with an error. */
  websocketOptions?: Record<string, any>
  /** Ours: milliseconds that `destroy` waits for documents that hooks do not let go. Default 30_000. */
  destroyTimeout?: number
}

export const defaultServerConfiguration = {
  port: 80,
  stopOnSignals: true,
}

const DESTROY_TIMEOUT_MS = 30_000

export class Server<Context = any> {
  httpServer: HTTPServer

  hocuspocus: Hocuspocus<Context>

  configuration: ServerConfiguration<Context> = {
    ...defaultConfiguration,
    ...defaultServerConfiguration,
    extensions: [],
  }

  #destroying: Promise<void> | undefined
  #signals: (() => void) | undefined

  constructor(configuration?: Partial<ServerConfiguration<Context>>) {
    if (configuration) this.configuration = { ...this.configuration, ...configuration }
    checkWebSocketOptions(this.configuration.websocketOptions ?? {})
    this.hocuspocus = this.createHocuspocus()
    this.hocuspocus.server = this
    this.httpServer = createServer(this.requestHandler)
    this.httpServer.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head))
  }

  protected createHocuspocus(): Hocuspocus<Context> {
    return new Hocuspocus(this.configuration)
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      await this.hocuspocus.hooks('onUpgrade', { request, socket, head, instance: this.hocuspocus })
      await this.hocuspocus.handleUpgrade(request, socket, head)
    } catch (error) {
      // An empty rejection: the hook has taken the socket.
      if (!error) return
      report('onUpgrade', error)
      socket.destroy()
    }
  }

  requestHandler = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      await this.hocuspocus.hooks('onRequest', { request, response, instance: this.hocuspocus })
      response.writeHead(200, { 'Content-Type': 'text/plain' })
      response.end('Welcome to Hocuspocus!')
    } catch (error) {
      // An empty rejection: the hook has answered.
      if (!error) return
      report('onRequest', error)
      if (!response.headersSent) response.writeHead(500, { 'Content-Type': 'text/plain' })
      response.end('Internal Server Error')
    }
  }

  async listen(port?: number, callback: any = null): Promise<Hocuspocus<Context>> {
    if (port) this.configuration.port = port
    if (typeof callback === 'function') this.hocuspocus.configuration.extensions.push({ onListen: callback })
    if (this.configuration.stopOnSignals) this.#stopOnSignals()
    await new Promise<void>((resolve, reject) => {
      this.httpServer.once('error', reject)
      this.httpServer.listen({ port: this.configuration.port, host: this.configuration.address }, () => {
        this.httpServer.off('error', reject)
        resolve()
      })
    })
    if (!this.configuration.quiet && String(process.env.NODE_ENV) !== 'testing') this.#showStartScreen()
    await this.hocuspocus.hooks('onListen', {
      instance: this.hocuspocus,
      configuration: this.configuration,
      port: this.address.port,
    })
    return this.hocuspocus
  }

  #stopOnSignals(): void {
    const stop = async () => {
      await this.destroy()
      process.exit(0)
    }
    this.#signals = () => {
      for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM']) process.off(signal, stop)
    }
    for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM']) process.on(signal, stop)
  }

  get address(): AddressInfo {
    return (this.httpServer.address() || {
      port: this.configuration.port,
      address: this.configuration.address ?? '0.0.0.0',
      family: 'IPv4',
    }) as AddressInfo
  }

  /** Once; who calls again waits for the same end. */
  async destroy(): Promise<void> {
    this.#destroying ??= this.#destroy()
    return this.#destroying
  }

  async #destroy(): Promise<void> {
    const { hocuspocus } = this
    this.httpServer.close()
    await this.#unloadAll()
    await hocuspocus.hooks('onDestroy', { instance: hocuspocus })
    // Stock leaves sockets open that no document holds; without a listener nobody has use for them.
    hocuspocus.shutDownEngine(1_000)
    this.#signals?.()
  }

  /** Ends all sessions and waits until the last document is stored and unloaded. */
  async #unloadAll(): Promise<void> {
    const { hocuspocus } = this
    const timeout = this.configuration.destroyTimeout ?? DESTROY_TIMEOUT_MS
    await new Promise<void>((resolve) => {
      const deadline = setTimeout(() => {
        const left = [...hocuspocus.documents.keys()].slice(0, 10).join(', ')
        report('destroy', new Error(`documents were not unloaded within ${timeout} ms: ${left}`))
        resolve()
      }, timeout)
      const done = () => {
        if (hocuspocus.getDocumentsCount() > 0) return
        clearTimeout(deadline)
        resolve()
      }
      this.configuration.extensions.push({ afterUnloadDocument: async () => done() })
      done()
      hocuspocus.closeConnections()
      hocuspocus.flushPendingStores()
    })
  }

  get URL(): string {
    return `${this.configuration.address ?? '0.0.0.0'}:${this.address.port}`
  }

  get webSocketURL(): string {
    return `ws://${this.URL}`
  }

  get httpURL(): string {
    return `http://${this.URL}`
  }

  #showStartScreen(): void {
    const name = this.configuration.name ? ` (${this.configuration.name})` : ''
    const lines = ['', `  Fidibus for Hocuspocus v${version}${name} running at:`, '']
    lines.push(`  > HTTP: ${this.httpURL}`, `  > WebSocket: ${this.webSocketURL}`)
    const extensions = this.configuration.extensions
      .map((extension) => extension.extensionName ?? extension.constructor?.name)
      .filter((name) => name && name !== 'Object')
    if (extensions.length > 0) lines.push('', '  Extensions:', ...extensions.map((name) => `  - ${name}`))
    lines.push('', '  Ready.', '')
    console.log(lines.join('\n'))
  }
}
