// Connection: readOnly, close, context, requestToken, the maps that lead to it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('readOnly can be flipped at any time', async (t) => {
  const server = await serve(t)
  const [ada, bob] = [await connect(t, server), await connect(t, server)]
  text(ada).insert(0, 'a')
  await until(() => text(bob).toString() === 'a')
  const connections = server.hocuspocus.documents.get('notes').getConnections()
  for (const connection of connections) connection.readOnly = true
  text(ada).insert(1, 'b')
  await sleep(150)
  assert.equal(text(bob).toString(), 'a')
  for (const connection of connections) connection.readOnly = false
  text(bob).insert(1, 'c')
  await until(() => text(ada).toString().includes('c'))
})

test('close ends one session and leaves the socket', async (t) => {
  const closes = []
  const server = await serve(t, { async onDisconnect({ clientsCount }) { closes.push(clientsCount) } })
  const ada = await connect(t, server)
  const other = await join(t, ada, { name: 'other' })
  let event
  ada.on('close', (closed) => { event ??= closed.event })
  const document = server.hocuspocus.documents.get('notes')
  const [connection] = document.getConnections()
  const told = []
  connection.onClose((document, closed) => told.push([document.name, closed.code, closed.reason]))
  connection.close({ code: 4321, reason: 'out' })
  assert.deepEqual(told, [['notes', 4321, 'out']])
  assert.equal(document.hasConnection(connection), false)
  await until(() => event)
  assert.equal(event.reason, 'out')
  await until(() => closes.length === 1)
  assert.equal(closes[0], 0)
  text(other).insert(0, 'x')
  await until(() => !other.hasUnsyncedChanges)
})

test('closeConnections: of one document, and of all', async (t) => {
  const server = await serve(t)
  const closed = []
  const one = await connect(t, server, { name: 'one', onClose: () => closed.push('one') })
  const two = await connect(t, server, { name: 'two', onClose: () => closed.push('two') })
  server.hocuspocus.closeConnections('one')
  await until(() => closed.length === 1)
  assert.deepEqual(closed, ['one'])
  server.hocuspocus.closeConnections()
  await until(() => closed.includes('two'))
  assert.ok(one && two)
})

test('the document knows its connections, and they what they are', async (t) => {
  const server = await serve(t, { async onAuthenticate() { return { user: 1 } } })
  const provider = await connect(t, server, { path: '/?a=b' })
  await connect(t, server)
  const document = server.hocuspocus.documents.get('notes')
  assert.equal(document.getConnectionsCount(), 2)
  assert.equal(document.connections.size, 2)
  const [connection] = document.connections.keys()
  assert.equal(document.hasConnection(connection), true)
  assert.equal(connection.document, document)
  assert.equal(connection.context.user, 1)
  assert.equal(connection.readOnly, false)
  assert.equal(connection.messageAddress, 'notes')
  assert.equal(connection.sessionId, null)
  assert.equal(typeof connection.providerVersion, 'string')
  assert.equal(connection.request.headers.get('upgrade').toLowerCase(), 'websocket')
  assert.equal(connection.webSocket.readyState, 1)
  assert.ok(connection instanceof hocuspocus.Connection)
  provider.setAwarenessField('user', 'ada')
  await until(() => document.awareness.getStates().size > 0 && document.getClients(connection) instanceof Set)
})

test('requestToken and onTokenSync', async (t) => {
  const seen = []
  let token = 'first'
  const server = await serve(t, {
    async onAuthenticate({ token }) { return { token } },
    async onTokenSync({ token, documentName, connection, context, connectionConfig, document }) {
      seen.push([token, documentName, connection.document === document, context.token, connectionConfig.isAuthenticated])
      if (token === 'bad') throw Object.assign(new Error('expired'), { code: 4401, reason: 'expired' })
    },
  })
  const provider = await connect(t, server, { token: () => token })
  const [connection] = server.hocuspocus.documents.get('notes').getConnections()
  token = 'second'
  connection.requestToken()
  await until(() => seen.length === 1)
  assert.deepEqual(seen[0], ['second', 'notes', true, 'first', true])
  let reason
  provider.on('close', ({ event }) => { reason ??= event.reason })
  token = 'bad'
  connection.requestToken()
  await until(() => reason === 'expired')
})

test('webSocket.close ends the socket with all its documents', async (t) => {
  const left = []
  const server = await serve(t, { async onDisconnect({ documentName }) { left.push(documentName) } })
  const provider = await connect(t, server)
  await join(t, provider, { name: 'other' })
  const [connection] = server.hocuspocus.documents.get('notes').getConnections()
  provider.socket.configuration.maxAttempts = 1
  connection.webSocket.close(4123, 'bye')
  await until(() => left.length >= 2)
  assert.deepEqual(left.slice(0, 2).sort(), ['notes', 'other'])
})

test('a client that reconnects after the server went away', async (t) => {
  const store = { update: undefined }
  const configuration = {
    debounce: 20,
    async onLoadDocument({ document }) { if (store.update) Y.applyUpdate(document, store.update) },
    async onStoreDocument({ document }) { store.update = Y.encodeStateAsUpdate(document) },
  }
  const server = await serve(t, configuration)
  const { port } = server.address
  const provider = await connect(t, server)
  text(provider).insert(0, 'a')
  await until(() => !provider.hasUnsyncedChanges)
  for (const connection of server.hocuspocus.documents.get('notes').getConnections()) connection.webSocket.close(1012, 'restart')
  await server.destroy()
  server.httpServer.closeAllConnections()
  text(provider).insert(1, 'b')
  const next = await serve(t, { ...configuration, port })
  await until(() => next.hocuspocus.documents.get('notes')?.getText('t').toString() === 'ab', 'the offline edit')
})

test('send and sendStateless keep their order', async (t) => {
  const server = await serve(t)
  const got = []
  const provider = await connect(t, server, { onStateless: ({ payload }) => got.push(Number(payload)) })
  const [connection] = server.hocuspocus.documents.get('notes').getConnections()
  const numbers = Array.from({ length: 60 }, (_, index) => index)
  for (const number of numbers) {
    if (number % 2 === 0) connection.sendStateless(String(number))
    else connection.send(new hocuspocus.OutgoingMessage(connection.messageAddress).writeStateless(String(number)).toUint8Array())
  }
  await until(() => got.length === numbers.length)
  assert.deepEqual(got, numbers)
  assert.ok(provider.synced)
})
