// A program that uses the types of the public surface; checked against both packages, and never run.

import type { IncomingMessage as HttpRequest } from 'node:http'
import * as Y from 'yjs'
import {
  type afterLoadDocumentPayload,
  type afterStoreDocumentPayload,
  type afterUnloadDocumentPayload,
  type AwarenessUpdate,
  type beforeBroadcastStatelessPayload,
  type beforeHandleAwarenessPayload,
  type beforeHandleMessagePayload,
  type beforeSyncPayload,
  type beforeUnloadDocumentPayload,
  type Configuration,
  Connection,
  type connectedPayload,
  type ConnectionConfiguration,
  type ConnectionTransactionOrigin,
  defaultConfiguration,
  type DirectConnection,
  Document,
  type Extension,
  type fetchPayload,
  type FlushOptions,
  Hocuspocus,
  type HookName,
  type HookPayloadByName,
  IncomingMessage,
  isTransactionOrigin,
  type LocalTransactionOrigin,
  MessageReceiver,
  MessageType,
  type onAuthenticatePayload,
  type onAwarenessUpdatePayload,
  type onChangePayload,
  type onConfigurePayload,
  type onConnectPayload,
  type onCreateDocumentPayload,
  type onDestroyPayload,
  type onDisconnectPayload,
  type onListenPayload,
  type onLoadDocumentPayload,
  type onRequestPayload,
  type onStatelessPayload,
  type onStoreDocumentPayload,
  type onTokenSyncPayload,
  type onUpgradePayload,
  OutgoingMessage,
  type RedisTransactionOrigin,
  Server,
  type ServerConfiguration,
  shouldSkipStoreHooks,
  type StatesArray,
  type storePayload,
  type TransactionOrigin,
  useDebounce,
  type WebSocketLike,
} from '@hocuspocus/server'

interface Context {
  user: string
}

class Audit implements Extension<Context> {
  priority = 200
  extensionName = 'Audit'
  async onConfigure(data: onConfigurePayload) { data.version.length }
  async onListen(data: onListenPayload) { data.port.toFixed() }
  async onUpgrade(data: onUpgradePayload) { const request: HttpRequest = data.request; request.url }
  async onRequest(data: onRequestPayload) { data.response.end() }
  async onConnect(data: onConnectPayload<Context>) { data.connectionConfig.readOnly = true; data.requestHeaders.get('cookie') }
  async onAuthenticate(data: onAuthenticatePayload<Context>) { return { user: data.token + data.providerVersion + data.request.url } }
  async onTokenSync(data: onTokenSyncPayload<Context>) { data.connection.requestToken() }
  async connected(data: connectedPayload<Context>) { data.connection.context.user.length }
  async onCreateDocument(data: onCreateDocumentPayload<Context>) { return { gc: data.documentName.length > 1 } }
  async onLoadDocument(data: onLoadDocumentPayload<Context>) { Y.applyUpdate(data.document, new Uint8Array()); return data.document }
  async afterLoadDocument(data: afterLoadDocumentPayload<Context>) { data.document.getXmlFragment('title').observeDeep(() => {}) }
  async beforeHandleMessage(data: beforeHandleMessagePayload<Context>) { data.update.byteLength + data.clientsCount }
  async beforeHandleAwareness(data: beforeHandleAwarenessPayload<Context>) { data.states.delete(1); data.awareness.getStates() }
  async beforeSync(data: beforeSyncPayload<Context>) { data.type + data.payload.length }
  async beforeBroadcastStateless(data: beforeBroadcastStatelessPayload) { data.payload.trim() }
  async onStateless(data: onStatelessPayload) { data.connection.sendStateless(data.payload) }
  async onChange(data: onChangePayload<Context>) { if (isTransactionOrigin(data.transactionOrigin)) data.transactionOrigin.source }
  async onStoreDocument(data: onStoreDocumentPayload<Context>) { data.lastContext.user; shouldSkipStoreHooks(data.lastTransactionOrigin) }
  async afterStoreDocument(data: afterStoreDocumentPayload<Context>) { data.instance.getDocumentsCount() }
  async onAwarenessUpdate(data: onAwarenessUpdatePayload<Context>) { const states: StatesArray = data.states; states[0]?.clientId }
  async onDisconnect(data: onDisconnectPayload<Context>) { data.requestParameters.get('a') }
  async beforeUnloadDocument(data: beforeUnloadDocumentPayload) { data.document.name }
  async afterUnloadDocument(data: afterUnloadDocumentPayload) { data.instance.documents.has(data.documentName) }
  async onDestroy(data: onDestroyPayload) { data.instance.closeConnections() }
}

