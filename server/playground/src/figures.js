// The server's own figures as tiles with a small chart each, asked for once a second while anybody can see them.

import { darkScheme } from './ink.js'
import { addFigures, emptyHistory, formatBytes, formatCount, formatUptime, isFigures } from './rates.js'
import { basePath } from './room.js'
import { drawSparkline } from './sparkline.js'

const POLL_INTERVAL_MS = 1_000
const ANSWER_WAIT_MS = 2_500
const MEBIBYTE = 1024 ** 2

const TILES = [
  { field: 'documents', title: 'Documents', format: formatCount, floor: 4, fromZero: true },
  { field: 'connections', title: 'Connections', format: formatCount, floor: 4, fromZero: true },
  { field: 'updates', title: 'Updates per second', format: formatCount, floor: 10, fromZero: true },
  { field: 'frames', title: 'Frames sent per second', format: formatCount, floor: 10, fromZero: true },
  { field: 'memory', title: 'Memory', format: formatBytes, floor: 2 * MEBIBYTE, fromZero: false }
]

/**
 * Starts the tiles.
 * @param {object} parts  elements: tiles (a list), note (a line of text)
 * @param {() => boolean} isOffline  while true the server is not asked: it would only fill the console with errors
 */
export function mountFigures ({ tiles: list, note }, isOffline) {
  const tiles = TILES.map(tile => ({ ...tile, ...buildTile(list, tile) }))
  let history = emptyHistory()
  const draw = () => drawTiles(tiles, history.samples)
  const poll = async () => {
    if (document.hidden) return schedule()
    const answer = isOffline() ? 'none' : await ask()
    if (answer === 'absent') {
      list.hidden = true
      note.textContent = 'This server does not publish its figures.'
      return
    }
    history = addFigures(history, answer === 'none' ? null : answer)
    note.textContent = answer === 'none' ? 'No answer from the server' : `Running for ${formatUptime(answer.uptimeSeconds)}`
    draw()
    schedule()
  }
  const schedule = () => setTimeout(poll, POLL_INTERVAL_MS)
  new ResizeObserver(draw).observe(list)
  darkScheme.addEventListener('change', draw)
  poll()
}

/** One answer: the figures, 'absent' where the server has none to give, 'none' where it gave none now. */
async function ask () {
  try {
    const response = await fetch(`${basePath(location.pathname)}figures`, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_WAIT_MS) })
    if (response.status === 404) return 'absent'
    const figures = response.ok ? await response.json() : null
    return isFigures(figures) ? figures : 'none'
  } catch {
    // The connection light tells what is wrong; here the chart gets a gap.
    return 'none'
  }
}

function buildTile (list, { field, title }) {
  const tile = document.createElement('li')
  tile.className = 'tile'
  tile.dataset.figure = field
  const name = document.createElement('span')
  name.className = 'title'
  name.textContent = title
  const value = document.createElement('strong')
  value.textContent = '–'
  const canvas = document.createElement('canvas')
  canvas.setAttribute('aria-hidden', 'true')
  tile.append(name, value, canvas)
  list.append(tile)
  return { tile, value, canvas }
}

function drawTiles (tiles, samples) {
  const latest = samples[samples.length - 1]
  for (const { field, format, floor, fromZero, tile, value, canvas } of tiles) {
    value.textContent = format(latest ? latest[field] : null)
    const color = getComputedStyle(tile).getPropertyValue('--chart').trim()
    drawSparkline(canvas, samples.map(sample => sample ? sample[field] : null), { color, floor, fromZero })
  }
}
