// Programs written for 2.13 and 3.4, on `fidibus/v2` and `fidibus/v3`, with the providers of those majors.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import * as encoding from 'lib0/encoding'
import * as stock2 from 'server-v2'
import * as stock3 from 'server-v3'
import { Awareness } from 'y-protocols/awareness'
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

/** What an older package does with connections made by hand, by its constructors. */
const majors = [
  ['2.15', v2, stock2, (major, name) => new major.Document(name, undefined, {}), (major, message, origin) => new major.MessageReceiver(message, new major.Debugger(), origin)],
  ['3.4', v3, stock3, (major, name) => new major.Document(name, {}), (major, message, origin) => new major.MessageReceiver(message, origin)],
]

for (const [name, ours, stock, documentOf, receiverOf] of majors) {
  for (const [whose, major] of [['ours', ours], ['stock', stock]]) {
    test(`${name}, ${whose}: connections by their sockets`, () => {
      const document = documentOf(major, 'notes')
      const [one, two] = [{ readyState: 1, send() {}, close() {} }, { readyState: 1, send() {}, close() {} }]
      const connections = [one, two].map((webSocket) => ({ webSocket, send() {} }))
      for (const connection of connections) document.addConnection(connection)
      assert.deepEqual([...document.connections.keys()], [one, two])
      assert.deepEqual([...document.connections.values()].map(({ connection }) => connection), connections)
      assert.deepEqual(document.getConnections(), connections)
      assert.ok(document.getClients(one) instanceof Set)
      document.removeConnection(connections[0])
      assert.deepEqual([document.hasConnection(connections[0]), document.hasConnection(connections[1])], [false, true])
      assert.deepEqual([...document.connections.keys()], [two])
      document.destroy()
    })

    test(`${name}, ${whose}: what a receiver applies is there when it returns`, () => {
      const document = documentOf(major, 'notes')
      const [source, origins, answers] = [new Y.Doc(), [], []]
      source.getText('t').insert(0, 'x')
      document.on('update', (_update, origin) => origins.push(origin))
      const receive = (message) => {
        const incoming = new major.IncomingMessage(message.toUint8Array())
        incoming.readVarString()
        incoming.writeVarString('notes')
        receiverOf(major, incoming, 'mine').apply(document, undefined, (answer) => answers.push(answer))
      }
      const step2 = new major.OutgoingMessage('notes').createSyncMessage()
      encoding.writeVarUint(step2.encoder, 1)
      encoding.writeVarUint8Array(step2.encoder, Y.encodeStateAsUpdate(source))
      receive(step2)
      assert.equal(document.getText('t').toString(), 'x')
      assert.deepEqual(origins, ['mine'])
      receive(new major.OutgoingMessage('notes').createSyncMessage().writeFirstSyncStepFor(new Y.Doc()))
      assert.equal(answers.length, 2)
      const awareness = new Awareness(new Y.Doc())
      awareness.setLocalState({ name: 'ada' })
      receive(new major.OutgoingMessage('notes').createAwarenessUpdateMessage(awareness))
      assert.equal(document.awareness.getStates().size, 1)
      awareness.destroy()
      document.destroy()
    })
  }
}

test('3.4: connections of a server by their sockets', async (t) => {
  const server = new v3.Server({ port: 0, address: '127.0.0.1', quiet: true, stopOnSignals: false })
  await server.listen()
  endAfter(t, server)
  await provide(t, 3, server.webSocketURL, { token: 'a' })
  const document = server.hocuspocus.documents.get('notes')
  const [[socket, { connection }]] = document.connections
  assert.equal(socket, connection.webSocket)
  assert.ok(document.hasConnection(connection))
  assert.equal(server.hocuspocus.getConnectionsCount(), 1)
  connection.close()
  assert.equal(document.connections.size, 0)
})
