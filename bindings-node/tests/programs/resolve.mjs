// Gives a program the packages that its application has installed: TARGET says whose server it is, MAJOR which major of
// Hocuspocus it was written for. It is what an alias in package.json does, extension packages included.

import { registerHooks } from 'node:module'

const { TARGET = 'fidibus', MAJOR = '4' } = process.env
const here = new URL('../../package.json', import.meta.url).href
const entry = { 2: 'v2', 3: 'v3', 4: 'index' }[MAJOR]
const stock = { 2: 'server-v2', 3: 'server-v3', 4: '@hocuspocus/server' }[MAJOR]
if (entry === undefined) throw new Error(`MAJOR is 2, 3 or 4, not "${MAJOR}"`)

registerHooks({
  resolve(specifier, context, next) {
    if (specifier === '@hocuspocus/server') {
      if (TARGET === 'fidibus') return { url: new URL(`../../dist/${entry}.js`, import.meta.url).href, shortCircuit: true }
      return next(stock, { ...context, parentURL: here })
    }
    const extension = MAJOR === '2' && /^@hocuspocus\/(extension-\w+)$/.exec(specifier)?.[1]
    if (extension) return next(`${extension}-v2`, { ...context, parentURL: here })
    // A program may lie anywhere, and has what is installed here.
    const bare = /^[^./]/.test(specifier) && !/^(node|file|data):/.test(specifier)
    return next(specifier, bare && !context.parentURL?.includes('/node_modules/') ? { ...context, parentURL: here } : context)
  },
})
