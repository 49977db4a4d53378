// Programs in the way of five applications, each as a process of its own, and what their users see. `programs/` has them.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createHmac } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { sleep, until } from './peers.mjs'
import { start } from './program.mjs'
import { backend, folder, redis } from './services.mjs'

const RESOLVE = new URL('./programs/resolve.mjs', import.meta.url).href

const application = (t, name, MAJOR, env) => start(t, new URL(`./programs/${name}.mjs`, import.meta.url), { MAJOR: String(MAJOR), ...env }, RESOLVE)

/** Ends a program as an operator does; clients must have left. */
async function stop({ child }) {
  child.kill('SIGTERM')
  const [code] = await once(child, 'exit')
  assert.equal(code, 0)
}

const PROVIDERS = { 2: 'provider-v2', 3: 'provider-v3', 4: '@hocuspocus/provider' }

/** A user: a provider of the application's own major. */
async function user(t, major, { port }, url, { name, token = '', headers = {}, wait = true, ...rest }) {
  const { HocuspocusProvider, HocuspocusProviderWebsocket } = await import(PROVIDERS[major])
  class Socket extends WebSocket {
    constructor(address) {
      super(address, { headers })
      // As in browsers: whoever leaves while the socket opens hears of no error.
      this.on('error', () => {})
    }
  }
  const websocketProvider = new HocuspocusProviderWebsocket({ url: `ws://127.0.0.1:${port}${url}`, WebSocketPolyfill: Socket, initialDelay: 50, delay: 50, minDelay: 50, maxDelay: 200 })
  const told = []
  const provider = new HocuspocusProvider({
    websocketProvider,
    name,
    token,
    document: new Y.Doc(),
    // Providers of 2.x in one process would tell each other.
    broadcast: false,
    onAuthenticationFailed: ({ reason }) => told.push(['refused', reason]),
    onStateless: ({ payload }) => told.push(['stateless', payload]),
    onClose: ({ event }) => told.push(['closed', event.code, event.reason]),
    ...rest,
  })
  provider.attach?.()
  const leave = () => {
    provider.destroy()
    websocketProvider.destroy()
  }
  t.after(leave)
  const here = { provider, told, leave, document: provider.document }
  if (wait) await until(() => provider.synced ?? provider.isSynced, () => `${name} of ${token || JSON.stringify(headers)} synced: ${JSON.stringify(told)}, ${websocketProvider.status}`)
  return here
}

/** Adds a paragraph to a document of Tiptap's. */
function write({ document }, field, line) {
  const paragraph = new Y.XmlElement('paragraph')
  paragraph.insert(0, [new Y.XmlText(line)])
  document.getXmlFragment(field).push([paragraph])
}
const read = ({ document }, field) => document.getXmlFragment(field).toArray().map((block) => block.toArray().map((text) => text.toString()).join('')).join('\n')
const saved = ({ provider }) => !provider.hasUnsyncedChanges
const post = async (port, route, body, headers = {}) => {
  const response = await fetch(`http://127.0.0.1:${port}${route}`, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } })
  return response.status === 204 ? undefined : response.json()
}
const ask = async (port, route, headers = {}) => (await fetch(`http://127.0.0.1:${port}${route}`, { headers })).json()
const documentOf = (...lines) => ({ type: 'doc', content: lines.map((line) => ({ type: 'paragraph', content: [{ type: 'text', text: line }] })) })
const linesOf = (json) => json.content.map(({ content }) => (content ?? []).map(({ text }) => text).join(''))
const contentOf = (bytes, field) => {
  const document = new Y.Doc()
  Y.applyUpdate(document, bytes)
  return read({ document }, field)
}

