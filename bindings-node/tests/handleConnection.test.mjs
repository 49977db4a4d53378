// handleConnection in a user's own server: ws, and sockets made by hand.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

/** A user's server: ws for the sockets, hocuspocus for what they say. */
async function own(t, configuration, context = {}) {
  const instance = new hocuspocus.Hocuspocus({ debounce: 30, ...configuration })
  const http = createServer((_request, response) => response.end('own'))
  const wss = new WebSocketServer({ noServer: true })
  const clients = []
  http.on('upgrade', (request, socket, head) => {
    wss.handleUpgrade(request, socket, head, (ws) => {
      const web = new Request(`http://${request.headers.host}${request.url}`, { headers: request.headers })
      const client = instance.handleConnection(ws, web, context)
      clients.push(client)
      ws.on('message', (data) => client.handleMessage(new Uint8Array(data)))
      ws.on('close', (code, reason) => client.handleClose({ code, reason: reason.toString() }))
    })
  })
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const ws of wss.clients) ws.terminate()
    http.close()
    http.closeAllConnections()
  })
  return { hocuspocus: instance, clients, webSocketURL: `ws://127.0.0.1:${http.address().port}` }
}

test('clients sync through it, hooks see the default context', async (t) => {
  const seen = []
  const server = await own(t, {
    async onAuthenticate({ context, requestParameters, token }) { seen.push([context.tenant, requestParameters.get('q'), token]) },
    async onStoreDocument({ document }) { seen.push(document.getText('t').toString()) },
    async onDisconnect({ documentName }) { seen.push(documentName) },
  }, { tenant: 7 })
  const [ada, bob] = [await connect(t, server, { path: '/?q=1' }), await connect(t, server, { path: '/?q=1' })]
  text(ada).insert(0, 'x')
  await until(() => text(bob).toString() === 'x')
  await until(() => seen.includes('x'))
  assert.deepEqual(seen.slice(0, 2), [[7, '1', 'secret'], [7, '1', 'secret']])
  assert.equal(server.hocuspocus.getConnectionsCount(), 2)
  leave(ada)
  leave(bob)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  assert.equal(seen.filter((one) => one === 'notes').length, 2)
})

test('many edits from many clients arrive everywhere', async (t) => {
  const server = await own(t, {})
  const providers = []
  for (let count = 0; count < 5; count += 1) providers.push(await connect(t, server))
  for (let round = 0; round < 40; round += 1) text(providers[round % 5]).insert(0, `${round} `)
  await until(() => providers.every((provider) => text(provider).length === text(providers[0]).length && text(provider).length === 110))
  assert.equal(new Set(providers.map((provider) => text(provider).toString())).size, 1)
})

test('a socket made by hand', async (t) => {
  const server = await own(t, { async onAuthenticate({ token }) { return { user: token } } })
  const sent = []
  const socket = { readyState: 1, send: (data) => sent.push(new Uint8Array(data)), close(code, reason) { this.readyState = 3; sent.push([code, reason]) } }
  const client = server.hocuspocus.handleConnection(socket, new Request('http://localhost/'))
  const { writeAuthentication } = await import('@hocuspocus/common')
  const message = new hocuspocus.OutgoingMessage('notes')
  const encoding = await import('lib0/encoding')
  encoding.writeVarUint(message.encoder, 2)
  writeAuthentication(message.encoder, 'ada')
  client.handleMessage(message.toUint8Array())
  await until(() => server.hocuspocus.documents.get('notes')?.getConnectionsCount() === 1)
  await until(() => sent.length >= 1)
  const [connection] = server.hocuspocus.documents.get('notes').getConnections()
  assert.equal(connection.context.user, 'ada')
  assert.equal(connection.webSocket, socket)
  assert.ok(client.lastMessageReceivedAt > 0)
  client.lastMessageReceivedAt = Date.now()
  const empty = new hocuspocus.Document('notes')
  client.handleMessage(new hocuspocus.OutgoingMessage('notes').createSyncMessage().writeFirstSyncStepFor(empty).toUint8Array())
  await until(() => sent.length >= 3)
  client.handleClose({ code: 1000, reason: '' })
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  empty.destroy()
})

test('bytes that are no message close the socket', async (t) => {
  const server = await own(t, {})
  const closes = []
  const socket = { readyState: 1, send() {}, close(code, reason) { this.readyState = 3; closes.push([code, reason]) } }
  const client = server.hocuspocus.handleConnection(socket, new Request('http://localhost/'))
  client.handleMessage(new Uint8Array([200, 200, 1]))
  await until(() => closes.length > 0)
  assert.deepEqual(closes, [[4401, 'Unauthorized']])
  client.handleClose()
})
