// One socket: who it is, and the payloads of its sessions. The engine has its protocol; for a socket that lives in
// JavaScript its frames pass through here.

import { type CloseEvent, Unauthorized, WsReadyStates } from '@hocuspocus/common'
import type { Engine } from './addon.ts'
import { Connection } from './Connection.ts'
import type Document from './Document.ts'
import { reasonOf } from './EngineEvents.ts'
import type { SessionId } from './events.ts'
import type { Hocuspocus } from './Hocuspocus.ts'
import { IncomingMessage } from './IncomingMessage.ts'
import { OutgoingMessage } from './OutgoingMessage.ts'
import { getParameters } from './parameters.ts'
import { type ConnectionConfiguration, MessageType, type onDisconnectPayload, type WebSocketLike } from './types.ts'
import { NativeSocket } from './upgrade.ts'

/** Bytes of frames that wait for the engine to take them, of one socket. */
const BACKLOG_BYTES_MAX = 64 * 1024 * 1024

/** What the hooks of one session share. */
export interface SessionPayload<Context = any> {
  instance: Hocuspocus
  request: Request
  requestHeaders: Headers
  requestParameters: URLSearchParams
  socketId: string
  connectionConfig: ConnectionConfiguration
  context: Context
  providerVersion: string | null
}

/** A session from its first message to its end. */
export interface Session<Context = any> {
  payload: SessionPayload<Context>
  documentName: string
  sessionId: string | null
  connection?: Connection<Context>
}

type CloseCallback = (document: Document, payload: onDisconnectPayload) => void

export class ClientConnection<Context = any> {
  readonly socketId: string = crypto.randomUUID()

  /** When a message last came. Kept for programs that read and write it; the engine has its own clock. */
  lastMessageReceivedAt = Date.now()

  connectionEstablishedAt = Date.now()

  timeout: number

  /** The engine's number of the socket. */
  id = 0

  readonly sessions = new Map<number, Session<Context>>()

  /** Sessions that were closed here, until the engine has handled what they sent before. */
  readonly closing = new Map<number, Session<Context>>()

  readonly websocket: WebSocketLike

  #closed = false
  readonly #request: () => Request
  #requestMade: Request | undefined
  readonly #instance: Hocuspocus<Context>
  readonly #engine: Engine
  readonly #defaultContext: Context
  readonly #closeCallbacks: CloseCallback[] = []
  readonly #backlog: Uint8Array[] = []
  #backlogBytes = 0

  constructor(
    websocket: WebSocketLike,
    request: () => Request,
    instance: Hocuspocus<Context>,
    engine: Engine,
    defaultContext: Context,
  ) {
    this.websocket = websocket
    this.#request = request
    this.#instance = instance
    this.#engine = engine
    this.#defaultContext = defaultContext
    this.timeout = instance.configuration.timeout
  }

  /** Made when a hook looks. */
  get request(): Request {
    this.#requestMade ??= this.#request()
    return this.#requestMade
  }

  onClose(callback: CloseCallback): ClientConnection<Context> {
    this.#closeCallbacks.push(callback)
    return this
  }

