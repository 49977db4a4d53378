// Where the others point on the board: our own position goes out through awareness, theirs become labelled arrows.

import { readPerson } from './person.js'
import { BOARD_HEIGHT, BOARD_WIDTH } from './stroke.js'

/** At most one position per this time; the arrows glide between two of them. */
const SEND_INTERVAL_MS = 50
const POINTERS_MAX = 50
const ARROW = 'M2 2 L2 15.5 L6 12 L8.6 17.6 L11.2 16.4 L8.6 10.9 L13.8 10.6 Z'

/** Follows everybody's pointer on the board of one room. */
export function trackPointers (awareness, { pointers: layer }) {
  const arrows = new Map()
  const show = () => showArrows(awareness, layer, arrows)
  awareness.on('change', show)
  show()
  const send = throttle(position => awareness.setLocalStateField('pointer', position), SEND_INTERVAL_MS)
  return {
    move: ([x, y]) => send({ x: Math.round(x), y: Math.round(y) }),
    leave: () => send(null),
    stop () {
      send.cancel()
      awareness.off('change', show)
      layer.replaceChildren()
    }
  }
}

function showArrows (awareness, layer, arrows) {
  const seen = new Set()
  for (const [client, state] of awareness.getStates()) {
    const pointer = state?.pointer
    if (client === awareness.clientID || seen.size >= POINTERS_MAX) continue
    if (!pointer || !Number.isFinite(pointer.x) || !Number.isFinite(pointer.y)) continue
    seen.add(client)
    const arrow = arrows.get(client) ?? buildArrow(layer)
    arrows.set(client, arrow)
    moveArrow(arrow, pointer, readPerson(state))
  }
  for (const [client, arrow] of arrows) {
    if (seen.has(client)) continue
    arrow.remove()
    arrows.delete(client)
  }
}

function buildArrow (layer) {
  const arrow = document.createElement('div')
  arrow.className = 'pointer'
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 18 20')
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
  path.setAttribute('d', ARROW)
  svg.append(path)
  const flag = document.createElement('span')
  flag.className = 'flag'
  arrow.append(svg, flag)
  layer.append(arrow)
  return arrow
}

function moveArrow (arrow, { x, y }, person) {
  arrow.style.setProperty('--person', person.color)
  arrow.style.left = `${Math.max(0, Math.min(100, x / BOARD_WIDTH * 100))}%`
  arrow.style.top = `${Math.max(0, Math.min(100, y / BOARD_HEIGHT * 100))}%`
  // A flag near the right edge would be cut off; it hangs to the left there.
  arrow.classList.toggle('flip', x > BOARD_WIDTH * 0.8)
  arrow.lastElementChild.textContent = person.name
}

/** Calls at once, then at most once per interval, always with the latest value. */
function throttle (send, intervalMs) {
  let timer = null
  let waiting
  const tick = () => {
    timer = null
    if (waiting === undefined) return
    const value = waiting
    waiting = undefined
    throttled(value)
  }
  const throttled = value => {
    if (timer !== null) {
      waiting = value
      return
    }
    send(value)
    timer = setTimeout(tick, intervalMs)
  }
  throttled.cancel = () => clearTimeout(timer)
  return throttled
}
