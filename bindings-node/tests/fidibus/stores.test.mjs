// Stores in the engine: durable acks, and hooks beside them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { hocuspocus, OURS } from '../target.mjs'
import { connect, gate, join, leave, serve, sleep, text, until, within } from '../peers.mjs'

import { spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const file = () => path.join(mkdtempSync(path.join(tmpdir(), 'fidibus-')), 'notes.db')

test('FidibusSqlite keeps documents across servers, and across unloads', async (t) => {
  const place = file()
  const configuration = () => ({ debounce: 30, extensions: [new hocuspocus.FidibusSqlite({ file: place })] })
  const server = await serve(t, configuration())
  const provider = await connect(t, server)
  text(provider).insert(0, 'kept')
  await until(() => !provider.hasUnsyncedChanges)
  leave(provider)
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  const again = await connect(t, server)
  assert.equal(text(again).toString(), 'kept')
  text(again).insert(4, ' on')
  await until(() => !again.hasUnsyncedChanges)
  leave(again)
  await server.destroy()
  await sleep(200)
  const next = await serve(t, configuration())
  assert.equal(text(await connect(t, next)).toString(), 'kept on')
})

test('load hooks see what the store had; edits of this process are stored', async (t) => {
  const place = file()
  const seen = []
  const configuration = () => ({
    debounce: 30,
    extensions: [new hocuspocus.FidibusSqlite({ file: place })],
    async onLoadDocument({ document }) { seen.push(document.isEmpty('t') ? '' : document.getText('t').toString()) },
  })
  const server = await serve(t, configuration())
  const direct = await server.hocuspocus.openDirectConnection('notes')
  await direct.transact((document) => document.getText('t').insert(0, 'by the server'))
  await direct.disconnect()
  await until(() => server.hocuspocus.getDocumentsCount() === 0)
  const provider = await connect(t, server)
  assert.equal(text(provider).toString(), 'by the server')
  assert.deepEqual(seen, ['', 'by the server'])
})

test('what was acknowledged survives the end of the process by SIGKILL', async (t) => {
  const place = file()
  const program = `
    import { Server, FidibusSqlite } from ${JSON.stringify(OURS)}
    const server = new Server({ quiet: true, address: '127.0.0.1', port: 0, debounce: 60_000, maxDebounce: 60_000, extensions: [new FidibusSqlite({ file: ${JSON.stringify(place)} })] })
    await server.listen()
    console.log(server.address.port)
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  const port = await new Promise((resolve) => child.stdout.once('data', (line) => resolve(Number(line))))
  const provider = await connect(t, { webSocketURL: `ws://127.0.0.1:${port}` })
  text(provider).insert(0, 'acknowledged')
  await until(() => !provider.hasUnsyncedChanges)
  child.kill('SIGKILL')
  leave(provider)
  const server = await serve(t, { extensions: [new hocuspocus.FidibusSqlite({ file: place })] })
  assert.equal(text(await connect(t, server)).toString(), 'acknowledged')
})

test('two stores are one too many, and a store wants its place', () => {
  assert.throws(() => new hocuspocus.FidibusSqlite({}), /file/)
  assert.throws(() => new hocuspocus.FidibusPostgres({}), /url/)
})
