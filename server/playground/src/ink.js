// Colours on a dark ground: a person's colour is chosen for white paper and needs light to be read at night.

export const darkScheme = matchMedia('(prefers-color-scheme: dark)')
const LIGHTER = 0.32

/** The colour as it is drawn on the board in the given scheme. */
export function inkOn (color, dark) {
  if (!dark) return color
  const channels = [1, 3, 5].map(at => parseInt(color.slice(at, at + 2), 16))
  const lighter = channels.map(channel => Math.round(channel + (255 - channel) * LIGHTER))
  return `rgb(${lighter.join(' ')})`
}
