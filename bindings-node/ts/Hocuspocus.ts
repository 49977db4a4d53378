// Documents, hooks and their order, as Hocuspocus has them. Sockets, protocol and fan-out are the engine's; it is made
// when the first document or socket needs it.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { ResetConnection } from '@hocuspocus/common'
import { applyUpdate, Doc, encodeStateAsUpdate } from 'yjs'
import type { EngineOptions } from './addon.ts'
import { ClientConnection, type Session, type SessionPayload } from './ClientConnection.ts'
import type Connection from './Connection.ts'
import { useDebounce } from './debounce.ts'
import { CONFIGURED_HOOKS, DEFAULT_HOOKS, defaultConfiguration } from './defaults.ts'
import { DirectConnection } from './DirectConnection.ts'
import { DocumentLink, LINK } from './DocumentLink.ts'
import Document from './Document.ts'
import { EngineEvents } from './EngineEvents.ts'
import { engineOptionsOf } from './engineOptions.ts'
import { bits, has, having, nothing, report, run, watch } from './hooks.ts'
import { listen } from './listening.ts'
import { connectionOf, contextOf } from './origins.ts'
import { getParameters, headersOf, localRequest, pathDocument } from './parameters.ts'
import { Saving, storeId } from './Saving.ts'
import type { Server } from './Server.ts'
import {
  type Configuration,
  type ConnectionConfiguration,
  type Extension,
  type HookName,
  type HookPayloadByName,
  type onStoreDocumentPayload,
  shouldSkipStoreHooks,
  type WebSocketLike,
} from './types.ts'
import { upgrade } from './upgrade.ts'
import { version } from './version.ts'

/** A document that somebody is on the way into is looked at again after this many milliseconds. */
const RETIRE_RETRY_MS = 100
type LoadArguments<Context> = [
  request: Request,
  socketId: string,
  connectionConfig: ConnectionConfiguration,
  context?: Context,
]

/** A load that JavaScript began. */
interface Opening<Context> {
  arguments: LoadArguments<Context>
  resolve: (document: Document) => void
  reject: (error: unknown) => void
}

interface Loaded {
  document: Document
  updates: Uint8Array[]
}

export class Hocuspocus<Context = any> {
  configuration: Configuration<Context> = {
    ...defaultConfiguration,
    extensions: [],
    ...(Object.fromEntries(DEFAULT_HOOKS.map((name) => [name, nothing()])) as Extension<Context>),
  }

  loadingDocuments: Map<string, Promise<Document>> = new Map()
  unloadingDocuments: Map<string, Promise<void>> = new Map()
  documents: Map<string, Document> = new Map()
  server?: Server<Context>
  debouncer = useDebounce()
  /** Whether the end of a socket's last session is its own. */
  readonly endsSockets: boolean = false

  #events: EngineEvents | undefined
  readonly #saving = new Saving(this as Hocuspocus, () => this.#events)
  #openings = new Map<string, Opening<Context>>()
  /** Held here: the arrays that it watches hold it weakly. */
  #hooksChanged = () => this.#refreshHooks()

  constructor(configuration?: Partial<Configuration<Context>>) {
    if (configuration) this.configure(configuration)
  }

  configure(configuration: Partial<Configuration<Context>>): Hocuspocus<Context> {
    this.configuration = { ...this.configuration, ...configuration }
    const { extensions } = this.configuration
    extensions.sort((a, b) => (b.priority ?? 100) - (a.priority ?? 100))
    const own: Record<string, unknown> = {}
    for (const name of CONFIGURED_HOOKS) own[name] = this.configuration[name]
    extensions.push(own as Extension)
    watch(extensions, this.#hooksChanged)
    this.#refreshHooks()
    void this.tell('onConfigure', { configuration: this.configuration, version, instance: this })
    return this
  }

  // The engine

  /** Options of the engine that are no part of Hocuspocus' configuration. */
  protected get engineOptions(): Partial<EngineOptions> {
    const messageBytesMax = this.server?.configuration.websocketOptions?.maxPayload
    return messageBytesMax === undefined ? {} : { messageBytesMax }
  }

  get #engineEvents(): EngineEvents {
    if (this.#events === undefined) {
      const options = { ...engineOptionsOf(this.configuration), ...this.engineOptions }
      this.#events = new EngineEvents(this as Hocuspocus, options)
      this.#refreshHooks()
    }
    return this.#events
  }

