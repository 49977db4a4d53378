// "Draw for me": draws a rosette through the shared document, a few points a frame, like a very steady hand.

import { BOARD_HEIGHT, BOARD_WIDTH, startStroke } from './stroke.js'

const DURATION_MS = 6_000
const POINTS = 720
const between = (low, high) => low + Math.random() * (high - low)

/** A hypotrochoid of random proportions somewhere on the board, as a function from 0..1 to a point. */
function randomRosette () {
  const radius = between(200, 400)
  const x = between(radius + 40, BOARD_WIDTH - radius - 40)
  const y = between(radius + 40, BOARD_HEIGHT - radius - 40)
  const [outer, inner] = [[5, 3], [7, 3], [8, 5], [9, 4], [10, 3], [11, 5], [12, 5]][Math.floor(Math.random() * 7)]
  const arm = inner * between(0.5, 1.2)
  const scale = radius / (outer - inner + arm)
  const spin = between(0, 2 * Math.PI)
  return part => {
    const angle = part * 2 * Math.PI * inner + spin
    return [
      x + scale * ((outer - inner) * Math.cos(angle) + arm * Math.cos((outer - inner) / inner * angle)),
      y + scale * ((outer - inner) * Math.sin(angle) - arm * Math.sin((outer - inner) / inner * angle))
    ]
  }
}

/** One flourish at a time for a board; starting another ends the one before. */
export function playFlourish ({ room, person, origin }) {
  let frame = 0
  const stop = () => cancelAnimationFrame(frame)
  const start = () => {
    stop()
    const pen = startStroke(room.doc, { color: person().color, width: 3, origin })
    if (!pen) return false
    const rosette = randomRosette()
    const from = performance.now()
    let drawn = 0
    const step = now => {
      const due = Math.min(POINTS, Math.ceil((now - from) / DURATION_MS * POINTS))
      const points = []
      for (; drawn < due; drawn += 1) points.push(rosette(drawn / (POINTS - 1)))
      pen.extend(points)
      if (drawn < POINTS) frame = requestAnimationFrame(step)
    }
    frame = requestAnimationFrame(step)
    return true
  }
  return { start, stop }
}
