// Goal: the tiles show rates of the server's own clock and survive its restarts. Method: made-up answers.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SAMPLES_MAX, addFigures, emptyHistory, formatBytes, formatCount, formatUptime, isFigures } from '../src/rates.js'

const figures = (uptimeSeconds, updatesTotal, framesSentTotal = updatesTotal * 2) =>
  ({ uptimeSeconds, updatesTotal, framesSentTotal, documents: 1, connections: 2, memoryBytes: 3_000_000 })
const after = answers => answers.reduce(addFigures, emptyHistory()).samples

test('a rate is the growth over the time that passed at the server', () => {
  const [first, second] = after([figures(10, 100), figures(12.5, 150)])
  assert.equal(first.updates, null)
  assert.equal(second.updates, 20)
  assert.equal(second.frames, 40)
  assert.equal(second.documents, 1)
})

test('a restarted server and a standing clock give no rate', () => {
  assert.equal(after([figures(500, 9_000), figures(1, 3)])[1].updates, null)
  assert.equal(after([figures(500, 9_000), figures(501, 3)])[1].updates, null)
  assert.equal(after([figures(500, 9_000), figures(500, 9_001)])[1].updates, null)
})

test('a missing answer leaves a gap and the next rate spans it', () => {
  const samples = after([figures(10, 100), null, figures(12, 140)])
  assert.equal(samples[1], null)
  assert.equal(samples[2].updates, 20)
})

test('the history is bounded', () => {
  const answers = Array.from({ length: SAMPLES_MAX + 40 }, (_, i) => figures(i, i))
  assert.equal(after(answers).length, SAMPLES_MAX)
})

test('an answer of another shape is told apart', () => {
  assert.ok(isFigures(figures(1, 1)))
  for (const other of [null, 'x', {}, { ...figures(1, 1), memoryBytes: 'much' }]) assert.ok(!isFigures(other))
})

test('numbers are short', () => {
  assert.deepEqual([null, 0, 0.44, 3.06, 9.97, 42.3, 9_994, 9_995, 123_456, 2_500_000].map(formatCount),
    ['–', '0', '0.4', '3.1', '10', '42', '9994', '10.0 k', '123 k', '2.5 M'])
  assert.deepEqual([null, 2048, 5 * 1024 ** 2, 3 * 1024 ** 3].map(formatBytes), ['–', '2 KiB', '5.0 MiB', '3.00 GiB'])
  assert.deepEqual([5.9, 65, 7_260, 90_000].map(formatUptime), ['5 s', '1 min 5 s', '2 h 1 min', '1 d 1 h'])
})
