// Carries the engine's events to the objects that they are about, in order. One for each Hocuspocus instance that has
// an engine.

import { Forbidden } from '@hocuspocus/common'
import { addon, type Engine, type EngineOptions } from './addon.ts'
import type { ClientConnection, Session } from './ClientConnection.ts'
import type { Connection } from './Connection.ts'
import type Document from './Document.ts'
import { LINK } from './DocumentLink.ts'
import { EventReader, Kind, type SessionId } from './events.ts'
import type { Hocuspocus } from './Hocuspocus.ts'

/** What clients are told where an error has no reason of its own. */
const DENIED = 'permission-denied'
const FORBIDDEN = Forbidden.code

/** Larger batches come in a buffer of their own. */
const BATCH_BYTES = 64 * 1024

type Found = { client: ClientConnection; session: Session } | undefined

export class EngineEvents {
  readonly engine: Engine

  readonly sockets = new Map<number, ClientConnection>()

  readonly documents = new Map<number, Document>()

  readonly #instance: Hocuspocus
  readonly #batch = Buffer.alloc(BATCH_BYTES)
  readonly #reader = new EventReader(this.#batch)
  /** Keeps the process alive, and this, while something goes on that Node does not know of. */
  #alive: NodeJS.Timeout | undefined
  #holds = 0

  constructor(instance: Hocuspocus, options: EngineOptions) {
    this.#instance = instance
    const { Engine } = addon()
    const drain = new WeakRef(this)
    this.engine = new Engine(options, () => drain.deref()?.drain())
  }

  addSocket(client: ClientConnection): void {
    this.sockets.set(client.id, client)
    // As Node's own sockets would.
    this.hold()
  }

  /** Something goes on until `letGo`. */
  hold(): void {
    this.#holds += 1
    this.#alive ??= setInterval(() => this.drain(), 2 ** 30)
  }

  letGo(): void {
    this.#holds -= 1
    if (this.#holds > 0) return
    clearInterval(this.#alive)
    this.#alive = undefined
  }

  drain(): void {
    for (;;) {
      const batch = this.engine.take(this.#batch)
      const isAll = typeof batch === 'number'
      const reader = isAll ? this.#reader.begin(batch) : new EventReader(batch).begin(batch.length)
      while (!reader.done) this.#dispatch(reader.kind(), reader)
      if (isAll) return
    }
  }

  #dispatch(kind: number, reader: EventReader): void {
    switch (kind) {
      case Kind.Changed:
        return this.#changed(reader.small(), reader.session(), reader.bytes())
      case Kind.Touched:
        return this.#touched(reader.small())
      case Kind.Awareness:
        return this.#awareness(reader.small(), reader.session(), reader.bytes())
      case Kind.Frames:
        return this.#frames(reader)
      case Kind.Stateless:
        return this.#stateless(reader.small(), reader.session(), reader.text())
      case Kind.Authenticate:
        return this.#authenticate(reader)
      case Kind.TokenSync:
        return this.#tokenSync(reader.number(), reader.session(), reader.text())
      case Kind.Load:
        return this.#load(reader)
      case Kind.LoadFailed:
        return this.#instance.loadFailed(reader.text(), reader.text())
      case Kind.Entered:
        return this.#entered(reader.small(), reader.session() as SessionId)
      case Kind.Left:
        return this.#left(reader.small(), reader.session() as SessionId)
      case Kind.Ended:
        return this.#ended(reader.small())
      case Kind.SocketClosed:
        return this.#socketClosed(reader.number(), reader.small(), reader.text())
      default:
        return this.#message(kind, reader)
    }
  }

  /** Events about a message before and after its room. */
  #message(kind: number, reader: EventReader): void {
    switch (kind) {
      case Kind.BeforeMessage: {
        const [ticket, id, frame] = [reader.number(), reader.session(), reader.bytes()]
        return this.#gate(ticket, id, (connection) => connection.callbacks.beforeHandleMessage(connection, frame))
      }
      case Kind.BeforeSync: {
        const [ticket, id, type, payload] = [reader.number(), reader.session(), reader.small(), reader.bytes()]
        return this.#gate(ticket, id, (connection) => connection.callbacks.beforeSync(connection, { type, payload }))
      }
      case Kind.BeforeAwareness:
        return this.#beforeAwareness(reader)
      case Kind.AfterMessage: {
        const [ticket, id, frame] = [reader.number(), reader.session(), reader.bytes()]
        return this.#gate(ticket, id, (connection) => connection.handled(frame))
      }
      default:
        throw new Error(`fidibus: the addon speaks of events that this version does not know (${kind}); rebuild it`)
    }
  }

  #find(id: SessionId | undefined): Found {
    if (id === undefined) return undefined
    const client = this.sockets.get(id.connection)
    const session = client?.sessions.get(id.number)
    return client && session && { client, session }
  }

