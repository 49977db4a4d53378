// onAwarenessUpdate, beforeHandleAwareness, document.awareness.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('onAwarenessUpdate: who came, changed and went', async (t) => {
  const seen = []
  const server = await serve(t, {
    async onAwarenessUpdate({ added, updated, removed, states, awareness, document, transactionOrigin, connection }) {
      seen.push({ added, updated, removed, states, own: awareness === document.awareness, source: transactionOrigin?.source ?? null, connection: connection?.socketId ?? null })
    },
  })
  const provider = await connect(t, server)
  const id = provider.document.clientID
  provider.setAwarenessField('user', 'ada')
  await until(() => seen.some(({ states }) => states.some((state) => state.user === 'ada')))
  const set = seen.find(({ states }) => states.some((state) => state.user === 'ada'))
  assert.deepEqual(set.states, [{ clientId: id, user: 'ada' }])
  assert.ok(set.added.includes(id) || set.updated.includes(id))
  assert.equal(set.own, true)
  assert.equal(set.source, 'connection')
  assert.equal(set.connection, server.hocuspocus.documents.get('notes').getConnections()[0].socketId)
  leave(provider)
  await until(() => seen.some(({ removed }) => removed.includes(id)))
})

test('states reach the others and go with their client', async (t) => {
  const server = await serve(t)
  const [ada, bob] = [await connect(t, server), await connect(t, server)]
  ada.setAwarenessField('user', 'ada')
  const id = ada.document.clientID
  await until(() => bob.awareness.getStates().get(id)?.user === 'ada')
  const late = await connect(t, server)
  await until(() => late.awareness.getStates().get(id)?.user === 'ada')
  leave(ada)
  await until(() => !bob.awareness.getStates().has(id))
})

test('document.awareness follows, and can be set by the server', async (t) => {
  const server = await serve(t)
  const provider = await connect(t, server)
  provider.setAwarenessField('user', 'ada')
  const document = server.hocuspocus.documents.get('notes')
  await until(() => document.awareness.getStates().get(provider.document.clientID)?.user === 'ada')
  assert.equal(document.hasAwarenessStates(), true)
  provider.setAwarenessField('user', 'eve')
  await until(() => document.awareness.getStates().get(provider.document.clientID)?.user === 'eve')
  document.awareness.setLocalState({ bot: true })
  await until(() => provider.awareness.getStates().get(document.clientID)?.bot === true)
})

test('beforeHandleAwareness changes, drops and refuses', async (t) => {
  let refuse = false
  const seen = []
  const server = await serve(t, {
    async onAuthenticate({ token }) { return { user: token } },
    async beforeHandleAwareness({ states, context, connection, transactionOrigin, documentName }) {
      if (refuse) throw new Error('no')
      seen.push([context.user, connection === transactionOrigin.connection, documentName])
      for (const state of states.values()) if (state?.user) state.user = state.user.toUpperCase()
    },
  })
  const [ada, bob] = [await connect(t, server, { token: 'a' }), await connect(t, server, { token: 'b' })]
  ada.setAwarenessField('user', 'ada')
  await until(() => bob.awareness.getStates().get(ada.document.clientID)?.user === 'ADA')
  assert.deepEqual(seen.find(([user]) => user === 'a'), ['a', true, 'notes'])
  let closed = false
  ada.on('close', () => { closed = true })
  refuse = true
  ada.setAwarenessField('user', 'zoe')
  await until(() => closed)
  assert.notEqual(bob.awareness.getStates().get(ada.document.clientID)?.user, 'zoe')
})

test('a listener of awareness that throws closes its client out', async (t) => {
  const shown = t.mock.method(console, 'error', () => {})
  const server = await serve(t, {
    async afterLoadDocument({ document }) {
      document.awareness.on('update', (_update, origin) => { if (origin?.connection?.context.user === 'a') throw new Error('of the listener') })
    },
    async onAuthenticate({ token }) { return { user: token } },
  })
  const [ada, bob] = [await connect(t, server, { token: 'a' }), await connect(t, server, { token: 'b' })]
  let closes = 0
  ada.on('close', () => { closes += 1 })
  ada.setAwarenessField('user', 'ada')
  await until(() => closes > 0)
  assert.ok(shown.mock.calls.some((call) => call.arguments[1]?.message === 'of the listener'))
  text(bob).insert(0, 'x')
  await until(() => server.hocuspocus.documents.get('notes').getText('t').toString() === 'x')
})
