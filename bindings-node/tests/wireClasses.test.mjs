// IncomingMessage, OutgoingMessage, MessageReceiver, MessageType, isTransactionOrigin, useDebounce.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

const { IncomingMessage, MessageReceiver, MessageType, OutgoingMessage } = hocuspocus

test('messages are written as stock writes them', async () => {
  const { default: stock } = await import('node:module').then(({ createRequire }) => ({ default: createRequire(import.meta.url)('@hocuspocus/server') }))
  const write = (Message) => [
    new Message('a').writeStateless('p'),
    new Message('a').writeBroadcastStateless('p'),
    new Message('a').writeSyncStatus(true),
    new Message('a').writeCloseMessage('r'),
    new Message('a').writeQueryAwareness(),
    new Message('a').writeTokenSyncRequest(),
    new Message('a').writeAuthenticated(true),
    new Message('a').writePermissionDenied('no'),
    new Message('a').createSyncMessage().writeUpdate(new Uint8Array([0, 0])),
    new Message('a').createSyncReplyMessage().writeUpdate(new Uint8Array([0, 0])),
  ].map((message) => [[...message.toUint8Array()], message.type, message.category])
  assert.deepEqual(write(OutgoingMessage), write(stock.OutgoingMessage))
})

test('the decoder can be rewound, the encoder is behind', () => {
  const message = new IncomingMessage(new OutgoingMessage('notes').writeStateless('x').toUint8Array())
  assert.equal(message.readVarString(), 'notes')
  message.decoder.pos = 0
  assert.equal(message.readVarString(), 'notes')
  assert.equal(message.readVarUint(), MessageType.Stateless)
  assert.equal(message.length, 0)
  message.writeVarString('notes')
  assert.equal(message.length, 6)
  assert.equal(new IncomingMessage(message.toUint8Array()).readVarString(), 'notes')
})

test('a receiver applies updates with its origin and answers step 1', async () => {
  const document = new hocuspocus.Document('notes')
  const origins = []
  document.onUpdate((_document, origin) => origins.push(origin))
  const source = new Y.Doc()
  source.getText('t').insert(0, 'x')
  const receive = async (outgoing, reply) => {
    const message = new IncomingMessage(outgoing.toUint8Array())
    message.readVarString()
    message.writeVarString('notes')
    await new MessageReceiver(message, { source: 'redis' }).apply(document, undefined, reply)
  }
  await receive(new OutgoingMessage('notes').createSyncMessage().writeUpdate(Y.encodeStateAsUpdate(source)))
  assert.deepEqual(origins, [{ source: 'redis' }])
  assert.equal(document.getText('t').toString(), 'x')
  const replies = []
  await receive(new OutgoingMessage('notes').createSyncMessage().writeFirstSyncStepFor(new hocuspocus.Document('other')), (reply) => replies.push(reply))
  assert.equal(replies.length, 2)
  document.destroy()
})

test('a receiver in a live document reaches its clients', async (t) => {
  const server = await serve(t)
  const provider = await connect(t, server)
  const got = []
  provider.on('stateless', ({ payload }) => got.push(payload))
  const document = server.hocuspocus.documents.get('notes')
  const source = new Y.Doc()
  source.getText('t').insert(0, 'x')
  for (const outgoing of [new OutgoingMessage('notes').createSyncMessage().writeUpdate(Y.encodeStateAsUpdate(source)), new OutgoingMessage('notes').writeBroadcastStateless('hello')]) {
    const message = new IncomingMessage(outgoing.toUint8Array())
    message.readVarString()
    await new MessageReceiver(message, { source: 'redis' }).apply(document)
  }
  await until(() => text(provider).toString() === 'x' && got[0] === 'hello')
  assert.equal(server.hocuspocus.debouncer.isDebounced('onStoreDocument-notes'), false)
})

test('origins', () => {
  const { isTransactionOrigin, shouldSkipStoreHooks } = hocuspocus
  assert.deepEqual([{ source: 'connection' }, { source: 'redis' }, { source: 'local' }, { source: 'x' }, null, 'redis'].map(isTransactionOrigin), [true, true, true, false, false, false])
  assert.deepEqual([{ source: 'redis' }, { source: 'local' }, { source: 'local', skipStoreHooks: true }, { source: 'connection' }, undefined].map(shouldSkipStoreHooks), [true, false, true, false, false])
})

test('useDebounce', async () => {
  const debouncer = hocuspocus.useDebounce()
  const calls = []
  debouncer.debounce('a', () => calls.push('first'), 60, 1000)
  debouncer.debounce('a', () => calls.push('second'), 60, 1000)
  assert.equal(debouncer.isDebounced('a'), true)
  await until(() => calls.length === 1)
  assert.deepEqual(calls, ['second'])
  await debouncer.debounce('b', () => calls.push('now'), 0, 1000)
  assert.equal(calls.at(-1), 'now')
})
