// A Y.Doc of the user's own yjs. Alone it works by itself, broadcasting to the connections that it is given. In a
// server its content is the engine's, and it is lazy: nothing is in it until somebody looks. A look at the stored
// structs (`Y.encodeStateAsUpdate`) brings it up to date each time; a look at the types, or an observer, has it
// follow every change from then on.

import { Mutex } from 'async-mutex'
import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate, removeAwarenessStates } from 'y-protocols/awareness'
import { applyUpdate, Doc, encodeStateAsUpdate, mergeUpdates, type Transaction } from 'yjs'
import type Connection from './Connection.ts'
import { type DocumentLink, LINK } from './DocumentLink.ts'
import { OutgoingMessage } from './OutgoingMessage.ts'
import { type AwarenessUpdate, type FlushOptions, isTransactionOrigin } from './types.ts'

type Options = Partial<FlushOptions> & { [LINK]?: DocumentLink }

/** Events that are about content: whoever listens wants to see every change. */
const CONTENT_EVENTS: ReadonlySet<string> = new Set([
  'update',
  'updateV2',
  'subdocs',
  'beforeTransaction',
  'afterTransaction',
  'afterTransactionCleanup',
  'beforeObserverCalls',
  'beforeAllTransactions',
  'afterAllTransactions',
])

type States = Map<number, Record<string, any>>

export class Document extends Doc {
  declare awareness: Awareness

  callbacks = {
    onUpdate: (_document: Document, _origin: unknown, _update: Uint8Array): void => {},
    beforeBroadcastStateless: (_document: Document, _stateless: string): void => {},
    beforeHandleAwareness: (_document: Document, _states: States, _transactionOrigin: unknown): Promise<any> =>
      Promise.resolve(),
  }

  connections: Map<Connection, { clients: Set<any> }> = new Map()

  directConnectionsCount = 0

  name: string

  isLoading: boolean

  declare isDestroyed: boolean

  saveMutex = new Mutex()

  lastChangeTime = 0

  flushDelay: FlushOptions['flushDelay']

  flushMaxBytes: FlushOptions['flushMaxBytes'];

  [LINK]: DocumentLink | undefined

  #pendingUpdates: Uint8Array[] = []

  #pendingUpdateBytes = 0

  #pendingAwarenessClients = new Set<number>()

  #cancelFlush: (() => void) | null = null

  #ready = false

  constructor(name: string, yDocOptions?: object, options?: Options) {
    super(yDocOptions)
    this.name = name
    this.flushDelay = options?.flushDelay ?? 0
    this.flushMaxBytes = options?.flushMaxBytes ?? 1024 * 1024
    this.isLoading = true
    this.isDestroyed = false
    super.on('update', (update: Uint8Array, origin: unknown, _document: Doc, transaction: Transaction) =>
      this.#updated(update, origin, transaction),
    )
    const link = options?.[LINK]
    if (link === undefined) {
      this.awareness = this.#createAwareness()
    } else {
      this[LINK] = link
      link.bind(this)
      this.#makeAwarenessLazy()
    }
    this.#ready = true
  }

  // The engine's side

  /** Observers of content see every change from now on. */
  override on(name: any, listener: any): any {
    // Y.Doc's own constructor listens before there is anything to follow.
    if (#ready in this && this.#ready && CONTENT_EVENTS.has(name)) this[LINK]?.follow()
    return super.on(name, listener)
  }

  override once(name: any, listener: any): any {
    if (#ready in this && this.#ready && CONTENT_EVENTS.has(name)) this[LINK]?.follow()
    return super.once(name, listener)
  }

  #createAwareness(): Awareness {
    const awareness = new Awareness(this)
    awareness.setLocalState(null)
    const link = this[LINK]
    const states = link?.readAwareness()
    if (states) applyAwarenessUpdate(awareness, states, null)
    awareness.on('update', (update: AwarenessUpdate, origin: unknown) => this.#awarenessUpdated(update, origin))
    return awareness
  }

  #makeAwarenessLazy(): void {
    const define = (value: Awareness) =>
      Object.defineProperty(this, 'awareness', { value, writable: true, enumerable: true, configurable: true })
    Object.defineProperty(this, 'awareness', {
      configurable: true,
      enumerable: true,
      get: () => {
        const awareness = this.#createAwareness()
        define(awareness)
        this[LINK]?.awarenessCreated(awareness)
        return awareness
      },
      set: define,
    })
  }

  // Callbacks

  onUpdate(callback: (document: Document, origin: unknown, update: Uint8Array) => void): Document {
    this.callbacks.onUpdate = callback
    return this
  }

  beforeBroadcastStateless(callback: (document: Document, stateless: string) => void): Document {
    this.callbacks.beforeBroadcastStateless = callback
    return this
  }

  beforeHandleAwareness(
    callback: (document: Document, states: States, transactionOrigin: unknown) => Promise<any>,
  ): Document {
    this.callbacks.beforeHandleAwareness = callback
    return this
  }

  // Content

  isEmpty(fieldName: string): boolean {
    // A look at a type that nobody gets hold of.
    const look = () => {
      const type = this.get(fieldName)
      return !type._start && !type._map.size
    }
    return this[LINK]?.peek(look) ?? look()
  }

  merge(documents: Doc | Array<Doc>): Document {
    for (const document of Array.isArray(documents) ? documents : [documents]) {
      applyUpdate(this, encodeStateAsUpdate(document))
    }
    return this
  }

  // Connections

  addConnection(connection: Connection): Document {
    this.connections.set(connection, { clients: new Set() })
    return this
  }

  hasConnection(connection: Connection): boolean {
    return this.connections.has(connection)
  }

  removeConnection(connection: Connection): Document {
    const clients = this.getClients(connection)
    // The engine removes what a session of its own leaves.
    if (clients.size > 0 && !connection.isNative) {
      removeAwarenessStates(this.awareness, [...clients], null)
    }
    this.connections.delete(connection)
    return this
  }

  addDirectConnection(): Document {
    this.directConnectionsCount += 1
    return this
  }

  removeDirectConnection(): Document {
    if (this.directConnectionsCount > 0) this.directConnectionsCount -= 1
    return this
  }

  getConnectionsCount(): number {
    return this.connections.size + this.directConnectionsCount
  }

  getConnections(): Array<Connection> {
    return [...this.connections.keys()]
  }

  getClients(connection: Connection): Set<any> {
    return this.connections.get(connection)?.clients ?? new Set()
  }

  // Awareness

  hasAwarenessStates(): boolean {
    return this.awareness.getStates().size > 0
  }

  applyAwarenessUpdate(connection: Connection, update: Uint8Array): Document {
    applyAwarenessUpdate(this.awareness, update, { source: 'connection', connection })
    return this
  }

  #awarenessUpdated({ added, updated, removed }: AwarenessUpdate, origin: unknown): void {
    const changed = added.concat(updated, removed)
    if (isTransactionOrigin(origin) && origin.source === 'connection') {
      const clients = this.getClients(origin.connection)
      for (const client of added) clients.add(client)
      for (const client of removed) clients.delete(client)
    }
    const link = this[LINK]
    if (link !== undefined) {
      // The engine lets states expire by itself.
      if (link.sendsAwareness && origin !== 'timeout') {
        link.sendAwareness(encodeAwarenessUpdate(this.awareness, changed))
      }
      return
    }
    if (this.flushDelay === false) {
      this.#broadcastAwareness(changed)
      return
    }
    for (const client of changed) this.#pendingAwarenessClients.add(client)
    this.#scheduleFlush()
  }

