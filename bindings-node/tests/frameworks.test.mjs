// Web frameworks with an http server of their own: requests stay theirs, upgrades under /collaboration are Hocuspocus'. Every
// one with `handleConnection` on both packages, and with `handleUpgrade` on ours.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { serve as serveHono } from '@hono/node-server'
import crossws from 'crossws/adapters/node'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { WebSocketServer } from 'ws'
import { hocuspocus, TARGET } from './target.mjs'
import { connect, leave, text, until, within } from './peers.mjs'

const listening = async (server) => {
  if (!server.listening) await once(server, 'listening')
  return server
}

/** By framework: starts an application that answers `GET /hello`, and returns its http server. */
const FRAMEWORKS = {
  express: () => {
    const app = express()
    app.use(express.json())
    app.get('/hello', (_request, response) => response.json({ hello: 'express' }))
    return listening(app.listen(0, '127.0.0.1'))
  },
  koa: () => {
    const app = new Koa()
    app.use(async (context, next) => {
      await next()
      context.set('x-time', '1')
    })
    app.use((context) => { if (context.path === '/hello') context.body = { hello: 'koa' } })
    return listening(app.listen(0, '127.0.0.1'))
  },
  fastify: async () => {
    const app = fastify({ forceCloseConnections: true })
    app.get('/hello', async () => ({ hello: 'fastify' }))
    await app.listen({ port: 0, host: '127.0.0.1' })
    return app.server
  },
  hono: () => {
    const app = new Hono()
    app.get('/hello', (context) => context.json({ hello: 'hono' }))
    return listening(serveHono({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }))
  },
  // As with `next({ dev })`: one listener hands requests to the framework, and its own upgrades (hot reload) too.
  'custom server': () => {
    const handle = async (_request, response) => response.end(JSON.stringify({ hello: 'custom server' }))
    return listening(createServer((request, response) => { void handle(request, response) }).listen(0, '127.0.0.1'))
  },
}

/** By way: what a program does with an upgrade that is Hocuspocus'. */
const WAYS = {
  'handleConnection with ws': (instance) => {
    const wss = new WebSocketServer({ noServer: true })
    return (request, socket, head, context) => wss.handleUpgrade(request, socket, head, (ws) => {
      const client = instance.handleConnection(ws, new Request(`http://${request.headers.host}${request.url}`, { headers: request.headers }), context)
      ws.on('message', (bytes) => client.handleMessage(new Uint8Array(bytes)))
      ws.on('close', (code, reason) => client.handleClose({ code, reason: String(reason) }))
    })
  },
  'handleConnection with crossws': (instance) => {
    const clients = new Map()
    const adapter = crossws({
      hooks: {
        open: (peer) => { clients.set(peer.id, instance.handleConnection(peer.websocket, peer.request, { tenant: 't1' })) },
        message: (peer, message) => clients.get(peer.id)?.handleMessage(message.uint8Array()),
        close: (peer, { code, reason }) => {
          clients.get(peer.id)?.handleClose({ code, reason })
          clients.delete(peer.id)
        },
      },
    })
    return (request, socket, head) => adapter.handleUpgrade(request, socket, head)
  },
}
if (TARGET === 'fidibus') WAYS.handleUpgrade = (instance) => (request, socket, head, context) => instance.handleUpgrade(request, socket, head, context)

/** The application with its sockets: Hocuspocus', one of its own under /echo, and no others. */
async function run(t, framework, way, configuration) {
  const instance = new hocuspocus.Hocuspocus({ quiet: true, debounce: 20, ...configuration })
  const http = await FRAMEWORKS[framework]()
  const upgrade = WAYS[way](instance)
  const echo = new WebSocketServer({ noServer: true })
  http.on('upgrade', (request, socket, head) => {
    const { pathname } = new URL(request.url, 'http://localhost')
    if (pathname === '/collaboration') void upgrade(request, socket, head, { tenant: 't1' })
    else if (pathname === '/echo') echo.handleUpgrade(request, socket, head, (ws) => ws.on('message', (bytes) => ws.send(String(bytes))))
    else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
  })
  t.after(() => {
    http.close()
    http.closeAllConnections()
  })
  const { port } = http.address()
  return { instance, http, httpURL: `http://127.0.0.1:${port}`, webSocketURL: `ws://127.0.0.1:${port}` }
}

const hello = async ({ httpURL }) => (await (await fetch(`${httpURL}/hello`)).json()).hello

function echoed(address) {
  const socket = new WebSocket(`${address}/echo`)
  socket.onopen = () => socket.send('mine')
  return new Promise((resolve, reject) => {
    socket.onmessage = ({ data }) => {
      resolve(data)
      socket.close()
    }
    socket.onerror = () => reject(new Error('no echo'))
  })
}

for (const framework of Object.keys(FRAMEWORKS)) {
  for (const way of Object.keys(WAYS)) {
    test(`${framework}: ${way}`, async (t) => {
      const seen = []
      const stored = []
      const left = []
      const server = await run(t, framework, way, {
        async onAuthenticate({ context, token, requestParameters, requestHeaders }) {
          seen.push([context.tenant, token, requestParameters.get('q'), typeof requestHeaders.get('host')])
          return { user: token }
        },
        async onStoreDocument({ document, lastContext }) { stored.push([document.getText('t').toString(), lastContext.user, lastContext.tenant]) },
        async onDisconnect({ context }) { left.push(context.user) },
      })
      assert.equal(await hello(server), framework)
      const [ada, bob] = [await connect(t, server, { path: '/collaboration?q=1', token: 'ada' }), await connect(t, server, { path: '/collaboration?q=1', token: 'bob' })]
      assert.deepEqual(seen, [['t1', 'ada', '1', 'string'], ['t1', 'bob', '1', 'string']])
      text(ada).insert(0, 'x'.repeat(100_000))
      await until(() => text(bob).length === 100_000)
      text(bob).insert(0, 'y')
      await until(() => text(ada).toString().startsWith('y'))
      // Beside it: requests, and a socket that is not Hocuspocus'.
      assert.equal(await hello(server), framework)
      assert.equal(await within(5_000, echoed(server.webSocketURL), 'the echo'), 'mine')
      const elsewhere = new WebSocket(`${server.webSocketURL}/elsewhere`)
      await once(elsewhere, 'error')
      await until(() => stored.at(-1)?.[0].startsWith('y'))
      assert.deepEqual(stored.at(-1).slice(1), ['bob', 't1'])
      leave(ada)
      leave(bob)
      await until(() => server.instance.getDocumentsCount() === 0)
      assert.deepEqual(left.sort(), ['ada', 'bob'])
    })
  }
}

test('a server that closes: open sockets go on, and its clients come back to the next', async (t) => {
  const first = await run(t, 'express', Object.keys(WAYS).at(-1), {})
  const { port } = first.http.address()
  const ada = await connect(t, first, { path: '/collaboration' })
  first.http.close()
  text(ada).insert(0, 'x')
  await until(() => first.instance.documents.get('notes').getText('t').toString() === 'x')
  const { webSocket } = first.instance.documents.get('notes').getConnections()[0]
  webSocket.close(1012, 'restart')
  first.http.closeAllConnections()
  const next = new hocuspocus.Hocuspocus({ quiet: true })
  const http = createServer().listen(port, '127.0.0.1')
  http.on('upgrade', WAYS['handleConnection with ws'](next))
  t.after(() => {
    http.close()
    http.closeAllConnections()
  })
  await until(() => next.documents.get('notes')?.getText('t').toString() === 'x', 'the client on the next server')
})