test('plane: pages behind a backend, titles, two processes over Redis, forced close', async (t) => {
  const users = { 'session=a': { id: 'ada', display_name: 'Ada' }, 'session=b': { id: 'bob', display_name: 'Bob' }, 'session=g': { id: 'gus', display_name: 'Gus', role: 'guest' } }
  const page = { name: 'Roadmap', description_json: documentOf('first'), binary: new Uint8Array(), description: undefined }
  const BACKEND = await backend(t, (request, body) => {
    const user = users[request.headers.cookie]
    if (!user) return 401
    if (request.url === '/users/me/') return user
    if (request.url === '/pages/p1/' && request.method === 'GET') return { name: page.name, description_json: page.description_json }
    if (request.url === '/pages/p1/') page.name = body.name
    else if (request.method === 'GET') return page.binary
    else Object.assign(page, { binary: new Uint8Array(Buffer.from(body.description_binary, 'base64')), description: body.description })
    return {}
  })
  const env = { BACKEND, PORT_REDIS: String(await redis(t)) }
  const [one, two] = await Promise.all([application(t, 'plane', 2, env), application(t, 'plane', 2, env)])
  const url = '/collaboration?documentType=project_page&workspaceSlug=acme'
  const ada = await user(t, 2, one, url, { name: 'p1', token: '{"id":"ada"}', headers: { cookie: 'session=a' } })
  // From JSON and a name it becomes a document once, in one process: the others load what that has stored.
  assert.deepEqual([read(ada, 'default'), read(ada, 'title')], ['first', 'Roadmap'])
  write(ada, 'default', 'of ada')
  await until(() => page.binary.length > 0)
  const bob = await user(t, 2, two, url, { name: 'p1', token: '{"id":"bob","cookie":"session=b"}' })
  const gus = await user(t, 2, two, url, { name: 'p1', token: '{"id":"gus"}', headers: { cookie: 'session=g' } })
  const eve = await user(t, 2, one, url, { name: 'p1', token: '{"id":"ada"}', headers: { cookie: 'session=b' }, wait: false })
  await until(() => eve.told.some(([what]) => what === 'refused'))
  eve.leave()
  await t.test('edits and presence cross the processes, a guest only reads', async () => {
    assert.equal(read(bob, 'title'), 'Roadmap')
    write(bob, 'default', 'of bob')
    await until(() => [ada, bob, gus].every((one) => read(one, 'default') === 'first\nof ada\nof bob'))
    write(gus, 'default', 'of gus')
    bob.provider.setAwarenessField('user', 'bob')
    await until(() => ada.provider.awareness.getStates().get(bob.document.clientID)?.user === 'bob')
    assert.doesNotMatch(read(ada, 'default'), /of gus/)
  })
  await t.test('stored in all its forms', async () => {
    await until(() => contentOf(page.binary, 'default') === 'first\nof ada\nof bob')
    assert.deepEqual(linesOf(page.description), ['first', 'of ada', 'of bob'])
  })
  await t.test('the title becomes the name', async () => {
    ada.document.getXmlFragment('title').get(0).get(0).insert(7, ' 2027')
    await until(() => page.name === 'Roadmap 2027')
    await until(() => read(bob, 'title') === 'Roadmap 2027')
  })
  await t.test('events reach the clients of both processes', async () => {
    ada.provider.sendStateless('lock')
    await until(() => ada.told.some(([, payload]) => payload === '{"event":"locked","by":"ada"}'))
    await post(one.port, '/broadcast', { documentName: 'p1', payload: { event: 'moved' } })
    for (const one of [bob, gus]) await until(() => one.told.some(([, payload]) => payload === '{"event":"moved"}'))
  })
  await t.test('a page is closed everywhere, once it is unloaded it opens again', async () => {
    const marks = [ada, bob].map(({ told }) => told.length)
    await post(two.port, '/force-close', { documentName: 'p1', reason: 'page_deleted', code: 4000 })
    for (const [index, { told }] of [ada, bob].entries()) {
      await until(() => told.slice(marks[index]).some(([what]) => what === 'closed'))
      const [first, then] = told.slice(marks[index])
      assert.deepEqual(first, ['stateless', '{"type":"force_close","reason":"page_deleted"}'])
      assert.deepEqual(then, ['closed', 4000, 'page_deleted'])
    }
    for (const one of [ada, bob, gus]) one.leave()
    for (const { port } of [one, two]) await until(async () => (await ask(port, '/health')).documents === 0)
    const again = await user(t, 2, two, url, { name: 'p1', token: '{"id":"ada"}', headers: { cookie: 'session=a' } })
    assert.deepEqual([read(again, 'default'), read(again, 'title')], ['first\nof ada\nof bob', 'Roadmap 2027'])
  })
})

