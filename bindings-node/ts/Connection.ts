// One client's session on one document. Those of a server are the engine's: what is here is their face. One that is
// built by hand over a WebSocket-like object does all of it in JavaScript.

import { type CloseEvent, ResetConnection, WsReadyStates } from '@hocuspocus/common'
import type { Engine } from './addon.ts'
import type Document from './Document.ts'
import { LINK } from './DocumentLink.ts'
import type { SessionId } from './events.ts'
import { IncomingMessage } from './IncomingMessage.ts'
import { MessageReceiver } from './MessageReceiver.ts'
import { OutgoingMessage } from './OutgoingMessage.ts'
import type { beforeSyncPayload, onStatelessPayload, WebSocketLike } from './types.ts'

type SyncMessage = Pick<beforeSyncPayload, 'type' | 'payload'>

/** How the server gives a connection its session. */
export interface Native {
  engine: Engine
  session: SessionId
  /** The socket ends with this session, as its last one: clients of 2.x know no message for the end of one. */
  endsSocket: (left: number) => boolean
}

export class Connection<Context = any> {
  webSocket: WebSocketLike

  context: Context

  document: Document

  request!: Request

  callbacks = {
    onClose: [(_document: Document, _event?: CloseEvent): any => {}],
    beforeHandleMessage: (_connection: Connection, _update: Uint8Array): Promise<any> => Promise.resolve(),
    afterHandleMessage: (_connection: Connection, _update: Uint8Array): Promise<any> => Promise.resolve(),
    beforeSync: (_connection: Connection, _payload: SyncMessage): Promise<any> => Promise.resolve(),
    statelessCallback: (_payload: onStatelessPayload): Promise<any> => Promise.resolve(),
    onTokenSyncCallback: (_payload: { token: string }): Promise<any> => Promise.resolve(),
  }

  socketId: string

  sessionId: string | null

  providerVersion: string | null

  #readOnly: boolean

  #native: Native | undefined

  #queue: Uint8Array[] = []

  #processing: Promise<void> = Promise.resolve()

  constructor(
    connection: WebSocketLike,
    request: Request,
    document: Document,
    socketId: string,
    context: Context,
    readOnly = false,
    sessionId?: string | null,
    providerVersion?: string | null,
    native?: Native,
  ) {
    this.webSocket = connection
    this.context = context
    this.document = document
    this.socketId = socketId
    this.sessionId = sessionId ?? null
    this.providerVersion = providerVersion ?? null
    this.#readOnly = readOnly
    this.#native = native
    this.request = request
    this.document.addConnection(this)
    if (native === undefined) this.#sendCurrentAwareness()
  }

  /** Whether the engine serves it. */
  get isNative(): boolean {
    return this.#native !== undefined
  }

  /** The engine's number of it. */
  get session(): SessionId | undefined {
    return this.#native?.session
  }

  get readOnly(): boolean {
    return this.#readOnly
  }

  /** Takes effect before the client's next message. */
  set readOnly(readOnly: boolean) {
    this.#readOnly = readOnly
    const link = this.document[LINK]
    if (this.#native && link) {
      const { engine, session } = this.#native
      engine.setReadOnly(link.id, session.connection, session.number, readOnly)
    }
  }

  /** What stands in front of messages to this client. */
  get messageAddress(): string {
    return this.sessionId ? `${this.document.name}\0${this.sessionId}` : this.document.name
  }

  onClose(callback: (document: Document, event?: CloseEvent) => void): Connection {
    this.callbacks.onClose.push(callback)
    return this
  }

  onStatelessCallback(callback: (payload: onStatelessPayload) => Promise<void>): Connection {
    this.callbacks.statelessCallback = callback
    return this
  }

  beforeHandleMessage(callback: (connection: Connection, update: Uint8Array) => Promise<any>): Connection {
    this.callbacks.beforeHandleMessage = callback
    return this
  }

  afterHandleMessage(callback: (connection: Connection, update: Uint8Array) => Promise<any>): Connection {
    this.callbacks.afterHandleMessage = callback
    return this
  }

  beforeSync(callback: (connection: Connection, payload: SyncMessage) => Promise<any>): Connection {
    this.callbacks.beforeSync = callback
    return this
  }

  onTokenSyncCallback(callback: (payload: { token: string }) => Promise<void>): Connection {
    this.callbacks.onTokenSyncCallback = callback
    return this
  }