const configuration: Partial<ServerConfiguration<Context>> = {
  port: 1, address: '::', stopOnSignals: false, extensions: [new Audit()], flushDelay: false, yDocOptions: { gc: true, gcFilter: () => true },
  websocketOptions: { maxPayload: 1 },
}
const server = new Server<Context>(configuration)
const hocuspocus: Hocuspocus<Context> = server.hocuspocus
const shared: Configuration<Context> = hocuspocus.configuration
const socket: WebSocketLike = { send() {}, close() {}, readyState: 1 }

export async function use(): Promise<void> {
  await server.listen(1, () => {})
  server.httpServer.closeAllConnections()
  server.address.port.toFixed()
  const client = hocuspocus.handleConnection(socket, new Request('http://a'), { user: 'a' })
  client.handleMessage(new Uint8Array())
  client.handleClose({ code: 1, reason: 'a' })
  const direct = await hocuspocus.openDirectConnection('notes', { user: 'a' })
  await direct.transact((document) => document.getText('t').insert(0, 'x'))
  await direct.disconnect({ unloadImmediately: false })
  const other: DirectConnection = direct
  await other.disconnect()
  const document: Document = new Document('notes', { gc: true }, { flushDelay: 1, flushMaxBytes: 1 })
  document.broadcastStateless('a', (connection: Connection) => connection.context.user === 'a')
  document.connections.forEach((entry, connection) => { entry.clients.size; connection.close({ code: 1, reason: 'a' }) })
  await document.saveMutex.runExclusive(async () => {})
  document.onUpdate((document, origin, update) => { document.name; origin; update.length })
  const message = new IncomingMessage(new Uint8Array())
  await new MessageReceiver(message, { source: 'redis' }).apply(document, undefined, (reply) => reply.length)
  new OutgoingMessage('a').createSyncMessage().writeFirstSyncStepFor(document).toUint8Array()
  const type: MessageType = MessageType.Sync
  const payload: HookPayloadByName['onDestroy'] = { instance: hocuspocus }
  const name: HookName = 'onDestroy'
  await hocuspocus.hooks(name, payload)
  hocuspocus.debouncer.executeNow(`onStoreDocument-${document.name}`)
  await useDebounce().debounce('a', () => {}, 1, 1)
  const origins: TransactionOrigin[] = [
    { source: 'local', context: 1 } satisfies LocalTransactionOrigin,
    { source: 'redis' } satisfies RedisTransactionOrigin,
    { source: 'connection', connection: document.getConnections()[0] } satisfies ConnectionTransactionOrigin,
  ]
  const flush: FlushOptions = { flushDelay: defaultConfiguration.flushDelay, flushMaxBytes: type + origins.length }
  const config: ConnectionConfiguration = { readOnly: false, isAuthenticated: true }
  await hocuspocus.createDocument('notes', new Request('http://a'), 'socket', config, { user: 'a' })
  shared.extensions.push({ async onDestroy() { flush.flushDelay } })
  const awareness: AwarenessUpdate = { added: [], updated: [], removed: [] }
  awareness.added.length
}

export type Extended = fetchPayload<Context> | storePayload<Context>
