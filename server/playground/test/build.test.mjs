// Goal: the committed page is what its source makes, fits its limit and needs nothing from anywhere else.
// Method: builds into a temporary folder and compares bytes; reads the page and its policy as text.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const committed = name => readFile(join(root, 'dist', name), 'utf8')

test('a rebuild gives the committed bytes', async () => {
  const output = await mkdtemp(join(tmpdir(), 'fidibus-playground-'))
  try {
    // Another working directory: the bundle must not depend on where it is built from.
    await promisify(execFile)(process.execPath, [join(root, 'build.mjs'), output], { cwd: output })
    for (const name of ['index.html', 'csp.txt']) {
      const rebuilt = await readFile(join(output, name), 'utf8')
      assert.ok(rebuilt === await committed(name), `dist/${name} is stale: run "npm run build" and commit it`)
    }
  } finally {
    await rm(output, { recursive: true, force: true })
  }
})

test('the page is one self-contained file of at most 1 MB', async () => {
  const page = await committed('index.html')
  assert.ok(Buffer.byteLength(page) <= 1_000_000)
  const markup = page.replace(/<style>[^]*?<\/style>/, '').replace(/<script>[^]*?<\/script>/, '')
  assert.ok(markup.length < 20_000, 'what is left without the two blocks is the markup')
  assert.doesNotMatch(markup, /<script|<style|<iframe|<object|<embed/)
  for (const [, address] of markup.matchAll(/(?:src|href)="([^"]*)"/g)) assert.match(address, /^data:/)
  assert.doesNotMatch(markup, / style=| on[a-z]+=/, 'the policy allows no inline attributes')
  const style = page.match(/<style>([^]*?)<\/style>/)[1]
  assert.doesNotMatch(style, /url\(|@import|@font-face/)
})

test('the policy names exactly the two blocks of the page', async () => {
  const page = await committed('index.html')
  const policy = await committed('csp.txt')
  for (const element of ['script', 'style']) {
    const blocks = [...page.matchAll(new RegExp(`<${element}>([^]*?)</${element}>`, 'g'))]
    assert.equal(blocks.length, 1)
    const hash = createHash('sha256').update(blocks[0][1], 'utf8').digest('base64')
    assert.ok(policy.includes(`${element}-src 'sha256-${hash}'`))
  }
  assert.match(policy, /^default-src 'none'; /)
  assert.doesNotMatch(policy, /unsafe|\*|https?:|[\r\n]/)
})
