// Who sits at this window: a name and a colour, kept per window so that a second window is a second person.

export const COLORS = ['#c2410c', '#b91c1c', '#be185d', '#7e22ce', '#4338ca', '#0369a1', '#047857', '#4d7c0f']
export const NAME_CHARS_MAX = 24

const TRAITS = ['Amber', 'Brisk', 'Calm', 'Clever', 'Curious', 'Gentle', 'Merry', 'Nimble', 'Quiet', 'Sunny', 'Swift', 'Witty']
const CREATURES = ['Badger', 'Crane', 'Falcon', 'Fox', 'Heron', 'Lynx', 'Marten', 'Otter', 'Owl', 'Robin', 'Stoat', 'Wren']
const STORAGE_KEY = 'fidibus-person'

const pick = list => list[Math.floor(Math.random() * list.length)]

/** Shortens a name to what fits on a cursor; an empty one stays empty. */
export function cleanName (name) {
  return String(name).replace(/\s+/g, ' ').trim().slice(0, NAME_CHARS_MAX)
}

/**
 * Reads what a peer says about itself. Awareness is whatever the peer sends, so anything of another shape
 * becomes a plain guest instead of an error in our page.
 */
export function readPerson (state) {
  const user = state && typeof state === 'object' ? state.user : null
  const name = user && typeof user.name === 'string' ? cleanName(user.name) : ''
  const color = user && typeof user.color === 'string' && /^#[0-9a-f]{6}$/i.test(user.color) ? user.color : '#64748b'
  return { name: name || 'Guest', color }
}

/** The one or two letters shown in a round badge. */
export function initials (name) {
  const words = name.split(/[^\p{L}\p{N}\p{Extended_Pictographic}]+/u).filter(Boolean)
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words
  return letters.map(word => [...word][0]).join('').toUpperCase()
}

/** Restores the person of this window, or invents one; `chosen` says whether name and colour are settled. */
export function restorePerson () {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORAGE_KEY))
    if (stored) return { ...readPerson({ user: stored }), chosen: true }
  } catch {
    // Storage may be forbidden or hold nonsense: a new person is as good.
  }
  const person = { name: inventName(), color: pick(COLORS), chosen: false }
  storePerson(person)
  return person
}

const inventName = () => `${pick(TRAITS)} ${pick(CREATURES)}`

/** The name and colour to take among these people: our own where nobody has them, else free ones if there are any. */
export function distinctFrom (own, people) {
  const names = new Set(people.map(person => person.name))
  const colors = new Set(people.map(person => person.color))
  const free = COLORS.filter(color => !colors.has(color))
  return {
    name: names.has(own.name) ? inventName() : own.name,
    color: colors.has(own.color) && free.length > 0 ? pick(free) : own.color
  }
}

/** Remembers the person across a reload of this window. */
export function storePerson (person) {
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify({ name: person.name, color: person.color }))
  } catch {
    // Without storage the name lasts until the reload.
  }
}
