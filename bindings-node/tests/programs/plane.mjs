// In the way of Plane's live server (Hocuspocus 2.15): express with express-ws, pages behind a REST backend by
// extension-database, the title in a fragment of its own, and Redis for edits, events and orders to close a page.

import { Server, OutgoingMessage } from '@hocuspocus/server'
import { Database } from '@hocuspocus/extension-database'
import { Logger } from '@hocuspocus/extension-logger'
import { Redis as RedisExtension } from '@hocuspocus/extension-redis'
import { TiptapTransformer } from '@hocuspocus/transformer'
import express from 'express'
import expressWs from 'express-ws'
import { createServer } from 'node:http'
import * as Y from 'yjs'

const { BACKEND, PORT_REDIS } = process.env
const ADMIN = 'plane:admin'
const TITLE_DELAY_MS = 50
const CLOSE_DELAY_MS = 50

/** Calls of the backend, as the user who is at work. */
async function backend(method, path, cookie, body) {
  const response = await fetch(`${BACKEND}${path}`, {
    method,
    headers: { cookie, ...(body ? { 'content-type': 'application/json' } : {}) },
    body: body && JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}`)
  return response
}
const page = async (name, cookie) => (await backend('GET', `/pages/${name}/`, cookie)).json()

const database = new Database({
  async fetch({ documentName, context }) {
    const bytes = new Uint8Array(await (await backend('GET', `/pages/${documentName}/description/`, context.cookie)).arrayBuffer())
    if (bytes.length > 0) return bytes
    const { description_json } = await page(documentName, context.cookie)
    return Y.encodeStateAsUpdate(TiptapTransformer.toYdoc(description_json, 'default'))
  },
  async store({ documentName, document, state, context }) {
    await backend('PATCH', `/pages/${documentName}/description/`, context.cookie, {
      description_binary: Buffer.from(state).toString('base64'),
      description: TiptapTransformer.fromYdoc(document, 'default'),
    })
  },
})

const titleJson = (name) => ({ type: 'doc', content: [{ type: 'heading', attrs: { level: 1 }, content: name ? [{ type: 'text', text: name }] : [] }] })
const titleOf = (fragment) => fragment.toArray().map((heading) => heading.toArray().map((text) => text.toString()).join('')).join('')

/** Keeps the name of a page and its title fragment the same. */
class TitleSync {
  #watched = new Map()

  async onLoadDocument({ document, documentName, context }) {
    if (!document.isEmpty('title')) return
    const { name } = await page(documentName, context.cookie)
    document.merge(TiptapTransformer.toYdoc(titleJson(name), 'title'))
  }

  async afterLoadDocument({ document, documentName, context }) {
    const title = document.getXmlFragment('title')
    const watched = { title, timer: undefined, save: () => backend('PATCH', `/pages/${documentName}/`, context.cookie, { name: titleOf(title) }) }
    watched.observer = () => {
      clearTimeout(watched.timer)
      watched.timer = setTimeout(() => {
        watched.timer = undefined
        watched.save().catch((error) => console.error(error))
      }, TITLE_DELAY_MS)
    }
    title.observeDeep(watched.observer)
    this.#watched.set(documentName, watched)
  }

  async beforeUnloadDocument({ documentName }) {
    const watched = this.#watched.get(documentName)
    if (watched?.timer === undefined) return
    clearTimeout(watched.timer)
    watched.timer = undefined
    await watched.save()
  }

  async afterUnloadDocument({ documentName }) {
    this.#watched.delete(documentName)
  }
}

/** The npm extension, which also carries orders to the other processes. */
class Redis extends RedisExtension {
  async onConfigure(payload) {
    await super.onConfigure(payload)
    this.orders = this.sub.duplicate()
    await this.orders.subscribe(ADMIN)
    this.orders.on('message', (_channel, message) => this.forceClose(JSON.parse(message)))
  }

  /** Tells clients of all processes, whether this one has the page open or not. */
  broadcastToDocument(documentName, payload) {
    const message = new OutgoingMessage(documentName).writeBroadcastStateless(JSON.stringify(payload))
    // eslint-disable-next-line dot-notation -- private in the extension's types
    return this.pub.publishBuffer(this['pubKey'](documentName), this['encodeMessage'](message.toUint8Array()))
  }

  order(command) {
    return this.pub.publish(ADMIN, JSON.stringify(command))
  }

  forceClose({ documentName, reason, code }) {
    const document = this.instance.documents.get(documentName)
    if (!document) return
    for (const connection of document.getConnections()) {
      connection.sendStateless(JSON.stringify({ type: 'force_close', reason }))
      setTimeout(() => connection.close({ code, reason }), CLOSE_DELAY_MS)
    }
  }
}

const redis = new Redis({ host: '127.0.0.1', port: Number(PORT_REDIS), disconnectDelay: 20 })
const EVENTS = { lock: 'locked', unlock: 'unlocked', archive: 'archived' }

const hocuspocus = Server.configure({
  name: 'live',
  debounce: 100,
  quiet: true,
  stopOnSignals: false,
  extensions: [new Logger({ onChange: false, log: () => {} }), database, redis, new TitleSync()],

  async onAuthenticate({ requestHeaders, requestParameters, connection, token, context }) {
    // Browsers that send no cookie with the upgrade put it into the token.
    const { id, cookie = requestHeaders.cookie } = JSON.parse(token)
    context.documentType = requestParameters.get('documentType')
    context.cookie = cookie
    context.workspaceSlug = requestParameters.get('workspaceSlug')
    const user = await (await backend('GET', '/users/me/', cookie ?? '')).json()
    if (user.id !== id) throw new Error('Authentication unsuccessful: the user is another')
    connection.readOnly = user.role === 'guest'
    return { user: { id: user.id, name: user.display_name } }
  },

  async onStateless({ payload, document, connection }) {
    const event = EVENTS[payload]
    if (event) document.broadcastStateless(JSON.stringify({ event, by: connection.context.user.id }))
  },
})

const app = express()
const http = createServer(app)
expressWs(app, http)
app.use(express.json())
app.ws('/collaboration', (ws, request) => {
  ws.on('error', () => ws.close())
  hocuspocus.handleConnection(ws, request)
})
app.get('/health', (_request, response) => {
  response.json({ connections: hocuspocus.getConnectionsCount(), documents: hocuspocus.getDocumentsCount() })
})
app.post('/broadcast', async (request, response) => {
  await redis.broadcastToDocument(request.body.documentName, request.body.payload)
  response.sendStatus(204)
})
app.post('/force-close', async (request, response) => {
  await redis.order(request.body)
  response.sendStatus(204)
})
http.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })))
