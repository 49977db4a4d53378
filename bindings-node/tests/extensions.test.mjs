// The extension packages as they are on npm: database, sqlite, logger, throttle, webhook, transformer.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus } from './target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from './peers.mjs'

import { createServer } from 'node:http'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

test('database: fetch and store, across an unload', async (t) => {
  const { Database } = await import('@hocuspocus/extension-database')
  const rows = new Map()
  const seen = []
  const server = await serve(t, {
    debounce: 30,
    extensions: [new Database({
      fetch: async ({ documentName, context }) => { seen.push(context.user); return rows.get(documentName) ?? null },
      store: async ({ documentName, state, lastContext }) => { seen.push(lastContext.user); rows.set(documentName, state) },
    })],
    async onAuthenticate() { return { user: 1 } },
  })
  const provider = await connect(t, server)
  text(provider).insert(0, 'kept')
  await until(() => rows.has('notes'))
  text(provider).insert(4, ' too')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  const again = await connect(t, server)
  assert.equal(text(again).toString(), 'kept too')
  assert.ok(seen.every((user) => user === 1))
})

test('sqlite', async (t) => {
  const { SQLite } = await import('@hocuspocus/extension-sqlite')
  const database = path.join(mkdtempSync(path.join(tmpdir(), 'fidibus-')), 'db.sqlite')
  const configuration = () => ({ debounce: 20, extensions: [new SQLite({ database })] })
  const server = await serve(t, configuration())
  const provider = await connect(t, server)
  text(provider).insert(0, 'on disk')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  await server.destroy()
  const next = await serve(t, configuration())
  assert.equal(text(await connect(t, next)).toString(), 'on disk')
})

test('logger', async (t) => {
  const { Logger } = await import('@hocuspocus/extension-logger')
  const lines = []
  const server = await serve(t, { name: 'mine', extensions: [new Logger({ log: (line) => lines.push(line), onRequest: true })] })
  const provider = await connect(t, server)
  text(provider).insert(0, 'x')
  await fetch(`${server.httpURL}/path`)
  leave(provider)
  await until(() => lines.some((line) => /closed|disconnect/i.test(line)))
  assert.ok(lines.some((line) => line.includes('notes')), lines.join('\n'))
  assert.ok(lines.some((line) => line.includes('/path')), lines.join('\n'))
})

test('throttle bans who connects too often', async (t) => {
  const { Throttle } = await import('@hocuspocus/extension-throttle')
  const server = await serve(t, { extensions: [new Throttle({ throttle: 2, consideredSeconds: 60, banTime: 1 })] })
  const refused = []
  for (let count = 0; count < 4; count += 1) {
    await connect(t, server, { wait: false, name: `n${count}`, onAuthenticationFailed: ({ reason }) => refused.push(reason) })
    await sleep(50)
  }
  await until(() => refused.length >= 1)
  assert.equal(refused[0], 'Forbidden')
})

test('webhook: connect, create and change over HTTP', async (t) => {
  const { Webhook, Events } = await import('@hocuspocus/extension-webhook')
  const { TiptapTransformer } = await import('@hocuspocus/transformer')
  const got = []
  const http = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { event, payload } = JSON.parse(body)
    got.push([event, payload])
    response.setHeader('content-type', 'application/json')
    if (event === 'connect') response.end(JSON.stringify({ user: 'from webhook' }))
    else if (event === 'create') response.end(JSON.stringify({ default: { type: 'doc', content: [{ type: 'paragraph', content: [{ type: 'text', text: 'created' }] }] } }))
    else response.end('{}')
  })
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.after(() => http.close())
  const contexts = []
  const server = await serve(t, {
    extensions: [new Webhook({ url: `http://127.0.0.1:${http.address().port}`, secret: 's', debounce: 30, events: [Events.onConnect, Events.onCreate, Events.onChange, Events.onDisconnect], transformer: TiptapTransformer })],
    async connected({ context }) { contexts.push(context) },
  })
  const provider = await connect(t, server, { path: '/?a=1' })
  assert.equal(provider.document.getXmlFragment('default').toString(), '<paragraph>created</paragraph>')
  await until(() => contexts.length === 1)
  assert.equal(contexts[0].user, 'from webhook')
  provider.document.getXmlFragment('default').push([new Y.XmlElement('paragraph')])
  await until(() => got.some(([event]) => event === 'change'))
  assert.deepEqual(got.find(([event]) => event === 'change')[1].requestParameters, { a: '1' })
})

test('transformer in onStoreDocument, at every store', async (t) => {
  const { TiptapTransformer } = await import('@hocuspocus/transformer')
  const stores = []
  const server = await serve(t, { debounce: 20, async onStoreDocument({ document }) { stores.push(TiptapTransformer.fromYdoc(document, 'default')) } })
  const provider = await connect(t, server)
  const fragment = provider.document.getXmlFragment('default')
  for (const word of ['one', 'two', 'three']) {
    const paragraph = new Y.XmlElement('paragraph')
    paragraph.insert(0, [new Y.XmlText(word)])
    fragment.push([paragraph])
    await until(() => stores.at(-1)?.content?.at(-1)?.content?.[0]?.text === word, word)
  }
  assert.equal(stores.at(-1).content.length, 3)
})
