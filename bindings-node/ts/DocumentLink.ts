// What ties a Document to its room in the engine: content out of it at first touch, changes both ways after that, each
// of them once. See Document.ts for the three states: untouched, caught up at each look, and following.

import { type Awareness, applyAwarenessUpdate, encodeAwarenessUpdate } from 'y-protocols/awareness'
import { applyUpdate, type Doc, encodeStateVector, type Transaction } from 'yjs'
import type { Engine } from './addon.ts'
import type Connection from './Connection.ts'
import type Document from './Document.ts'
import { keyOf, type SessionId } from './events.ts'

/** The inner fields of a Y.Doc that everything that looks at content goes through. */
type Inner = 'store' | 'share' | '_transactionCleanups'

const EMPTY_UPDATE_BYTES = 2

/** A document that is read and never changed is not stored either, and its readers come and go. */
const DEPARTED_MAX = 256

/** How the server gives a document its engine. */
export const LINK = Symbol('fidibus.link')

export class DocumentLink {
  readonly id: number

  /** Sessions that are being closed and are still in the room. */
  leaving = 0

  /** The latest change that JavaScript made and that is to be stored. */
  lastLocal: { origin: unknown; at: number } | undefined

  /** Connections that left since the last store, the latest: one of them may be the author of a change to come. */
  readonly #departed = new Map<string, Connection>()

  onAwarenessCreated: (awareness: Awareness) => void = () => {}

  readonly #engine: Engine
  #document!: Document
  /** What the store had; content until the room is open. */
  #stored: Uint8Array
  /** The room is open: content is there and edits go there. */
  #open = false
  #ended = false
  #materialized = false
  #following = false
  #awareness: Awareness | undefined
  /** The version of the room that the content holds, for documents that do not follow. */
  #version = -1
  #fresh = false
  /** Content is being taken over: nobody hears of it. */
  #silent = false
  /** A change of the engine's is being applied; whether it turned out to be one. */
  #applying: { heard: boolean; origin: unknown; bytes: number } | undefined
  #peeking = false
  #applyingAwareness = false

  constructor(engine: Engine, id: number, stored: Uint8Array) {
    this.#engine = engine
    this.id = id
    this.#stored = stored
  }

  /** A connection that is closed here is in the room until the engine has handled what it sent. */
  depart(session: SessionId, connection: Connection): void {
    // The engine lets the document go although this one is still in its room.
    this.leaving += 1
    this.departed(session, connection)
  }

