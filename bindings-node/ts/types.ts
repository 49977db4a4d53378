// The types of the public surface: names and fields are those of @hocuspocus/server 4.7, so that programs that
// type-check against it do so here.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Awareness } from 'y-protocols/awareness'
import type Connection from './Connection.ts'
import type Document from './Document.ts'
import type { Hocuspocus } from './Hocuspocus.ts'

/** A change that a client made. */
export interface ConnectionTransactionOrigin {
  source: 'connection'
  connection: Connection
}

/** A change that came from another server. */
export interface RedisTransactionOrigin {
  source: 'redis'
}

/** A change that this process made. */
export interface LocalTransactionOrigin {
  source: 'local'
  skipStoreHooks?: boolean
  context?: any
}

export type TransactionOrigin = ConnectionTransactionOrigin | RedisTransactionOrigin | LocalTransactionOrigin

const SOURCES: ReadonlySet<unknown> = new Set(['connection', 'redis', 'local'])

/** Whether an origin is one of the three that this server makes. */
export function isTransactionOrigin(origin: unknown): origin is TransactionOrigin {
  return typeof origin === 'object' && origin !== null && SOURCES.has((origin as { source?: unknown }).source)
}

/** Whether a change of this origin is stored by somebody else, or not at all. */
export function shouldSkipStoreHooks(origin: unknown): boolean {
  if (!isTransactionOrigin(origin) || origin.source === 'connection') return false
  return origin.source === 'redis' || (origin.skipStoreHooks ?? false)
}

/** What a WebSocket of any kind has to offer. */
export interface WebSocketLike {
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void
  close(code?: number, reason?: string): void
  readyState: number
}

export enum MessageType {
  Unknown = -1,
  Sync = 0,
  Awareness = 1,
  Auth = 2,
  QueryAwareness = 3,
  SyncReply = 4,
  Stateless = 5,
  BroadcastStateless = 6,
  CLOSE = 7,
  SyncStatus = 8,
  Ping = 9,
  Pong = 10,
}

export interface AwarenessUpdate {
  added: Array<any>
  updated: Array<any>
  removed: Array<any>
}

export interface ConnectionConfiguration {
  readOnly: boolean
  isAuthenticated: boolean
}

/** An object with hooks; see the Hocuspocus guide for when each is called. */
export interface Extension<Context = any> {
  priority?: number
  extensionName?: string
  onConfigure?(data: onConfigurePayload): Promise<any>
  onListen?(data: onListenPayload): Promise<any>
  onUpgrade?(data: onUpgradePayload): Promise<any>
  onConnect?(data: onConnectPayload<Context>): Promise<any>
  connected?(data: connectedPayload<Context>): Promise<any>
  onAuthenticate?(data: onAuthenticatePayload<Context>): Promise<any>
  onTokenSync?(data: onTokenSyncPayload<Context>): Promise<any>
  onCreateDocument?(data: onCreateDocumentPayload<Context>): Promise<any>
  onLoadDocument?(data: onLoadDocumentPayload<Context>): Promise<any>
  afterLoadDocument?(data: afterLoadDocumentPayload<Context>): Promise<any>
  beforeHandleMessage?(data: beforeHandleMessagePayload<Context>): Promise<any>
  /** After a message was handled, whether that worked or not; not after a beforeHandleMessage that refused it. */
  afterHandleMessage?(data: afterHandleMessagePayload<Context>): Promise<any>
  /** Before an awareness message counts; `states` may be changed in place, an error refuses the message. */
  beforeHandleAwareness?(data: beforeHandleAwarenessPayload<Context>): Promise<any>
  beforeSync?(data: beforeSyncPayload<Context>): Promise<any>
  beforeBroadcastStateless?(data: beforeBroadcastStatelessPayload): Promise<any>
  onStateless?(payload: onStatelessPayload): Promise<any>
  onChange?(data: onChangePayload<Context>): Promise<any>
  onStoreDocument?(data: onStoreDocumentPayload<Context>): Promise<any>
  afterStoreDocument?(data: afterStoreDocumentPayload<Context>): Promise<any>
  onAwarenessUpdate?(data: onAwarenessUpdatePayload<Context>): Promise<any>
  onRequest?(data: onRequestPayload): Promise<any>
  onDisconnect?(data: onDisconnectPayload<Context>): Promise<any>
  beforeUnloadDocument?(data: beforeUnloadDocumentPayload): Promise<any>
  afterUnloadDocument?(data: afterUnloadDocumentPayload): Promise<any>
  onDestroy?(data: onDestroyPayload): Promise<any>
}

