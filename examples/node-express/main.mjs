// Collaboration in an express application, on its own port and under a path: express answers requests, the upgrade's socket goes
// to the engine. With koa, fastify and hono it is the same, at the http server that each of them has.

import express from 'express'
import { Hocuspocus } from 'fidibus'

const hocuspocus = new Hocuspocus({
  async onAuthenticate({ token, context }) {
    if (token !== 'let me in') throw new Error('wrong token')
    // What `handleUpgrade` was given below, and what is returned here, are the context of every hook.
    return { user: `guest from ${context.site}` }
  },
})

const app = express()
app.get('/documents', (_request, response) => {
  response.json([...hocuspocus.documents.keys()])
})

const http = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })))

http.on('upgrade', (request, socket, head) => {
  if (!request.url.startsWith('/collaboration')) {
    socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
    return
  }
  void hocuspocus.handleUpgrade(request, socket, head, { site: request.headers.host })
})
