// The shared board: a canvas that shows the document's strokes, and the pen and eraser that change them.

import * as Y from 'yjs'
import { playFlourish } from './flourish.js'
import { darkScheme, inkOn } from './ink.js'
import { trackPointers } from './pointers.js'
import { BOARD_HEIGHT, BOARD_WIDTH, WIDTHS, clearBoard, coordinates, eraseAt, readStroke, startStroke, strokesOf } from './stroke.js'

/** Points closer than this to the one before are left out; nobody sees them and everybody would receive them. */
const STEP_MIN = 2
const ERASER_REACH = 14
/** One undo step per pen stroke, however long it takes: a new stroke ends the step, not the clock. */
const UNDO_STEP_MS = 3_600_000

/**
 * Shows the board of a room; returns a function that takes it off the page.
 * @param {object} room
 * @param {() => {color: string}} person  who draws, asked at each stroke
 * @param {object} parts  elements: stage, canvas, pointers, toolbar, note
 */
export function mountBoard (room, person, parts) {
  const origin = { name: 'board' }
  const strokes = strokesOf(room.doc)
  const undo = new Y.UndoManager(strokes, { trackedOrigins: new Set([origin]), captureTimeout: UNDO_STEP_MS })
  const listeners = new AbortController()
  const picture = paintStrokes(strokes, parts)
  const board = { room, person, parts, origin, undo, tool: 'pen', width: WIDTHS[1], signal: listeners.signal }
  const pointers = trackPointers(room.awareness, parts)
  bindPen(board, pointers)
  bindTools(board)
  return () => {
    listeners.abort()
    pointers.stop()
    picture.stop()
    undo.destroy()
  }
}

/** Repaints the canvas, at most once a frame, when a stroke, the size or the colour scheme changes. */
function paintStrokes (strokes, { canvas, stage }) {
  const paths = new WeakMap()
  let frame = 0
  const paint = () => {
    frame = 0
    const context = canvas.getContext('2d')
    const dark = darkScheme.matches
    context.setTransform(canvas.width / BOARD_WIDTH, 0, 0, canvas.height / BOARD_HEIGHT, 0, 0)
    context.clearRect(0, 0, BOARD_WIDTH, BOARD_HEIGHT)
    context.lineCap = context.lineJoin = 'round'
    strokes.forEach(entry => {
      const stroke = readStroke(entry)
      if (!stroke) return
      context.strokeStyle = inkOn(stroke.color, dark)
      context.lineWidth = stroke.width
      context.stroke(pathOf(paths, entry, stroke.points))
    })
    canvas.setAttribute('aria-label', `Shared board with ${strokes.length} ${strokes.length === 1 ? 'stroke' : 'strokes'}`)
    canvas.dataset.strokes = strokes.length
  }
  const request = () => { frame ||= requestAnimationFrame(paint) }
  const fit = () => {
    const { width, height } = stage.getBoundingClientRect()
    canvas.width = Math.max(1, Math.round(width * devicePixelRatio))
    canvas.height = Math.max(1, Math.round(height * devicePixelRatio))
    paint()
  }
  const sizes = new ResizeObserver(fit)
  sizes.observe(stage)
  strokes.observeDeep(request)
  darkScheme.addEventListener('change', request)
  fit()
  return {
    stop () {
      cancelAnimationFrame(frame)
      sizes.disconnect()
      strokes.unobserveDeep(request)
      darkScheme.removeEventListener('change', request)
    }
  }
}

/** The outline of a stroke, smoothed through the midpoints and kept until the stroke grows. */
function pathOf (paths, entry, points) {
  const known = paths.get(entry)
  if (known && known.length === points.length) return known.path
  const flat = coordinates(points)
  const path = new Path2D()
  if (flat.length >= 2) path.moveTo(flat[0], flat[1])
  if (flat.length === 2) path.lineTo(flat[0], flat[1])
  for (let i = 2; i + 1 < flat.length; i += 2) {
    const end = i + 3 >= flat.length
    const x = end ? flat[i] : (flat[i] + flat[i + 2]) / 2
    const y = end ? flat[i + 1] : (flat[i + 1] + flat[i + 3]) / 2
    path.quadraticCurveTo(flat[i], flat[i + 1], x, y)
  }
  paths.set(entry, { length: points.length, path })
  return path
}

/** Turns pointer events into strokes: points gather until the next frame and go out as one update. */
function bindPen (board, pointers) {
  const { parts: { canvas, note }, room, origin, signal } = board
  let pen = null
  let last = null
  let gathered = []
  const flush = () => {
    const points = gathered
    gathered = []
    pen?.extend(points)
  }
  const position = event => {
    const box = canvas.getBoundingClientRect()
    return [(event.clientX - box.left) / box.width * BOARD_WIDTH, (event.clientY - box.top) / box.height * BOARD_HEIGHT]
  }
  const add = point => {
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) < STEP_MIN) return
    last = point
    if (gathered.push(point) === 1) requestAnimationFrame(flush)
  }
  const finish = () => {
    flush()
    pen = last = null
  }
  canvas.addEventListener('pointerdown', event => {
    if (event.button !== 0) return
    canvas.setPointerCapture(event.pointerId)
    board.undo.stopCapturing()
    if (board.tool === 'eraser') return eraseAt(room.doc, position(event), ERASER_REACH, origin)
    pen = startStroke(room.doc, { color: board.person().color, width: board.width, origin })
    note.textContent = pen ? '' : 'The board is full. Clear it to go on.'
    if (pen) add(position(event))
  }, { signal })
  canvas.addEventListener('pointermove', event => {
    pointers.move(position(event))
    if (board.tool === 'eraser' && event.buttons === 1) eraseAt(room.doc, position(event), ERASER_REACH, origin)
    if (!pen) return
    const events = event.getCoalescedEvents?.() ?? []
    for (const each of events.length > 0 ? events : [event]) add(position(each))
  }, { signal })
  canvas.addEventListener('pointerup', finish, { signal })
  canvas.addEventListener('pointercancel', finish, { signal })
  canvas.addEventListener('pointerleave', () => pointers.leave(), { signal })
}

function bindTools (board) {
  const { parts: { toolbar, stage, note }, room, origin, undo, signal } = board
  const flourish = playFlourish(board)
  const commands = {
    undo: () => undo.undo(),
    clear: () => {
      undo.stopCapturing()
      clearBoard(room.doc, origin)
      note.textContent = ''
    },
    flourish: () => {
      undo.stopCapturing()
      note.textContent = flourish.start() ? '' : 'The board is full. Clear it to go on.'
    }
  }
  const choose = () => {
    const tool = toolbar.querySelector('[name=tool]:checked').value
    board.tool = tool === 'eraser' ? 'eraser' : 'pen'
    if (board.tool === 'pen') board.width = Number(tool)
    stage.dataset.tool = board.tool
  }
  toolbar.addEventListener('change', choose, { signal })
  toolbar.addEventListener('click', event => {
    const button = event.target.closest('[data-command]')
    if (button) commands[button.dataset.command]()
  }, { signal })
  signal.addEventListener('abort', () => flourish.stop())
  choose()
}
