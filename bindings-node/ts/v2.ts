// For programs written for @hocuspocus/server 2.13 to 2.15: `Server` is an instance that is configured and listens itself.
// See README.md for what differs.

import { type CloseEvent, Forbidden, Unauthorized } from '@hocuspocus/common'
import type { AddressInfo } from 'node:net'
import type { EngineOptions } from './addon.ts'
import type { ClientConnection, Session } from './ClientConnection.ts'
import { Debugger } from './Debugger.ts'
import { defaultConfiguration as current } from './defaults.ts'
import type { Hocuspocus as Current } from './Hocuspocus.ts'
import { has } from './hooks.ts'
import type { IncomingMessage } from './IncomingMessage.ts'
import { LegacyHocuspocus } from './legacy.ts'
import { LegacyDocument } from './LegacyDocument.ts'
import { LegacyMessageReceiver } from './LegacyMessageReceiver.ts'
import { Server as HttpServer, type ServerConfiguration } from './Server.ts'
import type { HookName, HookPayloadByName } from './types.ts'
import type { WebSocketOptions } from './upgrade.ts'

export * from './Connection.ts'
export * from './Debugger.ts'
export * from './debounce.ts'
export * from './IncomingMessage.ts'
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

type DocumentArguments = ConstructorParameters<typeof LegacyDocument>

/** The logger came before the options. */
export class Document extends LegacyDocument {
  logger: Debugger | undefined

  constructor(name: string, logger?: Debugger, yDocOptions?: object, options?: DocumentArguments[2]) {
    super(name, yDocOptions, options)
    this.logger = logger
  }
}

class Front<Context> extends HttpServer<Context> {
  protected override createHocuspocus(): Current<Context> {
    return (this.configuration as unknown as { instance: Current<Context> }).instance
  }
}

/** The logger came before the origin, and the origin could be anything. */
export class MessageReceiver extends LegacyMessageReceiver {
  logger: Debugger

  constructor(message: IncomingMessage, logger: Debugger, defaultTransactionOrigin?: unknown) {
    super(message, defaultTransactionOrigin as LegacyMessageReceiver['defaultTransactionOrigin'])
    this.logger = logger
  }
}

export class Hocuspocus<Context = any> extends LegacyHocuspocus<Context> {
  override readonly endsSockets = true

  debugger = new Debugger()

  #front: Front<Context> | undefined

  /** What identifies sessions that an onConnect hook refused. */
  #refused = new WeakSet<object>()

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

  override hooks<T extends HookName>(
    name: T,
    payload: HookPayloadByName<Context>[T],
    // biome-ignore lint/complexity/noBannedTypes: the type that Hocuspocus has
    callback: Function | null = null,
  ): Promise<any> {
    const ran = super.hooks(name, payload, callback)
    if (name !== 'onConnect') return ran
    return ran.catch((error) => {
      this.#refused.add((payload as HookPayloadByName['onConnect']).connectionConfig)
      throw error
    })
  }

  /** A refusal by onConnect ended the socket, one by onAuthenticate was answered. */
  override refused(client: ClientConnection, { payload }: Session, error: any): void {
    if (!this.#refused.has(payload.connectionConfig)) return
    const { code, reason }: CloseEvent = { ...Forbidden, ...error }
    try {
      client.websocket.close(code, reason)
    } catch (invalid) {
      console.error(invalid)
      client.websocket.close(Unauthorized.code, Unauthorized.reason)
    }
  }

  protected override adapt(name: HookName, payload: Record<string, any>): Record<string, any> {
    const adapted = super.adapt(name, payload)
    if (!CONFIGURING.has(name)) return adapted
    if (name === 'connected') adapted.connectionInstance = payload.connection
    adapted.connection = payload.connectionConfig
    if (adapted.connection) adapted.connection.requiresAuthentication = this.requiresAuthentication
    return adapted
  }

  protected override newDocument(...[name, yDocOptions, options]: DocumentArguments): LegacyDocument {
    return new Document(name, this.debugger, yDocOptions, options)
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

  enableDebugging(): void {
    this.debugger.enable()
  }

  enableMessageLogging(): void {
    this.debugger.enable()
    this.debugger.verbose()
  }

  disableLogging(): void {
    this.debugger.quiet()
  }

  disableDebugging(): void {
    this.debugger.disable()
  }

  flushMessageLogs(): Hocuspocus<Context> {
    this.debugger.flush()
    return this
  }

  getMessageLogs(): any[] {
    return this.debugger.get().logs
  }

  async destroy(): Promise<any> {
    await this.#front?.destroy()
  }
}

/** The one that `Server.configure({ … })` is called on. */
export const Server = new Hocuspocus()
