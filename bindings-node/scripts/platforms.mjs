// Makes the packages of the platforms in `npm/`, one for each of `napi.targets`, as napi-rs names them; each gets its binary where
// the folder that is given has it: `node scripts/platforms.mjs [folder with fidibus.*.node]`. `--release` has package.json name them as
// optional dependencies: not before they are published, since npm finds nothing to install until then.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const given = process.argv.slice(2)
const release = given.includes('--release')
const [binaries = root, out = join(root, 'npm')] = given.filter((argument) => !argument.startsWith('--'))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

const CPU = { x86_64: 'x64', aarch64: 'arm64' }
const OS = { linux: 'linux', darwin: 'darwin', windows: 'win32' }

/** Of a Rust target: what npm and `ts/addon.ts` call it. */
function platformOf(target) {
  const [arch, , system, abi] = target.split('-')
  const [os, cpu] = [OS[system], CPU[arch]]
  if (os === undefined || cpu === undefined) throw new Error(`napi.targets: nobody knows ${target}`)
  const libc = os === 'linux' ? { libc: [abi === 'musl' ? 'musl' : 'glibc'] } : {}
  return { triple: [os, cpu, abi].filter(Boolean).join('-'), os: [os], cpu: [cpu], ...libc }
}

rmSync(out, { recursive: true, force: true })
const names = {}
for (const target of manifest.napi.targets) {
  const { triple, ...fits } = platformOf(target)
  const [name, binary] = [`${manifest.name}-${triple}`, `${manifest.napi.binaryName}.${triple}.node`]
  const { version, license, engines } = manifest
  const description = `The engine of ${manifest.name} for ${target}`
  mkdirSync(join(out, triple), { recursive: true })
  const text = JSON.stringify({ name, version, description, license, main: binary, files: [binary], engines, ...fits }, null, 2)
  writeFileSync(join(out, triple, 'package.json'), `${text}\n`)
  writeFileSync(join(out, triple, 'README.md'), `# ${name}\n\n${description}. Install \`${manifest.name}\`, which asks for it.\n`)
  const built = join(binaries, binary)
  if (existsSync(built)) copyFileSync(built, join(out, triple, binary))
  console.log(`${name}: ${existsSync(built) ? 'with its binary' : `no ${binary} in ${binaries}`}`)
  names[name] = version
}
if (release) {
  writeFileSync(join(root, 'package.json'), `${JSON.stringify({ ...manifest, optionalDependencies: names }, null, 2)}\n`)
}
