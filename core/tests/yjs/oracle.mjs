// yjs itself, driven over a pipe by the tests of the struct log: clients that edit, followers that apply what the
// log emits, and the comparison of them all. The commands are the numbers below; `oracle.rs` is the other end.
import * as Y from 'yjs'
import * as encoding from 'lib0/encoding'
import * as decoding from 'lib0/decoding'
import { serve } from './frames.mjs'
import { randomOf } from './random.mjs'
import { edit } from './edits.mjs'
import { viewOf } from './view.mjs'

const CASE = 1
const ROUND = 2
const FOLLOW = 3
const COMPARE = 4
const ACCEPTS = 5

const CLEANUP = 512
const NO_GC = 1024
const WIDE_IDS = 2048
const MERGED = 4096

const SERVER = 'server'

/**
 * yjs tidies formats away in reaction to remote changes, differently in each replica. Clients may do so, since they send
 * what they deleted; those that only follow would drift away.
 */
const cleaning = new WeakSet()
const callObserver = Y.Text.prototype._callObserver
Y.Text.prototype._callObserver = function (transaction, subs) {
  callObserver.call(this, transaction, subs)
  if (!cleaning.has(transaction.doc)) transaction._needFormattingCleanup = false
}
// A warning of yjs about its own subdocuments would only fill the log.
console.error = console.warn = console.log = () => {}

let now = null

const newDoc = () => {
  const doc = new Y.Doc({ gc: now.gc })
  for (const [name, type] of [['t', Y.Text], ['m', Y.Map], ['a', Y.Array], ['x', Y.XmlFragment]]) doc.get(name, type)
  return doc
}

const startCase = decoder => {
  const seed = decoding.readVarUint(decoder)
  const count = decoding.readVarUint(decoder)
  const features = decoding.readVarUint(decoder)
  const r = randomOf(seed)
  now = { r, features, gc: (features & NO_GC) === 0, clients: [], followers: new Map(), mirror: null }
  now.mirror = newDoc()
  for (let i = 0; i < count; i++) {
    const doc = newDoc()
    doc.clientID = features & WIDE_IDS ? (r.chance(0.5) ? i + 1 : 2 ** 52 + i * 977 + r.below(900)) : 1e6 * (i + 1) + r.below(1e6)
    if (features & CLEANUP) cleaning.add(doc)
    const updates = []
    doc.on('update', (update, origin) => {
      if (origin === SERVER) return
      updates.push(update)
      Y.applyUpdate(now.mirror, update, SERVER)
    })
    const roots = ['t', 'm', 'a', 'x'].map(name => doc.get(name))
    const undo = new Y.UndoManager(roots, { captureTimeout: 0 })
    now.clients.push({ doc, updates, undo })
  }
  return new Uint8Array()
}

/** For each client: what it receives, from whom it takes a state directly, how often it edits, what it is asked for. */
const round = decoder => {
  const encoder = encoding.createEncoder()
  for (const client of now.clients) {
    const { doc, updates, undo } = client
    for (let i = decoding.readVarUint(decoder); i > 0; i--) {
      Y.applyUpdate(doc, decoding.readVarUint8Array(decoder).slice(), SERVER)
    }
    const peer = decoding.readVarUint(decoder)
    if (peer > 0) {
      const from = now.clients[peer - 1].doc
      Y.applyUpdate(doc, Y.encodeStateAsUpdate(from, Y.encodeStateVector(doc)), SERVER)
    }
    for (let i = decoding.readVarUint(decoder); i > 0; i--) edit(doc, undo, now.r, now.features)
    const asked = decoding.readVarUint8Array(decoder).slice()
    let sent = updates.splice(0)
    if (now.features & MERGED && sent.length > 2 && now.r.chance(0.3)) {
      // Every second update merged has holes, which yjs 13 fills with Skips.
      sent = [Y.mergeUpdates(sent.filter((_, i) => i % 2 === 0)), Y.mergeUpdates(sent.filter((_, i) => i % 2 === 1))]
    }
    encoding.writeVarUint(encoder, sent.length)
    for (const update of sent) encoding.writeVarUint8Array(encoder, update)
    encoding.writeVarUint8Array(encoder, Y.encodeStateVector(doc))
    encoding.writeVarUint8Array(encoder, asked.length > 0 ? Y.encodeStateAsUpdate(doc, asked) : new Uint8Array())
  }
  return encoding.toUint8Array(encoder)
}

/** A follower applies updates and answers with its state vector, or with nothing if some of them have to wait. */
const follow = decoder => {
  const id = decoding.readVarUint(decoder)
  if (!now.followers.has(id)) now.followers.set(id, newDoc())
  const doc = now.followers.get(id)
  for (let i = decoding.readVarUint(decoder); i > 0; i--) Y.applyUpdate(doc, decoding.readVarUint8Array(decoder).slice(), SERVER)
  return pendingOf(doc) ? new Uint8Array() : Y.encodeStateVector(doc)
}

const pendingOf = doc => doc.store.pendingStructs !== null || doc.store.pendingDs !== null

const sameState = (left, right) => Y.equalSnapshots(Y.snapshot(left), Y.snapshot(right))

const describe = (left, right) => {
  let i = 0
  while (i < left.length && left[i] === right[i]) i++
  return `\n  ${left.slice(Math.max(0, i - 200), i + 200)}\n  ${right.slice(Math.max(0, i - 200), i + 200)}`
}

const skips = update => Y.decodeUpdate(update).structs.some(struct => struct.constructor === Y.Skip)

/** Compares everything with the document that got every update in order. Empty: all agree. */
const compare = decoder => {
  const reference = viewOf(now.mirror)
  const found = []
  const check = (name, doc) => {
    if (pendingOf(doc)) found.push(`${name} waits for structs`)
    const seen = viewOf(doc)
    if (seen !== reference) found.push(`${name} differs:${describe(seen, reference)}`)
    else if (!sameState(doc, now.mirror)) found.push(`${name} sees the same, but its state differs`)
  }
  // What clients tidied away last the others do not know yet.
  if (!(now.features & CLEANUP)) now.clients.forEach((client, i) => check(`client ${i}`, client.doc))
  now.followers.forEach((doc, id) => check(`follower ${id}`, doc))
  for (let i = decoding.readVarUint(decoder); i > 0; i--) {
    const name = decoding.readVarString(decoder)
    const state = decoding.readVarUint8Array(decoder).slice()
    const doc = newDoc()
    Y.applyUpdate(doc, state, SERVER)
    check(name, doc)
    if (skips(state)) found.push(`${name} contains a Skip`)
  }
  return found.join('\n')
}

/** Whether yjs can read an update, into what it holds or an empty document. */
const accepts = decoder => {
  const state = decoding.readVarUint8Array(decoder).slice()
  const update = decoding.readVarUint8Array(decoder).slice()
  const doc = new Y.Doc()
  try {
    if (state.length > 0) Y.applyUpdate(doc, state)
    Y.applyUpdate(doc, update)
    Y.encodeStateAsUpdate(doc)
    return 'yes'
  } catch (error) {
    return String(error.message)
  }
}

serve(frame => {
  const decoder = decoding.createDecoder(frame)
  try {
    switch (decoding.readVarUint(decoder)) {
      case CASE: return startCase(decoder)
      case ROUND: return round(decoder)
      case FOLLOW: return follow(decoder)
      case COMPARE: return new TextEncoder().encode(compare(decoder))
      case ACCEPTS: return new TextEncoder().encode(accepts(decoder))
      default: throw new Error('unknown command')
    }
  } catch (error) {
    process.stderr.write(`oracle: ${error.stack}\n`)
    process.exit(1)
  }
})
