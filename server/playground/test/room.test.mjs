// Goal: the address alone decides which room and which server a window talks to. Method: plain strings.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DEFAULT_ROOM, ROOM_CHARS_MAX, basePath, roomOf } from '../src/room.js'

test('the part after # names the room', () => {
  assert.equal(roomOf('#team%20notes'), 'team notes')
  assert.equal(roomOf('#50%'), '50%')
  assert.equal(roomOf('##'), '#')
  assert.equal(roomOf('#' + 'x'.repeat(500)).length, ROOM_CHARS_MAX)
  for (const empty of ['', '#', '#%20%20']) assert.equal(roomOf(empty), DEFAULT_ROOM)
})

test('the socket lives in the folder of the page, with or without the last slash', () => {
  assert.deepEqual(['/', '/sync/', '/sync', '/a/b/index.html', '/index.html', '/a/b'].map(basePath),
    ['/', '/sync/', '/sync/', '/a/b/', '/', '/a/b/'])
})
