// Builds the playground: bundles src/main.js and src/style.css and inlines both into one HTML file, beside the
// Content-Security-Policy that allows exactly those two blocks and a connection to the page's own origin.
// Usage: node build.mjs [output directory, default dist]

import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const PAGE_BYTES_MAX = 1_000_000

/** Bundles one entry point and returns its text. */
async function bundle (entry) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: 'iife',
    target: ['chrome109', 'firefox115', 'safari16.4'],
    legalComments: 'none',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'warning'
  })
  return result.outputFiles[0].text.trim()
}

const source = text => `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`

/** The header that the server must send with the page. */
function policy (script, style) {
  return [
    "default-src 'none'",
    `script-src ${source(script)}`,
    `style-src ${source(style)}`,
    'img-src data:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join('; ')
}

async function main (output) {
  const [template, script, style] = await Promise.all([
    readFile(join(here, 'src/index.html'), 'utf8'),
    bundle('src/main.js'),
    bundle('src/style.css')
  ])
  // Either would end or confuse the inline block; esbuild escapes them in strings, so this is a guard only.
  if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style)) {
    throw new Error('the bundle contains a sequence that ends an inline block')
  }
  // Functions as replacements: a bundle may contain "$&", which a replacement string would expand.
  const page = template.replace('/*style*/', () => style).replace('/*script*/', () => script)
  const bytes = Buffer.byteLength(page)
  if (bytes > PAGE_BYTES_MAX) throw new Error(`the page has ${bytes} bytes, more than ${PAGE_BYTES_MAX}`)
  await mkdir(output, { recursive: true })
  await writeFile(join(output, 'index.html'), page)
  await writeFile(join(output, 'csp.txt'), policy(script, style))
  console.log(`${join(output, 'index.html')}: ${bytes} bytes`)
}

await main(resolve(process.argv[2] ?? join(here, 'dist')))