  /** Who sent something, also where it was closed meanwhile. */
  #connectionOf(id: SessionId | undefined): Connection | undefined {
    if (id === undefined) return undefined
    const client = this.sockets.get(id.connection)
    return (client?.sessions.get(id.number) ?? client?.closing.get(id.number))?.connection
  }

  #origin(id: SessionId | undefined, document: Document): unknown {
    const connection = this.#connectionOf(id) ?? document[LINK]?.findDeparted(id)
    return connection === undefined ? { source: 'redis' } : { source: 'connection', connection }
  }

  #changed(id: number, author: SessionId | undefined, update: Uint8Array): void {
    const document = this.documents.get(id)
    if (document === undefined) return
    try {
      document[LINK]?.apply(update, this.#origin(author, document))
    } catch (error) {
      // An observer of the user's threw; the change is made all the same.
      console.error('Caught error while handling a Yjs update', error)
    }
  }

  #touched(id: number): void {
    const document = this.documents.get(id)
    if (document) this.#instance.touched(document)
  }

  #awareness(id: number, author: SessionId | undefined, update: Uint8Array): void {
    const document = this.documents.get(id)
    if (document === undefined) return
    try {
      document[LINK]?.applyAwareness(update, author === undefined ? null : this.#origin(author, document))
    } catch (error) {
      // A listener of the user's threw. Its client is closed out, as Hocuspocus does.
      const connection = this.#find(author)?.session.connection
      if (connection === undefined) console.error(`an awareness change of "${document.name}" made a listener fail`, error)
      else connection.close(connection.refusal(error))
    }
  }

  #stateless(id: number, author: SessionId | undefined, payload: string): void {
    const document = this.documents.get(id)
    const connection = this.#connectionOf(author)
    if (!document || !connection) return
    void connection.callbacks.statelessCallback({ connection, documentName: document.name, document, payload })
  }

  #frames(reader: EventReader): void {
    const client = this.sockets.get(reader.number())
    const frames: Uint8Array[] = []
    for (let count = reader.small(); count > 0; count -= 1) frames.push(reader.bytes())
    client?.deliver(frames)
    client?.drainBacklog()
  }

  #authenticate(reader: EventReader): void {
    const ticket = reader.number()
    const id = reader.session() as SessionId
    const documentName = reader.text()
    const [sessionId, token, version] = [reader.optionalText(), reader.optionalText(), reader.optionalText()]
    const client = this.sockets.get(id.connection)
    if (client === undefined) return this.engine.no(ticket, FORBIDDEN, DENIED)
    const session = client.begin(id, documentName, sessionId ?? null, version ?? null)
    const admitted = this.#instance.admit(session, token ?? '')
    if (admitted === undefined) return this.#admit(ticket, session)
    admitted.then(
      () => this.#admit(ticket, session),
      (error) => {
        client.sessions.delete(id.number)
        this.#instance.refused(client, session, error)
        this.engine.no(ticket, FORBIDDEN, reasonOf(error))
      },
    )
  }

  #admit(ticket: number, { payload }: Session): void {
    payload.connectionConfig.isAuthenticated = true
    this.engine.yes(ticket, payload.connectionConfig.readOnly)
  }

  #tokenSync(ticket: number, id: SessionId | undefined, token: string): void {
    // The hook itself closes a connection that it refuses.
    this.engine.yes(ticket, false)
    void this.#find(id)?.session.connection?.callbacks.onTokenSyncCallback({ token })
  }

  #load(reader: EventReader): void {
    const [ticket, id, name] = [reader.number(), reader.small(), reader.text()]
    const [session, stored] = [reader.session(), reader.bytes()]
    const loading = this.#instance.load(name, this.#find(session)?.session, id, stored)
    loading.then(
      ({ document, updates }) => {
        this.documents.set(id, document)
        this.engine.loaded(ticket, updates)
        document[LINK]?.opened()
      },
      (error) => this.engine.no(ticket, FORBIDDEN, reasonOf(error)),
    )
  }

  #entered(documentId: number, id: SessionId): void {
    const document = this.documents.get(documentId)
    const found = this.#find(id)
    if (!document || !found) return
    const { client, session } = found
    const connection = client.enter(id, session, document)
    const { payload } = session
    // A hook of the load may have changed it after the client was told.
    if (payload.connectionConfig.readOnly) connection.readOnly = true
    this.#instance.connected(payload, session.documentName, connection).catch((error) => {
      client.deny(connection.messageAddress, error)
    })
  }

  #left(documentId: number, id: SessionId): void {
    const document = this.documents.get(documentId)
    const found = this.#find(id)
    const connection = found?.session.connection
    if (connection !== undefined && connection.document === document) {
      document?.[LINK]?.departed(id, connection)
      const news = connection.left()
      if (found) this.#forget(found.client)
      if (news) {
        found?.client.closing.delete(id.number)
        return
      }
    }
    this.sockets.get(id.connection)?.closing.delete(id.number)
    found?.client.sessions.delete(id.number)
    if (found) this.#forget(found.client)
    const link = document?.[LINK]
    if (document === undefined || link === undefined) return
    // One that JavaScript closed itself, or that never got as far as a connection.
    if (link.leaving > 0) link.leaving -= 1
    this.#instance.reconsider(document)
  }

  /** A socket that ended is forgotten after the last of its sessions left its room, which may be later. */
  #forget(client: ClientConnection): void {
    if (!client.isOver || !this.sockets.delete(client.id)) return
    this.letGo()
  }

  #ended(id: number): void {
    const document = this.documents.get(id)
    this.documents.delete(id)
    if (document === undefined) return
    document[LINK]?.ended()
    this.#instance.lost(document)
  }

  #socketClosed(id: number, code: number, reason: string): void {
    const client = this.sockets.get(id)
    if (client === undefined) return
    client.ended(code, reason)
    this.#forget(client)
  }

  #gate(ticket: number, id: SessionId | undefined, ask: (connection: Connection) => Promise<any>): void {
    const connection = this.#connectionOf(id)
    if (connection === undefined) return this.engine.yes(ticket, false)
    ask(connection).then(
      () => this.engine.yes(ticket, false),
      (error) => this.#refuse(ticket, connection, error),
    )
  }

  #refuse(ticket: number, connection: Connection, error: unknown): void {
    const { code, reason } = connection.refusal(error)
    connection.refused({ code, reason })
    this.engine.no(ticket, code, reason)
  }

  #beforeAwareness(reader: EventReader): void {
    const [ticket, id] = [reader.number(), reader.session()]
    const clocks = new Map<number, number>()
    const states = new Map<number, Record<string, any>>()
    const gone: number[] = []
    for (let count = reader.small(); count > 0; count -= 1) {
      const client = reader.number()
      clocks.set(client, reader.number())
      const state = JSON.parse(reader.text())
      if (state === null) gone.push(client)
      else states.set(client, state)
    }
    const connection = this.#connectionOf(id)
    const answer = () => {
      const clients = [...states.keys(), ...gone.filter((client) => !states.has(client))]
      const texts = clients.map((client) => JSON.stringify(states.get(client) ?? null))
      this.engine.states(ticket, clients, clients.map((client) => clocks.get(client) ?? 1), texts)
    }
    if (connection === undefined) return answer()
    const { document } = connection
    const origin = { source: 'connection', connection }
    document.callbacks.beforeHandleAwareness(document, states, origin).then(answer, (error) => {
      this.#refuse(ticket, connection, error)
    })
  }

  /** Ends the engine; whatever it does not store within the deadline is left. */
  shutDown(deadlineMs: number): void {
    this.engine.shutDown(deadlineMs, 1012, 'Service Restart')
  }
}

/** What a client is told of an error that refuses it. */
export function reasonOf(error: any): string {
  return String((error || Forbidden).reason ?? DENIED)
}
