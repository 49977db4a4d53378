// The server under test as a child process: started on free ports with a state directory, killed without warning.
// FIDIBUS_BIN names another binary, or any program that reads the same environment.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const START_WAIT_MS = 20_000
const OUTPUT_CHARS_MAX = 20_000
const BINARY = process.env.FIDIBUS_BIN ?? fileURLToPath(new URL('../../../target/debug/fidibus', import.meta.url))

/** Asks the system for ports that are free now. */
export async function freePorts (count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
    const server = createServer().once('error', reject).listen(0, '127.0.0.1', () => resolve(server))
  })))
  const ports = servers.map(server => server.address().port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}

/** Starts the server and waits until it serves the page. */
export async function startServer ({ port, healthPort, stateDir, environment = {} }) {
  if (!existsSync(BINARY)) throw new Error(`no server at ${BINARY}: build it, or name it in FIDIBUS_BIN`)
  const child = spawn(BINARY, [], {
    // A directory without an .env file, and an environment without the developer's own settings.
    cwd: stateDir,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME ?? tmpdir(),
      WS_HOST: '127.0.0.1',
      WS_PORT: String(port),
      WS_HEALTH_PORT: String(healthPort),
      WS_AUTH: 'none',
      WS_STATE_DIR: stateDir,
      ...environment
    },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => { output = (output + chunk).slice(-OUTPUT_CHARS_MAX) })
  }
  const exited = new Promise(resolve => child.once('exit', resolve))
  const kill = async () => {
    child.kill('SIGKILL')
    await exited
  }
  const deadline = Date.now() + START_WAIT_MS
  while (!await answers(port)) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await kill()
      throw new Error(`the server did not serve the page at http://127.0.0.1:${port}/; it said:\n${output}`)
    }
    await sleep(50)
  }
  return { kill, output: () => output }
}

async function answers (port) {
  try {
    return (await fetch(`http://127.0.0.1:${port}/`)).ok
  } catch {
    return false
  }
}
