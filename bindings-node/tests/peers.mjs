// Servers and clients of a test: they are all gone when it ends.

import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import assert from 'node:assert/strict'
import { hocuspocus } from './target.mjs'

/** Starts a server on a free port. */
export async function serve(t, configuration = {}) {
  const server = new hocuspocus.Server({ quiet: true, stopOnSignals: false, address: '127.0.0.1', port: 0, ...configuration })
  t.after(async () => {
    await within(5_000, server.destroy(), 'destroy').catch(() => {})
    server.httpServer.closeAllConnections()
  })
  await server.listen()
  return server
}

/** Connects a provider; resolves once it is synced, unless told not to wait. */
export async function connect(t, server, options = {}) {
  const { wait = true, socketless = false, path = '', ...rest } = options
  const socket = new HocuspocusProviderWebsocket({ url: `${server.webSocketURL}${path}`, delay: 50, minDelay: 50, maxDelay: 200 })
  const provider = new HocuspocusProvider({ websocketProvider: socket, name: 'notes', token: 'secret', ...rest })
  provider.attach()
  provider.socket = socket
  t.after(() => {
    provider.destroy()
    socket.destroy()
  })
  if (wait) await until(() => provider.synced, 'synced')
  return provider
}

/** Another document on the same socket. */
export async function join(t, provider, options = {}) {
  const { wait = true, ...rest } = options
  const other = new HocuspocusProvider({ websocketProvider: provider.socket, name: 'notes', token: 'secret', ...rest })
  other.attach()
  t.after(() => other.destroy())
  if (wait) await until(() => other.synced, 'synced')
  return other
}

export function leave(provider) {
  provider.destroy()
  provider.socket?.destroy()
}

/** Polls until something holds; `what` may be a function, of what was seen until then. */
export async function until(holds, what = String(holds), ms = 20_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await holds()
    if (value) return value
    if (Date.now() > end) assert.fail(`did not come to hold within ${ms} ms: ${typeof what === 'function' ? what() : what}`)
    await sleep(10)
  }
}

export function within(ms, promise, what = 'it') {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** A promise that a test settles. */
export function gate() {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { open: resolve, fail: reject }))
  return made
}

export const text = (provider) => provider.document.getText('t')