export type HookPayloadByName<Context = any> = {
  onConfigure: onConfigurePayload
  onListen: onListenPayload
  onUpgrade: onUpgradePayload
  onConnect: onConnectPayload<Context>
  connected: connectedPayload<Context>
  onAuthenticate: onAuthenticatePayload<Context>
  onTokenSync: onTokenSyncPayload<Context>
  onCreateDocument: onCreateDocumentPayload<Context>
  onLoadDocument: onLoadDocumentPayload<Context>
  afterLoadDocument: afterLoadDocumentPayload<Context>
  beforeHandleMessage: beforeHandleMessagePayload<Context>
  afterHandleMessage: afterHandleMessagePayload<Context>
  beforeHandleAwareness: beforeHandleAwarenessPayload<Context>
  beforeBroadcastStateless: beforeBroadcastStatelessPayload
  beforeSync: beforeSyncPayload<Context>
  onStateless: onStatelessPayload
  onChange: onChangePayload<Context>
  onStoreDocument: onStoreDocumentPayload<Context>
  afterStoreDocument: afterStoreDocumentPayload<Context>
  onAwarenessUpdate: onAwarenessUpdatePayload<Context>
  onRequest: onRequestPayload
  onDisconnect: onDisconnectPayload<Context>
  afterUnloadDocument: afterUnloadDocumentPayload
  beforeUnloadDocument: beforeUnloadDocumentPayload
  onDestroy: onDestroyPayload
}

export type HookName = keyof HookPayloadByName

/** How a document batches what it sends. */
export interface FlushOptions {
  /**
   * Milliseconds over which changes go out as one message; 0: what arrives together goes out together; `false`:
   * every change by itself.
   * @default 0
   */
  flushDelay: false | number
  /**
   * A batch goes out early at this many bytes.
   * @default 1_048_576
   */
  flushMaxBytes: number
}

export interface Configuration<Context = any> extends Extension<Context>, FlushOptions {
  /** A name for logs. */
  name: string | null
  extensions: Array<Extension>
  /** Milliseconds after which a silent connection is closed; the deadline of one that never authenticates. */
  timeout: number
  /** Milliseconds of quiet before `onStoreDocument`. */
  debounce: number
  /** `onStoreDocument` is called at least after this many milliseconds. */
  maxDebounce: number
  /**
   * Milliseconds that awareness (a cursor that moved) waits at most, for more of it and for changes that take it along;
   * 0, or with a `flushDelay`: as long as changes. Never more than 1,000. Not in Hocuspocus, which sends each at once.
   * @default 16
   */
  awarenessDelay?: number
  /** No start screen. */
  quiet: boolean
  /** `false`: a document whose last client left waits for its debounced store before it is unloaded. */
  unloadImmediately: boolean
  /**
   * Bytes that one connection may queue before it is authenticated.
   * @default 5_242_880
   */
  maxUnauthenticatedQueueSize: number
  /**
   * Messages that one connection may queue before it is authenticated.
   * @default 1_000
   */
  maxUnauthenticatedQueueMessages: number
  /**
   * Documents that one connection may have waiting for authentication.
   * @default 100
   */
  maxPendingDocuments: number
  /** Options of every Y.Doc. */
  yDocOptions: {
    gc: boolean
    gcFilter: () => boolean
  }
}

interface RequestFields {
  requestHeaders: Headers
  requestParameters: URLSearchParams
  socketId: string
}

interface DocumentFields {
  document: Document
  documentName: string
  instance: Hocuspocus
}

export interface onStatelessPayload {
  connection: Connection
  documentName: string
  document: Document
  payload: string
}

