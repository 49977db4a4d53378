// onChange: payloads, origins, order.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('every edit of a client, with its origin and context', async (t) => {
  const seen = []
  const server = await serve(t, {
    async onAuthenticate({ token }) { return { user: token } },
    async onChange(data) { seen.push(data) },
  })
  const provider = await connect(t, server, { token: 'ada', path: '/?q=1' })
  text(provider).insert(0, 'x')
  await until(() => seen.length === 1)
  const [data] = seen
  assert.equal(data.documentName, 'notes')
  assert.equal(data.document, server.hocuspocus.documents.get('notes'))
  assert.equal(data.context.user, 'ada')
  assert.equal(data.clientsCount, 1)
  assert.equal(data.requestParameters.get('q'), '1')
  assert.ok(data.requestHeaders instanceof Headers)
  assert.ok(hocuspocus.isTransactionOrigin(data.transactionOrigin))
  assert.equal(data.transactionOrigin.source, 'connection')
  assert.equal(data.transactionOrigin.connection, data.connection)
  assert.equal(data.connection.socketId, data.socketId)
  assert.ok(data.document.lastChangeTime > 0)
  const copy = new Y.Doc()
  Y.applyUpdate(copy, data.update)
  assert.equal(copy.getText('t').toString(), 'x')
})

test('updates that were told, merged, are the document', async (t) => {
  const updates = []
  const server = await serve(t, { async onChange({ update }) { updates.push(update) } })
  const [a, b] = [await connect(t, server), await connect(t, server)]
  for (let round = 0; round < 50; round += 1) {
    text(round % 2 ? a : b).insert(0, `${round} `)
    if (round % 10 === 0) await sleep(10)
  }
  await until(() => text(a).length === text(b).length && text(a).length === 140)
  await until(() => {
    const copy = new Y.Doc()
    Y.applyUpdate(copy, Y.mergeUpdates(updates))
    return copy.getText('t').toString() === text(a).toString()
  })
})

test('the document holds the change when the hook runs', async (t) => {
  const seen = []
  const server = await serve(t, { async onChange({ document }) { seen.push(document.getText('t').toString()) } })
  const provider = await connect(t, server)
  text(provider).insert(0, 'a')
  await until(() => seen.length === 1)
  text(provider).insert(1, 'b')
  await until(() => seen.length === 2)
  assert.deepEqual(seen, ['a', 'ab'])
})

test('an edit of this process: origin and context of the direct connection', async (t) => {
  const seen = []
  const server = await serve(t, { async onChange({ transactionOrigin, context, socketId, connection, clientsCount }) { seen.push({ transactionOrigin, context, socketId, connection, clientsCount }) } })
  const direct = await server.hocuspocus.openDirectConnection('notes', { by: 'cron' })
  await direct.transact((document) => document.getText('t').insert(0, 'x'))
  await until(() => seen.length === 1)
  assert.deepEqual(seen[0], { transactionOrigin: { source: 'local', context: { by: 'cron' } }, context: { by: 'cron' }, socketId: '', connection: undefined, clientsCount: 1 })
  const ORIGIN = Symbol('mine')
  direct.document.transact(() => direct.document.getText('t').insert(0, 'y'), ORIGIN)
  await until(() => seen.length === 2)
  assert.equal(seen[1].transactionOrigin, ORIGIN)
  assert.deepEqual(seen[1].context, {})
  await direct.disconnect()
})

test('a hook that edits the document of its change', async (t) => {
  const server = await serve(t, {
    async onChange({ document, transactionOrigin }) {
      if (transactionOrigin?.source === 'connection') document.getMap('m').set('edits', (document.getMap('m').get('edits') ?? 0) + 1)
    },
  })
  const [a, b] = [await connect(t, server), await connect(t, server)]
  text(a).insert(0, 'x')
  await until(() => a.document.getMap('m').get('edits') === 1 && b.document.getMap('m').get('edits') === 1)
})

test('an observer that throws stops neither its change nor the next', async (t) => {
  const shown = t.mock.method(console, 'error', () => {})
  let changes = 0
  const server = await serve(t, {
    async afterLoadDocument({ document }) { document.getText('t').observe(() => { throw new Error('of the observer') }) },
    async onChange() { changes += 1 },
  })
  const [a, b] = [await connect(t, server), await connect(t, server)]
  text(a).insert(0, 'x')
  await until(() => text(b).toString() === 'x')
  text(b).insert(1, 'y')
  await until(() => text(a).toString() === 'xy' && changes === 2)
  assert.equal(server.hocuspocus.documents.get('notes').getText('t').toString(), 'xy')
  assert.deepEqual(shown.mock.calls.map((call) => call.arguments[1]?.message), ['of the observer', 'of the observer'])
})