test('docmost: pages as JSON and Yjs, REST edits, revoked access, flush, an edge without documents', async (t) => {
  const [APP_SECRET, DATABASE] = ['secret', path.join(folder(t), 'pages.db')]
  const { default: Sqlite } = await import('better-sqlite3')
  const env = { APP_SECRET, DATABASE, PORT_REDIS: String(await redis(t)) }
  const owner = await application(t, 'docmost', 4, env)
  const edge = await application(t, 'docmost', 4, { ...env, ROLE: 'edge' })
  const rows = new Sqlite(DATABASE)
  t.after(() => rows.close())
  rows.prepare('INSERT INTO pages (id, content) VALUES (?, ?)').run('p1', JSON.stringify(documentOf('imported')))
  const row = () => rows.prepare('SELECT * FROM pages WHERE id = ?').get('p1')
  const token = (claims) => {
    const text = Buffer.from(JSON.stringify(claims)).toString('base64url')
    return `${text}.${createHmac('sha256', APP_SECRET).update(text).digest('base64url')}`
  }
  const open = (program, id, options = {}) => user(t, 4, program, '/collab', { name: 'page.p1', token: token({ id, role: options.role }), ...options })
  const ada = await open(owner, 'ada')
  const bob = await open(edge, 'bob')
  const ron = await open(owner, 'ron', { role: 'reader' })
  await t.test('strangers stay out', async () => {
    const eve = await open(edge, 'eve', { token: 'e30.forged', wait: false })
    const lost = await open(owner, 'ada', { name: 'page.none', wait: false })
    for (const { told } of [eve, lost]) await until(() => told.some(([what, reason]) => what === 'refused' && reason === 'permission-denied'))
    for (const one of [eve, lost]) one.leave()
  })
  await t.test('edits through both, stored as JSON, Yjs and text', async () => {
    assert.equal(read(bob, 'default'), 'imported')
    write(ada, 'default', 'of ada')
    await until(() => /of ada/.test(read(bob, 'default')))
    write(bob, 'default', 'of bob')
    await until(() => [ada, ron].every((one) => read(one, 'default') === 'imported\nof ada\nof bob'))
    await until(() => row().text === 'imported\nof ada\nof bob')
    assert.deepEqual(JSON.parse(row().contributors), ['ada', 'bob'])
    assert.equal(contentOf(new Uint8Array(row().ydoc), 'default'), row().text)
    for (const { told } of [ada, bob, ron]) await until(() => told.some(([, payload]) => payload === '{"type":"page.updated","lastUpdatedBy":"bob"}'))
  })
  await t.test('a reader changes nothing', async () => {
    assert.equal(ron.provider.authorizedScope, 'readonly')
    write(ron, 'default', 'of ron')
    await sleep(200)
    assert.doesNotMatch(read(ada, 'default'), /of ron/)
  })
  await t.test('content by REST, while it is open', async () => {
    const answer = await post(owner.port, '/pages/p1/content', { content: documentOf('by rest'), operation: 'append', user: { id: 'bot' } })
    assert.equal(linesOf(answer).at(-1), 'by rest')
    await until(() => /by rest/.test(read(bob, 'default')))
    await until(() => /by rest/.test(row().text))
  })
  await t.test('access is taken at once', async () => {
    await post(owner.port, '/pages/p1/access', { userId: 'bob', access: 'read' })
    write(bob, 'default', 'too late')
    await sleep(200)
    assert.doesNotMatch(read(ada, 'default'), /too late/)
    await post(owner.port, '/pages/p1/access', { userId: 'bob', access: 'none' })
    await until(() => bob.told.some(([what, , reason]) => what === 'closed' && reason === 'access revoked'))
    bob.leave()
    ron.leave()
  })
  ada.leave()
  await until(async () => (await ask(owner.port, '/stats')).connections === 0)
  await stop(edge)
  await stop(owner)
  await t.test('after a restart: forced store, and a stop that stores', async () => {
    const next = await application(t, 'docmost', 4, { ...env, DEBOUNCE_MS: '30000' })
    const ada = await open(next, 'ada')
    assert.match(read(ada, 'default'), /^imported\nof ada\nof bob\nby rest$/)
    write(ada, 'default', 'flushed')
    await until(() => saved(ada))
    const flushed = await post(next.port, '/pages/p1/flush', {})
    assert.equal(flushed.waited, true)
    assert.match(flushed.text, /flushed$/)
    write(ada, 'default', 'at the end')
    await until(() => saved(ada))
    ada.leave()
    await until(async () => (await ask(next.port, '/stats')).connections === 0)
    await stop(next)
    assert.match(row().text, /at the end$/)
  })
})

