// In the way of Huly's collaborator (Hocuspocus 2): no garbage collection so that versions can be shown, content by RPC through
// direct connections whether or not somebody has it open, and blobs in a storage of its own.

import { Hocuspocus } from '@hocuspocus/server'
import { TiptapTransformer } from '@hocuspocus/transformer'
import express from 'express'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import path from 'node:path'
import { WebSocketServer } from 'ws'
import * as Y from 'yjs'

const { FOLDER, SECRET } = process.env
const FIELD = 'content'
const fileOf = (name) => path.join(FOLDER, encodeURIComponent(name))

/** A token says who may do what in which workspace. */
function decodeToken(token) {
  const [secret, workspace, account, role] = String(token).split('/')
  if (secret !== SECRET) throw new Error('Invalid token')
  return { workspace, account, guest: role === 'guest' }
}

class Authentication {
  async onAuthenticate({ token, documentName, connection }) {
    const decoded = decodeToken(token)
    if (!documentName.startsWith(`${decoded.workspace}|`)) throw new Error('Workspace ids do not match')
    connection.readOnly = decoded.guest
    return { workspace: decoded.workspace, account: decoded.account, connectionId: documentName }
  }
}

class Storage {
  collaborators = new Map()
  promises = new Map()

  async onConnect({ documentName }) {
    // A load right after an unload waits for the write.
    await this.promises.get(documentName)
  }

  async onLoadDocument({ documentName, document }) {
    if (existsSync(fileOf(documentName))) Y.applyUpdate(document, new Uint8Array(readFileSync(fileOf(documentName))))
    return document
  }

  async afterLoadDocument({ documentName }) {
    this.collaborators.set(documentName, new Set())
  }

  async onChange({ documentName, context }) {
    if (context.account) this.collaborators.get(documentName)?.add(context.account)
  }

  async onStoreDocument({ documentName, document, context }) {
    const writing = this.save(documentName, document, context)
    this.promises.set(documentName, writing)
    await writing
    this.promises.delete(documentName)
  }

  async save(documentName, document, context) {
    const file = fileOf(documentName)
    writeFileSync(`${file}.new`, Y.encodeStateAsUpdate(document))
    renameSync(`${file}.new`, file)
    const markup = JSON.stringify(TiptapTransformer.fromYdoc(document, FIELD))
    writeFileSync(`${file}.json`, JSON.stringify({ markup, by: context?.account, collaborators: [...(this.collaborators.get(documentName) ?? [])].sort() }))
  }

  async onDisconnect({ documentName, context, clientsCount }) {
    console.log(`${context.account} left ${documentName}, ${clientsCount} stay`)
  }

  async afterUnloadDocument({ documentName }) {
    this.collaborators.delete(documentName)
  }
}

const hocuspocus = new Hocuspocus({
  address: '127.0.0.1',
  timeout: 30_000,
  debounce: 100,
  maxDebounce: 1_000,
  unloadImmediately: false,
  quiet: true,
  yDocOptions: { gc: false, gcFilter: () => false },
  extensions: [new Authentication(), new Storage()],
})

const markupToYdoc = (markup) => TiptapTransformer.toYdoc(JSON.parse(markup), FIELD)

const methods = {
  async getContent(name, context) {
    const connection = await hocuspocus.openDirectConnection(name, context)
    try {
      return { content: JSON.stringify(TiptapTransformer.fromYdoc(connection.document, FIELD)) }
    } finally {
      await connection.disconnect()
    }
  },

  async createContent(name, context, { markup }) {
    if (existsSync(fileOf(name))) throw new Error('The document exists')
    return this.updateContent(name, context, { markup })
  },

  async updateContent(name, context, { markup }) {
    const update = Y.encodeStateAsUpdate(markupToYdoc(markup))
    const connection = await hocuspocus.openDirectConnection(name, context)
    try {
      await connection.transact((document) => {
        const fragment = document.getXmlFragment(FIELD)
        document.transact(() => {
          fragment.delete(0, fragment.length)
          Y.applyUpdate(document, update)
        }, connection)
      })
      return {}
    } finally {
      await connection.disconnect()
    }
  },

  /** The document as it was at a version that a client noted. */
  async getVersion(name, context, { snapshot }) {
    const connection = await hocuspocus.openDirectConnection(name, context)
    try {
      const at = Y.decodeSnapshot(new Uint8Array(Buffer.from(snapshot, 'base64')))
      const then = Y.createDocFromSnapshot(connection.document, at)
      return { content: JSON.stringify(TiptapTransformer.fromYdoc(then, FIELD)) }
    } finally {
      await connection.disconnect()
    }
  },
}

const app = express()
app.use(express.json({ limit: '10mb' }))
app.post('/rpc/:documentName', async (request, response) => {
  try {
    const { workspace, account } = decodeToken(request.headers.authorization?.replace('Bearer ', ''))
    const { method, payload } = request.body
    if (!Object.hasOwn(methods, method)) throw new Error(`Unknown method ${method}`)
    response.json(await methods[method](request.params.documentName, { workspace, account }, payload ?? {}))
  } catch (error) {
    response.status(400).json({ error: error.message })
  }
})
app.get('/api/v1/statistics', (_request, response) => {
  const documents = [...hocuspocus.documents.values()]
  response.json(documents.map((document) => [document.name, document.getConnectionsCount(), [...document.awareness.getStates().values()].map(({ user }) => user)]))
})

const http = createServer(app)
const wss = new WebSocketServer({ noServer: true, skipUTF8Validation: true, maxPayload: 50_000_000 })
wss.on('connection', (incoming, request) => {
  hocuspocus.handleConnection(incoming, request)
})
http.on('upgrade', (request, socket, head) => {
  wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request))
})
http.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })))

process.once('SIGTERM', async () => {
  wss.close()
  http.close()
  await hocuspocus.destroy()
  process.exit(0)
})
