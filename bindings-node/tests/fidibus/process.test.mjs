// When processes end: as stock's would, and none is held by the engine.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { OURS } from '../target.mjs'

/** Runs a program; how it ended, and after how many milliseconds. */
function run(program, { ms = 20_000 } = {}) {
  const source = `import { Server, Hocuspocus } from ${JSON.stringify(OURS)}\n${program}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.on('data', (data) => { output += data })
  child.stderr.on('data', (data) => { output += data })
  const timer = setTimeout(() => child.kill('SIGKILL'), ms)
  return new Promise((resolve) => child.on('exit', (code, signal) => { clearTimeout(timer); resolve({ code, signal, output }) }))
}

const START = `const server = new Server({ quiet: true, address: '127.0.0.1', port: 0, stopOnSignals: false })\nawait server.listen()\n`

test('process.exit without destroy', async () => {
  const { code, output } = await run(`${START} const d = await server.hocuspocus.openDirectConnection('a'); await d.transact((x) => x.getText('t').insert(0, 'x')); process.exit(7)`)
  assert.equal(code, 7, output)
})

test('destroy, twice, and the process ends by itself', async () => {
  const { code, output } = await run(`${START} await Promise.all([server.destroy(), server.destroy()]); console.log('done')`)
  assert.deepEqual([code, output.trim()], [0, 'done'])
})

test('destroy with clients connected', async () => {
  const { code, output } = await run(`${START}
    const socket = new WebSocket(server.webSocketURL)
    await new Promise((resolve) => socket.addEventListener('open', resolve))
    await server.destroy(); console.log('done')`)
  assert.deepEqual([code, output.trim()], [0, 'done'])
})

test('an instance without a server keeps no process', async () => {
  const { code, output } = await run(`const h = new Hocuspocus({ debounce: 10 }); const d = await h.openDirectConnection('a'); await d.transact((x) => x.getText('t').insert(0, 'x')); await d.disconnect(); console.log(h.getDocumentsCount())`)
  assert.deepEqual([code, output.trim()], [0, '0'])
})

// All instances share the clock's thread: it ends with the last of their engines.
test('instances that are gone take their engines and the thread along', async () => {
  const { code, output } = await run(`
    import { readdirSync, readFileSync } from 'node:fs'
    import { setFlagsFromString } from 'node:v8'
    import { runInNewContext } from 'node:vm'
    const tasks = '/proc/self/task'
    const clocks = () => readdirSync(tasks).filter((id) => readFileSync(tasks + '/' + id + '/comm', 'utf8').startsWith('fidibus-clock')).length
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc')
    for (let round = 0; round < 5; round += 1) {
      ${START}
      const direct = await server.hocuspocus.openDirectConnection('a')
      await direct.transact((document) => document.getText('t').insert(0, 'x'))
      await direct.disconnect()
      await server.destroy()
    }
    const shared = clocks()
    for (let tries = 0; tries < 100 && clocks() > 0; tries += 1) {
      collect()
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    console.log(shared, clocks())`)
  assert.deepEqual([code, output.trim()], [0, '1 0'])
})

test('a server that listens keeps it', async () => {
  const { code, signal } = await run(START, { ms: 2_000 })
  assert.deepEqual([code, signal], [null, 'SIGKILL'])
})

test('SIGTERM stores what waits and exits with 0', async () => {
  const { code, output } = await run(`
    const server = new Server({ quiet: true, address: '127.0.0.1', port: 0, debounce: 60000, maxDebounce: 60000, async onStoreDocument({ document }) { console.log('stored ' + document.getText('t')) } })
    await server.listen()
    const d = await server.hocuspocus.openDirectConnection('a'); await d.transact((x) => x.getText('t').insert(0, 'x')); await d.disconnect({ unloadImmediately: false })
    process.kill(process.pid, 'SIGTERM')`)
  assert.equal(code, 0, output)
  assert.match(output, /stored x/)
})

test('in a worker thread that is terminated', async () => {
  const { code, output } = await run(`
    import { Worker, isMainThread } from 'node:worker_threads'
    const worker = new Worker(\`import(${JSON.stringify(OURS)}).then(async ({ Server }) => { const s = new Server({ quiet: true, address: '127.0.0.1', port: 0, stopOnSignals: false }); await s.listen(); const d = await s.hocuspocus.openDirectConnection('a'); await d.transact((x) => x.getText('t').insert(0, 'x')); (await import('node:worker_threads')).parentPort.postMessage(s.address.port) })\`, { eval: true })
    const port = await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject) })
    const socket = new WebSocket('ws://127.0.0.1:' + port)
    await new Promise((resolve) => socket.addEventListener('open', resolve))
    await worker.terminate()
    console.log('terminated'); process.exit(0)`)
  assert.deepEqual([code, output.trim()], [0, 'terminated'])
})

test('a hook that hangs does not keep destroy for ever', async () => {
  const { code, output } = await run(`
    const server = new Server({ quiet: true, address: '127.0.0.1', port: 0, stopOnSignals: false, destroyTimeout: 300, async beforeUnloadDocument() { await new Promise(() => {}) } })
    await server.listen()
    const d = await server.hocuspocus.openDirectConnection('a'); void d.disconnect()
    await new Promise((r) => setTimeout(r, 100))
    await server.destroy(); console.log('done')`)
  assert.equal(code, 0, output)
  assert.match(output, /done/)
})
