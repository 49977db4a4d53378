// The packages of the platforms, and what a machine without a binary is told.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

function temporary(t) {
  const folder = mkdtempSync(join(tmpdir(), 'fidibus-platforms-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The package as npm installs it, without a binary. */
function install(t) {
  const modules = join(temporary(t), 'node_modules')
  mkdirSync(modules)
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (!name.startsWith('.')) symlinkSync(join(root, 'node_modules', name), join(modules, name))
  }
  cpSync(join(root, 'dist'), join(modules, 'fidibus', 'dist'), { recursive: true })
  cpSync(join(root, 'package.json'), join(modules, 'fidibus', 'package.json'))
  return modules
}

function run(modules, program) {
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], { cwd: join(modules, '..'), encoding: 'utf8' })
}

const PROGRAM = `
  const { Hocuspocus } = await import('fidibus')
  const instance = new Hocuspocus({ quiet: true })
  const direct = await instance.openDirectConnection('notes')
  await direct.disconnect()
  console.log('served')
  process.exit(0)
`

test('without a binary: imports work, and the first use says what to do', (t) => {
  const { status, stderr } = run(install(t), PROGRAM)
  assert.equal(status, 1)
  const triple = `${process.platform}-${process.arch}`
  assert.match(stderr, new RegExp(`fidibus has no binary for this machine \\(${triple}[-a-z]*, Node v${process.versions.node}\\)`))
  assert.match(stderr, new RegExp(`Install the optional dependency fidibus-${triple}`))
})

test('a package for each target, and this machine loads its own', { skip: process.platform !== 'linux' }, (t) => {
  const modules = install(t)
  const packages = temporary(t)
  const made = spawnSync(process.execPath, [join(root, 'scripts/platforms.mjs'), root, packages], { encoding: 'utf8' })
  assert.equal(made.status, 0, made.stderr)
  assert.deepEqual(readdirSync(packages).sort(), [
    'darwin-arm64', 'darwin-x64', 'linux-arm64-gnu', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl', 'win32-x64-msvc',
  ])
  for (const triple of readdirSync(packages)) {
    const { name, version, main, os, cpu, libc } = JSON.parse(readFileSync(join(packages, triple, 'package.json'), 'utf8'))
    assert.deepEqual([name, version, main], [`fidibus-${triple}`, manifest.version, `fidibus.${triple}.node`])
    assert.deepEqual([...os, ...cpu], triple.split('-').slice(0, 2))
    assert.deepEqual(libc, { gnu: ['glibc'], musl: ['musl'] }[triple.split('-')[2]])
    symlinkSync(join(packages, triple), join(modules, name))
  }
  const { status, stdout, stderr } = run(modules, PROGRAM)
  assert.equal(status, 0, stderr)
  assert.equal(stdout.trim(), 'served')
})
