// onStoreDocument and afterStoreDocument: when, with what, and what failures do.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('stores after the debounce, once for many edits, with the last author', async (t) => {
  const stores = []
  const server = await serve(t, {
    debounce: 150,
    async onAuthenticate({ token }) { return { user: token } },
    async onStoreDocument(data) { stores.push({ at: Date.now(), ...data, text: data.document.getText('t').toString() }) },
    async afterStoreDocument({ documentName }) { stores.push(documentName) },
  })
  const [ada, bob] = [await connect(t, server, { token: 'ada' }), await connect(t, server, { token: 'bob' })]
  text(ada).insert(0, 'a')
  await until(() => text(bob).length === 1)
  text(bob).insert(1, 'b')
  const edited = Date.now()
  await until(() => stores.length === 2)
  const [store] = stores
  assert.ok(store.at - edited >= 140, `${store.at - edited} ms`)
  assert.equal(store.text, 'ab')
  assert.equal(store.lastContext.user, 'bob')
  assert.equal(store.lastTransactionOrigin.source, 'connection')
  assert.equal(store.lastTransactionOrigin.connection.context.user, 'bob')
  assert.equal(store.clientsCount, 2)
  assert.equal(store.documentName, 'notes')
  assert.equal(stores[1], 'notes')
})

test('every edit moves the store away, up to maxDebounce', async (t) => {
  let stores = 0
  const server = await serve(t, { debounce: 300, maxDebounce: 900, async onStoreDocument() { stores += 1 } })
  const provider = await connect(t, server)
  const end = Date.now() + 700
  while (Date.now() < end) {
    text(provider).insert(0, 'x')
    await sleep(50)
  }
  assert.equal(stores, 0)
  const later = Date.now() + 700
  while (Date.now() < later) {
    text(provider).insert(0, 'x')
    await sleep(50)
  }
  assert.ok(stores >= 1, 'none within twice the longest delay')
})

test('an edit after a store is stored again', async (t) => {
  const stores = []
  const server = await serve(t, { debounce: 40, async onStoreDocument({ document }) { stores.push(Y.encodeStateAsUpdate(document)) } })
  const provider = await connect(t, server)
  const texts = () => stores.map((update) => { const doc = new Y.Doc(); Y.applyUpdate(doc, update); return doc.getText('t').toString() })
  for (const expected of ['a', 'ab', 'abc']) {
    text(provider).insert(text(provider).length, expected.at(-1))
    await until(() => texts().at(-1) === expected)
  }
})

test('the last client to leave has it stored at once, then unloaded', async (t) => {
  const order = []
  const server = await serve(t, {
    debounce: 60_000,
    maxDebounce: 60_000,
    async onDisconnect({ clientsCount }) { order.push(`disconnect ${clientsCount}`) },
    async onStoreDocument({ document }) { order.push(`store ${document.getText('t')}`) },
    async beforeUnloadDocument() { order.push('before') },
    async afterUnloadDocument() { order.push('after') },
  })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await until(() => order.length === 4)
  assert.deepEqual(order, ['disconnect 0', 'store x', 'before', 'after'])
  assert.equal(server.hocuspocus.getDocumentsCount(), 0)
})

test('unloadImmediately false waits for the debounce', async (t) => {
  let stored = 0
  const server = await serve(t, { debounce: 400, unloadImmediately: false, async onStoreDocument() { stored = Date.now() } })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await sleep(150)
  assert.equal(server.hocuspocus.getDocumentsCount(), 1)
  assert.equal(stored, 0)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  assert.ok(stored > 0)
})

test('nothing changed: nothing is stored', async (t) => {
  let stores = 0
  const server = await serve(t, { debounce: 20, async onStoreDocument() { stores += 1 } })
  const provider = await connect(t, server)
  provider.setAwarenessField('user', 'ada')
  await sleep(100)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  assert.equal(stores, 0)
})

test('a failing store keeps the document in memory', async (t) => {
  let stores = 0
  const server = await serve(t, { debounce: 20, async onStoreDocument() { stores += 1; throw new Error('disk full') } })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => stores > 0)
  await sleep(50)
  assert.equal(server.hocuspocus.documents.get('notes').getText('t').toString(), 'x')
})

test('stores of one document never overlap', async (t) => {
  let running = 0
  let most = 0
  let stores = 0
  const server = await serve(t, {
    debounce: 10,
    async onStoreDocument() {
      most = Math.max(most, (running += 1))
      await sleep(60)
      running -= 1
      stores += 1
    },
  })
  const provider = await connect(t, server)
  for (let round = 0; round < 8; round += 1) {
    text(provider).insert(0, 'x')
    await sleep(30)
  }
  await until(() => stores > 1)
  assert.equal(most, 1)
})

test('origins that are not to be stored are not', async (t) => {
  let stores = 0
  const server = await serve(t, { debounce: 10, async onStoreDocument() { stores += 1 } })
  const provider = await connect(t, server)
  const document = server.hocuspocus.documents.get('notes')
  document.transact(() => document.getText('t').insert(0, 'a'), { source: 'local', skipStoreHooks: true })
  document.transact(() => document.getText('t').insert(0, 'b'), { source: 'redis' })
  await until(() => text(provider).length === 2)
  await sleep(60)
  assert.equal(stores, 0)
  document.getText('t').insert(0, 'c')
  await until(() => stores === 1)
})

test('debouncer and saveMutex: is anything waiting, and store it now', async (t) => {
  const stores = []
  const server = await serve(t, { debounce: 60_000, maxDebounce: 60_000, async onStoreDocument({ document }) { await sleep(30); stores.push(document.getText('t').toString()) } })
  const provider = await connect(t, server)
  const { debouncer, documents } = server.hocuspocus
  const id = 'onStoreDocument-notes'
  assert.equal(debouncer.isDebounced(id), false)
  text(provider).insert(0, 'x')
  await until(() => debouncer.isDebounced(id))
  const now = debouncer.executeNow(id)
  assert.equal(debouncer.isDebounced(id), false)
  await until(() => debouncer.isCurrentlyExecuting(id))
  assert.equal(documents.get('notes').saveMutex.isLocked(), true)
  await now
  assert.deepEqual(stores, ['x'])
  assert.equal(debouncer.isCurrentlyExecuting(id), false)
  let inside = false
  await documents.get('notes').saveMutex.runExclusive(async () => { inside = true })
  assert.ok(inside)
  assert.equal(debouncer.executeNow('onStoreDocument-other'), undefined)
  text(provider).insert(0, 'y')
  await until(() => debouncer.isDebounced(id))
  server.hocuspocus.flushPendingStores()
  await until(() => stores.length === 2)
})
