// extension-redis as it is on npm, between two servers of this process.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'

const port = await new Promise((resolve) => {
  const probe = net.createServer().listen(0, '127.0.0.1', () => { const { port } = probe.address(); probe.close(() => resolve(port)) })
})
const redis = spawn('redis-server', ['--port', port, '--save', '', '--appendonly', 'no', '--bind', '127.0.0.1'], { stdio: 'ignore' })
process.on('exit', () => redis.kill())
await until(() => new Promise((resolve) => { const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) }).on('error', () => resolve(false)) }), 'redis')
const { Redis } = await import('@hocuspocus/extension-redis')

const extension = () => new Redis({ host: '127.0.0.1', port, disconnectDelay: 50 })

test('edits, awareness and stateless messages cross', async (t) => {
  const [one, two] = [await serve(t, { debounce: 50, extensions: [extension()] }), await serve(t, { debounce: 50, extensions: [extension()] })]
  const ada = await connect(t, one)
  text(ada).insert(0, 'from one')
  await until(() => !ada.hasUnsyncedChanges)
  const bob = await connect(t, two)
  await until(() => text(bob).toString() === 'from one')
  text(bob).insert(0, 'two and ')
  await until(() => text(ada).toString() === 'two and from one')
  ada.setAwarenessField('user', 'ada')
  await until(() => bob.awareness.getStates().get(ada.document.clientID)?.user === 'ada')
  const got = []
  bob.on('stateless', ({ payload }) => got.push(payload))
  one.hocuspocus.documents.get('notes').broadcastStateless('hello')
  await until(() => got.length === 1)
  assert.deepEqual(got, ['hello'])
})

test('one of them stores', async (t) => {
  const stores = []
  const configuration = (name) => ({ debounce: 100, extensions: [extension()], async onStoreDocument({ document }) { stores.push([name, document.getText('t').toString()]) } })
  const [one, two] = [await serve(t, configuration('one')), await serve(t, configuration('two'))]
  const [ada, bob] = [await connect(t, one, { name: 'stored' }), await connect(t, two, { name: 'stored' })]
  text(ada).insert(0, 'x')
  await until(() => text(bob).toString() === 'x')
  await until(() => stores.length > 0)
  await sleep(300)
  assert.deepEqual(stores, [['one', 'x']])
})
test('end', async () => { redis.kill(); await once(redis, 'exit') })
