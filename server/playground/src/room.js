// One room: a Yjs document, its connection to the server, and the facts from which the light is read.

import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import * as Y from 'yjs'
import { readLight } from './light.js'

export const DEFAULT_ROOM = 'playground'
export const ROOM_CHARS_MAX = 100

/** An acknowledgement that takes longer than this turns the light; a shorter one would only make it flicker. */
const OVERDUE_MS = 500
const ASK_AGAIN_MS = 1_000

/** The room that an address names, or the default one. */
export function roomOf (hash) {
  let name = hash.replace(/^#/, '')
  try {
    name = decodeURIComponent(name)
  } catch {
    // A stray "%" in a hand-typed address is taken as it stands.
  }
  return name.trim().slice(0, ROOM_CHARS_MAX) || DEFAULT_ROOM
}

/**
 * The folder of the page; the socket and the figures live there too. A server under a base path serves the page
 * at "/base" as well as at "/base/", where a relative address would lead out of the folder.
 */
export function basePath (pathname) {
  const folder = pathname.replace(/[^/]*\.html$/, '')
  return folder.endsWith('/') ? folder : `${folder}/`
}

function socketUrl () {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:'
  return `${scheme}//${location.host}${basePath(location.pathname)}`
}

/**
 * Opens a room.
 * @param {string} name
 * @param {{name: string, color: string}} person
 * @param {(light: {state: string, label: string, detail: string}) => void} onLight called whenever the light may have changed
 */
export function openRoom (name, person, onLight) {
  const doc = new Y.Doc()
  const facts = { open: false, synced: false, lost: false, waiting: 0, overdue: false, refused: null, readOnly: false, ackMs: null }
  const show = () => onLight(readLight(facts))
  const socket = new HocuspocusProviderWebsocket({
    url: socketUrl(),
    preserveTrailingSlash: true,
    delay: 500,
    minDelay: 300,
    maxDelay: 3_000,
    autoConnect: false
  })
  const provider = new HocuspocusProvider({ name, document: doc, websocketProvider: socket, token: 'playground' })
  provider.setAwarenessField('user', person)
  watchConnection(socket, provider, facts, show)
  const stopWatching = watchAcknowledgements(provider, facts, show)
  provider.attach()
  socket.connect()
  show()
  return {
    name,
    doc,
    awareness: provider.awareness,
    hasUnconfirmedEdits: () => facts.waiting > 0 && !facts.readOnly,
    isOffline: () => !facts.open && facts.lost,
    close () {
      stopWatching()
      provider.destroy()
      socket.destroy()
      doc.destroy()
    }
  }
}

function watchConnection (socket, provider, facts, show) {
  socket.on('status', ({ status }) => {
    facts.open = status === 'connected'
    show()
  })
  socket.on('disconnect', () => {
    facts.lost = true
    facts.synced = false
    show()
  })
  provider.on('synced', () => {
    facts.synced = true
    facts.lost = false
    show()
  })
  // The server may close one room and leave the socket open; then nobody but us asks for the room again.
  provider.on('close', () => {
    facts.synced = false
    facts.lost = true
    show()
    if (socket.status === 'connected') setTimeout(() => askAgain(socket, provider), ASK_AGAIN_MS)
  })
  provider.on('authenticated', ({ scope }) => {
    facts.refused = null
    facts.readOnly = scope === 'readonly'
    show()
  })
  provider.on('authenticationFailed', ({ reason }) => {
    facts.refused = reason
    show()
  })
}

function askAgain (socket, provider) {
  // The room may have been left meanwhile, or the socket lost, whose own reconnect asks for the room.
  if (!provider.isAttached || socket.status !== 'connected') return
  // Not detach and attach: that says goodbye first, and the server's answer to it would close the new session.
  provider.onOpen(new Event('open'))
}

/**
 * Counts the edits that wait for their acknowledgement and measures how long it takes.
 * The provider counts its own handshake as one; it is left out while nobody has edited anything.
 */
function watchAcknowledgements (provider, facts, show) {
  let edited = false
  let editedAt = null
  let timer = null
  const settle = () => {
    if (editedAt !== null && facts.synced) facts.ackMs = performance.now() - editedAt
    edited = false
    editedAt = null
    facts.overdue = false
    clearTimeout(timer)
    timer = null
  }
  provider.document.on('update', (_update, origin) => {
    if (origin === provider) return
    edited = true
    if (facts.synced && editedAt === null) editedAt = performance.now()
    count(provider.unsyncedChanges)
  })
  const count = number => {
    facts.waiting = edited ? number : 0
    if (number === 0) {
      settle()
    } else if (timer === null) {
      timer = setTimeout(() => { facts.overdue = true; show() }, OVERDUE_MS)
    }
    show()
  }
  provider.on('unsyncedChanges', ({ number }) => count(number))
  return () => clearTimeout(timer)
}
