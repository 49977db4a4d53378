// Services that tests bring along: each on a free port, gone with its test.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { until } from './peers.mjs'

export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}

/** Whether something listens there. */
export const listens = (port) => new Promise((resolve) => {
  const socket = net.connect(port, '127.0.0.1', () => {
    socket.destroy()
    resolve(true)
  }).on('error', () => resolve(false))
})

/** Redis; resolves to its port. */
export async function redis(t) {
  const port = await freePort()
  const server = spawn('redis-server', ['--port', port, '--save', '', '--appendonly', 'no', '--bind', '127.0.0.1'], { stdio: 'ignore' })
  t.after(() => server.kill())
  await until(() => listens(port), 'redis')
  return port
}

export function folder(t) {
  const made = mkdtempSync(path.join(tmpdir(), 'fidibus-'))
  t.after(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** An application's backend: `answer(request, body)` returns a status, JSON, or bytes. */
export async function backend(t, answer) {
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks)) : undefined
    const answered = await answer(request, body)
    if (typeof answered === 'number') response.writeHead(answered).end()
    else if (answered instanceof Uint8Array) response.end(answered)
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answered))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${server.address().port}`
}
