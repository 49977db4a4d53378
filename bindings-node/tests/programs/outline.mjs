// In the way of Outline's collaboration service (Hocuspocus 1 and 2): koa beside it on one http server, the document's id in
// the path, limits on who connects with which editor, and edits of the REST API merged into open documents.

import { Server } from '@hocuspocus/server'
import { Throttle } from '@hocuspocus/extension-throttle'
import { TiptapTransformer } from '@hocuspocus/transformer'
import Koa from 'koa'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import path from 'node:path'
import { WebSocketServer } from 'ws'
import * as Y from 'yjs'

const { FOLDER } = process.env
const CONNECTIONS_MAX = 3
const EDITOR_VERSION = '13.0.0'
const FIELD = 'default'
const API_ORIGIN = 'outline:api-update'
const BODY_BYTES_MAX = 100_000

const TooManyConnections = { code: 4503, reason: 'Too Many Connections' }
const EditorUpdateError = { code: 4600, reason: 'New Editor Version' }

// Rows of the application's database, one file each.
const fileOf = (id) => path.join(FOLDER, `${id}.json`)
const read = (id) => (existsSync(fileOf(id)) ? JSON.parse(readFileSync(fileOf(id), 'utf8')) : undefined)
function write(id, row) {
  writeFileSync(`${fileOf(id)}.new`, JSON.stringify(row))
  renameSync(`${fileOf(id)}.new`, fileOf(id))
}
const toYDoc = (text) => TiptapTransformer.toYdoc({
  type: 'doc',
  content: text.split('\n').map((line) => ({ type: 'paragraph', content: line ? [{ type: 'text', text: line }] : [] })),
}, FIELD)
const toText = (json) => (json.content ?? []).map((block) => (block.content ?? []).map((node) => node.text).join('')).join('\n')
const idOf = (documentName) => documentName.split('.').pop()

class ConnectionLimit {
  sockets = new Map()

  async onConnect({ documentName }) {
    if ((this.sockets.get(documentName)?.size ?? 0) >= CONNECTIONS_MAX) throw TooManyConnections
  }

  async connected({ documentName, socketId }) {
    const here = this.sockets.get(documentName) ?? new Set()
    this.sockets.set(documentName, here.add(socketId))
  }

  async onDisconnect({ documentName, socketId }) {
    const here = this.sockets.get(documentName)
    here?.delete(socketId)
    if (here?.size === 0) this.sockets.delete(documentName)
  }
}

class EditorVersion {
  async onConnect({ requestParameters }) {
    const version = requestParameters.get('editorVersion')
    if (version && version.split('.')[0] !== EDITOR_VERSION.split('.')[0]) throw EditorUpdateError
  }
}

class Authentication {
  async onAuthenticate({ connection, token, documentName }) {
    const [name, role] = (token ?? '').split(':')
    if (!name) throw Object.assign(new Error('Authentication required'), { reason: 'unauthenticated' })
    if (!read(idOf(documentName))) throw Object.assign(new Error('Authorization required'), { reason: 'forbidden' })
    if (role === 'viewer') connection.readOnly = true
    return { user: { id: name } }
  }
}

class Persistence {
  collaborators = new Map()

  async onLoadDocument({ documentName, document }) {
    if (!document.isEmpty(FIELD)) return undefined
    const row = read(idOf(documentName))
    if (row.state) {
      const ydoc = new Y.Doc()
      Y.applyUpdate(ydoc, new Uint8Array(Buffer.from(row.state, 'base64')))
      return ydoc
    }
    const ydoc = toYDoc(row.text)
    write(idOf(documentName), { ...row, state: Buffer.from(Y.encodeStateAsUpdate(ydoc)).toString('base64') })
    return ydoc
  }

  async onChange({ documentName, context }) {
    if (!context.user) return
    const them = this.collaborators.get(documentName) ?? new Set()
    this.collaborators.set(documentName, them.add(context.user.id))
  }

