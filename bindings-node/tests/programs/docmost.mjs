// In the way of Docmost's collaboration process (Hocuspocus 4.5): fastify with ws on its own upgrades, pages as Tiptap JSON and
// Yjs in one row, a REST side that edits open pages, and a role as edge that forwards its sockets' frames over Redis.

import { Hocuspocus } from '@hocuspocus/server'
import { TiptapTransformer } from '@hocuspocus/transformer'
import Sqlite from 'better-sqlite3'
import fastify from 'fastify'
import Redis from 'ioredis'
import { createHmac, randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { WebSocketServer } from 'ws'
import * as Y from 'yjs'

const { APP_SECRET, DATABASE, PORT_REDIS, ROLE = 'owner', DEBOUNCE_MS = '100' } = process.env
const rows = new Sqlite(DATABASE)
rows.pragma('busy_timeout = 5000')
rows.exec('CREATE TABLE IF NOT EXISTS pages (id TEXT PRIMARY KEY, content TEXT, ydoc BLOB, text TEXT, updated_by TEXT, contributors TEXT)')
const find = (id) => rows.prepare('SELECT * FROM pages WHERE id = ?').get(id)
const pageOf = (documentName) => documentName.split('.')[1]

/** The claims of a signed token. */
function claimsOf(token) {
  const [claims, signature] = token.split('.')
  if (createHmac('sha256', APP_SECRET).update(claims).digest('base64url') !== signature) throw new Error('Invalid collab token')
  return JSON.parse(Buffer.from(claims, 'base64url').toString())
}

class Authentication {
  async onAuthenticate({ documentName, token, connectionConfig }) {
    const user = claimsOf(token)
    if (!find(pageOf(documentName))) throw new Error('Page not found')
    if (user.role === 'reader') connectionConfig.readOnly = true
    return { user }
  }
}

class Persistence {
  contributors = new Map()

  async onLoadDocument({ documentName, document }) {
    if (!document.isEmpty('default')) return undefined
    const page = find(pageOf(documentName))
    if (page?.ydoc) {
      const loaded = new Y.Doc()
      Y.applyUpdate(loaded, new Uint8Array(page.ydoc))
      return loaded
    }
    if (page?.content) return TiptapTransformer.toYdoc(JSON.parse(page.content), 'default')
    return new Y.Doc()
  }

  async onChange({ documentName, context }) {
    if (!context.user) return
    if (!this.contributors.has(documentName)) this.contributors.set(documentName, new Set())
    this.contributors.get(documentName).add(context.user.id)
  }

  async onStoreDocument({ documentName, document, lastContext }) {
    const id = pageOf(documentName)
    const content = TiptapTransformer.fromYdoc(document, 'default')
    const page = find(id)
    if (isDeepStrictEqual(content, JSON.parse(page.content ?? 'null'))) return
    const contributors = new Set([...JSON.parse(page.contributors ?? '[]'), ...(this.contributors.get(documentName) ?? [])])
    const by = lastContext?.user?.id ?? null
    const text = content.content.map((block) => (block.content ?? []).map((node) => node.text ?? '').join('')).join('\n')
    rows.prepare('UPDATE pages SET content = ?, ydoc = ?, text = ?, updated_by = ?, contributors = ? WHERE id = ?')
      .run(JSON.stringify(content), Buffer.from(Y.encodeStateAsUpdate(document)), text, by, JSON.stringify([...contributors].sort()), id)
    document.broadcastStateless(JSON.stringify({ type: 'page.updated', lastUpdatedBy: by }))
  }

  async afterUnloadDocument({ documentName }) {
    this.contributors.delete(documentName)
  }

  async onDestroy() {
    rows.close()
  }
}

const hocuspocus = new Hocuspocus({
  debounce: Number(DEBOUNCE_MS),
  maxDebounce: 45_000,
  unloadImmediately: false,
  extensions: [new Authentication()],
})
// The last one is the configuration itself.
hocuspocus.configuration.extensions.splice(-1, 0, new Persistence())

const redis = new Redis({ host: '127.0.0.1', port: Number(PORT_REDIS) })
const subscriber = redis.duplicate()
const publish = (channel, message) => redis.publish(channel, JSON.stringify(message))

/** The owner's side of a socket that an edge has: looks like one, and answers over Redis. */
class RemoteSocket {
  readyState = 1

  constructor(id) {
    this.id = id
  }

  send(bytes) {
    void publish('collab:out', { id: this.id, bytes: Buffer.from(bytes).toString('base64') })
  }

  close(code, reason) {
    if (this.readyState !== 1) return
    this.readyState = 3
    void publish('collab:out', { id: this.id, close: [code, reason] })
  }
}

async function own() {
  const clients = new Map()
  await subscriber.subscribe('collab:in')
  subscriber.on('message', (_channel, text) => {
    const { id, url, headers, bytes, closed } = JSON.parse(text)
    if (url !== undefined) {
      const client = hocuspocus.handleConnection(new RemoteSocket(id), new Request(url, { headers }))
      client.connectionEstablishedAt = Date.now()
      clients.set(id, client)
    } else if (closed) {
      clients.get(id)?.handleClose({ code: closed[0], reason: closed[1] })
      clients.delete(id)
    } else {
      const client = clients.get(id)
      if (!client) return
      client.lastMessageReceivedAt = Date.now()
      client.handleMessage(new Uint8Array(Buffer.from(bytes, 'base64')))
    }
  })
}

const edgeSockets = new Map()
async function forward() {
  await subscriber.subscribe('collab:out')
  subscriber.on('message', (_channel, text) => {
    const { id, bytes, close } = JSON.parse(text)
    if (close) edgeSockets.get(id)?.close(...close)
    else edgeSockets.get(id)?.send(Buffer.from(bytes, 'base64'))
  })
}

function onSocket(ws, request) {
  const web = new Request(`http://${request.headers.host}${request.url}`, { headers: request.headers })
  if (ROLE === 'edge') {
    const id = randomUUID()
    edgeSockets.set(id, ws)
    void publish('collab:in', { id, url: web.url, headers: Object.fromEntries(web.headers) })
    ws.on('message', (data) => publish('collab:in', { id, bytes: data.toString('base64') }))
    ws.on('close', (code, reason) => {
      edgeSockets.delete(id)
      void publish('collab:in', { id, closed: [code, reason.toString()] })
    })
    return
  }
  const client = hocuspocus.handleConnection(ws, web, {})
  ws.on('message', (data) => client.handleMessage(new Uint8Array(data)))
  ws.on('close', (code, reason) => client.handleClose({ code, reason: reason.toString() }))
}

const app = fastify({ forceCloseConnections: true })
app.get('/stats', async () => ({ connections: hocuspocus.getConnectionsCount(), documents: hocuspocus.getDocumentsCount() }))

/** Replaces or appends content, for imports and assistants. */
app.post('/pages/:id/content', async (request) => {
  const { content, operation, user } = request.body
  const direct = await hocuspocus.openDirectConnection(`page.${request.params.id}`, { user })
  try {
    await direct.transact((document) => {
      const fragment = document.getXmlFragment('default')
      if (operation === 'replace') fragment.delete(0, fragment.length)
      const source = TiptapTransformer.toYdoc(content, 'default').getXmlFragment('default')
      fragment.push(source.toArray().map((node) => node.clone()))
    })
    return TiptapTransformer.fromYdoc(direct.document, 'default')
  } finally {
    await direct.disconnect({ unloadImmediately: false })
  }
})

/** A user may no longer write, or is to go. */
app.post('/pages/:id/access', async (request) => {
  const { userId, access } = request.body
  const document = hocuspocus.documents.get(`page.${request.params.id}`)
  for (const [connection] of document?.connections ?? []) {
    if (connection.context.user.id !== userId) continue
    if (access === 'none') connection.close({ code: 4403, reason: 'access revoked' })
    else connection.readOnly = access === 'read'
  }
  return { connections: document?.getConnectionsCount() ?? 0 }
})

/** Stores at once, before an export reads the row. */
app.post('/pages/:id/flush', async (request) => {
  const name = `page.${request.params.id}`
  const id = `onStoreDocument-${name}`
  const waited = hocuspocus.debouncer.isDebounced(id)
  if (waited) await hocuspocus.debouncer.executeNow(id)
  const document = hocuspocus.documents.get(name)
  await document?.saveMutex.runExclusive(() => {})
  return { waited, text: find(request.params.id).text }
})

const wss = new WebSocketServer({ noServer: true })
app.server.on('upgrade', (request, socket, head) => {
  if (!request.url.startsWith('/collab')) {
    socket.destroy()
    return
  }
  wss.handleUpgrade(request, socket, head, (ws) => onSocket(ws, request))
})

await (ROLE === 'edge' ? forward() : own())
await app.listen({ port: 0, host: '127.0.0.1' })
console.log(JSON.stringify({ port: app.server.address().port }))

process.once('SIGTERM', async () => {
  hocuspocus.flushPendingStores()
  for (const document of hocuspocus.documents.values()) await document.saveMutex.waitForUnlock()
  hocuspocus.closeConnections()
  await hocuspocus.hooks('onDestroy', { instance: hocuspocus })
  process.exit(0)
})
