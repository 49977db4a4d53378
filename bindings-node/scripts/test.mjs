// Runs the suite against one package: `node scripts/test.mjs fidibus|stock [file…]`.

import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [target, ...chosen] = process.argv.slice(2)
const tests = join(dirname(fileURLToPath(import.meta.url)), '..', 'tests')
const ours = target === 'fidibus' ? readdirSync(join(tests, 'fidibus')).map((name) => join('fidibus', name)) : []
const files = chosen.length > 0 ? chosen : [...readdirSync(tests), ...ours].filter((name) => name.endsWith('.test.mjs'))
// Two at a time: more only makes timings tight on small machines. A file has three minutes, however busy the machine is.
const run = spawnSync(process.execPath, ['--test', '--test-force-exit', '--test-concurrency=2', '--test-timeout=180000', ...files.map((name) => join(tests, name))], {
  stdio: 'inherit',
  env: { ...process.env, TARGET: target, NODE_ENV: 'testing' },
})
process.exit(run.status ?? 1)
