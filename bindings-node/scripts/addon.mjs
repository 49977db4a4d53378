// Builds the engine's addon for this machine and puts it where `ts/addon.ts` looks. `--release` for anything but work on
// the engine itself.

import { spawnSync } from 'node:child_process'
import { copyFileSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const release = process.argv.includes('--release')
const target = process.env.CARGO_TARGET_DIR ?? join(root, '..', 'target')

const cargo = spawnSync('cargo', ['build', '-p', 'fidibus-node', ...(release ? ['--release'] : [])], { cwd: root, stdio: 'inherit' })
if (cargo.status !== 0) process.exit(cargo.status ?? 1)

const { platform, arch } = process
const library = { win32: 'fidibus_node.dll', darwin: 'libfidibus_node.dylib' }[platform] ?? 'libfidibus_node.so'
const musl = platform === 'linux' && process.report.getReport().header.glibcVersionRuntime === undefined
const triple = { linux: `linux-${arch}-${musl ? 'musl' : 'gnu'}`, win32: `win32-${arch}-msvc` }[platform] ?? `${platform}-${arch}`
const place = join(root, `fidibus.${triple}.node`)
// Renamed into place: a process that has the old one loaded keeps it.
copyFileSync(join(target, release ? 'release' : 'debug', library), `${place}.new`)
renameSync(`${place}.new`, place)
console.log(`built ${place}`)
