// A seeded generator, so that a case is its seed.

/** mulberry32. */
export const randomOf = seed => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return {
    /** An integer below `n`. */
    below: n => Math.floor(next() * n),
    chance: p => next() < p,
    pick: array => array[Math.floor(next() * array.length)]
  }
}
