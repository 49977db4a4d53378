// Server: its http server, requests, upgrades, addresses, destroy.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('requests: the welcome, and a hook that answers itself', async (t) => {
  const server = await serve(t, {
    async onRequest({ request, response, instance }) {
      if (request.url !== '/mine') return
      assert.equal(typeof instance.hooks, 'function')
      response.writeHead(202)
      response.end('mine')
      throw null
    },
  })
  const welcome = await fetch(server.httpURL)
  assert.deepEqual([welcome.status, await welcome.text()], [200, 'Welcome to Hocuspocus!'])
  const mine = await fetch(`${server.httpURL}/mine`)
  assert.deepEqual([mine.status, await mine.text()], [202, 'mine'])
})

test('upgrades: seen first, with Node\'s own objects, and can be taken', async (t) => {
  const seen = []
  const server = await serve(t, {
    async onUpgrade({ request, socket, head, instance }) {
      seen.push([request.url, typeof socket.write, Buffer.isBuffer(head), typeof instance.hooks])
      await sleep(30)
      if (request.url === '/taken') {
        socket.end('HTTP/1.1 418 Teapot\r\nConnection: close\r\n\r\n')
        throw null
      }
    },
  })
  await connect(t, server, { path: '/?x' })
  assert.deepEqual(seen[0], ['/?x', 'function', true, 'function'])
  const socket = new WebSocket(`${server.webSocketURL}/taken`)
  await new Promise((resolve) => socket.addEventListener('error', resolve))
  assert.equal(seen[1][0], '/taken')
})

test('addresses', async (t) => {
  const server = await serve(t)
  const { port } = server.address
  assert.ok(port > 0)
  assert.equal(server.URL, `127.0.0.1:${port}`)
  assert.equal(server.httpURL, `http://127.0.0.1:${port}`)
  assert.equal(server.webSocketURL, `ws://127.0.0.1:${port}`)
  assert.equal(server.httpServer.listening, true)
  const unstarted = new hocuspocus.Server({ port: 4711 })
  assert.equal(unstarted.address.port, 4711)
})

test('listen: the port given, the callback, the instance', async (t) => {
  const told = []
  const server = new hocuspocus.Server({ quiet: true, stopOnSignals: false, address: '127.0.0.1', port: 0 })
  t.after(() => server.destroy())
  const instance = await server.listen(undefined, async ({ port }) => { told.push(port) })
  assert.equal(instance, server.hocuspocus)
  assert.deepEqual(told, [server.address.port])
})

test('destroy stores what waits, then ends', async (t) => {
  const order = []
  const server = await serve(t, {
    debounce: 60_000,
    maxDebounce: 60_000,
    unloadImmediately: false,
    async onStoreDocument({ document }) { order.push(document.getText('t').toString()) },
    async onDestroy() { order.push('destroyed') },
  })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => !provider.hasUnsyncedChanges)
  await within(5_000, server.destroy(), 'destroy')
  assert.deepEqual(order, ['x', 'destroyed'])
  assert.equal(server.hocuspocus.getDocumentsCount(), 0)
})

test('maxPayload of websocketOptions', async (t) => {
  const server = await serve(t, { websocketOptions: { maxPayload: 2_000 } })
  const provider = await connect(t, server)
  const code = new Promise((resolve) => provider.socket.on('close', ({ event }) => resolve(event.code)))
  text(provider).insert(0, 'x'.repeat(5_000))
  assert.equal(await within(5_000, code, 'the close'), 1009)
})

test('two servers in one process know nothing of each other', async (t) => {
  const [one, two] = [await serve(t), await serve(t)]
  const [a, b] = [await connect(t, one), await connect(t, two)]
  text(a).insert(0, 'x')
  await until(() => one.hocuspocus.documents.get('notes').getText('t').length === 1)
  await sleep(50)
  assert.equal(text(b).length, 0)
})

test('configuration: defaults and what was given', async () => {
  const server = new hocuspocus.Server({ name: 'mine', timeout: 1234 })
  const { configuration } = server.hocuspocus
  assert.deepEqual(
    [configuration.name, configuration.timeout, configuration.debounce, configuration.maxDebounce, configuration.unloadImmediately, configuration.flushDelay],
    ['mine', 1234, 2000, 10_000, true, 0],
  )
  assert.equal(server.configuration.port, 80)
  assert.equal(server.hocuspocus.server, server)
  const plain = (object) => JSON.parse(JSON.stringify(object))
  assert.deepEqual(plain(hocuspocus.defaultConfiguration), {
    name: null, timeout: 60000, debounce: 2000, maxDebounce: 10000, quiet: false, yDocOptions: { gc: true }, unloadImmediately: true,
    maxUnauthenticatedQueueSize: 5242880, maxUnauthenticatedQueueMessages: 1000, maxPendingDocuments: 100, flushDelay: 0, flushMaxBytes: 1048576,
  })
  assert.deepEqual(hocuspocus.defaultServerConfiguration, { port: 80, stopOnSignals: true })
})
