// The chain: priorities, the live list, SkipFurtherHooksError, hooks() itself.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

test('higher priority first, the configuration last', async (t) => {
  const order = []
  const one = (name, priority) => ({ priority, async onConnect() { order.push(name) } })
  const server = await serve(t, {
    extensions: [one('default'), one('high', 1000), one('low', 1), one('default2')],
    async onConnect() { order.push('configuration') },
  })
  await connect(t, server)
  assert.deepEqual(order, ['high', 'default', 'default2', 'low', 'configuration'])
})

test('an error stops the chain', async (t) => {
  const order = []
  let failed
  const server = await serve(t, {
    extensions: [
      { priority: 2, async onAuthenticate() { order.push('first'); throw new Error('stop') } },
      { priority: 1, async onAuthenticate() { order.push('second') } },
    ],
  })
  await connect(t, server, { wait: false, onAuthenticationFailed: () => { failed = true } })
  await until(() => failed)
  assert.deepEqual(order, ['first'])
})

test('a synchronous throw counts as a rejection', async (t) => {
  let failed
  const server = await serve(t, { onAuthenticate() { throw new Error('sync') } })
  await connect(t, server, { wait: false, onAuthenticationFailed: () => { failed = true } })
  await until(() => failed)
})

test('an extension that is pushed later is asked', async (t) => {
  const seen = []
  const server = await serve(t)
  const provider = await connect(t, server)
  server.hocuspocus.configuration.extensions.push({
    async onChange({ update }) { seen.push(update) },
    async onStateless({ payload }) { seen.push(payload) },
    async onAuthenticate({ documentName }) { seen.push(documentName) },
  })
  text(provider).insert(0, 'x')
  await until(() => seen.length === 1)
  provider.sendStateless('hello')
  await until(() => seen.length === 2)
  await join(t, provider, { name: 'second' })
  assert.ok(seen[0] instanceof Uint8Array)
  assert.deepEqual(seen.slice(1), ['hello', 'second'])
})

test('this is the extension, and the list keeps the objects given', async (t) => {
  class Mine {
    value = 42
    seen = []
    async onConnect() { this.seen.push(this.value) }
  }
  const mine = new Mine()
  const server = await serve(t, { extensions: [mine] })
  await connect(t, server)
  assert.deepEqual(mine.seen, [42])
  assert.equal(server.hocuspocus.configuration.extensions.find((one) => one instanceof Mine), mine)
  assert.equal(server.configuration.extensions, server.hocuspocus.configuration.extensions)
})

test('hooks() runs a hook of all, and rejects with the first error', async () => {
  const order = []
  const instance = new hocuspocus.Hocuspocus({
    extensions: [{ async onDestroy() { order.push(1) } }, { async onDestroy() { throw new Error('two') } }, { async onDestroy() { order.push(3) } }],
  })
  await assert.rejects(instance.hooks('onDestroy', { instance }), /two/)
  assert.deepEqual(order, [1])
  const results = []
  const other = new hocuspocus.Hocuspocus({ extensions: [{ async onDestroy() { return 'a' } }, { async onDestroy() { return 'b' } }] })
  await other.hooks('onDestroy', { instance: other }, (result) => { if (result) results.push(result) })
  assert.deepEqual(results, ['a', 'b'])
})

test('SkipFurtherHooksError ends the stores of a change, and the document still goes', async (t) => {
  const { SkipFurtherHooksError } = await import('@hocuspocus/common')
  const order = []
  const server = await serve(t, {
    debounce: 50,
    extensions: [
      { priority: 2, async onStoreDocument() { order.push('first'); throw new SkipFurtherHooksError() } },
      { priority: 1, async onStoreDocument() { order.push('second') } },
    ],
  })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await until(() => order.length > 0)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  assert.deepEqual(order, ['first'])
})

test('onConfigure, onListen and onDestroy', async (t) => {
  const seen = []
  const server = await serve(t, {
    name: 'mine',
    async onConfigure({ configuration, version, instance }) { seen.push(['onConfigure', configuration.name, version, typeof instance.configure]) },
    async onListen({ port, configuration, instance }) { seen.push(['onListen', port > 0, configuration.name, typeof instance.hooks]) },
    async onDestroy() { seen.push(['onDestroy']) },
  })
  await server.destroy()
  await server.destroy()
  assert.deepEqual(seen.map(([name]) => name), ['onConfigure', 'onListen', 'onDestroy'])
  assert.deepEqual(seen[0], ['onConfigure', 'mine', '4.7.0', 'function'])
  assert.equal(seen[1][1], true)
})
