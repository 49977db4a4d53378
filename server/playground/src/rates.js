// From the server's running totals to a short history of what the tiles show. Pure; the clock is the server's own.

export const SAMPLES_MAX = 60

/** An empty history. */
export const emptyHistory = () => ({ last: null, samples: [] })

/**
 * Adds one answer of the server. A total that went backwards means a new process: its first answer has no rate.
 * `null` stands for a moment without an answer and leaves a gap.
 */
export function addFigures (history, figures) {
  const sample = figures === null ? null : sampleOf(history.last, figures)
  const samples = [...history.samples, sample].slice(-SAMPLES_MAX)
  return { last: figures ?? history.last, samples }
}

function sampleOf (last, now) {
  const seconds = last ? now.uptimeSeconds - last.uptimeSeconds : 0
  const rate = field => seconds > 0 && now[field] >= last[field] ? (now[field] - last[field]) / seconds : null
  return {
    documents: now.documents,
    connections: now.connections,
    updates: rate('updatesTotal'),
    frames: rate('framesSentTotal'),
    memory: now.memoryBytes
  }
}

/** True where an answer has every figure that the tiles need. */
export function isFigures (value) {
  return value !== null && typeof value === 'object' &&
    ['uptimeSeconds', 'documents', 'connections', 'updatesTotal', 'framesSentTotal', 'memoryBytes']
      .every(field => Number.isFinite(value[field]))
}

/** A count or a rate in at most four characters and a unit letter. */
export function formatCount (n) {
  if (n === null || n === undefined) return '–'
  if (n >= 999_500) return `${(n / 1_000_000).toFixed(1)} M`
  if (n >= 9_995) return `${(n / 1_000).toFixed(n >= 99_950 ? 0 : 1)} k`
  return n > 0 && n < 9.95 && !Number.isInteger(n) ? n.toFixed(1) : String(Math.round(n))
}

/** A size in the unit that people read it in. */
export function formatBytes (n) {
  if (n === null || n === undefined) return '–'
  if (n >= 1024 ** 3) return `${(n / 1024 ** 3).toFixed(2)} GiB`
  if (n >= 1024 ** 2) return `${(n / 1024 ** 2).toFixed(1)} MiB`
  return `${Math.round(n / 1024)} KiB`
}

/** Time since the start, in two units at most. */
export function formatUptime (seconds) {
  const s = Math.floor(seconds)
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
  return `${Math.floor(s / 86_400)} d ${Math.floor(s % 86_400 / 3600)} h`
}
