// Goal: strokes are bounded, erasable, and harmless whatever a peer wrote. Method: two documents that exchange updates.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { COLORS, distinctFrom, initials, readPerson } from '../src/person.js'
import { POINTS_MAX, STROKES_MAX, clearBoard, coordinates, eraseAt, readStroke, startStroke, strokesOf } from '../src/stroke.js'

const pen = { color: '#c2410c', width: 9, origin: 'test' }
const drawn = doc => strokesOf(doc).map(readStroke).map(stroke => coordinates(stroke.points))

test('a stroke grows by one update a call and arrives whole', () => {
  const [here, there] = [new Y.Doc(), new Y.Doc()]
  let updates = 0
  here.on('update', update => {
    updates += 1
    Y.applyUpdate(there, update)
  })
  const stroke = startStroke(here, pen)
  stroke.extend([[1, 2], [3.4, 4.6]])
  stroke.extend([])
  stroke.extend([[5000, -7]])
  assert.equal(updates, 2)
  assert.deepEqual(drawn(there), [[1, 2, 3, 5, 1600, 0]])
})

test('a long stroke goes on as another one, joined at its end', () => {
  const doc = new Y.Doc()
  const stroke = startStroke(doc, pen)
  for (let i = 0; i < POINTS_MAX + 5; i += 1) stroke.extend([[i % 1600, 10]])
  const lengths = drawn(doc).map(flat => flat.length / 2)
  assert.deepEqual(lengths, [POINTS_MAX, 6])
  assert.deepEqual(drawn(doc)[1].slice(0, 2), [POINTS_MAX - 1, 10])
})

test('a full board refuses another stroke', () => {
  const doc = new Y.Doc()
  for (let i = 0; i < STROKES_MAX; i += 1) startStroke(doc, pen).extend([[i, i]])
  assert.equal(startStroke(doc, pen), null)
  clearBoard(doc, 'test')
  assert.ok(startStroke(doc, pen))
})

test('the eraser takes the strokes it touches and no others', () => {
  const doc = new Y.Doc()
  startStroke(doc, pen).extend([[0, 0], [100, 0]])
  startStroke(doc, pen).extend([[0, 300], [100, 300]])
  startStroke(doc, pen).extend([[50, 5]])
  assert.equal(eraseAt(doc, [50, 150], 10, 'test'), 0)
  assert.equal(eraseAt(doc, [50, 8], 10, 'test'), 2)
  assert.deepEqual(drawn(doc), [[0, 300, 100, 300]])
})

test('what is not a stroke is skipped, bad coordinates end one', () => {
  const doc = new Y.Doc()
  const stroke = entries => new Y.Map(Object.entries(entries))
  const points = () => Y.Array.from([1, 2, 3, 'x', 5, 6])
  strokesOf(doc).push([
    'text', 7, stroke({}), stroke({ color: 'red', width: 4, points: points() }), stroke({ color: '#ffffff', width: 1e9, points: points() }),
    stroke({ color: '#ffffff', width: 4, points: 'none' }), stroke({ color: '#ffffff', width: 4, points: points() })
  ])
  const read = strokesOf(doc).map(readStroke)
  assert.deepEqual(read.slice(0, 6), [null, null, null, null, null, null])
  assert.deepEqual(coordinates(read[6].points), [1, 2])
  assert.equal(eraseAt(doc, [1, 2], 5, 'test'), 1)
})

test('a person of another shape is a guest', () => {
  const guest = { name: 'Guest', color: '#64748b' }
  for (const state of [null, undefined, 4, {}, { user: 'x' }, { user: { name: '  ', color: 'url(x)' } }]) {
    assert.deepEqual(readPerson(state), guest)
  }
  assert.equal(readPerson({ user: { name: 'a'.repeat(500), color: '#AABBCC' } }).name.length, 24)
  assert.equal(initials('Ada King Lovelace'), 'AL')
  assert.equal(initials('😀x'), '😀')
})

test('a newcomer differs from those who are here, as long as colours last', () => {
  const own = { name: 'Ada', color: COLORS[0] }
  assert.deepEqual(distinctFrom(own, [{ name: 'Ben', color: COLORS[1] }]), own)
  const all = COLORS.map(color => ({ name: 'Ada', color }))
  assert.equal(distinctFrom(own, all).color, COLORS[0])
  const other = distinctFrom(own, all.slice(0, -1))
  assert.equal(other.color, COLORS.at(-1))
  assert.notEqual(other.name, 'Ada')
})
