// Ours and stock Hocuspocus in one cluster over extension-redis, and documents in PostgreSQL.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, readdirSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { hocuspocus } from '../target.mjs'
import { connect, leave, serve, text, until } from '../peers.mjs'
import { start } from '../program.mjs'

const freePort = () => new Promise((resolve) => {
  const probe = net.createServer().listen(0, '127.0.0.1', () => { const { port } = probe.address(); probe.close(() => resolve(port)) })
})
const answers = (port) => () => new Promise((resolve) => {
  const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) }).on('error', () => resolve(false))
})

test('ours beside stock over Redis', async (t) => {
  const port = await freePort()
  const redis = spawn('redis-server', ['--port', port, '--save', '', '--appendonly', 'no', '--bind', '127.0.0.1'], { stdio: 'ignore' })
  t.after(() => redis.kill())
  await until(answers(port), 'redis')
  const program = new URL('../beside.mjs', import.meta.url)
  const [ours, stock] = await Promise.all(['fidibus', 'stock'].map((TARGET) => start(t, program, { TARGET, PORT_REDIS: String(port) })))
  const [ada, bob] = await Promise.all([ours, stock].map(({ port }) => connect(t, { webSocketURL: `ws://127.0.0.1:${port}` })))
  text(ada).insert(0, 'ours')
  await until(() => text(bob).toString() === 'ours')
  text(bob).insert(4, ' and stock')
  await until(() => text(ada).toString() === 'ours and stock')
  ada.setAwarenessField('user', 'ada')
  bob.setAwarenessField('user', 'bob')
  await until(() => bob.awareness.getStates().get(ada.document.clientID)?.user === 'ada')
  await until(() => ada.awareness.getStates().get(bob.document.clientID)?.user === 'bob')
})

/** The folder of PostgreSQL's programs, where it is installed as Debian does. */
function postgresPrograms() {
  const root = '/usr/lib/postgresql'
  if (!existsSync(root)) return undefined
  return readdirSync(root).map((version) => path.join(root, version, 'bin')).find((bin) => existsSync(path.join(bin, 'initdb')))
}

test('FidibusPostgres makes its tables and keeps documents', { skip: postgresPrograms() ? false : 'PostgreSQL is not installed' }, async (t) => {
  const bin = postgresPrograms()
  const folder = mkdtempSync(path.join(tmpdir(), 'fidibus-pg-'))
  const asPostgres = {}
  if (process.getuid() === 0) {
    // PostgreSQL does not run as root.
    asPostgres.uid = Number(execFileSync('id', ['-u', 'postgres']))
    asPostgres.gid = Number(execFileSync('id', ['-g', 'postgres']))
    chownSync(folder, asPostgres.uid, asPostgres.gid)
  }
  execFileSync(path.join(bin, 'initdb'), ['-D', folder, '-U', 'postgres', '-A', 'trust', '--no-sync'], { ...asPostgres, stdio: 'ignore', cwd: folder })
  const port = await freePort()
  const postgres = spawn(path.join(bin, 'postgres'), ['-D', folder, '-p', port, '-k', folder, '-c', 'listen_addresses=127.0.0.1'], { ...asPostgres, stdio: 'ignore', cwd: folder })
  t.after(() => postgres.kill('SIGQUIT'))
  await until(answers(port), 'postgres')
  const configuration = () => ({ debounce: 30, extensions: [new hocuspocus.FidibusPostgres({ url: `postgres://postgres@127.0.0.1:${port}/postgres` })] })
  const server = await serve(t, configuration())
  const provider = await connect(t, server)
  text(provider).insert(0, 'kept')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  await server.destroy()
  const next = await serve(t, configuration())
  assert.equal(text(await connect(t, next)).toString(), 'kept')
})
