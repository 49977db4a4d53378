// Writes the seeds of the targets scan, wire, connection and documents, from what real clients send: the seeds of
// `log` (../tests/yjs/seeds.mjs) and the golden frames (../tests/golden). Run it with `node seeds.mjs`.
import * as fs from 'node:fs'

const place = target => new URL(`seeds/${target}/`, import.meta.url)
const golden = JSON.parse(fs.readFileSync(new URL('../tests/golden/frames.json', import.meta.url)))
const frames = golden.clients.map(client => client.frames.map(frame => Buffer.from(frame.bytes, 'hex')))
const FRAME_BYTES_MAX = 200
const UPDATE_BYTES_MAX = 600

function write(target, seeds) {
  fs.mkdirSync(place(target), { recursive: true })
  // Findings, which have words for names, stay.
  for (const name of fs.readdirSync(place(target)).filter(name => /^\d+$/.test(name))) fs.rmSync(new URL(name, place(target)))
  const distinct = new Map(seeds.map(seed => [seed.toString('hex'), seed]))
  let number = 0
  for (const seed of distinct.values()) fs.writeFileSync(new URL(String(number++).padStart(2, '0'), place(target)), seed)
}

// The steps of a `log` seed: [kind, bytes].
function steps(seed) {
  const found = []
  while (seed.length >= 3) {
    const len = seed.readUInt16LE(1)
    found.push([seed[0] % 4, seed.subarray(3, 3 + len)])
    seed = seed.subarray(3 + len)
  }
  return found
}

const logs = fs.readdirSync(place('log')).sort().map(name => steps(fs.readFileSync(new URL(name, place('log')))))
const updates = log => log.filter(([kind, bytes]) => kind < 2 && bytes.length > 4 && bytes.length < UPDATE_BYTES_MAX)

// One of each log, and all kinds of awareness.
const scan = logs.flatMap((log, index) => {
  const update = updates(log)[index % 5]
  const vector = log.find(([kind]) => kind === 2)
  return [
    ...(update && index % 2 === 0 ? [Buffer.concat([Buffer.from([0]), update[1]])] : []),
    ...(vector && index % 8 === 0 ? [Buffer.concat([Buffer.from([1]), vector[1]])] : []),
  ]
})
const awareness = golden.clients.flatMap(client => client.frames.filter(({ means }) => means.kind === 'Awareness'))
scan.push(...awareness.map(({ means }) => Buffer.from(`02${means.body}`, 'hex')))
write('scan', scan)

write('wire', frames.flat().filter(frame => frame.length <= FRAME_BYTES_MAX))

// A session's life: each frame, and after it two yes (to Authenticate and Join, or to a hook).
const lives = [0, 1, 2, 6].flatMap(options =>
  frames.map(list => {
    const small = list.filter(frame => frame.length <= FRAME_BYTES_MAX).slice(0, 12)
    return Buffer.concat([
      Buffer.from([options]),
      ...small.flatMap(frame => [Buffer.from([0, frame.length]), frame, Buffer.from([3, 0, 4, 0])]),
    ])
  }),
)
write('connection', lives)

const pairs = logs.flatMap(log => {
  const [one, other] = updates(log).slice(-2)
  if (!other) return []
  const length = Buffer.alloc(2)
  length.writeUInt16LE(one[1].length)
  return [Buffer.concat([length, one[1], other[1]])]
})
write('documents', pairs.filter((_, index) => index % 2 === 0))