  // Changes

  #updated(update: Uint8Array, origin: unknown, transaction: Transaction): void {
    const link = this[LINK]
    if (link !== undefined) {
      link.updated(update, origin, transaction)
      return
    }
    // Also where broadcasts wait: hooks and stores go by this.
    this.callbacks.onUpdate(this, origin, update)
    if (this.flushDelay === false) {
      this.#broadcastUpdate(update)
      return
    }
    this.#pendingUpdates.push(update)
    this.#pendingUpdateBytes += update.length
    if (this.#pendingUpdateBytes >= this.flushMaxBytes) this.flush()
    else this.#scheduleFlush()
  }

  /** Once for each run of connections with the same address. */
  #broadcast(encode: (address: string) => Uint8Array, filter?: (connection: Connection) => boolean): void {
    let last: { address: string; message: Uint8Array } | undefined
    for (const connection of this.getConnections()) {
      if (filter !== undefined && !filter(connection)) continue
      // Fake connections of programs may have none.
      const address = connection.messageAddress ?? this.name
      if (last?.address !== address) last = { address, message: encode(address) }
      connection.send(last.message)
    }
  }

  #broadcastUpdate(update: Uint8Array): void {
    this.#broadcast((address) => new OutgoingMessage(address).createSyncMessage().writeUpdate(update).toUint8Array())
  }

  #broadcastAwareness(clients: number[]): void {
    this.#broadcast((address) =>
      new OutgoingMessage(address).createAwarenessUpdateMessage(this.awareness, clients).toUint8Array(),
    )
  }

  /** The first change opens a window, and all that comes until it closes goes out together. */
  #scheduleFlush(): void {
    if (this.#cancelFlush !== null) return
    const run = () => {
      this.#cancelFlush = null
      this.flush()
    }
    if (this.flushDelay === 0) {
      const immediate = setImmediate(run)
      this.#cancelFlush = () => clearImmediate(immediate)
    } else {
      const timeout = setTimeout(run, this.flushDelay as number)
      this.#cancelFlush = () => clearTimeout(timeout)
    }
  }

  flush(): Document {
    this[LINK]?.flush()
    this.#cancelFlush?.()
    this.#cancelFlush = null
    if (this.#pendingUpdates.length > 0) {
      const updates = this.#pendingUpdates
      this.#pendingUpdates = []
      this.#pendingUpdateBytes = 0
      this.#broadcastUpdate(updates.length === 1 ? updates[0] : mergeUpdates(updates))
    }
    if (this.#pendingAwarenessClients.size > 0) {
      const clients = [...this.#pendingAwarenessClients]
      this.#pendingAwarenessClients.clear()
      this.#broadcastAwareness(clients)
    }
    return this
  }

  // Stateless messages

  broadcastStateless(payload: string, filter?: (conn: Connection) => boolean): void {
    this.callbacks.beforeBroadcastStateless(this, payload)
    this.relayStateless(payload, filter)
  }

  relayStateless(payload: string, filter?: (conn: Connection) => boolean): void {
    const link = this[LINK]
    const encode = (address: string) => new OutgoingMessage(address).writeStateless(payload).toUint8Array()
    if (link === undefined) {
      this.#broadcast(encode, filter)
      return
    }
    link.broadcast(payload, filter)
    this.#broadcast(encode, (connection) => !connection.isNative && (filter === undefined || filter(connection)))
  }

  override destroy(): void {
    this.flush()
    this.flushDelay = false
    super.destroy()
    this.isDestroyed = true
  }
}

export default Document