  waitForPendingMessages(): Promise<void> {
    return this.#processing
  }

  send(message: Uint8Array): void {
    const { readyState } = this.webSocket
    if (readyState === WsReadyStates.Closing || readyState === WsReadyStates.Closed) {
      this.close()
      return
    }
    const link = this.document[LINK]
    if (this.#native && link) {
      // Through the room, as stateless messages go: what is sent arrives in the order in which it was sent.
      this.#native.engine.sendAfter(link.id, this.#native.session.connection, message)
      return
    }
    try {
      this.webSocket.send(message)
    } catch {
      this.close()
    }
  }

  sendStateless(payload: string): void {
    const link = this.document[LINK]
    if (this.#native && link && this.webSocket.readyState === WsReadyStates.Open) {
      const { engine, session } = this.#native
      engine.broadcast(link.id, payload, [session.connection, session.number])
      return
    }
    this.send(new OutgoingMessage(this.messageAddress).writeStateless(payload).toUint8Array())
  }

  requestToken(): void {
    this.send(new OutgoingMessage(this.messageAddress).writeTokenSyncRequest().toUint8Array())
  }

  /** Ends the session and tells the client; the socket stays. */
  close(event?: CloseEvent): void {
    if (!this.document.hasConnection(this)) return
    const link = this.document[LINK]
    if (this.#native && link) link.depart(this.#native.session, this)
    this.#leave(event)
    const reason = event?.reason ?? 'Server closed the connection'
    if (this.#native) {
      const { engine, session, endsSocket } = this.#native
      if (endsSocket(0)) this.webSocket.close(event?.code, event?.reason)
      else engine.closeSession(session.connection, session.number, event?.code ?? ResetConnection.code, reason)
      return
    }
    this.send(new OutgoingMessage(this.messageAddress).writeCloseMessage(reason).toUint8Array())
  }

  /** The engine is about to end the session, because a hook refused a message. */
  refused({ code, reason }: CloseEvent): void {
    if (this.#native?.endsSocket(1)) this.webSocket.close(code, reason)
  }

  /** The session ended in the engine; whether that was news. */
  left(event?: CloseEvent): boolean {
    return this.#leave(event)
  }

  #leave(event?: CloseEvent): boolean {
    if (!this.document.hasConnection(this)) return false
    this.document.removeConnection(this)
    for (const callback of this.callbacks.onClose) callback(this.document, event)
    return true
  }

  #sendCurrentAwareness(): void {
    if (!this.document.hasAwarenessStates()) return
    const { awareness } = this.document
    this.send(new OutgoingMessage(this.messageAddress).createAwarenessUpdateMessage(awareness).toUint8Array())
  }

  handleMessage(data: Uint8Array): void {
    if (this.#native) {
      this.#native.engine.receive(this.#native.session.connection, data)
      return
    }
    this.#queue.push(data)
    if (this.#queue.length === 1) this.#processing = this.#process()
  }

  async #process(): Promise<void> {
    for (let data = this.#queue.at(0); data !== undefined; data = this.#queue.at(0)) {
      const message = new IncomingMessage(data)
      const [documentName] = message.readVarString().split('\0')
      if (documentName === this.document.name && !(await this.#handle(message, data))) {
        this.#queue.length = 0
        return
      }
      this.#queue.shift()
    }
  }

  async #handle(message: IncomingMessage, data: Uint8Array): Promise<boolean> {
    message.writeVarString(this.messageAddress)
    try {
      await this.callbacks.beforeHandleMessage(this, data)
      try {
        await new MessageReceiver(message).apply(this.document, this)
      } finally {
        await this.handled(data)
      }
      return true
    } catch (error) {
      this.close(this.refusal(error))
      return false
    }
  }

  /** Tells afterHandleMessage. */
  async handled(data: Uint8Array): Promise<void> {
    try {
      await this.callbacks.afterHandleMessage(this, data)
    } catch (error) {
      console.error(`afterHandleMessage hook failed (while handling ${this.document.name})`, error)
    }
  }

  /** What a hook's error closes the session with; the error is shown to its author. */
  refusal(error: any): CloseEvent {
    console.error(`closing connection ${this.socketId} (while handling ${this.document.name}) because of exception`, error)
    const { code, reason } = error ?? {}
    return {
      code: typeof code === 'number' ? code : ResetConnection.code,
      reason: reason ?? ResetConnection.reason,
    }
  }
}

export default Connection
