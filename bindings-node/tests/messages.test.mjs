// beforeHandleMessage, beforeSync, afterHandleMessage.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('order, payloads and one at a time per connection', async (t) => {
  const order = []
  let inside = 0
  const server = await serve(t, {
    async onAuthenticate() { return { user: 1 } },
    async beforeHandleMessage({ update, context, connection, documentName, document, socketId, clientsCount }) {
      assert.equal(inside, 0)
      inside += 1
      assert.ok(update instanceof Uint8Array)
      assert.deepEqual([context.user, documentName, document.name, clientsCount, connection.socketId === socketId], [1, 'notes', 'notes', 1, true])
      order.push(['before', new hocuspocus.IncomingMessage(update).readVarString()])
      await sleep(2)
      inside -= 1
    },
    async beforeSync({ type, payload, connection, documentName }) {
      assert.ok(payload instanceof Uint8Array)
      assert.equal(documentName, connection.document.name)
      order.push(['sync', type])
    },
    async afterHandleMessage({ update }) { order.push(['after', new hocuspocus.IncomingMessage(update).readVarString()]) },
    async onChange() { order.push(['change']) },
  })
  const provider = await connect(t, server)
  await sleep(50)
  assert.deepEqual(order.slice(0, 3), [['before', 'notes'], ['sync', 0], ['after', 'notes']])
  text(provider).insert(0, 'x')
  const at = () => order.findIndex(([what, type]) => what === 'sync' && type === 2)
  await until(() => at() > 0 && order.slice(at()).some(([what]) => what === 'after'))
  assert.deepEqual(order[at() - 1], ['before', 'notes'])
  assert.deepEqual(order.slice(at() + 1, at() + 3).map(([what]) => what).sort(), ['after', 'change'])
})

for (const hook of ['beforeHandleMessage', 'beforeSync']) {
  test(`${hook} that throws ends the session and applies nothing`, async (t) => {
    let refuse = false
    const server = await serve(t, {
      async [hook]() { if (refuse) throw Object.assign(new Error('no'), { code: 4777, reason: 'not today' }) },
    })
    const [ada, bob] = [await connect(t, server), await connect(t, server)]
    const closes = []
    ada.on('close', ({ event }) => closes.push(event.reason))
    refuse = true
    text(ada).insert(0, 'x')
    await until(() => closes.length > 0)
    refuse = false
    assert.equal(closes[0], 'not today')
    assert.equal(text(bob).toString(), '')
  })
}

test('readOnly that is set in beforeSync holds for that message', async (t) => {
  const server = await serve(t, {
    async beforeSync({ connection, type }) { connection.readOnly = type === 2 },
  })
  const [ada, bob] = [await connect(t, server), await connect(t, server)]
  text(ada).insert(0, 'x')
  await sleep(150)
  assert.equal(text(bob).toString(), '')
  assert.equal(ada.hasUnsyncedChanges, true)
})
