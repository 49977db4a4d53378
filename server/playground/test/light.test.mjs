// Goal: the connection light says what is true. Method: every state from plain facts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readLight } from '../src/light.js'

const quiet = { open: true, synced: true, lost: false, waiting: 0, overdue: false, refused: null, readOnly: false, ackMs: null }
const light = facts => readLight({ ...quiet, ...facts })

test('connecting until the document is here', () => {
  assert.equal(light({ open: false, synced: false }).state, 'connecting')
  assert.equal(light({ synced: false, waiting: 1 }).state, 'connecting')
  assert.equal(light({ synced: false, lost: true }).label, 'Reconnecting')
})

test('connected, with the time of the latest acknowledgement', () => {
  assert.deepEqual(light({}), { state: 'connected', label: 'Connected', detail: 'All edits confirmed' })
  assert.equal(light({ ackMs: 3.21 }).detail, 'Last edit confirmed in 3.2 ms')
  assert.equal(light({ ackMs: 145.6 }).detail, 'Last edit confirmed in 146 ms')
})

test('edits that wait turn the light only when they are overdue', () => {
  assert.equal(light({ waiting: 2 }).state, 'connected')
  assert.deepEqual(light({ waiting: 2, overdue: true }), { state: 'unsynced', label: 'Unsynced edits', detail: '2 edits not yet confirmed' })
  assert.equal(light({ waiting: 0, overdue: true }).state, 'connected')
})

test('offline counts what waits', () => {
  assert.equal(light({ open: false, synced: false, lost: true }).detail, 'You can go on, trying again')
  assert.equal(light({ open: false, synced: false, lost: true, waiting: 1 }).detail, '1 edit waiting, trying again')
  assert.equal(light({ open: false, synced: false, lost: true, waiting: 3 }).state, 'offline')
})

test('a refusal and read-only access are named', () => {
  assert.deepEqual(light({ refused: 'no such user' }), { state: 'refused', label: 'Refused', detail: 'no such user' })
  assert.equal(light({ refused: '' }).detail, 'The server refused this room')
  assert.equal(light({ readOnly: true, waiting: 1 }).detail, 'You may read only')
})
