// beforeUnloadDocument, afterUnloadDocument, unloadDocument, onDisconnect, coming back.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('a veto keeps the document', async (t) => {
  let keep = true
  const server = await serve(t, { async beforeUnloadDocument() { if (keep) throw new Error('keep it') } })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await sleep(150)
  assert.equal(server.hocuspocus.getDocumentsCount(), 1)
  const document = server.hocuspocus.documents.get('notes')
  const again = await connect(t, server)
  assert.equal(server.hocuspocus.documents.get('notes'), document)
  assert.equal(text(again).toString(), 'x')
  keep = false
  leave(again)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  assert.equal(document.isDestroyed, true)
})

test('a client that comes while the unload hook runs keeps the document', async (t) => {
  const asked = gate()
  const server = await serve(t, { async beforeUnloadDocument() { asked.open(); await sleep(150) } })
  const provider = await connect(t, server)
  const document = server.hocuspocus.documents.get('notes')
  leave(provider)
  await asked.promise
  await connect(t, server)
  await sleep(250)
  assert.equal(server.hocuspocus.documents.get('notes'), document)
  assert.equal(document.getConnectionsCount(), 1)
})

test('onDisconnect tells who left', async (t) => {
  const seen = []
  const server = await serve(t, {
    async onAuthenticate({ token }) { return { user: token } },
    async onDisconnect({ documentName, context, clientsCount, socketId, requestParameters, document }) { seen.push([documentName, context.user, clientsCount, typeof socketId, requestParameters.get('q'), document.name]) },
  })
  const ada = await connect(t, server, { token: 'ada', path: '/?q=1' })
  await connect(t, server, { token: 'bob' })
  leave(ada)
  await until(() => seen.length === 1)
  assert.deepEqual(seen, [['notes', 'ada', 1, 'string', '1', 'notes']])
})

test('edits that were under way when the client went are stored', async (t) => {
  const stored = gate()
  const server = await serve(t, { debounce: 50, async beforeHandleMessage() { await sleep(5) }, async onStoreDocument({ document }) { if (document.getText('t').length === 20) stored.open() } })
  const provider = await connect(t, server)
  for (let round = 0; round < 20; round += 1) text(provider).insert(0, 'x')
  await sleep(30)
  leave(provider)
  await within(5_000, stored.promise, 'the store of all 20')
})

test('unloadDocument by hand, and only when nobody is there', async (t) => {
  const server = await serve(t)
  const direct = await server.hocuspocus.openDirectConnection('notes')
  const document = server.hocuspocus.documents.get('notes')
  await server.hocuspocus.unloadDocument(document)
  assert.equal(server.hocuspocus.getDocumentsCount(), 1)
  await direct.disconnect()
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
})

test('documents come and go many times without loss', async (t) => {
  const store = new Map()
  const server = await serve(t, {
    debounce: 20,
    async onLoadDocument({ documentName, document }) { if (store.has(documentName)) Y.applyUpdate(document, store.get(documentName)) },
    async onStoreDocument({ documentName, document }) { store.set(documentName, Y.encodeStateAsUpdate(document)) },
  })
  for (let round = 0; round < 12; round += 1) {
    const provider = await connect(t, server)
    assert.equal(text(provider).length, round)
    text(provider).insert(0, 'x')
    await until(() => !provider.hasUnsyncedChanges)
    leave(provider)
    if (round % 2) await until(() => server.hocuspocus.getDocumentsCount() === 0)
  }
})

test('unloadingDocuments holds who is on the way out; a second call waits for the same', async (t) => {
  const [asked, go] = [gate(), gate()]
  const server = await serve(t, { async beforeUnloadDocument() { asked.open(); await go.promise } })
  const direct = await server.hocuspocus.openDirectConnection('notes')
  const { document } = direct
  assert.equal(document.directConnectionsCount, 1)
  const ended = direct.disconnect()
  await asked.promise
  assert.deepEqual([...server.hocuspocus.unloadingDocuments.keys()], ['notes'])
  assert.equal(document.directConnectionsCount, 0)
  const again = server.hocuspocus.unloadDocument(document)
  go.open()
  await Promise.all([ended, again])
  assert.equal(server.hocuspocus.unloadingDocuments.size, 0)
  assert.equal(server.hocuspocus.getDocumentsCount(), 0)
})
