// Starts an example as its own process, and ends it with the test.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const RESOLVE = new URL('./resolve.mjs', import.meta.url).href

/** The program, and what it printed as its first line of JSON. */
export function start(t, program, env = {}) {
  const child = spawn(process.execPath, ['--import', RESOLVE, fileURLToPath(program)], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } })
  t.after(() => child.kill('SIGKILL'))
  return new Promise((resolve, reject) => {
    let output = ''
    child.stdout.on('data', (data) => {
      output += data
      const line = output.split('\n').find((line) => line.startsWith('{'))
      if (line !== undefined && output.includes(`${line}\n`)) resolve({ child, ...JSON.parse(line) })
    })
    child.once('exit', (code) => reject(new Error(`the program ended with ${code}: ${output}`)))
  })
}
