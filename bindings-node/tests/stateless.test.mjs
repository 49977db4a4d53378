// onStateless, beforeBroadcastStateless, broadcastStateless and its filter, sendStateless.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('from the client to the hook', async (t) => {
  const seen = []
  const server = await serve(t, {
    async onAuthenticate({ token }) { return { user: token } },
    async onStateless({ payload, connection, document, documentName }) { seen.push([payload, connection.context.user, document.name, documentName]) },
  })
  const provider = await connect(t, server, { token: 'ada' })
  provider.sendStateless('hello')
  await until(() => seen.length === 1)
  assert.deepEqual(seen, [['hello', 'ada', 'notes', 'notes']])
})

test('to all clients, to some, and to one', async (t) => {
  const told = []
  const got = { ada: [], bob: [] }
  const server = await serve(t, {
    async onAuthenticate({ token }) { return { user: token } },
    async beforeBroadcastStateless({ payload, documentName, document }) { told.push([payload, documentName, document.name]) },
  })
  for (const user of ['ada', 'bob']) await connect(t, server, { token: user, onStateless: ({ payload }) => got[user].push(payload) })
  const document = server.hocuspocus.documents.get('notes')
  document.broadcastStateless('all')
  document.broadcastStateless('some', (connection) => connection.context.user === 'bob')
  document.getConnections().find((connection) => connection.context.user === 'ada').sendStateless('one')
  await until(() => got.ada.length === 2 && got.bob.length === 2)
  assert.deepEqual(got, { ada: ['all', 'one'], bob: ['all', 'some'] })
  await until(() => told.length === 2)
  assert.deepEqual(told, [['all', 'notes', 'notes'], ['some', 'notes', 'notes']])
})
