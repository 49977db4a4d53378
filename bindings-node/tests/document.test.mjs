// Document used by itself, outside of any server.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

const frames = (document, options = {}) => {
  const sent = []
  const connection = {
    messageAddress: options.address ?? document.name,
    readOnly: false,
    send: (message) => sent.push(message),
    ...options,
  }
  document.connections.set(connection, { clients: new Set() })
  return sent
}
const kinds = (sent) => sent.map((frame) => { const message = new hocuspocus.IncomingMessage(frame); message.readVarString(); return message.readVarUint() })

test('defaults', () => {
  const document = new hocuspocus.Document('notes')
  assert.ok(document instanceof Y.Doc)
  assert.equal(document.name, 'notes')
  assert.equal(document.isLoading, true)
  assert.equal(document.isDestroyed, false)
  assert.equal(document.flushDelay, 0)
  assert.equal(document.flushMaxBytes, 1024 * 1024)
  assert.equal(document.gc, true)
  assert.equal(document.hasAwarenessStates(), false)
  assert.equal(document.isEmpty('t'), true)
  assert.equal(document.lastChangeTime, 0)
  document.destroy()
  assert.equal(document.isDestroyed, true)
})

test('one broadcast for what came in one turn', async () => {
  const document = new hocuspocus.Document('notes')
  const sent = frames(document)
  for (let round = 0; round < 5; round += 1) document.getText('t').insert(0, 'x')
  assert.equal(sent.length, 0)
  await until(() => sent.length > 0)
  await sleep(20)
  assert.deepEqual(kinds(sent), [0])
  document.destroy()
})

test('flushDelay false sends each, flush() sends now, flushMaxBytes early', async () => {
  const each = new hocuspocus.Document('notes', {}, { flushDelay: false })
  const sent = frames(each)
  each.getText('t').insert(0, 'x')
  each.getText('t').insert(0, 'y')
  assert.equal(sent.length, 2)
  each.destroy()
  const later = new hocuspocus.Document('notes', {}, { flushDelay: 10_000, flushMaxBytes: 500 })
  const queued = frames(later)
  later.getText('t').insert(0, 'x')
  assert.equal(queued.length, 0)
  later.flush()
  assert.equal(queued.length, 1)
  later.getText('t').insert(0, 'x'.repeat(600))
  assert.equal(queued.length, 2)
  later.destroy()
})

test('awareness is batched with it', async () => {
  const document = new hocuspocus.Document('notes')
  const sent = frames(document)
  document.awareness.setLocalState({ a: 1 })
  document.awareness.setLocalState({ a: 2 })
  await until(() => sent.length > 0)
  assert.deepEqual(kinds(sent), [1])
  document.destroy()
})

test('stateless messages go at once, through the callback, by filter', () => {
  const document = new hocuspocus.Document('notes')
  const [one, two] = [frames(document, { id: 1 }), frames(document, { id: 2, address: 'notes\0s' })]
  const told = []
  document.beforeBroadcastStateless((_document, payload) => told.push(payload))
  document.broadcastStateless('all')
  document.broadcastStateless('two', (connection) => connection.id === 2)
  document.relayStateless('relayed')
  assert.deepEqual([one.length, two.length], [2, 3])
  assert.deepEqual(told, ['all', 'two'])
  assert.equal(new hocuspocus.IncomingMessage(two[0]).readVarString(), 'notes\0s')
  document.destroy()
})

test('onUpdate is synchronous; merge and isEmpty', () => {
  const document = new hocuspocus.Document('notes')
  const seen = []
  document.onUpdate((told, origin, update) => seen.push([told === document, origin, update instanceof Uint8Array]))
  document.transact(() => document.getText('t').insert(0, 'x'), 'mine')
  assert.deepEqual(seen, [[true, 'mine', true]])
  const [other, third] = [new Y.Doc(), new Y.Doc()]
  other.getText('u').insert(0, 'y')
  third.getMap('m').set('a', 1)
  assert.equal(document.merge([other, third]), document)
  assert.equal(document.getText('u').toString(), 'y')
  assert.equal(document.isEmpty('m'), false)
  assert.equal(document.isEmpty('nothing'), true)
  document.destroy()
})

test('connections and direct connections are counted', () => {
  const document = new hocuspocus.Document('notes')
  const sent = []
  const webSocket = { readyState: 1, send: (frame) => sent.push(frame), close() {} }
  document.awareness.setLocalState({ a: 1 })
  const connection = new hocuspocus.Connection(webSocket, new Request('http://localhost'), document, 'socket', { user: 1 }, true)
  assert.deepEqual(kinds(sent), [1])
  document.addDirectConnection()
  assert.equal(document.getConnectionsCount(), 2)
  document.removeDirectConnection()
  document.removeDirectConnection()
  assert.equal(document.getConnectionsCount(), 1)
  assert.equal(document.hasConnection(connection), true)
  connection.close({ code: 1, reason: 'bye' })
  assert.equal(document.hasConnection(connection), false)
  assert.deepEqual(kinds(sent).at(-1), 7)
  document.destroy()
})

test('a connection by hand handles messages in order', async () => {
  const document = new hocuspocus.Document('notes')
  const sent = []
  const webSocket = { readyState: 1, send: (frame) => sent.push(frame), close() {} }
  const connection = new hocuspocus.Connection(webSocket, new Request('http://localhost'), document, 'socket', {})
  const order = []
  connection.beforeHandleMessage(async () => { order.push('before') })
  connection.beforeSync(async (_connection, { type }) => { order.push(type) })
  connection.afterHandleMessage(async () => { order.push('after') })
  const source = new Y.Doc()
  source.getText('t').insert(0, 'x')
  connection.handleMessage(new hocuspocus.OutgoingMessage('notes').createSyncMessage().writeFirstSyncStepFor(source).toUint8Array())
  connection.handleMessage(new hocuspocus.OutgoingMessage('notes').createSyncMessage().writeUpdate(Y.encodeStateAsUpdate(source)).toUint8Array())
  await connection.waitForPendingMessages()
  await sleep(20)
  assert.deepEqual(order, ['before', 0, 'after', 'before', 2, 'after'])
  assert.equal(document.getText('t').toString(), 'x')
  assert.ok(kinds(sent).includes(8))
  document.destroy()
})
