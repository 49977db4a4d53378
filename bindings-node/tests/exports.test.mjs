// The two packages side by side: the names they export, the members of their classes, and programs that type-check against
// either.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const stock = require('@hocuspocus/server')
const esm = await import('../dist/index.js')
const cjs = require('../dist/index.cjs')

/** Ours beyond stock's. */
const ADDED = ['FidibusPostgres', 'FidibusSqlite']

test('every export is there, in both module systems', () => {
  const names = Object.keys(stock).sort()
  for (const ours of [esm, cjs]) {
    assert.deepEqual(Object.keys(ours).filter((name) => !ADDED.includes(name) && name !== 'default').sort(), names)
    for (const name of names) assert.equal(typeof ours[name], typeof stock[name], name)
  }
  assert.deepEqual(esm.MessageType, stock.MessageType)
})

test('every member of every class is there', () => {
  /** Private in stock's types, and taken care of by the engine here. */
  const inner = new Set(['handleAwarenessUpdate', 'broadcast', 'broadcastAwarenessUpdate', 'handleUpdate', 'broadcastUpdate', 'scheduleFlush', 'sendCurrentAwareness', 'processMessages', 'handleDocumentUpdate', 'runDestroy', 'showStartScreen'])
  for (const name of ['Connection', 'Document', 'Hocuspocus', 'IncomingMessage', 'MessageReceiver', 'OutgoingMessage', 'Server']) {
    const members = Object.getOwnPropertyNames(stock[name].prototype).filter((member) => !inner.has(member))
    for (const member of members) assert.ok(member in esm[name].prototype, `${name}.${member}`)
  }
})

test('every field of new objects is there', () => {
  const fields = (module) => {
    const server = new module.Server({ port: 0 })
    const document = new module.Document('notes')
    const connection = new module.Connection({ readyState: 1, send() {}, close() {} }, new Request('http://a'), document, 's', {})
    document.destroy()
    return { server, hocuspocus: server.hocuspocus, document, connection, outgoing: new module.OutgoingMessage('a'), callbacks: document.callbacks, handlers: connection.callbacks }
  }
  /** Private in stock's types. */
  const inner = new Set(['crossws', 'setupHttpUpgrade', 'destroyPromise', 'pendingUpdates', 'pendingUpdateBytes', 'pendingAwarenessClients', 'cancelFlush', 'messageQueue', 'processingPromise'])
  const [theirs, ours] = [fields(stock), fields(esm)]
  for (const [what, object] of Object.entries(theirs)) {
    for (const field of Object.keys(object).filter((field) => !inner.has(field))) {
      assert.ok(field in ours[what], `${what}.${field}`)
    }
  }
})

test('every type is exported', () => {
  const types = readFileSync(require.resolve('@hocuspocus/server').replace(/hocuspocus-server\.cjs$/, 'index.d.ts'), 'utf8')
  const ours = readFileSync(join(root, 'dist/types.d.ts'), 'utf8')
  const all = [...types.matchAll(/^(?:export )?(?:declare )?(?:interface|type|enum) (\w+)/gm)].map(([, name]) => name)
  assert.ok(all.length > 30 || types.includes('export *'), 'stock has its types elsewhere')
  for (const name of all) {
    if (['AwarenessUpdate'].includes(name)) continue
    assert.match(ours + readFileSync(join(root, 'dist/Server.d.ts'), 'utf8'), new RegExp(`(interface|type|enum) ${name}\\b`), name)
  }
})

test('programs type-check against both', () => {
  const program = readFileSync(join(root, 'tests/programs/types.ts'), 'utf8')
  const folder = mkdtempSync(join(root, 'tests/types-'))
  try {
    writeFileSync(join(folder, 'stock.mts'), program)
    writeFileSync(join(folder, 'ours.mts'), program.replaceAll("'@hocuspocus/server'", "'../../dist/index.js'"))
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,dom', '--types', 'node']
    const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), [...options, join(folder, 'stock.mts'), join(folder, 'ours.mts')], { encoding: 'utf8' })
    assert.equal(tsc.status, 0, tsc.stdout)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
