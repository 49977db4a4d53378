// A small line chart on a canvas: the newest sample at the right edge, a gap where there was none.

import { SAMPLES_MAX } from './rates.js'

const PAD_TOP = 6
const PAD_BOTTOM = 4
const PAD_RIGHT = 9
const LINE_WIDTH = 1.75

/** Draws the samples; `floor` is the least height of the scale, so that noise around zero does not look like a mountain. */
export function drawSparkline (canvas, samples, { color, floor, fromZero }) {
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  if (width === 0 || height === 0) return
  canvas.width = Math.round(width * devicePixelRatio)
  canvas.height = Math.round(height * devicePixelRatio)
  const context = canvas.getContext('2d')
  context.scale(devicePixelRatio, devicePixelRatio)
  const scale = scaleOf(samples, { floor, fromZero })
  const x = index => width - PAD_RIGHT - (samples.length - 1 - index) * (width - PAD_RIGHT) / (SAMPLES_MAX - 1)
  const y = value => height - PAD_BOTTOM - (value - scale.low) / (scale.high - scale.low) * (height - PAD_BOTTOM - PAD_TOP)
  for (const run of runsOf(samples)) drawRun(context, run.map(([index, value]) => [x(index), y(value)]), { color, height })
  const latest = samples[samples.length - 1]
  if (Number.isFinite(latest)) drawDot(context, x(samples.length - 1), y(latest), color)
}

function scaleOf (samples, { floor, fromZero }) {
  const known = samples.filter(Number.isFinite)
  const top = Math.max(...known, 0)
  const bottom = fromZero ? 0 : Math.min(...known, top)
  const span = Math.max(top - bottom, floor)
  // A flat line far from zero belongs in the middle, not on the ground.
  const low = fromZero ? 0 : Math.max(0, bottom - (span - (top - bottom)) / 2)
  return { low, high: low + span }
}

/** Splits the samples where one is missing. */
function runsOf (samples) {
  const runs = []
  let run = null
  samples.forEach((value, index) => {
    if (!Number.isFinite(value)) {
      run = null
      return
    }
    if (!run) runs.push(run = [])
    run.push([index, value])
  })
  return runs
}

function drawRun (context, points, { color, height }) {
  context.beginPath()
  points.forEach(([x, y], index) => index === 0 ? context.moveTo(x, y) : context.lineTo(x, y))
  context.strokeStyle = color
  context.lineWidth = LINE_WIDTH
  context.lineJoin = context.lineCap = 'round'
  context.stroke()
  context.lineTo(points[points.length - 1][0], height)
  context.lineTo(points[0][0], height)
  context.closePath()
  context.globalAlpha = 0.13
  context.fillStyle = color
  context.fill()
  context.globalAlpha = 1
}

function drawDot (context, x, y, color) {
  context.beginPath()
  context.arc(x, y, 2.75, 0, 2 * Math.PI)
  context.fillStyle = color
  context.fill()
}
