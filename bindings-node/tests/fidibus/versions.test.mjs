// Programs written for 2.13 and 3.4, on `fidibus/v2` and `fidibus/v3`, with the providers of those majors.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import * as Y from 'yjs'
import WebSocket, { WebSocketServer } from 'ws'
import * as v2 from '../../dist/v2.js'
import * as v3 from '../../dist/v3.js'
import { sleep, until } from '../peers.mjs'

const clients = []

/** Ends the clients of a test, then its server. */
function endAfter(t, server) {
  t.after(async () => {
    for (const provider of clients.splice(0)) {
      provider.destroy()
      provider.configuration.websocketProvider?.destroy()
    }
    await sleep(50)
    await server.destroy()
  })
}

async function provide(t, major, url, options = {}) {
  const { HocuspocusProvider } = await import(`provider-v${major}`)
  // A client of 2.13 knows no Close message, which a server sends that ends first: clients go before it.
  const provider = new HocuspocusProvider({ url, name: 'notes', WebSocketPolyfill: WebSocket, document: new Y.Doc(), ...options })
  clients.push(provider)
  await until(() => provider.synced ?? provider.isSynced, 'synced')
  return provider
}
const text = (provider) => provider.document.getText('t')

test('2.13: Server.configure().listen(), Node\'s headers and request, older payloads', async (t) => {
  const seen = {}
  const server = new v2.Hocuspocus().configure({
    port: 0,
    address: '127.0.0.1',
    quiet: true,
    stopOnSignals: false,
    debounce: 30,
    async onConnect({ connection, requestHeaders, request }) {
      seen.connect = [connection.requiresAuthentication, requestHeaders['x-forwarded-for'] ?? typeof requestHeaders.host, typeof request.socket.remoteAddress]
    },
    async onAuthenticate({ token, connection, requestParameters }) {
      seen.authenticate = [token, connection.readOnly, requestParameters.get('q')]
      return { user: 7 }
    },
    async connected({ connectionInstance, connection }) { seen.connected = [typeof connectionInstance.close, connection.isAuthenticated] },
    async onStoreDocument({ context, requestHeaders, socketId, document, transactionOrigin }) {
      seen.store = [context.user, typeof requestHeaders.host, typeof socketId, document.getText('t').toString(), transactionOrigin instanceof v2.Connection]
    },
    async onChange({ transactionOrigin, context }) { seen.change = [transactionOrigin instanceof v2.Connection, context.user] },
  })
  await server.listen()
  endAfter(t, server)
  const provider = await provide(t, 2, `${server.webSocketURL}/?q=5`, { token: 'secret' })
  text(provider).insert(0, 'x')
  await until(() => seen.store)
  assert.deepEqual(seen.connect, [true, 'string', 'string'])
  assert.deepEqual(seen.authenticate, ['secret', false, '5'])
  assert.deepEqual(seen.connected, ['function', true])
  assert.deepEqual(seen.change, [true, 7])
  assert.deepEqual(seen.store, [7, 'string', 'string', 'x', true])
  for (const { connection } of server.documents.get('notes').connections.values()) assert.equal(connection.context.user, 7)
})

test('2.13: a provider without a token, where nobody asks for one', async (t) => {
  const server = new v2.Hocuspocus({ port: 0, address: '127.0.0.1', quiet: true, stopOnSignals: false })
  await server.listen()
  endAfter(t, server)
  const [ada, bob] = [await provide(t, 2, server.webSocketURL), await provide(t, 2, server.webSocketURL)]
  text(ada).insert(0, 'x')
  await until(() => text(bob).toString() === 'x')
})

test('2.13: edits without an origin are not stored', async (t) => {
  let stores = 0
  const server = new v2.Hocuspocus({ port: 0, address: '127.0.0.1', quiet: true, stopOnSignals: false, debounce: 10, async onStoreDocument() { stores += 1 } })
  await server.listen()
  endAfter(t, server)
  await provide(t, 2, server.webSocketURL)
  const document = server.documents.get('notes')
  document.getText('t').insert(0, 'x')
  await sleep(80)
  assert.equal(stores, 0)
  document.transact(() => document.getText('t').insert(0, 'y'), 'somebody')
  await until(() => stores === 1)
})

test('2.13: of two documents on one socket the server closes one', async (t) => {
  const left = []
  const instance = new v2.Hocuspocus({ quiet: true, async onAuthenticate({ token }) { return { user: token } }, async onDisconnect({ documentName }) { left.push(documentName) } })
  const http = createServer()
  const wss = new WebSocketServer({ server: http })
  wss.on('connection', (ws, request) => { instance.handleConnection(ws, request) })
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.after(() => { wss.close(); http.close(); http.closeAllConnections() })
  const { HocuspocusProviderWebsocket } = await import('provider-v2')
  class Socket extends WebSocket {
    constructor(url) {
      super(url)
      // As in browsers: a socket that is given up while it opens is no error.
      this.on('error', () => {})
    }
  }
  const websocketProvider = new HocuspocusProviderWebsocket({ url: `ws://127.0.0.1:${http.address().port}`, WebSocketPolyfill: Socket, initialDelay: 50 })
  t.after(() => websocketProvider.destroy())
  const [one, two] = await Promise.all(['one', 'two'].map((name) => provide(t, 2, undefined, { name, token: 'a', websocketProvider })))
  // A message that the client does not know would be an error that nobody catches, and end this process.
  instance.documents.get('one').getConnections()[0].close({ code: 4000, reason: 'over' })
  await until(() => left.length === 1)
  text(two).insert(0, 'goes on')
  await until(() => instance.documents.get('two').getText('t').toString() === 'goes on')
  assert.deepEqual([left, websocketProvider.status], [['one'], 'connected'])
  // The last one takes the socket with it.
  let event
  websocketProvider.on('close', (closed) => { event = closed.event })
  instance.documents.get('two').getConnections()[0].close({ code: 4000, reason: 'over' })
  await until(() => event)
  assert.deepEqual([event.code, event.reason], [4000, 'over'])
  one.destroy()
})

test('3.4: new Server(configuration, options), and a handleConnection that listens itself', async (t) => {
  const seen = []
  const server = new v3.Server({ port: 0, address: '127.0.0.1', quiet: true, stopOnSignals: false, async onAuthenticate({ requestHeaders, connectionConfig }) { seen.push([typeof requestHeaders.host, connectionConfig.readOnly]) } }, { maxPayload: 1_000_000 })
  await server.listen()
  endAfter(t, server)
  await provide(t, 3, server.webSocketURL, { token: 'a' })
  assert.deepEqual(seen, [['string', false]])

  const instance = new v3.Hocuspocus({ async onConnect({ request }) { seen.push(request.url) } })
  const http = createServer()
  const wss = new WebSocketServer({ server: http })
  wss.on('connection', (ws, request) => { instance.handleConnection(ws, request) })
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.after(() => { wss.close(); http.close(); http.closeAllConnections() })
  const [ada, bob] = [await provide(t, 3, `ws://127.0.0.1:${http.address().port}/a`, { token: 'a' }), await provide(t, 3, `ws://127.0.0.1:${http.address().port}/b`, { token: 'a' })]
  text(ada).insert(0, 'x')
  await until(() => text(bob).toString() === 'x')
  assert.deepEqual(seen.slice(1), ['/a', '/b'])
})
