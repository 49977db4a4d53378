// The connection light: what the page knows about its connection, put into one state and two short texts.
// Pure, so that every state can be tested without a browser.

/**
 * @param {object} facts
 * @param {boolean} facts.open        the socket is open
 * @param {boolean} facts.synced      the document has been exchanged since the socket opened
 * @param {boolean} facts.lost        a connection was lost or an attempt failed since the last synced moment
 * @param {number}  facts.waiting     local edits that the server has not acknowledged
 * @param {boolean} facts.overdue     edits have waited longer than an acknowledgement should take
 * @param {string|null} facts.refused why the server refused this room, if it did
 * @param {boolean} facts.readOnly    the server lets this window read only
 * @param {number|null} facts.ackMs   how long the latest acknowledgement took
 * @returns {{state: string, label: string, detail: string}}
 */
export function readLight (facts) {
  if (facts.refused !== null) {
    return { state: 'refused', label: 'Refused', detail: facts.refused || 'The server refused this room' }
  }
  if (!facts.open && facts.lost) {
    return facts.waiting > 0
      ? { state: 'offline', label: 'Offline', detail: `${edits(facts.waiting)} waiting, trying again` }
      : { state: 'offline', label: 'Offline', detail: 'You can go on, trying again' }
  }
  if (!facts.open || !facts.synced) {
    return { state: 'connecting', label: facts.lost ? 'Reconnecting' : 'Connecting', detail: 'Asking for the document' }
  }
  if (facts.overdue && facts.waiting > 0) {
    return { state: 'unsynced', label: 'Unsynced edits', detail: `${edits(facts.waiting)} not yet confirmed` }
  }
  if (facts.readOnly) {
    return { state: 'connected', label: 'Connected', detail: 'You may read only' }
  }
  return {
    state: 'connected',
    label: 'Connected',
    detail: facts.ackMs === null ? 'All edits confirmed' : `Last edit confirmed in ${milliseconds(facts.ackMs)}`
  }
}

const edits = n => n === 1 ? '1 edit' : `${n} edits`

const milliseconds = ms => ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`
