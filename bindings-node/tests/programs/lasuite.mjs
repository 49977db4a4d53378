// In the way of La Suite Docs' y-provider (Hocuspocus 3.4): express with express-ws, the right to edit asked of the backend in
// onConnect, routes that reset and count connections, and a long-polling way in for those whose network blocks WebSockets.

import { Hocuspocus, IncomingMessage, MessageReceiver, OutgoingMessage } from '@hocuspocus/server'
import express from 'express'
import expressWs from 'express-ws'
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { encodeAwarenessUpdate } from 'y-protocols/awareness'
import * as Y from 'yjs'

const { BACKEND, SERVER_SECRET } = process.env
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const KICKED = { code: 4000, reason: 'connections reset' }

async function fetchDocument(name, headers) {
  const response = await fetch(`${BACKEND}/api/v1.0/documents/${name}/`, { headers: { cookie: headers.cookie ?? '', origin: headers.origin ?? '' } })
  if (!response.ok) throw new Error(`Failed to fetch document: ${response.status}`)
  return response.json()
}

const hocuspocus = new Hocuspocus({
  name: 'docs-collaboration',
  timeout: 30_000,
  quiet: true,
  async onConnect({ requestHeaders, connectionConfig, documentName, requestParameters, context, request }) {
    if (documentName !== requestParameters.get('room')) throw new Error('Wrong room name: Unauthorized')
    if (!UUID.test(documentName)) throw new Error('Wrong room name: Invalid document name')
    const { abilities } = await fetchDocument(documentName, requestHeaders)
    if (!abilities.retrieve) throw new Error('Wrong abilities: Unauthorized')
    connectionConfig.readOnly = !abilities.update
    const session = /docs_sessionid=([^;]+)/.exec(requestHeaders.cookie)?.[1]
    if (session) {
      context.sessionKey = session
      context.userId = session.split('-')[0]
    }
    context.remote = request.socket.remoteAddress
  },
})

/** The document, opened for somebody who has no socket. */
async function openDocument(room, request, canEdit) {
  const open = (await hocuspocus.loadingDocuments.get(room)) ?? hocuspocus.documents.get(room)
  return open ?? hocuspocus.createDocument(room, request, randomUUID(), { readOnly: !canEdit, isAuthenticated: false })
}

const app = express()
const http = createServer(app)
expressWs(app, http)
app.use(express.json())

app.ws('/collaboration/ws', (ws, request) => {
  hocuspocus.handleConnection(ws, request)
})

function secretOnly(request, response, next) {
  if (request.headers.authorization === SERVER_SECRET) next()
  else response.status(401).json({ error: 'Unauthorized' })
}

app.post('/collaboration/api/reset-connections', secretOnly, (request, response) => {
  const { room } = request.query
  const userId = request.headers['x-user-id']
  if (!userId) {
    hocuspocus.closeConnections(room)
  } else {
    hocuspocus.documents.forEach((document) => {
      if (document.name !== room) return
      document.getConnections().forEach((connection) => {
        if (connection.context.userId === userId) connection.close(KICKED)
      })
    })
  }
  response.json({ message: 'Connections reset' })
})

app.get('/collaboration/api/connections', secretOnly, (request, response) => {
  const document = hocuspocus.documents.get(request.query.room)
  if (!document) {
    response.status(404).json({ error: 'Room not found' })
    return
  }
  const sessions = document.getConnections().map(({ context, readOnly }) => [context.sessionKey, readOnly]).sort()
  response.json({ count: document.getConnectionsCount(), exists: sessions.some(([key]) => key === request.query.sessionKey), sessions })
})

/** Those who poll send a message here, and hear of the document on the stream below. */
app.post('/collaboration/api/poll', async (request, response) => {
  const room = request.query.room
  const { abilities } = await fetchDocument(room, request.headers)
  if (!abilities.update) {
    response.status(403).json({ error: 'Forbidden' })
    return
  }
  const document = await openDocument(room, request, true)
  const bytes = new Uint8Array(Buffer.from(request.body.message64, 'base64'))
  const message = new IncomingMessage(bytes)
  const documentName = message.readVarString()
  if (documentName !== room) {
    response.status(400).json({ error: 'Invalid document' })
    return
  }
  message.writeVarString(documentName)
  await new MessageReceiver(message).apply(document, undefined)
  response.json({ state: Buffer.from(Y.encodeStateAsUpdate(document)).toString('base64') })
})

app.get('/collaboration/api/poll', async (request, response) => {
  const room = request.query.room
  const { abilities } = await fetchDocument(room, request.headers)
  const document = await openDocument(room, request, abilities.update)
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  const say = (bytes) => response.write(`data: ${Buffer.from(bytes).toString('base64')}\n\n`)
  const onUpdate = (update) => say(new OutgoingMessage(room).createSyncMessage().writeUpdate(update).toUint8Array())
  const onAwareness = ({ added, updated, removed }) => {
    const clients = [...added, ...updated, ...removed]
    say(new OutgoingMessage(room).createAwarenessUpdateMessage(document.awareness, clients).toUint8Array())
  }
  document.on('update', onUpdate)
  document.awareness.on('update', onAwareness)
  onUpdate(Y.encodeStateAsUpdate(document))
  const states = encodeAwarenessUpdate(document.awareness, [...document.awareness.getStates().keys()])
  response.write(`event: awareness\ndata: ${Buffer.from(states).toString('base64')}\n\n`)
  request.once('close', () => {
    document.off('update', onUpdate)
    document.awareness.off('update', onAwareness)
  })
})

/** A document as text, for the backend's search. */
app.post('/convert', secretOnly, (request, response) => {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, new Uint8Array(Buffer.from(request.body.state, 'base64')))
  response.json({ text: doc.getXmlFragment('document-store').toString() })
  doc.destroy()
})

http.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })))
