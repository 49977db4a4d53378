// Lets the examples run in the repository without an installation of their own: `fidibus` is the package here, and everything else
// comes from its development dependencies.

import { registerHooks } from 'node:module'

const here = new URL('../package.json', import.meta.url).href
const ours = new URL('../dist/index.js', import.meta.url).href

registerHooks({
  resolve(specifier, context, next) {
    if (specifier === 'fidibus') return { url: ours, shortCircuit: true }
    const bare = /^[^./]/.test(specifier) && !specifier.startsWith('node:') && !specifier.startsWith('file:')
    const foreign = context.parentURL?.includes('/examples/')
    return next(specifier, bare && foreign ? { ...context, parentURL: here } : context)
  },
})
