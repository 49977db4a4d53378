// The page: reads the room from the address, shows it, and changes rooms when the address changes.

import { mountBoard } from './board.js'
import { mountFigures } from './figures.js'
import { mountPeople } from './people.js'
import { COLORS, NAME_CHARS_MAX, cleanName, distinctFrom, readPerson, restorePerson, storePerson } from './person.js'
import { ROOM_CHARS_MAX, openRoom, roomOf } from './room.js'
import { mountText } from './text.js'

const part = id => document.getElementById(id)
const person = restorePerson()
let room = null
let unmount = []

/** By then a newcomer has heard of everybody; whoever comes later is the one to give way. */
const SETTLE_MS = 1_500

function showLight ({ state, label, detail }) {
  const light = part('light')
  if (state === 'connected' && light.dataset.state !== state) setTimeout(() => { person.chosen = true }, SETTLE_MS)
  light.dataset.state = state
  part('light-label').textContent = label
  part('light-detail').textContent = detail
}

function enter (name) {
  if (room?.name === name) return
  leave()
  document.title = `${name} · Fidibus playground`
  part('room').value = name
  room = openRoom(name, ourself(), showLight)
  room.awareness.on('change', giveWay)
  unmount = [
    mountPeople(room.awareness, part('people')),
    mountText(room, { element: part('text'), toolbar: part('text-tools') }),
    mountBoard(room, () => person, {
      stage: part('stage'),
      canvas: part('board'),
      pointers: part('pointers'),
      toolbar: part('board-tools'),
      note: part('board-note')
    })
  ]
}

const ourself = () => ({ name: person.name, color: person.color })

/** An invented name or colour gives way to that of somebody who was here before; a chosen one stays. */
function giveWay () {
  if (person.chosen) return
  const { awareness } = room
  const others = [...awareness.getStates()].filter(([client]) => client !== awareness.clientID).map(([, state]) => readPerson(state))
  if (others.length === 0) return
  person.chosen = true
  Object.assign(person, distinctFrom(person, others))
  part('name').value = person.name
  part('colors').querySelector(`[value="${person.color}"]`).checked = true
  announce()
}

function leave () {
  for (const stop of unmount) stop()
  unmount = []
  room?.close()
  room = null
}

/** Our name or colour changed: this window remembers it, the others see it. */
function announce () {
  storePerson(person)
  part('you').style.setProperty('--person', person.color)
  room?.awareness.setLocalStateField('user', ourself())
}

function bindPerson () {
  const name = part('name')
  name.maxLength = NAME_CHARS_MAX
  name.value = person.name
  name.addEventListener('input', () => {
    person.name = cleanName(name.value) || 'Guest'
    person.chosen = true
    announce()
  })
  name.addEventListener('keydown', event => { if (event.key === 'Enter') name.blur() })
  const colors = part('colors')
  for (const color of COLORS) colors.append(buildColor(color))
  colors.addEventListener('change', event => {
    person.color = event.target.value
    person.chosen = true
    // Whoever takes a colour wants to draw with it.
    const eraser = document.querySelector('[name=tool][value=eraser]')
    if (eraser.checked) document.querySelector('[name=tool][value="9"]').click()
    announce()
  })
  announce()
}

function buildColor (color) {
  const label = document.createElement('label')
  label.className = 'swatch'
  label.style.setProperty('--person', color)
  label.title = 'Your colour'
  const input = document.createElement('input')
  input.type = 'radio'
  input.name = 'color'
  input.value = color
  input.checked = color === person.color
  input.setAttribute('aria-label', `Your colour: ${color}`)
  label.append(input)
  return label
}

function bindRoom () {
  const field = part('room')
  field.maxLength = ROOM_CHARS_MAX
  const go = () => { location.hash = encodeURIComponent(roomOf(encodeURIComponent(field.value))) }
  part('room-form').addEventListener('submit', event => {
    event.preventDefault()
    field.blur()
  })
  field.addEventListener('change', go)
  addEventListener('hashchange', () => enter(roomOf(location.hash)))
}

/** Opens the same room beside this window; `noopener` also gives it a session of its own, hence another person. */
function openSecondWindow () {
  const width = Math.max(480, Math.min(1100, screen.availWidth / 2))
  const height = Math.max(560, Math.min(860, screen.availHeight))
  const left = Math.max(0, Math.min(screenX + 80, screen.availWidth - width))
  open(location.href, '_blank', `popup,noopener,width=${width | 0},height=${height | 0},left=${left | 0},top=${screenY + 40 | 0}`)
}

function bindWindow () {
  part('second').addEventListener('click', openSecondWindow)
  addEventListener('beforeunload', event => { if (room?.hasUnconfirmedEdits()) event.preventDefault() })
  // A page out of the browser's cache has said goodbye to the others already.
  addEventListener('pageshow', event => { if (event.persisted) location.reload() })
}

const first = roomOf(location.hash)
if (!location.hash) history.replaceState(null, '', `#${encodeURIComponent(first)}`)
bindPerson()
bindRoom()
bindWindow()
enter(first)
mountFigures({ tiles: part('figures'), note: part('figures-note') }, () => room?.isOffline() ?? false)
