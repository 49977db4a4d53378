// Document as 2.x and 3.x have it: `connections` by their sockets, each entry with its connection.

import { removeAwarenessStates } from 'y-protocols/awareness'
import type Connection from './Connection.ts'
import { Document } from './Document.ts'
import type { WebSocketLike } from './types.ts'

interface Entry {
  clients: Set<any>
  connection: Connection
}

export class LegacyDocument extends Document {
  // Of another type than in 4.x, so its own type says nothing.
  declare connections: Map<any, any>

  get #entries(): Map<WebSocketLike | Connection, Entry> {
    return this.connections
  }

  override addConnection(connection: Connection): Document {
    // A socket with several sessions on one document came with 4.0: the others go by themselves.
    const isTaken = this.#entries.has(connection.webSocket)
    this.#entries.set(isTaken ? connection : connection.webSocket, { clients: new Set(), connection })
    return this
  }

  #keyOf(connection: Connection): WebSocketLike | Connection | undefined {
    if (this.#entries.get(connection.webSocket)?.connection === connection) return connection.webSocket
    return this.#entries.has(connection) ? connection : undefined
  }

  override hasConnection(connection: Connection): boolean {
    return this.#keyOf(connection) !== undefined
  }

  override removeConnection(connection: Connection): Document {
    const key = this.#keyOf(connection)
    if (key === undefined) return this
    const clients = this.getClients(key)
    if (clients.size > 0 && !connection.isNative) removeAwarenessStates(this.awareness, [...clients], null)
    this.#entries.delete(key)
    return this
  }

  override getConnections(): Array<Connection> {
    return Array.from(this.#entries.values(), ({ connection }) => connection)
  }

  /** By socket, or by connection. */
  override getClients(of: any): Set<any> {
    return (this.#entries.get(of) ?? this.#entries.get(of?.webSocket))?.clients ?? new Set()
  }
}
