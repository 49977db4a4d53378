// Strokes in the shared document: a list of maps, each with a colour, a width and a growing list of coordinates.
// Whatever a peer wrote is read with care: a stroke of another shape is skipped, never drawn and never an error.

import * as Y from 'yjs'

export const BOARD_WIDTH = 1600
export const BOARD_HEIGHT = 1200
export const WIDTHS = [4, 9, 20]
export const POINTS_MAX = 1_000
export const STROKES_MAX = 1_000

/** The shared list of strokes of a document. */
export const strokesOf = doc => doc.getArray('strokes')

const inside = (value, max) => Math.max(0, Math.min(max, Math.round(value)))

/**
 * Starts a stroke and returns a pen that extends it. Returns null where the board is full.
 * A stroke that grows over its limit goes on as a new one, joined at the last point.
 */
export function startStroke (doc, { color, width, origin }) {
  const strokes = strokesOf(doc)
  if (strokes.length >= STROKES_MAX) return null
  let points = null
  let count = 0
  let last = null
  const open = () => {
    const stroke = new Y.Map()
    points = new Y.Array()
    count = 0
    stroke.set('color', color)
    stroke.set('width', width)
    stroke.set('points', points)
    strokes.push([stroke])
  }
  return {
    /** Adds points, `[[x, y], …]`, as one update. */
    extend (positions) {
      if (positions.length === 0) return
      doc.transact(() => {
        if (points === null) open()
        if (count + positions.length > POINTS_MAX && strokes.length < STROKES_MAX) {
          open()
          if (last) positions = [last, ...positions]
        }
        const room = positions.slice(0, Math.max(0, POINTS_MAX - count))
        if (room.length === 0) return
        points.push(room.flatMap(([x, y]) => [inside(x, BOARD_WIDTH), inside(y, BOARD_HEIGHT)]))
        count += room.length
        last = room[room.length - 1]
      }, origin)
    }
  }
}

/** Reads one entry of the list, or null where it is not a stroke. */
export function readStroke (entry) {
  if (!(entry instanceof Y.Map)) return null
  const color = entry.get('color')
  const width = entry.get('width')
  const points = entry.get('points')
  if (typeof color !== 'string' || !/^#[0-9a-f]{6}$/i.test(color)) return null
  if (!Number.isFinite(width) || width < 1 || width > 60) return null
  if (!(points instanceof Y.Array)) return null
  return { color, width, points }
}

/** The coordinates of a stroke as a flat list; what is no number in the board's range ends it. */
export function coordinates (points) {
  const all = points.slice(0, Math.min(points.length, POINTS_MAX * 2))
  const end = all.findIndex(n => !Number.isFinite(n) || Math.abs(n) > 10_000)
  const valid = end < 0 ? all : all.slice(0, end)
  return valid.length % 2 === 0 ? valid : valid.slice(0, -1)
}

/** Removes the strokes that pass within `reach` of a point; returns how many. */
export function eraseAt (doc, [x, y], reach, origin) {
  const strokes = strokesOf(doc)
  const hits = []
  strokes.forEach((entry, index) => {
    const stroke = readStroke(entry)
    if (stroke && passesNear(coordinates(stroke.points), x, y, reach + stroke.width / 2)) hits.push(index)
  })
  doc.transact(() => {
    for (const index of hits.reverse()) strokes.delete(index)
  }, origin)
  return hits.length
}

/** Removes every stroke. */
export function clearBoard (doc, origin) {
  const strokes = strokesOf(doc)
  doc.transact(() => strokes.delete(0, strokes.length), origin)
}

function passesNear (flat, x, y, reach) {
  if (flat.length === 2) return Math.hypot(flat[0] - x, flat[1] - y) <= reach
  for (let i = 0; i + 3 < flat.length; i += 2) {
    if (distance(flat[i], flat[i + 1], flat[i + 2], flat[i + 3], x, y) <= reach) return true
  }
  return false
}

/** The distance of a point from a line segment. */
function distance (ax, ay, bx, by, x, y) {
  const dx = bx - ax
  const dy = by - ay
  const square = dx * dx + dy * dy
  const t = square === 0 ? 0 : Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / square))
  return Math.hypot(ax + t * dx - x, ay + t * dy - y)
}
