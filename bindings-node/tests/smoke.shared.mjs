// A server, two providers over ws, one edit.

import assert from 'node:assert/strict'
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import WebSocket from 'ws'

export async function smoke(Server, form) {
  const server = new Server({ quiet: true, stopOnSignals: false, address: '127.0.0.1', port: 0 })
  await server.listen()
  const connect = () => {
    const websocketProvider = new HocuspocusProviderWebsocket({ url: server.webSocketURL, WebSocketPolyfill: WebSocket })
    const provider = new HocuspocusProvider({ websocketProvider, name: 'notes', token: 'x' })
    provider.attach()
    return provider
  }
  const [ada, bob] = [connect(), connect()]
  ada.document.getText('t').insert(0, 'hello')
  const end = Date.now() + 10_000
  while (bob.document.getText('t').toString() !== 'hello' && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(bob.document.getText('t').toString(), 'hello')
  console.log(`ok: ${form} on Node ${process.version}`)
  process.exit(0)
}
