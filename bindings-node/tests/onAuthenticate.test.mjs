// onConnect and onAuthenticate: order, payloads, context, refusals.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('both run in order and their context is merged, by return and by mutation', async (t) => {
  const seen = []
  const server = await serve(t, {
    async onConnect(data) {
      seen.push(['onConnect', { ...data.context }])
      data.context.mutated = 1
      return { returned: 2 }
    },
    async onAuthenticate(data) {
      seen.push(['onAuthenticate', { ...data.context }, data.token])
      return { user: 'ada' }
    },
    async connected(data) {
      seen.push(['connected', { ...data.context }, data.connection.context === data.context])
    },
  })
  await connect(t, server)
  await until(() => seen.length === 3)
  assert.deepEqual(seen, [
    ['onConnect', {}],
    ['onAuthenticate', { mutated: 1, returned: 2 }, 'secret'],
    ['connected', { mutated: 1, returned: 2, user: 'ada' }, true],
  ])
})

test('the payload has everything that the types name', async (t) => {
  let data
  const server = await serve(t, { async onAuthenticate(payload) { data = payload } })
  await connect(t, server, { path: '/some/path?a=1&b=two' })
  assert.equal(data.documentName, 'notes')
  assert.equal(data.instance, server.hocuspocus)
  assert.equal(data.requestParameters.get('b'), 'two')
  assert.equal(new URL(data.request.url).pathname, '/some/path')
  assert.equal(data.requestHeaders.get('upgrade').toLowerCase(), 'websocket')
  assert.equal(data.request.headers.get('sec-websocket-version'), '13')
  assert.match(data.socketId, /^[0-9a-f-]{36}$/)
  assert.deepEqual(data.connectionConfig, { readOnly: false, isAuthenticated: true })
  assert.equal(typeof data.providerVersion, 'string')
})

test('an error is told to the client, and a retry on the same socket works', async (t) => {
  let refuse = true
  const reasons = []
  const server = await serve(t, {
    async onAuthenticate() {
      if (refuse) throw new Error('wrong')
    },
  })
  const provider = await connect(t, server, { wait: false, onAuthenticationFailed: ({ reason }) => reasons.push(reason) })
  await until(() => reasons.length === 1)
  assert.deepEqual(reasons, ['permission-denied'])
  assert.equal(server.hocuspocus.getDocumentsCount(), 0)
  refuse = false
  await provider.sendToken()
  provider.startSync()
  await until(() => provider.synced)
})

test('a reason of its own reaches the client', async (t) => {
  const reasons = []
  const server = await serve(t, {
    async onConnect() {
      throw Object.assign(new Error('no'), { reason: 'banned' })
    },
  })
  await connect(t, server, { wait: false, onAuthenticationFailed: ({ reason }) => reasons.push(reason) })
  await until(() => reasons.length === 1)
  assert.deepEqual(reasons, ['banned'])
})

test('a long reason arrives whole', async (t) => {
  const reason = 'r'.repeat(300)
  const reasons = []
  const server = await serve(t, { async onAuthenticate() { throw { reason } } })
  await connect(t, server, { wait: false, onAuthenticationFailed: (event) => reasons.push(event.reason) })
  await until(() => reasons.length === 1)
  assert.equal(reasons[0], reason)
})

test('an empty rejection refuses as well', async (t) => {
  const reasons = []
  const server = await serve(t, { onConnect: () => Promise.reject() })
  await connect(t, server, { wait: false, onAuthenticationFailed: ({ reason }) => reasons.push(reason) })
  await until(() => reasons.length === 1)
  assert.deepEqual(reasons, ['Forbidden'])
})

test('readOnly in connectionConfig: the client is told and its edits are refused', async (t) => {
  const server = await serve(t, {
    async onAuthenticate({ connectionConfig, token }) {
      if (token === 'reader') connectionConfig.readOnly = true
    },
  })
  const reader = await connect(t, server, { token: 'reader' })
  const writer = await connect(t, server)
  assert.equal(reader.authorizedScope, 'readonly')
  assert.equal(writer.authorizedScope, 'read-write')
  text(reader).insert(0, 'no')
  text(writer).insert(0, 'yes')
  await until(() => text(reader).toString().includes('yes'))
  await sleep(100)
  assert.equal(text(writer).toString(), 'yes')
})

test('each document of a socket is asked for by itself', async (t) => {
  const names = []
  const server = await serve(t, {
    async onAuthenticate({ documentName, socketId }) {
      names.push([documentName, socketId])
      if (documentName === 'closed') throw new Error('no')
    },
  })
  const open = await connect(t, server)
  let failed = false
  await join(t, open, { name: 'closed', wait: false, onAuthenticationFailed: () => { failed = true } })
  await until(() => failed)
  const other = await join(t, open, { name: 'other' })
  text(open).insert(0, 'still here')
  await until(() => server.hocuspocus.documents.get('notes').getText('t').toString() === 'still here')
  assert.ok(other.synced)
  assert.deepEqual(names.map(([name]) => name), ['notes', 'closed', 'other'])
  assert.equal(new Set(names.map(([, id]) => id)).size, 1)
  assert.equal(server.hocuspocus.getConnectionsCount(), 1)
  assert.equal(server.hocuspocus.getDocumentsCount(), 2)
})