  #refreshHooks(): void {
    const { extensions } = this.configuration
    this.#events?.engine.setHooks(bits(extensions))
    if (extensions.some((extension) => has(extension, 'onAwarenessUpdate'))) {
      // Looked at, so that its events come.
      for (const document of this.documents.values()) void document.awareness
    }
  }

  // Counts and connections

  getDocumentsCount(): number {
    return this.documents.size
  }

  /** Sockets, however many documents each has open, and direct connections. */
  getConnectionsCount(): number {
    const sockets = new Set<string>()
    let direct = 0
    for (const document of this.documents.values()) {
      for (const connection of document.getConnections()) sockets.add(connection.socketId)
      direct += document.directConnectionsCount
    }
    return sockets.size + direct
  }

  flushPendingStores(): void {
    for (const document of this.documents.values()) {
      const id = storeId(document)
      if (!document.isLoading && this.debouncer.isDebounced(id)) void this.debouncer.executeNow(id)
    }
  }

  closeConnections(documentName?: string): void {
    for (const document of [...this.documents.values()]) {
      if (documentName && document.name !== documentName) continue
      for (const connection of document.getConnections()) connection.close(ResetConnection)
    }
  }

  // Sockets

  /** Serves a socket that lives in JavaScript; the caller hands in its messages and its end. */
  handleConnection(
    incoming: WebSocket | WebSocketLike,
    request: Request,
    defaultContext: Context = {} as Context,
  ): ClientConnection<Context> {
    const events = this.#engineEvents
    const client = this.#client(incoming as WebSocketLike, () => request, defaultContext)
    client.id = events.engine.connect('', pathDocument(request.url))
    events.addSocket(client as ClientConnection)
    return client
  }

  /**
   * Answers a WebSocket upgrade and hands the socket to the engine, so that none of its bytes pass through JavaScript:
   * for programs with an HTTP server of their own.
   */
  handleUpgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Uint8Array,
    defaultContext: Context = {} as Context,
  ): Promise<ClientConnection<Context> | undefined> {
    const events = this.#engineEvents
    const options = this.server?.configuration.websocketOptions ?? {}
    return upgrade(request, socket, head, events.engine, options, (native, webRequest) => {
      const client = this.#client(native, webRequest, defaultContext)
      client.id = native.id
      native.client = client as ClientConnection
      events.addSocket(client as ClientConnection)
      return client
    })
  }

  #client(socket: WebSocketLike, request: () => Request, context: Context): ClientConnection<Context> {
    // Hooks that were assigned rather than pushed show here.
    this.#refreshHooks()
    const client = new ClientConnection<Context>(socket, request, this, this.#engineEvents.engine, context)
    client.onClose((document) => this.#lastLeft(document))
    return client
  }

  // Called by the engine's events

  /** Runs the hooks that let a session in; `undefined`: nobody has any. */
  admit({ payload, documentName }: Session<Context>, token: string): Promise<void> | undefined {
    const { extensions } = this.configuration
    if (!extensions.some((extension) => has(extension, 'onConnect') || has(extension, 'onAuthenticate'))) {
      return undefined
    }
    return this.#admit(payload, documentName, token)
  }

  async #admit(payload: SessionPayload<Context>, documentName: string, token: string): Promise<void> {
    const merge = (additions: Partial<Context>) => {
      payload.context = { ...payload.context, ...additions }
    }
    await this.hooks('onConnect', { ...payload, documentName }, merge)
    await this.hooks('onAuthenticate', { token, ...payload, documentName }, merge)
  }

  /** A session was not let in. Older majors close its socket. */
  refused(_client: ClientConnection, _session: Session, _error: unknown): void {}

  connected(payload: SessionPayload<Context>, documentName: string, connection: Connection<Context>): Promise<any> {
    return this.hooks('connected', { ...payload, documentName, connection })
  }

  /** The engine loads a document: for a session, or because this asked for it. */
  async load(name: string, session: Session<Context> | undefined, id: number, stored: Uint8Array): Promise<Loaded> {
    const opening = this.#openings.get(name)
    this.#openings.delete(name)
    const link = new DocumentLink(this.#engineEvents.engine, id, stored)
    const updates: Uint8Array[] = []
    const loading = this.loadDocument(name, ...this.#loadArguments(opening, session), link, updates)
    // Who asks meanwhile gets this load.
    if (opening === undefined) this.loadingDocuments.set(name, loading)
    try {
      const document = await loading
      this.documents.set(name, document)
      this.loadingDocuments.delete(name)
      // After this function's caller has told the engine.
      queueMicrotask(() => opening?.resolve(document))
      if (link.touched) updates.unshift(encodeStateAsUpdate(document))
      return { document, updates }
    } catch (error) {
      this.loadingDocuments.delete(name)
      opening?.reject(error)
      throw error
    }
  }

  #loadArguments(opening?: Opening<Context>, session?: Session<Context>): LoadArguments<Context> {
    if (opening) return opening.arguments
    if (session) {
      const { request, socketId, connectionConfig, context } = session.payload
      return [request, socketId, connectionConfig, context]
    }
    return [localRequest(), crypto.randomUUID(), { isAuthenticated: true, readOnly: false }]
  }

  loadFailed(name: string, message: string): void {
    const opening = this.#openings.get(name)
    this.#openings.delete(name)
    opening?.reject(new Error(`${name}: ${message}`))
  }

  /** A room changed whose changes nobody here follows one by one. */
  touched(document: Document): void {
    document.lastChangeTime = Date.now()
    this.#saving.schedule(document, () => this.#saving.lastChange(document))
  }

  /** A session is out of the room that this did not see leave. */
  reconsider(document: Document): void {
    if (this.shouldUnloadDocument(document)) void this.unloadDocument(document).catch(() => {})
  }

  /** The engine lost a room: it failed, or could not take what the load hooks gave it. */
  lost(document: Document): void {
    if (this.documents.get(document.name) !== document) return
    console.error(`The document "${document.name}" failed in the engine; its clients load it anew`)
    this.documents.delete(document.name)
    for (const connection of document.getConnections()) connection.left()
    document.destroy()
  }

  async #lastLeft(document: Document): Promise<void> {
    // Hooks may have taken a while: somebody may be here again.
    if (document.getConnectionsCount() > 0) return
    const id = storeId(document)
    if (!document.isLoading && this.debouncer.isDebounced(id)) {
      if (this.configuration.unloadImmediately) void this.debouncer.executeNow(id)
    } else {
      await this.unloadDocument(document).catch(() => {})
    }
  }

  // Changes and stores

  #changed(document: Document, origin: unknown, update: Uint8Array): void {
    document.lastChangeTime = Date.now()
    const connection = connectionOf(origin)
    if (this.#has('onChange')) {
      void this.tell('onChange', {
        instance: this,
        clientsCount: document.getConnectionsCount(),
        document,
        documentName: document.name,
        requestHeaders: headersOf(connection?.request) ?? new Headers(),
        requestParameters: getParameters(connection?.request),
        socketId: connection?.socketId ?? '',
        update,
        transactionOrigin: origin,
        connection,
        context: contextOf(origin),
      })
    }
    if (this.skipsStore(origin)) return
    const clientsCount = document.getConnectionsCount()
    this.#saving.schedule(document, () => ({
      instance: this,
      clientsCount,
      document,
      lastContext: contextOf(origin),
      lastTransactionOrigin: origin,
      documentName: document.name,
    }))
  }

  /** Whether a change of this origin is not stored. */
  protected skipsStore(origin: unknown): boolean {
    return shouldSkipStoreHooks(origin)
  }

  #has(name: HookName): boolean {
    return this.configuration.extensions.some((extension) => has(extension, name))
  }

  storeDocumentHooks(
    document: Document,
    hookPayload: onStoreDocumentPayload<Context>,
    immediately?: boolean,
  ): Promise<any> {
    return this.#saving.schedule(document, () => hookPayload, immediately)
  }

  // Hooks

  /** Runs a hook of all extensions in turn; `callback` gets what each returns. */
  hooks<T extends HookName>(
    name: T,
    payload: HookPayloadByName<Context>[T],
    // biome-ignore lint/complexity/noBannedTypes: the type that Hocuspocus has
    callback: Function | null = null,
  ): Promise<any> {
    return this.#run(name, payload, { callback })
  }

  #run(name: HookName, payload: object, outcome: { callback?: any; told?: boolean }): Promise<any> {
    const extensions = having(this.configuration.extensions, name)
    if (extensions.length === 0) return Promise.resolve()
    return run(extensions, name, this.adapt(name, payload), outcome)
  }

  /** A payload in the shape of an older major. */
  protected adapt(_name: HookName, payload: Record<string, any>): Record<string, any> {
    return payload
  }

  /** Runs a hook that nobody waits for: its failure is shown, and stops nothing. */
  tell<T extends HookName>(name: T, payload: HookPayloadByName<Context>[T]): Promise<any> {
    // A subclass or a tracer may have put its own in place.
    if (this.hooks !== Hocuspocus.prototype.hooks) return this.hooks(name, payload).catch((error) => report(name, error))
    return this.#run(name, payload as object, { told: true })
  }

  // The life of documents

  async createDocument(
    documentName: string,
    request: Request,
    socketId: string,
    connection: ConnectionConfiguration,
    context?: Context,
  ): Promise<Document> {
    if (!documentName.trim()) throw new Error('Document name must not be empty')
    const known = this.loadingDocuments.get(documentName) ?? this.documents.get(documentName)
    if (known !== undefined) return known
    const loading = new Promise<Document>((resolve, reject) => {
      this.#openings.set(documentName, { arguments: [request, socketId, connection, context], resolve, reject })
    })
    this.loadingDocuments.set(documentName, loading)
    const events = this.#engineEvents
    events.hold()
    try {
      events.engine.load(documentName)
      return await loading
    } finally {
      events.letGo()
      this.#openings.delete(documentName)
      if (this.loadingDocuments.get(documentName) === loading) this.loadingDocuments.delete(documentName)
    }
  }

  /** Older majors have a class of their own. */
  protected newDocument(...given: ConstructorParameters<typeof Document>): Document {
    return new Document(...given)
  }

  async loadDocument(
    documentName: string,
    request: Request,
    socketId: string,
    connectionConfig: ConnectionConfiguration,
    context: Context | undefined,
    link?: DocumentLink,
    updates: Uint8Array[] = [],
  ): Promise<Document> {
    const common = {
      instance: this,
      context: (context ?? {}) as Context,
      connectionConfig,
      documentName,
      socketId,
      requestHeaders: request.headers,
      requestParameters: getParameters(request),
    }
    const yDocOptions = await this.hooks('onCreateDocument', { ...common })
    const { flushDelay, flushMaxBytes } = this.configuration
    const options = { ...this.configuration.yDocOptions, ...yDocOptions }
    const document = this.newDocument(documentName, options, { flushDelay, flushMaxBytes, [LINK]: link })
    const payload = { ...common, document }
    try {
      await this.hooks('onLoadDocument', payload, (loaded: unknown) => {
        if (loaded instanceof Doc) {
          if (loaded !== document) applyUpdate(document, encodeStateAsUpdate(loaded))
        } else if (loaded instanceof Uint8Array) {
          applyUpdate(document, loaded)
        }
      })
    } catch (error) {
      this.closeConnections(documentName)
      throw error
    }
    document.isLoading = false
    document.onUpdate((document, origin, update) => this.#changed(document, origin, update))
    await this.hooks('afterLoadDocument', payload)
    listen(this as Hocuspocus, document, link)
    return document
  }

  shouldUnloadDocument(document: Document): boolean {
    const id = storeId(document)
    const busy =
      this.debouncer.isDebounced(id) || this.debouncer.isCurrentlyExecuting(id) || document.saveMutex.isLocked()
    return !busy && document.getConnectionsCount() === 0
  }

  async unloadDocument(document: Document): Promise<any> {
    const { name } = document
    if (!this.shouldUnloadDocument(document) || !this.documents.has(name)) return
    const unloading = this.unloadingDocuments.get(name)
    if (unloading !== undefined) return unloading
    const work = this.#unload(document)
    this.unloadingDocuments.set(name, work)
    try {
      await work
    } finally {
      this.unloadingDocuments.delete(name)
    }
  }

  async #unload(document: Document): Promise<void> {
    const documentName = document.name
    try {
      await this.hooks('beforeUnloadDocument', { instance: this, documentName, document })
    } catch {
      return
    }
    if (!this.shouldUnloadDocument(document)) return
    const link = document[LINK]
    if (link !== undefined && this.#events?.engine.retire(link.id, link.leaving) === false) {
      // Somebody is on the way in: stays, unless that comes to nothing.
      setTimeout(() => this.reconsider(document), RETIRE_RETRY_MS)
      return
    }
    this.documents.delete(documentName)
    if (link !== undefined) this.#events?.documents.delete(link.id)
    link?.ended()
    document.destroy()
    await this.tell('afterUnloadDocument', { instance: this, documentName })
  }

  async openDirectConnection(documentName: string, context?: Context): Promise<DirectConnection<Context>> {
    const config: ConnectionConfiguration = { isAuthenticated: true, readOnly: false }
    const document = await this.createDocument(documentName, localRequest(), crypto.randomUUID(), config, context)
    return new DirectConnection<Context>(document, this, context)
  }

  /** Closes what sockets are left and stops the engine; called by a server that is destroyed. */
  shutDownEngine(deadlineMs: number): void {
    this.#events?.shutDown(deadlineMs)
    this.#events = undefined
  }
}
