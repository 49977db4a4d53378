// openDirectConnection: transact, disconnect, counts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('edits reach clients, and clients\' edits the document', async (t) => {
  const server = await serve(t)
  const direct = await server.hocuspocus.openDirectConnection('notes')
  await direct.transact((document) => document.getText('t').insert(0, 'server'))
  const provider = await connect(t, server)
  assert.equal(text(provider).toString(), 'server')
  text(provider).insert(0, 'client ')
  await until(() => direct.document.getText('t').toString() === 'client server')
  await direct.transact((document) => { document.getMap('m').set('a', 1); document.getText('t').delete(0, 7) })
  await until(() => text(provider).toString() === 'server' && provider.document.getMap('m').get('a') === 1)
  await direct.disconnect()
})

test('transact is synchronous and does not wait for promises', async (t) => {
  const server = await serve(t)
  const direct = await server.hocuspocus.openDirectConnection('notes')
  let after = false
  const done = direct.transact(async (document) => {
    document.getText('t').insert(0, 'a')
    await sleep(50)
    after = true
  })
  assert.equal(direct.document.getText('t').toString(), 'a')
  await done
  assert.equal(after, false)
  await direct.disconnect()
})

test('disconnect stores at once, tells onDisconnect, and unloads', async (t) => {
  const order = []
  const server = await serve(t, {
    debounce: 60_000,
    maxDebounce: 60_000,
    async onStoreDocument({ document, lastContext, lastTransactionOrigin }) { order.push(['store', document.getText('t').toString(), lastContext, lastTransactionOrigin]) },
    async onDisconnect({ socketId, context, clientsCount }) { order.push(['disconnect', socketId, context, clientsCount]) },
  })
  const direct = await server.hocuspocus.openDirectConnection('notes', { by: 'cron' })
  assert.equal(server.hocuspocus.getConnectionsCount(), 1)
  await direct.transact((document) => document.getText('t').insert(0, 'x'))
  await direct.disconnect()
  assert.deepEqual(order, [
    ['store', 'x', { by: 'cron' }, { source: 'local', context: { by: 'cron' } }],
    ['disconnect', 'server', { by: 'cron' }, 0],
  ])
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  assert.equal(server.hocuspocus.getConnectionsCount(), 0)
  await assert.rejects(direct.transact(() => {}), /closed/)
  await direct.disconnect()
})

test('unloadImmediately false keeps it warm', async (t) => {
  let stores = 0
  const server = await serve(t, { debounce: 200, async onStoreDocument() { stores += 1 } })
  const direct = await server.hocuspocus.openDirectConnection('notes')
  const { document } = direct
  await direct.transact((document) => document.getText('t').insert(0, 'x'))
  await direct.disconnect({ unloadImmediately: false })
  assert.equal(stores, 0)
  const again = await server.hocuspocus.openDirectConnection('notes')
  assert.equal(again.document, document)
  await again.disconnect()
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
})

test('load hooks get its context; a failing load rejects', async (t) => {
  const contexts = []
  const server = await serve(t, {
    async onLoadDocument({ context, documentName, connectionConfig }) {
      contexts.push([context, connectionConfig])
      if (documentName === 'broken') throw new Error('broken')
    },
  })
  const direct = await server.hocuspocus.openDirectConnection('notes', { a: 1 })
  assert.deepEqual(contexts, [[{ a: 1 }, { isAuthenticated: true, readOnly: false }]])
  await assert.rejects(server.hocuspocus.openDirectConnection('broken'), /broken/)
  await assert.rejects(server.hocuspocus.openDirectConnection('  '), /empty/)
  assert.equal(server.hocuspocus.getDocumentsCount(), 1)
  await direct.disconnect()
})

test('without any server', async () => {
  const instance = new hocuspocus.Hocuspocus({ debounce: 10 })
  const direct = await instance.openDirectConnection('alone')
  await direct.transact((document) => document.getText('t').insert(0, 'x'))
  assert.equal(direct.document.getText('t').toString(), 'x')
  await direct.disconnect()
  await until(() => instance.getDocumentsCount() === 0)
})

test('createDocument gives the one document', async (t) => {
  const server = await serve(t)
  const config = { isAuthenticated: true, readOnly: false }
  const request = new Request('http://localhost')
  const [a, b] = await Promise.all([1, 2].map(() => server.hocuspocus.createDocument('notes', request, 'socket', config)))
  assert.equal(a, b)
  assert.equal(server.hocuspocus.documents.get('notes'), a)
  const provider = await connect(t, server)
  a.getText('t').insert(0, 'x')
  await until(() => text(provider).toString() === 'x')
})