test('outline: limits when connecting, views, API edits into open documents, an orderly end', async (t) => {
  const FOLDER = folder(t)
  const file = path.join(FOLDER, 'd1.json')
  const row = () => JSON.parse(readFileSync(file, 'utf8'))
  writeFileSync(file, JSON.stringify({ text: 'from markdown' }))
  const service = await application(t, 'outline', 2, { FOLDER })
  const open = (token, options = {}) => user(t, 2, service, `/collaboration/d1?editorVersion=${options.version ?? '13.1.0'}`, { name: 'document.d1', token, ...options })
  const ada = await open('ada')
  const vera = await open('vera:viewer')
  await t.test('edits, a viewer, and who worked on it', async () => {
    assert.equal(read(vera, 'default'), 'from markdown')
    write(ada, 'default', 'of ada')
    await until(() => /of ada/.test(read(vera, 'default')))
    write(vera, 'default', 'of vera')
    await until(() => row().text === 'from markdown\nof ada')
    assert.deepEqual([row().lastModifiedBy, row().collaborators, row().storedFor], ['ada', ['ada'], 2])
    assert.deepEqual(await ask(service.port, '/api/views.list'), [['ada', 'd1'], ['vera', 'd1']])
  })
  await t.test('edits of the API reach open documents', async () => {
    assert.deepEqual(await post(service.port, '/api/documents.update', { id: 'd1', line: 'of the api' }), { applied: true })
    await until(() => read(ada, 'default') === 'from markdown\nof ada\nof the api')
  })
  await t.test('who is refused is told why', async () => {
    const nobody = await open('', { wait: false, token: ':' })
    await until(() => nobody.told.some(([what, reason]) => what === 'refused' && reason === 'unauthenticated'))
    nobody.leave()
    const old = await open('old', { version: '12.0.0', wait: false })
    await until(() => old.told.some(([what]) => what === 'closed'))
    assert.deepEqual(old.told[0], ['closed', 4600, 'New Editor Version'])
    old.leave()
    await until(async () => (await ask(service.port, '/metrics')).connections === 2)
    const bob = await open('bob')
    const fourth = await open('cleo', { wait: false })
    await until(() => fourth.told.some(([what]) => what === 'closed'))
    assert.deepEqual(fourth.told[0], ['closed', 4503, 'Too Many Connections'])
    fourth.leave()
    bob.leave()
  })
  await t.test('stored when all left, kept over a restart', async () => {
    write(ada, 'default', 'the last')
    await until(() => /the last/.test(read(vera, 'default')))
    ada.leave()
    vera.leave()
    await until(async () => (await ask(service.port, '/metrics')).documents === 0)
    assert.equal(row().text, 'from markdown\nof ada\nof the api\nthe last')
    await stop(service)
    const next = await application(t, 'outline', 2, { FOLDER })
    const again = await user(t, 2, next, '/collaboration/d1', { name: 'document.d1', token: 'ada' })
    assert.equal(read(again, 'default'), row().text)
  })
})

