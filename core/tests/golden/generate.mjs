// Makes frames.json: what the packages of the field put on the wire, and what they were asked to.
//
//   node generate.mjs           writes frames.json
//   node generate.mjs --check   compares instead, and fails with the first difference
//
// The providers are real: they run against a socket that only records. Nothing is random or depends on the
// time: client ids, session ids and documents are given.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { OutgoingMessage } from '@hocuspocus/server'
import * as provider2 from 'hocuspocus-provider-2'
import * as provider3 from 'hocuspocus-provider-3'
import * as provider4 from 'hocuspocus-provider-4'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import * as yAuth from 'y-protocols/auth'
import { Awareness, encodeAwarenessUpdate } from 'y-protocols/awareness'
import * as sync from 'y-protocols/sync'
import * as yWebsocket2 from 'y-websocket-2'
import * as yWebsocket3 from 'y-websocket-3'
import * as Y from 'yjs'

const FILE = new URL('./frames.json', import.meta.url)
const CLIENT = 1234567
const TOKEN = 'secret "töken"'
const hex = bytes => Buffer.from(bytes).toString('hex')
const turns = async () => { for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve)) }

/** A WebSocket that opens at once, records what is sent and can be spoken to. */
class Recorder {
  static last
  static CONNECTING = 0
  static OPEN = 1
  OPEN = 1
  readyState = 0
  frames = []
  #listeners = {}
  constructor () {
    Recorder.last = this
    setImmediate(() => { this.readyState = 1; this.#emit('open', {}) })
  }
  addEventListener (name, listener) { (this.#listeners[name] ??= []).push(listener) }
  removeEventListener () {}
  #emit (name, event) {
    this[`on${name}`]?.(event)
    for (const listener of this.#listeners[name] ?? []) listener(event)
  }
  send (bytes) { this.frames.push(hex(bytes)) }
  receive (bytes) { this.#emit('message', { data: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) }) }
  close () { this.readyState = 3 }
}

function freshDocument () {
  const document = new Y.Doc()
  document.clientID = CLIENT
  return document
}

/** Bytes of a message with `address` (none for y-websocket) in front. */
function frame (address, ...write) {
  const encoder = encoding.createEncoder()
  if (address !== null) encoding.writeVarString(encoder, address)
  for (const part of write) typeof part === 'number' ? encoding.writeVarUint(encoder, part) : part(encoder)
  return encoding.toUint8Array(encoder)
}

/** What a frame from a client means, read with lib0 as Hocuspocus reads it. */
function meaning (bytes, dialect) {
  const decoder = decoding.createDecoder(Buffer.from(bytes, 'hex'))
  if (dialect === 'hocuspocus' && decoder.arr.length === 1) return { kind: { 9: 'Ping', 10: 'Pong' }[decoder.arr[0]] }
  const address = dialect === 'hocuspocus' ? { address: decoding.readVarString(decoder) } : {}
  const array = () => hex(decoding.readVarUint8Array(decoder))
  const rest = () => {
    switch (decoding.readVarUint(decoder)) {
      case 0: return { kind: ['SyncStep1', 'SyncStep2', 'Update'][decoding.readVarUint(decoder)], body: array() }
      case 1: return { kind: 'Awareness', body: array() }
      case 2: {
        assert.equal(decoding.readVarUint(decoder), 0)
        const token = decoding.readVarString(decoder)
        return { kind: 'Auth', token, version: decoding.hasContent(decoder) ? decoding.readVarString(decoder) : null }
      }
      case 3: return { kind: 'QueryAwareness' }
      case 5: return { kind: 'Stateless', text: decoding.readVarString(decoder) }
      case 7: return { kind: 'Close' }
    }
  }
  const means = { ...address, ...rest() }
  assert(means.kind && !decoding.hasContent(decoder), bytes)
  return means
}

async function hocuspocusClient (name, { HocuspocusProvider, HocuspocusProviderWebsocket }, options) {
  const document = freshDocument()
  const websocketProvider = new HocuspocusProviderWebsocket({ url: 'ws://recorder', WebSocketPolyfill: Recorder })
  const provider = new HocuspocusProvider({ name: 'notes/ü', document, websocketProvider, ...options })
  provider.sessionId = 'sess10n'
  provider.attach?.()
  await turns()
  const socket = Recorder.last
  const address = provider.effectiveName ?? 'notes/ü'
  // What a server says first; the reply to step 1 is step 2.
  socket.receive(frame(address, 2, 2, e => encoding.writeVarString(e, 'read-write')))
  socket.receive(frame(address, 0, e => sync.writeSyncStep1(e, new Y.Doc())))
  document.getText('t').insert(0, 'hello')
  document.getMap('m').set('größe', 1.5)
  provider.awareness.setLocalState({ user: { name: 'Ada', color: '#ff0000' }, cursor: null })
  provider.sendStateless('{"ping":"ü"}')
  socket.receive(frame(address, 3))
  socket.receive(frame(address, 2, 0))
  await turns()
  // Providers before 4 cannot read a frame without an address.
  if (HocuspocusProvider === provider4.HocuspocusProvider) socket.receive(Uint8Array.of(9))
  provider.awareness.setLocalState(null)
  websocketProvider.detach(provider)
  await turns()
  websocketProvider.shouldConnect = false
  assert(socket.frames.length >= 8, `${name}: ${socket.frames.length} frames`)
  return client(name, 'hocuspocus', socket.frames)
}

async function yWebsocketClient (name, { WebsocketProvider }) {
  const document = freshDocument()
  const provider = new WebsocketProvider('ws://recorder', 'notes', document, { WebSocketPolyfill: Recorder, disableBc: true })
  await turns()
  const socket = Recorder.last
  socket.receive(frame(null, 0, e => sync.writeSyncStep1(e, new Y.Doc())))
  document.getText('t').insert(0, 'hello')
  provider.awareness.setLocalState({ user: { name: 'Ada' } })
  socket.receive(frame(null, 3))
  provider.awareness.setLocalState(null)
  await turns()
  provider.shouldConnect = false
  assert(socket.frames.length >= 5, `${name}: ${socket.frames.length} frames`)
  return client(name, 'y-websocket', socket.frames)
}

function client (name, dialect, frames) {
  return { client: name, dialect, frames: frames.map(bytes => ({ bytes, means: meaning(bytes, dialect) })) }
}

/** Frames of stock servers: what to write, for whom, and the bytes. */
function serverFrames () {
  const document = freshDocument()
  document.getText('t').insert(0, 'hello')
  const update = Y.encodeStateAsUpdate(document)
  const vector = Y.encodeStateVector(document)
  const awareness = new Awareness(document)
  awareness.setLocalState({ user: 'Ada' })
  const states = encodeAwarenessUpdate(awareness, [CLIENT])
  const out = []
  for (const address of ['notes', 'notes/ü\0sess10n', 'n'.repeat(200)]) {
    const add = (write, argument, bytes) => out.push({ write, address, argument, bytes: hex(bytes) })
    const message = () => new OutgoingMessage(address)
    add('sync_step1', hex(vector), message().createSyncMessage().writeFirstSyncStepFor(document).toUint8Array())
    add('sync_step2', hex(update), frame(address, 0, e => sync.writeSyncStep2(e, document)))
    add('update', hex(update), message().createSyncMessage().writeUpdate(update).toUint8Array())
    add('awareness', hex(states), message().createAwarenessUpdateMessage(awareness, [CLIENT]).toUint8Array())
    add('query_awareness', null, message().writeQueryAwareness().toUint8Array())
    for (const stored of [true, false]) add('sync_status', stored, message().writeSyncStatus(stored).toUint8Array())
    for (const text of ['', 'päyload', 'x'.repeat(300)]) {
      add('stateless', text, message().writeStateless(text).toUint8Array())
      add('broadcast_stateless', text, message().writeBroadcastStateless(text).toUint8Array())
      add('close', text, message().writeCloseMessage(text).toUint8Array())
      add('permission_denied', text, message().writePermissionDenied(text).toUint8Array())
    }
    for (const readOnly of [true, false]) add('authenticated', readOnly, message().writeAuthenticated(readOnly).toUint8Array())
    add('token_request', null, message().writeTokenSyncRequest().toUint8Array())
  }
  const add = (write, argument, bytes) => out.push({ write, address: null, argument, bytes: hex(bytes) })
  add('sync_step1', hex(vector), frame(null, 0, e => sync.writeSyncStep1(e, document)))
  add('sync_step2', hex(update), frame(null, 0, e => sync.writeSyncStep2(e, document)))
  add('update', hex(update), frame(null, 0, e => sync.writeUpdate(e, update)))
  add('awareness', hex(states), frame(null, 1, e => encoding.writeVarUint8Array(e, states)))
  add('permission_denied', 'nö', frame(null, 2, e => yAuth.writePermissionDenied(e, 'nö')))
  return out
}

function awarenessUpdates () {
  const lists = [
    [],
    [[CLIENT, 3, { user: { name: 'Ädä', tags: ['a', 1, null, true] } }]],
    [[0, 0, {}], [Number.MAX_SAFE_INTEGER, 2 ** 32 - 2, null], [4294967295, 127, { 'quo"te': '\\ \u2028 \u0001' }]],
  ]
  return lists.map(entries => {
    const states = new Map(entries.map(([client, , state]) => [client, state]))
    const meta = new Map(entries.map(([client, clock]) => [client, { clock }]))
    return {
      entries: entries.map(([client, clock, state]) => [client, clock, JSON.stringify(state)]),
      bytes: hex(encodeAwarenessUpdate({ meta }, entries.map(([client]) => client), states)),
    }
  })
}

function numbers () {
  const bytes = write => { const encoder = encoding.createEncoder(); write(encoder); return hex(encoding.toUint8Array(encoder)) }
  const edges = new Set([0, 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER])
  for (const bits of [6, 7, 13, 14, 20, 21, 28, 35, 42, 49]) for (const near of [-1, 0, 1]) edges.add(2 ** bits + near)
  return {
    unsigned: [...edges].map(number => [number, bytes(e => encoding.writeVarUint(e, number))]),
    signed: [...edges].flatMap(number => number === 0 ? [0] : [number, -number])
      .map(number => [number, bytes(e => encoding.writeVarInt(e, number))]),
    strings: ['', 'a', 'ü€😀', '\0', 'x'.repeat(128)].map(text => [text, bytes(e => encoding.writeVarString(e, text))]),
  }
}

const made = {
  clients: [
    await hocuspocusClient('@hocuspocus/provider 2.15.3', provider2, { token: TOKEN }),
    await hocuspocusClient('@hocuspocus/provider 2.15.3 without a token', provider2, {}),
    await hocuspocusClient('@hocuspocus/provider 3.4.4', provider3, { token: TOKEN }),
    await hocuspocusClient('@hocuspocus/provider 3.4.4 without a token', provider3, {}),
    await hocuspocusClient('@hocuspocus/provider 4.8.0', provider4, { token: TOKEN }),
    await hocuspocusClient('@hocuspocus/provider 4.8.0 without a token', provider4, {}),
    await hocuspocusClient('@hocuspocus/provider 4.8.0 with session awareness', provider4, { token: TOKEN, sessionAwareness: true }),
    await yWebsocketClient('y-websocket 2.1.0', yWebsocket2),
    await yWebsocketClient('y-websocket 3.1.0', yWebsocket3),
  ],
  server: serverFrames(),
  awareness: awarenessUpdates(),
  numbers: numbers(),
}

const text = `${JSON.stringify(made, null, 1)}\n`
if (process.argv.includes('--check')) {
  assert.equal(text, readFileSync(FILE, 'utf8'), 'frames.json differs from what the packages write: run npm run generate')
  console.log('frames.json is what the packages write')
} else {
  writeFileSync(FILE, text)
}
process.exit(0)
