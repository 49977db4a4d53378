// What only ours does: laziness, failures that are shown and stop nothing, hand-over, options.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus, OURS } from '../target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from '../peers.mjs'

import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const link = (document) => document[Object.getOwnPropertySymbols(document).find((symbol) => symbol.description === 'fidibus.link')]

test('a document that no hook touches has no content in JavaScript', async (t) => {
  let changes = 0
  const server = await serve(t, { async onChange() { changes += 1 } })
  const [ada, bob] = [await connect(t, server), await connect(t, server)]
  text(ada).insert(0, 'x')
  await until(() => text(bob).length === 1 && changes === 1)
  const document = server.hocuspocus.documents.get('notes')
  assert.equal(link(document).touched, false)
  assert.equal(Y.encodeStateAsUpdate(document).length, Y.encodeStateAsUpdate(ada.document).length)
  assert.deepEqual([link(document).touched, link(document).following], [true, false])
  text(ada).insert(1, 'y')
  await until(() => text(bob).length === 2)
  assert.deepEqual(Y.encodeStateAsUpdate(document), Y.encodeStateAsUpdate(ada.document))
  assert.equal(document.getText('t').toString(), 'xy')
  assert.equal(link(document).following, true)
})

test('a throwing hook that nobody waits for is shown and stops nothing', async (t) => {
  const warnings = []
  const warned = (warning) => warnings.push(warning.message)
  process.on('warning', warned)
  t.after(() => process.off('warning', warned))
  const fail = (name) => async () => { throw new Error(`${name} failed`) }
  const names = ['onChange', 'onAwarenessUpdate', 'onStateless', 'onDisconnect', 'afterUnloadDocument', 'onConfigure', 'beforeBroadcastStateless']
  const server = await serve(t, Object.fromEntries(names.map((name) => [name, fail(name)])))
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  provider.setAwarenessField('a', 1)
  provider.sendStateless('x')
  server.hocuspocus.documents.get('notes').broadcastStateless('x')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  await until(() => names.every((name) => warnings.some((warning) => warning.includes(`${name} failed`))), () => warnings.join('\n'))
  text(await connect(t, server)).insert(0, 'still up')
})

test('websocketOptions that cannot be honoured are an error', () => {
  assert.throws(() => new hocuspocus.Server({ websocketOptions: { perMessageDeflate: true } }), /perMessageDeflate/)
  assert.throws(() => new hocuspocus.Server({ websocketOptions: { unheardOf: 1 } }), /unheardOf/)
  assert.ok(new hocuspocus.Server({ websocketOptions: { perMessageDeflate: false, maxPayload: 5, clientTracking: true } }))
})

test('handleUpgrade in a user\'s own http server', async (t) => {
  const instance = new hocuspocus.Hocuspocus({ async onAuthenticate({ context }) { assert.equal(context.tenant, 3) } })
  const http = createServer()
  http.on('upgrade', (request, socket, head) => instance.handleUpgrade(request, socket, head, { tenant: 3 }))
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.after(() => http.close())
  const server = { webSocketURL: `ws://127.0.0.1:${http.address().port}` }
  const [ada, bob] = [await connect(t, server), await connect(t, server)]
  text(ada).insert(0, 'x')
  await until(() => text(bob).toString() === 'x')
  // Node has let go of both sockets.
  const count = await new Promise((resolve) => http.getConnections((_error, count) => resolve(count)))
  assert.equal(count, 0)
})

test('handleUpgrade over TLS goes through a socket pair', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'fidibus-'))
  const [key, cert] = [path.join(folder, 'key'), path.join(folder, 'cert')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=localhost'], { stdio: 'ignore' })
  const { WebSocket: Ws } = await import('ws')
  const { HocuspocusProviderWebsocket, HocuspocusProvider } = await import('@hocuspocus/provider')
  const instance = new hocuspocus.Hocuspocus()
  const https = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) })
  https.on('upgrade', (request, socket, head) => instance.handleUpgrade(request, socket, head))
  await new Promise((resolve) => https.listen(0, '127.0.0.1', resolve))
  t.after(() => { https.close(); https.closeAllConnections() })
  class Trusting extends Ws { constructor(url) { super(url, { rejectUnauthorized: false }) } }
  const make = async () => {
    const socket = new HocuspocusProviderWebsocket({ url: `wss://127.0.0.1:${https.address().port}`, WebSocketPolyfill: Trusting })
    const provider = new HocuspocusProvider({ websocketProvider: socket, name: 'notes', token: 'x' })
    provider.attach()
    t.after(() => { provider.destroy(); socket.destroy() })
    await until(() => provider.synced)
    return provider
  }
  const [ada, bob] = [await make(), await make()]
  text(ada).insert(0, 'x'.repeat(300_000))
  await until(() => text(bob).length === 300_000)
})

test('what is no handshake is answered as ws answers it', async (t) => {
  const server = await serve(t)
  const ask = (headers) => fetch(server.httpURL, { headers }).then((response) => response.status).catch((error) => error.cause?.code ?? error.message)
  const { request } = await import('node:http')
  const status = await new Promise((resolve) => {
    request(server.httpURL, { headers: { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' } }, (response) => resolve(response.statusCode)).end()
  })
  assert.equal(status, 400)
  assert.equal(await ask({}), 200)
})

test('a client that never reads costs a bounded amount, and others go on', async (t) => {
  const net = await import('node:net')
  const server = await serve(t)
  const [ada, bob] = [await connect(t, server), await connect(t, server)]
  const lazy = net.connect(server.address.port, '127.0.0.1')
  lazy.pause()
  lazy.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n')
  t.after(() => lazy.destroy())
  const before = process.memoryUsage().rss
  for (let round = 0; round < 20; round += 1) {
    text(ada).insert(0, 'x'.repeat(20_000))
    await sleep(5)
  }
  await until(() => text(bob).length === 400_000)
  assert.ok(process.memoryUsage().rss - before < 200 * 1024 * 1024)
})

test('memory of documents is freed when they unload', async (t) => {
  const server = await serve(t, { debounce: 5, async onStoreDocument({ document }) { document.getText('t').toString() } })
  const refs = []
  for (let round = 0; round < 5; round += 1) {
    const direct = await server.hocuspocus.openDirectConnection(`n${round}`)
    await direct.transact((document) => document.getText('t').insert(0, 'x'.repeat(1000)))
    refs.push(new WeakRef(direct.document))
    await direct.disconnect()
  }
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  const { setFlagsFromString } = await import('node:v8')
  setFlagsFromString('--expose-gc')
  const { runInNewContext } = await import('node:vm')
  const gc = runInNewContext('gc')
  await until(async () => { await sleep(20); gc(); return refs.filter((ref) => ref.deref()).length <= 1 }, 'freed')
})
