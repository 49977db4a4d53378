// Which package the suite is about: TARGET=stock runs @hocuspocus/server 4.7.0 from npm, TARGET=fidibus ours. Every test has
// to pass on both: that is the proof that it states Hocuspocus' behaviour.

import { registerHooks } from 'node:module'
import { pathToFileURL } from 'node:url'

export const TARGET = process.env.TARGET ?? 'fidibus'
export const OURS = pathToFileURL(new URL('../dist/index.js', import.meta.url).pathname).href

if (TARGET === 'fidibus') {
  // As an npm alias does it: extension packages get ours too.
  registerHooks({
    resolve(specifier, context, next) {
      return specifier === '@hocuspocus/server' ? { url: OURS, shortCircuit: true } : next(specifier, context)
    },
  })
} else if (TARGET !== 'stock') {
  throw new Error(`TARGET is "stock" or "fidibus", not "${TARGET}"`)
}

export const hocuspocus = await import('@hocuspocus/server')
