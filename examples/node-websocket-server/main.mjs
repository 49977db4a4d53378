// A WebSocket server beside a web application that logs people in with Better Auth: whoever has a session of the application may
// open documents, which live in PostgreSQL (or an SQLite file). Health is answered on a port of its own.
//
//   DATABASE_URL=postgres://… BETTER_AUTH_URL=https://app.example node main.mjs

import { createServer } from 'node:http'
import { FidibusPostgres, FidibusSqlite, Server } from 'fidibus'

const { env } = process
const sessions = new URL('/api/auth/get-session', env.BETTER_AUTH_URL ?? 'http://localhost:3000')
const store = env.DATABASE_URL ? new FidibusPostgres({ url: env.DATABASE_URL }) : new FidibusSqlite({ file: env.SQLITE_FILE ?? 'documents.db' })

/** The user of a login session, asked of the application itself: it owns the secret, and knows who was signed out. */
async function userOf(headers, token) {
  const asked = new Headers()
  // Browsers of the same site send the cookie with the handshake, others send a session token of Better Auth's bearer plugin.
  if (headers.get('cookie')) asked.set('cookie', headers.get('cookie'))
  if (token) asked.set('authorization', `Bearer ${token}`)
  const response = await fetch(sessions, { headers: asked, signal: AbortSignal.timeout(5_000) })
  if (!response.ok) throw new Error(`get-session answered ${response.status}`)
  return (await response.json())?.user
}

const server = new Server({
  port: Number(env.WS_PORT ?? 3001),
  address: env.WS_HOST ?? '127.0.0.1',
  quiet: true,
  // Kept in JavaScript only to log and to shut down in order below.
  stopOnSignals: false,
  extensions: [store],

  async onAuthenticate({ requestHeaders, token, documentName, connectionConfig }) {
    const user = await userOf(requestHeaders, token)
    if (!user) throw Object.assign(new Error(`no session for ${documentName}`), { reason: 'unauthorized' })
    connectionConfig.readOnly = user.role === 'viewer'
    return { userId: user.id, name: user.name }
  },

  async connected({ documentName, context }) {
    console.log(`${context.name} opened ${documentName}`)
  },
})
await server.listen()

const health = createServer((request, response) => {
  const healthy = request.url === '/health' && server.httpServer.listening
  response.writeHead(healthy ? 200 : 404, { 'content-type': 'application/json' })
  response.end(
    JSON.stringify({
      status: healthy ? 'healthy' : 'unknown path',
      timestamp: new Date().toISOString(),
      uptime: process.uptime(),
      documents: server.hocuspocus.getDocumentsCount(),
      connections: { active: server.hocuspocus.getConnectionsCount() },
    }),
  )
})
health.listen(Number(env.WS_HEALTH_PORT ?? 3002), '127.0.0.1')

async function stop() {
  health.close()
  await server.destroy()
  process.exit(0)
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
console.log(JSON.stringify({ port: server.address.port, health: health.address()?.port ?? env.WS_HEALTH_PORT }))