export interface onConnectPayload<Context = any> extends RequestFields {
  context: Context
  documentName: string
  instance: Hocuspocus
  request: Request
  connectionConfig: ConnectionConfiguration
  providerVersion: string | null
}

export interface onAuthenticatePayload<Context = any> extends onConnectPayload<Context> {
  token: string
}

export interface connectedPayload<Context = any> extends onConnectPayload<Context> {
  connection: Connection<Context>
}

export interface onTokenSyncPayload<Context = any> extends RequestFields, DocumentFields {
  context: Context
  token: string
  connectionConfig: ConnectionConfiguration
  connection: Connection<Context>
}

export interface onCreateDocumentPayload<Context = any> extends RequestFields {
  context: Context
  documentName: string
  instance: Hocuspocus
  connectionConfig: ConnectionConfiguration
}

export interface onLoadDocumentPayload<Context = any> extends RequestFields, DocumentFields {
  context: Context
  connectionConfig: ConnectionConfiguration
}

export interface afterLoadDocumentPayload<Context = any> extends onLoadDocumentPayload<Context> {}

export interface fetchPayload<Context = any> extends onLoadDocumentPayload<Context> {}

export interface onChangePayload<Context = any> extends RequestFields, DocumentFields {
  clientsCount: number
  context: Context
  update: Uint8Array
  transactionOrigin: unknown
  connection?: Connection<Context>
}

export interface beforeHandleMessagePayload<Context = any> extends RequestFields, DocumentFields {
  clientsCount: number
  context: Context
  update: Uint8Array
  connection: Connection<Context>
}

export interface afterHandleMessagePayload<Context = any> extends beforeHandleMessagePayload<Context> {}

export interface beforeHandleAwarenessPayload<Context = any> extends RequestFields, DocumentFields {
  awareness: Awareness
  clientsCount: number
  /** `undefined` where no client sent it. */
  context: Context | undefined
  /** By client id; what is here after all hooks is applied. */
  states: Map<number, Record<string, any>>
  transactionOrigin: unknown
  connection?: Connection<Context>
}

export interface beforeSyncPayload<Context = any> {
  clientsCount: number
  context: Context
  document: Document
  documentName: string
  connection: Connection<Context>
  /** 0: step 1, 1: step 2, 2: update. */
  type: number
  payload: Uint8Array
}

export interface beforeBroadcastStatelessPayload {
  document: Document
  documentName: string
  payload: string
}

export interface onStoreDocumentPayload<Context = any> extends DocumentFields {
  clientsCount: number
  lastContext: Context
  lastTransactionOrigin: unknown
}

export interface afterStoreDocumentPayload<Context = any> extends onStoreDocumentPayload<Context> {}

export interface storePayload<Context = any> extends onStoreDocumentPayload<Context> {
  state: Buffer
}

export interface onAwarenessUpdatePayload<Context = any> extends DocumentFields {
  transactionOrigin: unknown
  connection?: Connection<Context>
  added: number[]
  updated: number[]
  removed: number[]
  awareness: Awareness
  states: StatesArray
}

export type StatesArray = { clientId: number; [key: string | number]: any }[]

export interface onDisconnectPayload<Context = any> extends RequestFields, DocumentFields {
  clientsCount: number
  context: Context
}

export interface onRequestPayload {
  request: IncomingMessage
  response: ServerResponse
  instance: Hocuspocus
}

export interface onUpgradePayload {
  request: IncomingMessage
  socket: any
  head: any
  instance: Hocuspocus
}

export interface onListenPayload {
  instance: Hocuspocus
  configuration: Configuration
  port: number
}

export interface onDestroyPayload {
  instance: Hocuspocus
}

export interface onConfigurePayload {
  instance: Hocuspocus
  configuration: Configuration
  version: string
}

export interface afterUnloadDocumentPayload {
  instance: Hocuspocus
  documentName: string
}

export interface beforeUnloadDocumentPayload extends DocumentFields {}

export interface DisconnectOptions {
  /** `false`: the store is debounced and the document stays loaded until it ran. Default `true`. */
  unloadImmediately?: boolean
}

export interface DirectConnection {
  transact(transaction: (document: Document) => void): Promise<void>
  disconnect(options?: DisconnectOptions): Promise<void>
}