  async onStoreDocument({ document, documentName, context, clientsCount }) {
    const id = idOf(documentName)
    const row = read(id)
    write(id, {
      ...row,
      text: toText(TiptapTransformer.fromYdoc(document, FIELD)),
      state: Buffer.from(Y.encodeStateAsUpdate(document)).toString('base64'),
      lastModifiedBy: context.user?.id ?? row.lastModifiedBy,
      collaborators: [...new Set([...(row.collaborators ?? []), ...(this.collaborators.get(documentName) ?? [])])].sort(),
      storedFor: clientsCount,
    })
    this.collaborators.delete(documentName)
  }
}

/** Documents that are open keep up with edits that the API makes in the database. */
class ApiUpdates {
  documents = new Map()

  async afterLoadDocument({ documentName, document }) {
    this.documents.set(documentName, document)
  }

  async afterUnloadDocument({ documentName }) {
    this.documents.delete(documentName)
  }

  apply(documentName, state) {
    const document = this.documents.get(documentName)
    if (!document) return false
    const stored = new Y.Doc()
    Y.applyUpdate(stored, state)
    const difference = Y.encodeStateAsUpdate(stored, Y.encodeStateVector(document))
    Y.applyUpdate(document, difference, API_ORIGIN)
    return true
  }
}

const limit = new ConnectionLimit()
const updates = new ApiUpdates()
const views = []
const hocuspocus = Server.configure({
  name: 'outline',
  debounce: 100,
  timeout: 30_000,
  maxDebounce: 10_000,
  quiet: true,
  stopOnSignals: false,
  extensions: [
    new Throttle({ throttle: 500, consideredSeconds: 60, banTime: 1 }),
    limit,
    new EditorVersion(),
    new Authentication(),
    new Persistence(),
    updates,
    { async connected({ context, documentName }) { views.push([context.user.id, idOf(documentName)]) } },
  ],
})

/** A request's JSON, up to the limit. */
async function bodyOf(request) {
  let body = ''
  for await (const chunk of request) {
    body += chunk
    if (body.length > BODY_BYTES_MAX) throw new RangeError('the body is too large')
  }
  return JSON.parse(body)
}

const app = new Koa()
app.use(async (context) => {
  if (context.path === '/api/documents.update') {
    const { id, line } = await bodyOf(context.req)
    const ydoc = new Y.Doc()
    const row = read(id)
    Y.applyUpdate(ydoc, new Uint8Array(Buffer.from(row.state, 'base64')))
    const paragraph = new Y.XmlElement('paragraph')
    paragraph.insert(0, [new Y.XmlText(line)])
    ydoc.getXmlFragment(FIELD).push([paragraph])
    const state = Y.encodeStateAsUpdate(ydoc)
    write(id, { ...row, state: Buffer.from(state).toString('base64') })
    context.body = { applied: updates.apply(`document.${id}`, state) }
  } else if (context.path === '/api/views.list') {
    context.body = views
  } else if (context.path === '/metrics') {
    context.body = { documents: hocuspocus.getDocumentsCount(), connections: hocuspocus.getConnectionsCount(), limited: [...limit.sockets.values()].map(({ size }) => size) }
  }
})

const http = createServer(app.callback())
const wss = new WebSocketServer({ noServer: true, maxPayload: 1_000_000 })
http.on('upgrade', (request, socket, head) => {
  const documentId = /^\/collaboration\/([\w-]+)/.exec(request.url)?.[1]
  if (!documentId) {
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
    return
  }
  wss.handleUpgrade(request, socket, head, (client) => {
    // Otherwise an error of the socket would be one of the process.
    client.on('error', (error) => console.error('Websocket error', error))
    hocuspocus.handleConnection(client, request, { documentId })
  })
})
http.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })))

process.once('SIGTERM', async () => {
  http.close()
  await hocuspocus.destroy()
  process.exit(0)
})
