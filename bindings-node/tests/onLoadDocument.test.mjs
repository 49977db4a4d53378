// onCreateDocument, onLoadDocument and afterLoadDocument.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

const stored = (content) => {
  const doc = new Y.Doc()
  doc.getText('t').insert(0, content)
  return doc
}

for (const [way, load] of [
  ['returns a Y.Doc', () => stored('loaded')],
  ['returns an update', () => Y.encodeStateAsUpdate(stored('loaded'))],
  ['applies an update', ({ document }) => Y.applyUpdate(document, Y.encodeStateAsUpdate(stored('loaded')))],
  ['merges', ({ document }) => { document.merge(stored('loaded')) }],
  ['returns the document itself', ({ document }) => { document.getText('t').insert(0, 'loaded'); return document }],
]) {
  test(`a hook that ${way}`, async (t) => {
    const server = await serve(t, { async onLoadDocument(data) { return load(data) } })
    const provider = await connect(t, server)
    assert.equal(text(provider).toString(), 'loaded')
    assert.equal(server.hocuspocus.documents.get('notes').getText('t').toString(), 'loaded')
    text(provider).insert(6, ' and edited')
    const second = await connect(t, server)
    await until(() => text(second).toString() === 'loaded and edited')
  })
}

test('several hooks see what those before them did', async (t) => {
  const seen = []
  const server = await serve(t, {
    extensions: [
      { priority: 2, async onLoadDocument() { return stored('first') } },
      { priority: 1, async onLoadDocument({ document }) { seen.push(document.getText('t').toString(), document.isEmpty('t'), document.isEmpty('u')) } },
    ],
  })
  await connect(t, server)
  assert.deepEqual(seen, ['first', false, true])
})

test('loads once for clients that come together, and again after it was unloaded', async (t) => {
  let loads = 0
  const server = await serve(t, { async onLoadDocument() { loads += 1; await sleep(100) } })
  const providers = await Promise.all([1, 2, 3].map(() => connect(t, server)))
  assert.equal(loads, 1)
  providers.forEach(leave)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  await connect(t, server)
  assert.equal(loads, 2)
})

test('payload, isLoading, and no change is told for what was loaded', async (t) => {
  const seen = []
  let changes = 0
  const server = await serve(t, {
    async onAuthenticate() { return { user: 1 } },
    async onLoadDocument({ document, documentName, context, connectionConfig, requestParameters, instance }) {
      seen.push([documentName, document.name, document.isLoading, context.user, connectionConfig.isAuthenticated, requestParameters.get('q'), instance.documents.has('notes')])
      document.getText('t').insert(0, 'loaded')
    },
    async afterLoadDocument({ document, context }) { seen.push([document.isLoading, context.user, document.getText('t').toString()]) },
    async onChange() { changes += 1 },
  })
  await connect(t, server, { path: '/?q=7' })
  await sleep(50)
  assert.deepEqual(seen, [['notes', 'notes', true, 1, true, '7', false], [false, 1, 'loaded']])
  assert.equal(changes, 0)
  assert.ok(server.hocuspocus.documents.get('notes') instanceof Y.Doc)
})

test('a failing load refuses the client and leaves nothing', async (t) => {
  let fail = true
  const reasons = []
  const server = await serve(t, {
    async onLoadDocument() { if (fail) throw Object.assign(new Error('database'), { reason: 'load-failed' }) },
  })
  const provider = await connect(t, server, { wait: false, onAuthenticationFailed: ({ reason }) => reasons.push(reason) })
  await until(() => reasons.length === 1)
  assert.deepEqual(reasons, ['load-failed'])
  assert.equal(server.hocuspocus.getDocumentsCount(), 0)
  assert.equal(server.hocuspocus.loadingDocuments.size, 0)
  fail = false
  await connect(t, server)
})

test('onCreateDocument of an extension chooses options of the Y.Doc', async (t) => {
  const server = await serve(t, {
    extensions: [{ async onCreateDocument({ documentName }) { return { gc: documentName !== 'notes' } } }],
    yDocOptions: { gc: true, gcFilter: () => true },
  })
  await connect(t, server)
  const other = await connect(t, server, { name: 'other' })
  assert.equal(server.hocuspocus.documents.get('notes').gc, false)
  assert.equal(server.hocuspocus.documents.get('other').gc, true)
  leave(other)
})

test('an observer that was set in afterLoadDocument hears of edits for the life of the document', async (t) => {
  const seen = []
  const server = await serve(t, {
    async afterLoadDocument({ document }) {
      document.getText('t').observe((event) => seen.push(event.target.toString()))
      document.on('update', (_update, origin) => seen.push(origin.source))
    },
  })
  const provider = await connect(t, server)
  for (const word of ['a', 'b', 'c']) {
    text(provider).insert(text(provider).length, word)
    await sleep(30)
  }
  await until(() => seen.length >= 6)
  assert.deepEqual(seen, ['a', 'connection', 'ab', 'connection', 'abc', 'connection'])
})

test('an edit in an observer reaches the clients', async (t) => {
  const server = await serve(t, {
    async afterLoadDocument({ document }) {
      document.getText('t').observe(() => {
        if (!document.getMap('m').has('seen')) document.getMap('m').set('seen', true)
      })
    },
  })
  const provider = await connect(t, server)
  const other = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => other.document.getMap('m').get('seen') === true)
  await until(() => provider.document.getMap('m').get('seen') === true)
})