test('la suite: abilities of the backend, reset and count of connections, long polling', async (t) => {
  const room = '3f2c1e9a-7c0e-4b7a-9d3e-0a1b2c3d4e5f'
  const abilities = { 'docs_sessionid=ada-1': { retrieve: true, update: true }, 'docs_sessionid=bob-1': { retrieve: true, update: true }, 'docs_sessionid=vera-1': { retrieve: true, update: false } }
  const BACKEND = await backend(t, (request) => {
    const found = request.url === `/api/v1.0/documents/${room}/` && abilities[request.headers.cookie]
    return found ? { id: room, abilities: found } : 403
  })
  const server = await application(t, 'lasuite', 3, { BACKEND, SERVER_SECRET: 'server' })
  const open = (who, options = {}) => user(t, 3, server, `/collaboration/ws?room=${options.room ?? room}`, { name: room, headers: { cookie: `docs_sessionid=${who}-1` }, ...options })
  const [ada, bob, vera] = [await open('ada'), await open('bob'), await open('vera')]
  const field = 'document-store'
  await t.test('who may edit does, who may only see sees', async () => {
    write(ada, field, 'of ada')
    await until(() => read(bob, field) === 'of ada' && read(vera, field) === 'of ada')
    write(vera, field, 'of vera')
    await sleep(200)
    assert.equal(read(ada, field), 'of ada')
    for (const options of [{ room: 'other' }, { name: 'other', room: 'other' }]) {
      const stranger = await open('ada', { ...options, wait: false })
      await until(() => stranger.told.some(([what]) => what === 'refused'))
      stranger.leave()
    }
    const nobody = await open('nobody', { wait: false })
    await until(() => nobody.told.some(([what, reason]) => what === 'refused' && reason === 'permission-denied'))
    nobody.leave()
  })
  const secret = { authorization: 'server' }
  const connections = () => ask(server.port, `/collaboration/api/connections?room=${room}&sessionKey=ada-1`, secret)
  await t.test('connections are counted, and those of one user reset', async () => {
    await until(async () => (await connections()).count === 3)
    assert.deepEqual(await connections(), { count: 3, exists: true, sessions: [['ada-1', false], ['bob-1', false], ['vera-1', true]] })
    const marks = [ada, bob].map(({ told }) => told.length)
    abilities['docs_sessionid=bob-1'].update = false
    await post(server.port, `/collaboration/api/reset-connections?room=${room}`, {}, { ...secret, 'x-user-id': 'bob' })
    await until(() => bob.told.slice(marks[1]).some(([what, , reason]) => what === 'closed' && reason === 'connections reset'))
    assert.deepEqual(ada.told.slice(marks[0]), [])
  })
  await t.test('long polling: in by POST, out by a stream', async () => {
    const headers = { cookie: 'docs_sessionid=ada-1' }
    const stop = new AbortController()
    const stream = await fetch(`http://127.0.0.1:${server.port}/collaboration/api/poll?room=${room}`, { headers, signal: stop.signal })
    let heard = ''
    const listening = (async () => { for await (const chunk of stream.body) heard += Buffer.from(chunk).toString() })().catch(() => {})
    const source = new Y.Doc()
    Y.applyUpdate(source, Y.encodeStateAsUpdate(ada.document))
    let update
    source.on('update', (bytes) => { update = bytes })
    write({ document: source }, field, 'polled')
    const { OutgoingMessage } = await import('server-v3')
    const message = new OutgoingMessage(room).createSyncMessage().writeUpdate(update).toUint8Array()
    const { state } = await post(server.port, `/collaboration/api/poll?room=${room}`, { message64: Buffer.from(message).toString('base64') }, headers)
    assert.equal(contentOf(new Uint8Array(Buffer.from(state, 'base64')), field), 'of ada\npolled')
    await until(() => read(ada, field) === 'of ada\npolled')
    vera.provider.setAwarenessField('user', 'vera')
    const frames = () => [...heard.matchAll(/^data: (.*)$/gm)].map(([, text]) => Buffer.from(text, 'base64'))
    await until(() => frames().some((frame) => frame.includes('vera')))
    write(ada, field, 'after')
    await until(() => frames().some((frame) => frame.includes('after')))
    stop.abort()
    await listening
  })
  await t.test('all connections of a room are reset', async () => {
    const mark = ada.told.length
    await post(server.port, `/collaboration/api/reset-connections?room=${room}`, {}, secret)
    await until(() => ada.told.slice(mark).some(([what]) => what === 'closed'))
    assert.equal((await fetch(`http://127.0.0.1:${server.port}/collaboration/api/reset-connections?room=${room}`, { method: 'POST' })).status, 401)
  })
})

