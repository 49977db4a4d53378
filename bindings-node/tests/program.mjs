// Starts an example as its own process, and ends it with the test.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const RESOLVE = new URL('./resolve.mjs', import.meta.url).href

/** The program, and what it printed as its first line of JSON. `resolve` says where its packages come from. */
export function start(t, program, env = {}, resolve = RESOLVE) {
  const child = spawn(process.execPath, ['--import', resolve, fileURLToPath(program)], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } })
  t.after(() => child.kill('SIGKILL'))
  return new Promise((started, reject) => {
    let output = ''
    child.stdout.on('data', (data) => {
      output += data
      const line = output.split('\n').find((line) => line.startsWith('{'))
      if (line !== undefined && output.includes(`${line}\n`)) started({ child, ...JSON.parse(line) })
    })
    child.once('exit', (code) => reject(new Error(`the program ended with ${code}: ${output}`)))
  })
}
