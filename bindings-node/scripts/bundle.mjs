// Bundles the TypeScript as ESM and CommonJS and writes the types of both. yjs, y-protocols and lib0 stay the user's own
// copies: bundled ones would be strangers to the documents that users make.

import { spawnSync } from 'node:child_process'
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const entries = ['index', 'v3', 'v2'].map((name) => join(root, 'ts', `${name}.ts`))

rmSync(join(root, 'dist'), { recursive: true, force: true })
for (const [format, extension] of [['esm', '.js'], ['cjs', '.cjs']]) {
  await build({
    entryPoints: entries,
    outdir: join(root, 'dist'),
    bundle: true,
    // One class Document, whichever entry it comes from.
    splitting: format === 'esm',
    chunkNames: 'shared-[hash]',
    format,
    outExtension: { '.js': extension },
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logOverride: { 'empty-import-meta': 'silent' },
  })
}
const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', root], { stdio: 'inherit' })
if (tsc.status !== 0) process.exit(tsc.status ?? 1)
// The types of CommonJS are the same; its resolver wants files of its own.
for (const file of readdirSync(join(root, 'dist')).filter((name) => name.endsWith('.d.ts'))) {
  const text = readFileSync(join(root, 'dist', file), 'utf8')
  writeFileSync(join(root, 'dist', file.replace(/\.d\.ts$/, '.d.cts')), text.replaceAll(/(from '\.\/[^']+)\.js'/g, "$1.cjs'"))
}
