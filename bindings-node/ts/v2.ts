// For programs written for @hocuspocus/server 2.13 to 2.15: `Server` is an instance that is configured and listens itself.
// See README.md for what differs.

import type { AddressInfo } from 'node:net'
import type { EngineOptions } from './addon.ts'
import { defaultConfiguration as current } from './defaults.ts'
import type { Hocuspocus as Current } from './Hocuspocus.ts'
import { has } from './hooks.ts'
import { LegacyHocuspocus } from './legacy.ts'
import { Server as HttpServer, type ServerConfiguration } from './Server.ts'
import type { HookName } from './types.ts'
import type { WebSocketOptions } from './upgrade.ts'

export * from './Connection.ts'
export * from './debounce.ts'
export * from './Document.ts'
export * from './IncomingMessage.ts'
export * from './MessageReceiver.ts'
export * from './OutgoingMessage.ts'
export { FidibusPostgres, FidibusSqlite } from './stores.ts'
export * from './types.ts'

export const defaultConfiguration = { ...current, timeout: 30_000, port: 80, address: '0.0.0.0', stopOnSignals: true }

/** Payloads whose `connection` was the configuration of the session. */
const CONFIGURING: ReadonlySet<HookName> = new Set([
  'onConnect',
  'onAuthenticate',
  'onCreateDocument',
  'onLoadDocument',
  'afterLoadDocument',
  'connected',
])

class Front<Context> extends HttpServer<Context> {
  protected override createHocuspocus(): Current<Context> {
    return (this.configuration as unknown as { instance: Current<Context> }).instance
  }
}

export class Hocuspocus<Context = any> extends LegacyHocuspocus<Context> {
  #front: Front<Context> | undefined

  constructor(configuration?: Partial<ServerConfiguration<Context>>) {
    super()
    this.configure({ ...defaultConfiguration, extensions: [], ...configuration } as Partial<ServerConfiguration<Context>>)
  }

  get requiresAuthentication(): boolean {
    return this.configuration.extensions.some((extension) => has(extension, 'onAuthenticate'))
  }

  /** Without such a hook a client may leave the Auth message out, as providers of 2.x without a token do. */
  protected override get engineOptions(): Partial<EngineOptions> {
    return { ...super.engineOptions, tokenOptional: !this.requiresAuthentication }
  }

  protected override adapt(name: HookName, payload: Record<string, any>): Record<string, any> {
    const adapted = super.adapt(name, payload)
    if (!CONFIGURING.has(name)) return adapted
    if (name === 'connected') adapted.connectionInstance = payload.connection
    adapted.connection = payload.connectionConfig
    if (adapted.connection) adapted.connection.requiresAuthentication = this.requiresAuthentication
    return adapted
  }

  async listen(
    portOrCallback: number | ((payload: any) => Promise<any>) | null = null,
    callback: any = null,
    websocketOptions: WebSocketOptions = {},
  ): Promise<Hocuspocus<Context>> {
    const port = typeof portOrCallback === 'number' ? portOrCallback : undefined
    const told = typeof portOrCallback === 'function' ? portOrCallback : callback
    const configuration = { ...this.configuration, websocketOptions, instance: this }
    this.#front = new Front<Context>(configuration as Partial<ServerConfiguration<Context>>)
    if (port !== undefined) this.#front.configuration.port = port
    await this.#front.listen(undefined, told)
    return this
  }

  get httpServer(): HttpServer<Context>['httpServer'] | undefined {
    return this.#front?.httpServer
  }

  get address(): AddressInfo {
    const configuration = this.configuration as unknown as { port: number; address: string }
    return this.#front?.address ?? { port: configuration.port, address: configuration.address, family: 'IPv4' }
  }

  get URL(): string {
    return `${(this.configuration as unknown as { address: string }).address}:${this.address.port}`
  }

  get webSocketURL(): string {
    return `ws://${this.URL}`
  }

  get httpURL(): string {
    return `http://${this.URL}`
  }

  async destroy(): Promise<any> {
    await this.#front?.destroy()
  }
}

/** The one that `Server.configure({ … })` is called on. */
export const Server = new Hocuspocus()