test('huly: content by RPC, versions without garbage collection, storage across a restart', async (t) => {
  const env = { FOLDER: folder(t), SECRET: 's' }
  const name = 'w1|card'
  const stored = () => JSON.parse(readFileSync(path.join(env.FOLDER, `${encodeURIComponent(name)}.json`), 'utf8'))
  const collaborator = await application(t, 'huly', 2, env)
  const rpc = (program, method, payload) => post(program.port, `/rpc/${encodeURIComponent(name)}`, { method, payload }, { authorization: 'Bearer s/w1/ada' })
  const open = (program, who, options = {}) => user(t, 2, program, '/', { name, token: `s/w1/${who}`, ...options })
  const markup = (...lines) => ({ markup: JSON.stringify(documentOf(...lines)) })
  await t.test('created by RPC before anybody opens it', async () => {
    assert.deepEqual(await rpc(collaborator, 'createContent', markup('created')), {})
    assert.deepEqual(await rpc(collaborator, 'createContent', markup('twice')), { error: 'The document exists' })
    assert.deepEqual(linesOf(JSON.parse(stored().markup)), ['created'])
    assert.deepEqual(await ask(collaborator.port, '/api/v1/statistics'), [])
  })
  const ada = await open(collaborator, 'ada')
  const bob = await open(collaborator, 'bob')
  const gus = await open(collaborator, 'gus/guest')
  await t.test('edits of users and of RPC meet', async () => {
    write(ada, 'content', 'of ada')
    await until(() => read(bob, 'content') === 'created\nof ada')
    const { content } = await rpc(collaborator, 'getContent')
    assert.deepEqual(linesOf(JSON.parse(content)), ['created', 'of ada'])
    write(gus, 'content', 'of gus')
    bob.provider.setAwarenessField('user', 'bob')
    await until(async () => (await ask(collaborator.port, '/api/v1/statistics'))[0]?.[2].includes('bob'))
    const foreign = await user(t, 2, collaborator, '/', { name: 'w2|card', token: 's/w1/ada', wait: false })
    await until(() => foreign.told.some(([what]) => what === 'refused'))
    foreign.leave()
    assert.equal(read(ada, 'content'), 'created\nof ada')
  })
  const snapshot = Buffer.from(Y.encodeSnapshot(Y.snapshot(ada.document))).toString('base64')
  const hasVersion = async (program) => {
    const { content, error } = await rpc(program, 'getVersion', { snapshot })
    assert.equal(error, undefined)
    assert.deepEqual(linesOf(JSON.parse(content)), ['created', 'of ada'])
  }
  await t.test('versions: what was deleted is still there', async () => {
    await rpc(collaborator, 'updateContent', markup('replaced'))
    await until(() => read(bob, 'content') === 'replaced')
    await hasVersion(collaborator)
  })
  await t.test('stored after the last left, and loaded by the next process', async () => {
    write(bob, 'content', 'of bob')
    await until(() => read(ada, 'content') === 'replaced\nof bob')
    for (const one of [ada, bob, gus]) one.leave()
    await until(async () => (await ask(collaborator.port, '/api/v1/statistics')).length === 0)
    assert.deepEqual(linesOf(JSON.parse(stored().markup)), ['replaced', 'of bob'])
    assert.deepEqual(stored().collaborators, ['ada', 'bob'])
    await stop(collaborator)
    const next = await application(t, 'huly', 2, env)
    assert.equal(read(await open(next, 'ada'), 'content'), 'replaced\nof bob')
    await hasVersion(next)
  })
})
