// Whole processes: how they end, come back under `node --watch`, and serve from worker threads.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import * as Y from 'yjs'
import './target.mjs'
import { connect, leave, text, until, within } from './peers.mjs'
import { folder, freePort, listens } from './services.mjs'

const RESOLVE = new URL('./programs/resolve.mjs', import.meta.url).href
const HEAD = `import { Server, Hocuspocus } from '@hocuspocus/server'
const server = new Server({ quiet: true, address: '127.0.0.1', port: Number(process.env.PORT ?? 0), stopOnSignals: false })
const say = (what) => console.log(JSON.stringify(what))
`

/** Runs a program; its lines of JSON as they come, and how it ends. */
function run(t, source, { args = [], env = {} } = {}) {
  const program = source === undefined ? [] : ['--input-type=module', '-e', `${HEAD}${source}`]
  const child = spawn(process.execPath, ['--import', RESOLVE, ...program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  const lines = []
  let [output, rest] = ['', '']
  child.stderr.on('data', (data) => { output += data })
  child.stdout.on('data', (data) => {
    output += data
    const whole = `${rest}${data}`.split('\n')
    rest = whole.pop()
    for (const line of whole) if (line.startsWith('{')) lines.push(JSON.parse(line))
  })
  const end = once(child, 'exit').then(([code, signal]) => ({ code, signal, output }))
  t.after(() => child.kill('SIGKILL'))
  return { child, end, lines, has: (name) => until(() => lines.find((line) => name in line), () => `${name}: ${output}`) }
}
const urlOf = (port) => ({ webSocketURL: `ws://127.0.0.1:${port}` })
const LISTEN = `await server.listen(); say({ port: server.address.port })\n`

test('process.exit without destroy: clients hear of it, and come back to the next', async (t) => {
  const port = await freePort()
  const first = run(t, `${LISTEN} process.on('SIGUSR2', () => process.exit(7))`, { env: { PORT: String(port) } })
  await first.has('port')
  const ada = await connect(t, urlOf(port))
  text(ada).insert(0, 'x')
  await until(() => !ada.hasUnsyncedChanges)
  first.child.kill('SIGUSR2')
  assert.equal((await first.end).code, 7)
  await until(() => !ada.synced)
  text(ada).insert(1, 'y')
  await run(t, LISTEN, { env: { PORT: String(port) } }).has('port')
  await until(() => ada.synced && !ada.hasUnsyncedChanges)
  const bob = await connect(t, urlOf(port))
  assert.equal(text(bob).toString(), 'xy')
})

test('destroy lets the process end by itself, also when it is called twice', async (t) => {
  const once = run(t, `${LISTEN} await server.destroy(); say({ done: 1 })`)
  assert.equal((await within(20_000, once.end, 'the end')).code, 0)
  const twice = run(t, `${LISTEN} await Promise.all([server.destroy(), server.destroy()]); say({ done: 1 })`)
  assert.equal((await within(20_000, twice.end, 'the end')).code, 0)
  assert.deepEqual([once.lines.at(-1), twice.lines.at(-1)], [{ done: 1 }, { done: 1 }])
})

for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT']) {
  test(`${signal} stores what waits, tells onDestroy, and ends with 0`, async (t) => {
    const program = run(t, `
      const stopped = new Server({
        quiet: true, address: '127.0.0.1', port: 0, debounce: 60_000, maxDebounce: 60_000,
        async onStoreDocument({ document }) { say({ stored: document.getText('t').toString() }) },
        async onDestroy() { say({ destroyed: true }) },
      })
      await stopped.listen(); say({ port: stopped.address.port })`)
    const { port } = await program.has('port')
    const ada = await connect(t, urlOf(port))
    text(ada).insert(0, 'x')
    await until(() => !ada.hasUnsyncedChanges)
    program.child.kill(signal)
    const { code, output } = await within(20_000, program.end, 'the end')
    assert.equal(code, 0, output)
    assert.deepEqual(program.lines.slice(1), [{ stored: 'x' }, { destroyed: true }])
  })
}

test('an http server that is unref\'d keeps no process, its sockets do', async (t) => {
  const idle = run(t, `${LISTEN} server.httpServer.unref()`)
  assert.equal((await within(20_000, idle.end, 'the end')).code, 0)
  const busy = run(t, `${LISTEN} process.once('SIGUSR2', () => { server.httpServer.unref(); say({ unref: true }) })`)
  const { port } = await busy.has('port')
  const ada = await connect(t, urlOf(port))
  busy.child.kill('SIGUSR2')
  await busy.has('unref')
  text(ada).insert(0, 'x')
  await until(() => !ada.hasUnsyncedChanges)
  assert.equal(busy.child.exitCode, null)
  leave(ada)
  assert.equal((await within(20_000, busy.end, 'the end')).code, 0)
})

test('an instance without a server ends with its direct connections', async (t) => {
  const program = run(t, `
    const instance = new Hocuspocus({ quiet: true, debounce: 10 })
    const direct = await instance.openDirectConnection('notes')
    await direct.transact((document) => document.getText('t').insert(0, 'x'))
    await direct.disconnect()
    say({ documents: instance.getDocumentsCount() })`)
  assert.equal((await within(20_000, program.end, 'the end')).code, 0)
  assert.deepEqual(program.lines, [{ documents: 0 }])
})

test('two servers in one process: one is destroyed, the other goes on', async (t) => {
  const program = run(t, `${LISTEN}
    const other = new Server({ quiet: true, address: '127.0.0.1', port: 0, stopOnSignals: false })
    await other.listen(); say({ other: other.address.port })
    process.once('SIGUSR2', async () => { await server.destroy(); say({ destroyed: true }) })
    process.once('SIGTERM', async () => { await other.destroy(); server.httpServer.closeAllConnections(); other.httpServer.closeAllConnections(); process.exit(0) })`)
  const { port } = await program.has('port')
  const { other } = await program.has('other')
  const [ada, bob] = [await connect(t, urlOf(port)), await connect(t, urlOf(other))]
  text(ada).insert(0, 'of one')
  text(bob).insert(0, 'of the other')
  leave(ada)
  program.child.kill('SIGUSR2')
  await program.has('destroyed')
  assert.equal(await listens(port), false)
  const cleo = await connect(t, urlOf(other))
  assert.equal(text(cleo).toString(), 'of the other')
  text(cleo).insert(0, 'still ')
  await until(() => text(bob).toString() === 'still of the other')
  program.child.kill('SIGTERM')
  assert.equal((await within(20_000, program.end, 'the end')).code, 0)
})

test('in worker threads: each for itself, and one that ends takes only its own clients', async (t) => {
  const program = run(t, `
    const { Worker } = await import('node:worker_threads')
    const source = \`
      import('@hocuspocus/server').then(async ({ Server }) => {
        const { parentPort } = await import('node:worker_threads')
        const server = new Server({ quiet: true, address: '127.0.0.1', port: 0, stopOnSignals: false })
        await server.listen()
        parentPort.postMessage(server.address.port)
        parentPort.once('message', async () => { await server.destroy(); server.httpServer.closeAllConnections(); parentPort.postMessage('destroyed') })
      })\`
    const workers = [0, 1].map(() => new Worker(source, { eval: true, execArgv: ['--import', ${JSON.stringify(RESOLVE)}] }))
    const heard = (worker) => new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject) })
    say({ ports: await Promise.all(workers.map(heard)) })
    process.once('SIGUSR2', async () => { await workers[0].terminate(); say({ terminated: true }) })
    process.once('SIGTERM', async () => {
      const ended = new Promise((resolve) => workers[1].once('exit', resolve))
      const destroyed = heard(workers[1])
      workers[1].postMessage('destroy')
      say({ destroyed: await destroyed })
      say({ exit: await ended })
    })`)
  const { ports } = await program.has('ports')
  const [ada, bob] = [await connect(t, urlOf(ports[0])), await connect(t, urlOf(ports[1]))]
  text(ada).insert(0, 'x')
  text(bob).insert(0, 'y')
  program.child.kill('SIGUSR2')
  await program.has('terminated')
  await until(() => !ada.synced)
  leave(ada)
  text(bob).insert(1, 'z')
  await until(() => !bob.hasUnsyncedChanges)
  const cleo = await connect(t, urlOf(ports[1]))
  assert.equal(text(cleo).toString(), 'yz')
  leave(bob)
  leave(cleo)
  program.child.kill('SIGTERM')
  await program.has('exit')
  assert.equal((await within(20_000, program.end, 'the end')).code, 0)
})

test('node --watch: the server comes back, and nothing of the first is left', async (t) => {
  const place = folder(t)
  const [file, state] = [path.join(place, 'main.mjs'), path.join(place, 'state')]
  const port = await freePort()
  const program = (version) => `
    import { Server } from '@hocuspocus/server'
    import { existsSync, readFileSync, writeFileSync } from 'node:fs'
    import * as Y from 'yjs'
    const server = new Server({
      quiet: true, address: '127.0.0.1', port: ${port}, debounce: 60_000, maxDebounce: 60_000,
      async onLoadDocument() { if (existsSync('${state}')) return new Uint8Array(readFileSync('${state}')) },
      async onStoreDocument({ document }) { writeFileSync('${state}', Y.encodeStateAsUpdate(document)) },
      async onRequest({ response }) { response.end('version ${version}'); throw null },
    })
    await server.listen()
    console.log(JSON.stringify({ version${version}: process.pid }))`
  writeFileSync(file, program(1))
  const watcher = run(t, undefined, { args: ['--watch', file] })
  await watcher.has('version1')
  t.after(() => {
    // A watcher that is killed leaves its program.
    try {
      process.kill(Object.values(watcher.lines.at(-1))[0], 'SIGKILL')
    } catch (error) {
      assert.equal(error.code, 'ESRCH')
    }
  })
  const [ada, bob] = [await connect(t, urlOf(port)), await connect(t, urlOf(port))]
  for (let version = 2; version <= 4; version += 1) {
    const before = watcher.lines.at(-1)[`version${version - 1}`]
    text(ada).insert(0, `${version}`)
    await until(() => text(bob).toString() === text(ada).toString() && !ada.hasUnsyncedChanges)
    writeFileSync(file, program(version))
    text(bob).insert(0, 'between')
    const { [`version${version}`]: pid } = await watcher.has(`version${version}`)
    assert.throws(() => process.kill(before, 0), 'the process before has ended')
    assert.notEqual(pid, before)
    assert.equal(await (await fetch(`http://127.0.0.1:${port}`)).text(), `version ${version}`)
    await until(() => ada.synced && bob.synced && !bob.hasUnsyncedChanges && text(ada).toString() === text(bob).toString())
  }
  // Every process stored when it ended, and no edit is there twice.
  const stored = new Y.Doc()
  Y.applyUpdate(stored, new Uint8Array(readFileSync(state)))
  assert.equal(stored.getText('t').toString().replaceAll('between', ''), '432')
  watcher.child.kill('SIGTERM')
  await within(20_000, watcher.end, 'the end of the watcher')
  await until(async () => !(await listens(port)), 'the port is free')
})
