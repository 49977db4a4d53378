// Writes the seeds of the fuzz target: what real clients send, in the form that `core/fuzz/fuzz_targets/log.rs` reads.
import * as Y from 'yjs'
import * as fs from 'node:fs'
import { randomOf } from './random.mjs'
import { edit } from './edits.mjs'

const folder = new URL('../../fuzz/seeds/log/', import.meta.url)
const BYTES_MAX = 4000

const step = (kind, bytes) => {
  const head = Buffer.from([kind, 0, 0])
  head.writeUInt16LE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

fs.mkdirSync(folder, { recursive: true })
for (let seed = 0; seed < 60; seed++) {
  const r = randomOf(seed)
  const steps = []
  const docs = [0, 1, 2].map(i => {
    const doc = new Y.Doc()
    doc.clientID = seed % 5 === 0 ? 2 ** 52 + i : 10 + i
    for (const [name, type] of [['t', Y.Text], ['m', Y.Map], ['a', Y.Array], ['x', Y.XmlFragment]]) doc.get(name, type)
    doc.on('update', (update, origin) => { if (origin !== 'peer') steps.push(step(r.below(2) * 4, update)) })
    return { doc, undo: new Y.UndoManager(['t', 'm', 'a', 'x'].map(name => doc.get(name)), { captureTimeout: 0 }) }
  })
  for (let round = 0; round < 6; round++) {
    const { doc, undo } = r.pick(docs)
    edit(doc, undo, r, (seed * 37 | 1) & 0x1df)
    const peer = r.pick(docs).doc
    Y.applyUpdate(peer, Y.encodeStateAsUpdate(doc, Y.encodeStateVector(peer)), 'peer')
    if (r.chance(0.3)) steps.push(step(2, Y.encodeStateVector(peer)))
    if (r.chance(0.2)) steps.push(step(3, new Uint8Array()))
    if (r.chance(0.2)) steps.push(step(0, Y.encodeStateAsUpdate(doc)))
  }
  // Out of order for some, with the merged form that has holes.
  if (seed % 4 === 0) steps.reverse()
  const all = Buffer.concat(steps)
  if (all.length <= BYTES_MAX) fs.writeFileSync(new URL(String(seed).padStart(2, '0'), folder), all)
}
