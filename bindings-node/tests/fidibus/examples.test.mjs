// The examples as processes of their own, with real providers.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { connect, leave, text, until } from '../peers.mjs'
import { start } from '../program.mjs'

const example = (name) => new URL(`../../../examples/${name}/main.mjs`, import.meta.url)
const folder = () => mkdtempSync(path.join(tmpdir(), 'fidibus-'))
const freePort = async () => {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}

test('websocket-server: sessions of the application, a store, health, and an orderly end', async (t) => {
  const users = { alice: { id: '1', name: 'Alice' }, vera: { id: '2', name: 'Vera', role: 'viewer' } }
  const app = createServer((request, response) => {
    const user = users[request.headers.authorization?.replace('Bearer ', '')]
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(user ? { user, session: {} } : null))
  }).listen(0, '127.0.0.1')
  await once(app, 'listening')
  t.after(() => app.close())
  const env = { BETTER_AUTH_URL: `http://127.0.0.1:${app.address().port}`, DATABASE_URL: '', SQLITE_FILE: path.join(folder(), 'a.db'), WS_PORT: String(await freePort()), WS_HEALTH_PORT: String(await freePort()) }
  const server = await start(t, example('node-websocket-server'), env)
  const url = { webSocketURL: `ws://127.0.0.1:${server.port}` }
  const reasons = []
  await connect(t, url, { token: 'nobody', wait: false, onAuthenticationFailed: ({ reason }) => reasons.push(reason) })
  await until(() => reasons.length === 1)
  assert.deepEqual(reasons, ['unauthorized'])
  const alice = await connect(t, url, { token: 'alice' })
  const vera = await connect(t, url, { token: 'vera' })
  assert.equal(vera.authorizedScope, 'readonly')
  text(alice).insert(0, 'hello')
  await until(() => text(vera).toString() === 'hello' && !alice.hasUnsyncedChanges)
  const health = await (await fetch(`http://127.0.0.1:${env.WS_HEALTH_PORT}/health`)).json()
  assert.deepEqual([health.status, health.documents, health.connections.active], ['healthy', 1, 2])
  server.child.kill('SIGTERM')
  const [code] = await once(server.child, 'exit')
  assert.equal(code, 0)
  leave(alice)
  leave(vera)
  await start(t, example('node-websocket-server'), env)
  assert.equal(text(await connect(t, url, { token: 'alice' })).toString(), 'hello')
})

test('express: requests, and sockets under a path', async (t) => {
  const server = await start(t, example('node-express'), { PORT: String(await freePort()) })
  const url = { webSocketURL: `ws://127.0.0.1:${server.port}` }
  const [ada, bob] = [await connect(t, url, { path: '/collaboration', token: 'let me in' }), await connect(t, url, { path: '/collaboration', token: 'let me in' })]
  text(ada).insert(0, 'x')
  await until(() => text(bob).toString() === 'x')
  assert.deepEqual(await (await fetch(`http://127.0.0.1:${server.port}/documents`)).json(), ['notes'])
  const elsewhere = new WebSocket(`${url.webSocketURL}/elsewhere`)
  await once(elsewhere, 'error')
})

test('direct connection: the server writes, who is there sees it, and it is kept', async (t) => {
  const server = await start(t, example('node-direct-connection'), { PORT: String(await freePort()), SQLITE_FILE: path.join(folder(), 'a.db') })
  const post = async (body) => (await fetch(`http://127.0.0.1:${server.port}/documents/notes`, { method: 'POST', body })).text()
  assert.equal(await post('one'), 'one\n')
  const provider = await connect(t, { webSocketURL: `ws://127.0.0.1:${server.port}` })
  const lines = () => provider.document.getText('lines').toString()
  assert.equal(lines(), 'one\n')
  assert.equal(await post('two'), 'one\ntwo\n')
  await until(() => lines() === 'one\ntwo\n')
  const large = await fetch(`http://127.0.0.1:${server.port}/documents/notes`, { method: 'POST', body: 'x'.repeat(20_000) })
  assert.equal(large.status, 413)
})