  departed(session: SessionId, connection: Connection): void {
    this.#departed.set(keyOf(session), connection)
    if (this.#departed.size <= DEPARTED_MAX) return
    for (const oldest of this.#departed.keys()) {
      this.#departed.delete(oldest)
      return
    }
  }

  findDeparted(session: SessionId | undefined): Connection | undefined {
    return session && this.#departed.get(keyOf(session))
  }

  /** Stored: who left before is nobody's author any more. */
  forgetDeparted(): void {
    this.#departed.clear()
  }

  get touched(): boolean {
    return this.#materialized
  }

  get awareness(): Awareness | undefined {
    return this.#awareness
  }

  get following(): boolean {
    return this.#following
  }

  /** The room has this document's content from now on. */
  opened(): void {
    this.#open = true
    this.#stored = new Uint8Array()
    this.#engine.follow(this.id, this.#following, this.#awareness !== undefined)
    // Between the answer and the room nothing can have happened that is not in it.
    this.#version = 0
    const states = this.#awareness?.getStates()
    if (states !== undefined && states.size > 0) {
      this.sendAwareness(encodeAwarenessUpdate(this.#awareness as Awareness, [...states.keys()]))
    }
  }

  /** The room is gone; what is here stays as it is. */
  ended(): void {
    this.#ended = true
  }

  /** Puts getters where a Y.Doc keeps its content. */
  bind(document: Document): void {
    this.#document = document
    const inner = document as unknown as Record<Inner, unknown>
    const lazy = (name: Inner, look: () => void) => {
      let value = inner[name]
      Object.defineProperty(document, name, {
        configurable: true,
        enumerable: true,
        get: () => {
          look()
          return value
        },
        set: (replacement) => {
          value = replacement
        },
      })
    }
    lazy('store', () => this.#look())
    // Read first by every transaction, before it looks at anything else.
    lazy('_transactionCleanups', () => this.#look())
    this.#watchTypes((document as Doc).share)
    lazy('share', () => this.#look())
  }

  /** Whoever gets hold of a type may keep it, so the document follows from then on. Encoding only goes through the names. */
  #watchTypes(share: Map<string, unknown>): void {
    const handOut = () => {
      if (!this.#peeking && this.#isOutsideOfRemoteTransaction()) this.follow()
    }
    for (const name of ['get', 'values', 'forEach'] as const) {
      Object.defineProperty(share, name, {
        configurable: true,
        enumerable: false,
        value: (...given: unknown[]) => {
          handOut()
          return (Map.prototype[name] as (...given: unknown[]) => unknown).apply(share, given)
        },
      })
    }
  }

  /** Structs of others are being integrated: their look at types is not the user's. */
  #isOutsideOfRemoteTransaction(): boolean {
    if (this.#silent || this.#applying !== undefined) return false
    const transaction = (this.#document as Doc)._transaction
    return transaction === null || transaction.local
  }

  #look(): void {
    if (this.#silent || this.#fresh || this.#following) return
    if ((this.#document as Doc)._transaction !== null) return
    this.#catchUp()
    // Once for each stretch of JavaScript: the next one looks again.
    this.#fresh = true
    queueMicrotask(() => {
      this.#fresh = false
    })
  }

  /** From now on every change is applied here as it comes. */
  follow(): void {
    if (this.#following || this.#silent) return
    this.#following = true
    if (this.#open) this.#engine.follow(this.id, true, this.#awareness !== undefined)
    if ((this.#document as Doc)._transaction === null) {
      this.#refresh()
    } else {
      // The transaction began with a look; taking more over inside of it would make that part of it.
      queueMicrotask(() => this.#refresh())
    }
  }

  #refresh(): void {
    this.#version = -1
    this.#catchUp()
  }

  /** A look at types that hands none of them out. */
  peek<T>(look: () => T): T {
    this.#peeking = true
    try {
      return look()
    } finally {
      this.#peeking = false
    }
  }

  #catchUp(): void {
    const first = !this.#materialized
    this.#materialized = true
    if (!this.#open || this.#ended) {
      if (first && this.#stored.length > EMPTY_UPDATE_BYTES) this.#takeOver(this.#stored)
      return
    }
    // Before the content: what comes in between is looked at again.
    const version = this.#engine.version(this.id)
    if (!first && version === this.#version) return
    this.#version = version
    this.#silent = true
    const vector = first ? undefined : encodeStateVector(this.#document)
    this.#silent = false
    const update = this.#engine.read(this.id, vector)
    if (update !== null && update.length > EMPTY_UPDATE_BYTES) this.#takeOver(update)
  }

  #takeOver(update: Uint8Array): void {
    this.#silent = true
    try {
      applyUpdate(this.#document, update, { source: 'engine' })
    } finally {
      this.#silent = false
    }
  }

  /** A change of a session's, or another server's. */
  apply(update: Uint8Array, origin: unknown): void {
    const { callbacks } = this.#document
    if (!this.#following) {
      callbacks.onUpdate(this.#document, origin, update)
      return
    }
    const applying = { heard: false, origin, bytes: update.length }
    this.#applying = applying
    try {
      applyUpdate(this.#document, update, origin)
    } finally {
      this.#applying = undefined
    }
    // What was taken over already changes nothing here, and is a change all the same.
    if (!applying.heard) callbacks.onUpdate(this.#document, origin, update)
  }

  /** The Y.Doc says that it changed. */
  updated(update: Uint8Array, origin: unknown, transaction: Transaction): void {
    if (this.#silent) return
    const applying = this.#applying
    const foreign = applying !== undefined && applying.origin === origin
    if (foreign) applying.heard = true
    // What an observer adds while a change is applied becomes part of it; what the engine knows it passes over.
    if (this.#open && !this.#ended && (!foreign || update.length !== applying.bytes || this.#isOwn(transaction))) {
      this.#engine.update(this.id, update)
    }
    this.#document.callbacks.onUpdate(this.#document, origin, update)
  }

  #isOwn({ beforeState, afterState }: Transaction): boolean {
    const { clientID } = this.#document
    return beforeState.get(clientID) !== afterState.get(clientID)
  }

  readAwareness(): Uint8Array | undefined {
    if (!this.#open || this.#ended) return undefined
    this.#engine.follow(this.id, this.#following, true)
    return this.#engine.awareness(this.id) ?? undefined
  }

  awarenessCreated(awareness: Awareness): void {
    this.#awareness = awareness
    this.onAwarenessCreated(awareness)
  }

  /** Whether a change of awareness is JavaScript's own. */
  get sendsAwareness(): boolean {
    return this.#awareness !== undefined && !this.#applyingAwareness && this.#open && !this.#ended
  }

  sendAwareness(update: Uint8Array): void {
    this.#engine.updateAwareness(this.id, update)
  }

  applyAwareness(update: Uint8Array, origin: unknown): void {
    if (this.#awareness === undefined) return
    this.#applyingAwareness = true
    try {
      applyAwarenessUpdate(this.#awareness, update, origin)
    } finally {
      this.#applyingAwareness = false
    }
  }

  broadcast(payload: string, filter?: (connection: Connection) => boolean): void {
    if (filter === undefined) {
      this.#engine.broadcast(this.id, payload)
      return
    }
    const sessions: number[] = []
    for (const connection of this.#document.getConnections()) {
      const session = connection.session
      if (session !== undefined && filter(connection)) sessions.push(session.connection, session.number)
    }
    if (sessions.length > 0) this.#engine.broadcast(this.id, payload, sessions)
  }

  flush(): void {
    if (this.#open && !this.#ended) this.#engine.flush(this.id)
  }
}
