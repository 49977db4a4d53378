// Who is here: a row of round badges, one per window in the room, our own first.

import { initials, readPerson } from './person.js'

const BADGES_MAX = 5
const NAMES_MAX = 200

/** Shows the people of a room; returns a function that stops. */
export function mountPeople (awareness, list) {
  const show = () => {
    const people = [...awareness.getStates()]
      .slice(0, NAMES_MAX)
      .sort(([a], [b]) => Number(b === awareness.clientID) - Number(a === awareness.clientID) || a - b)
      .map(([client, state]) => ({ ...readPerson(state), own: client === awareness.clientID }))
    const badges = people.slice(0, BADGES_MAX).map(buildBadge)
    if (people.length > BADGES_MAX) badges.push(buildRest(people.slice(BADGES_MAX)))
    list.replaceChildren(...badges)
    list.setAttribute('aria-label', people.length === 1 ? 'You are alone here' : `${people.length} people here`)
    list.dataset.people = people.length
  }
  awareness.on('change', show)
  show()
  return () => awareness.off('change', show)
}

function buildBadge ({ name, color, own }) {
  const badge = document.createElement('li')
  badge.className = 'badge'
  badge.style.setProperty('--person', color)
  badge.textContent = initials(name)
  badge.title = own ? `${name} (you)` : name
  badge.setAttribute('aria-label', badge.title)
  return badge
}

function buildRest (people) {
  const badge = document.createElement('li')
  badge.className = 'badge rest'
  badge.textContent = `+${people.length}`
  badge.title = people.slice(0, 20).map(person => person.name).join(', ')
  badge.setAttribute('aria-label', `${people.length} more: ${badge.title}`)
  return badge
}