  /** A binary message of the socket. */
  handleMessage = (data: Uint8Array): void => {
    this.lastMessageReceivedAt = Date.now()
    if (this.#backlog.length === 0 && this.#engine.receive(this.id, bytesOf(data))) return
    this.#backlogBytes += data.byteLength
    if (this.#backlogBytes > BACKLOG_BYTES_MAX) {
      this.websocket.close(1013, 'Too much at once')
      this.handleClose()
      return
    }
    this.#backlog.push(bytesOf(data))
  }

  /** The socket is gone. */
  handleClose(_event?: CloseEvent): void {
    this.#backlog.length = 0
    this.#backlogBytes = 0
    this.#engine.gone(this.id)
  }

  /** The engine has space again. */
  drainBacklog(): void {
    while (this.#backlog.length > 0 && this.#engine.receive(this.id, this.#backlog[0])) {
      this.#backlogBytes -= this.#backlog[0].byteLength
      this.#backlog.shift()
    }
  }

  /** The engine sends these. */
  deliver(frames: Uint8Array[]): void {
    const { websocket } = this
    for (const frame of frames) {
      // Clients of 2.x fail at a message that they do not know.
      if (this.#instance.endsSockets && endsSession(frame)) continue
      if (websocket.readyState === WsReadyStates.Closing || websocket.readyState === WsReadyStates.Closed) {
        this.handleClose()
        return
      }
      try {
        websocket.send(frame)
      } catch {
        this.handleClose()
        return
      }
    }
  }

  /** The engine is done with the socket. */
  ended(code: number, reason: string): void {
    const { websocket } = this
    this.#closed = true
    if (websocket instanceof NativeSocket) {
      websocket.readyState = WsReadyStates.Closed
      return
    }
    if (websocket.readyState !== WsReadyStates.Closing && websocket.readyState !== WsReadyStates.Closed) {
      websocket.close(code, reason)
    }
  }

  /** Closed, and all that it opened has left. */
  get isOver(): boolean {
    return this.#closed && ![...this.sessions.values()].some(({ connection }) => connection !== undefined)
  }

  /** Begins a session. */
  begin(session: SessionId, documentName: string, sessionId: string | null, providerVersion: string | null): Session<Context> {
    const { request } = this
    const begun: Session<Context> = {
      documentName,
      sessionId,
      payload: {
        instance: this.#instance,
        request,
        requestHeaders: request.headers,
        requestParameters: getParameters(request),
        socketId: this.socketId,
        connectionConfig: { readOnly: false, isAuthenticated: false },
        context: { ...this.#defaultContext },
        providerVersion,
      },
    }
    this.sessions.set(session.number, begun)
    return begun
  }

  /** The session is in its document. */
  enter(session: SessionId, entered: Session<Context>, document: Document): Connection<Context> {
    const { payload } = entered
    const connection = new Connection<Context>(
      this.websocket,
      payload.request,
      document,
      payload.socketId,
      payload.context,
      payload.connectionConfig.readOnly,
      entered.sessionId,
      payload.providerVersion,
      { engine: this.#engine, session, endsSocket: (left) => this.#instance.endsSockets && this.sessions.size <= left },
    )
    entered.connection = connection
    this.#listen(connection, entered, document)
    connection.onClose(() => {
      this.sessions.delete(session.number)
      this.closing.set(session.number, entered)
    })
    return connection
  }

  #listen(connection: Connection<Context>, { payload }: Session<Context>, document: Document): void {
    const common = () => ({
      clientsCount: document.getConnectionsCount(),
      context: payload.context,
      document,
      documentName: document.name,
    })
    const fromRequest = () => ({
      instance: this.#instance,
      socketId: payload.socketId,
      requestHeaders: payload.requestHeaders,
      requestParameters: getParameters(payload.request),
    })
    const { callbacks } = connection
    callbacks.onClose.push(async (document: Document) => {
      // Counted now: others may leave within the same batch of events.
      const told = { ...common(), ...fromRequest() }
      await connection.waitForPendingMessages()
      await this.#instance.tell('onDisconnect', told)
      for (const callback of this.#closeCallbacks) callback(document, told)
    })
    callbacks.statelessCallback = (stateless) => this.#instance.tell('onStateless', stateless)
    callbacks.beforeHandleMessage = (connection, update) =>
      this.#instance.hooks('beforeHandleMessage', { ...common(), ...fromRequest(), connection, update })
    callbacks.afterHandleMessage = (connection, update) =>
      this.#instance.hooks('afterHandleMessage', { ...common(), ...fromRequest(), connection, update })
    callbacks.beforeSync = (connection, message) =>
      this.#instance.hooks('beforeSync', { ...common(), connection, ...message })
    callbacks.onTokenSyncCallback = async ({ token }) => {
      try {
        await this.#instance.hooks(
          'onTokenSync',
          { ...payload, token, document, connection, documentName: document.name },
          (additions: Partial<Context>) => {
            payload.context = { ...payload.context, ...additions }
          },
        )
      } catch (error: any) {
        console.error(error)
        const { code, reason } = { ...Unauthorized, ...error }
        connection.close({ code, reason })
      }
    }
  }

  /** Tells a client that it was refused although it was let in: its `connected` hook threw. */
  deny(address: string, error: any): void {
    this.#engine.send(this.id, new OutgoingMessage(address).writePermissionDenied(reasonOf(error)).toUint8Array())
  }
}

/** Whether a frame is the message that a session is over. */
function endsSession(frame: Uint8Array): boolean {
  const message = new IncomingMessage(frame)
  message.readVarString()
  return message.readVarUint() === MessageType.CLOSE
}

/** What ws hands out may be an ArrayBuffer. */
function bytesOf(data: Uint8Array | ArrayBuffer): Uint8Array {
  return data instanceof Uint8Array ? data : new Uint8Array(data)
}
