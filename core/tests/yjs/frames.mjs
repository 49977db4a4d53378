// Frames over stdin and stdout: a length of four bytes, little-endian, then so many bytes.
import * as fs from 'node:fs'

/** Calls `answer` for every frame that comes in and writes back what it returns, until stdin ends. */
export const serve = answer => {
  const read = length => {
    const bytes = Buffer.alloc(length)
    let at = 0
    while (at < length) {
      let count = 0
      try {
        count = fs.readSync(0, bytes, at, length - at)
      } catch (error) {
        if (error.code === 'EAGAIN') continue
        throw error
      }
      if (count === 0) return null
      at += count
    }
    return bytes
  }
  const write = bytes => {
    let at = 0
    while (at < bytes.length) {
      try {
        at += fs.writeSync(1, bytes, at)
      } catch (error) {
        if (error.code === 'EPIPE') return
        if (error.code !== 'EAGAIN') throw error
      }
    }
  }
  for (;;) {
    const head = read(4)
    if (head === null) return
    const frame = read(head.readUInt32LE(0))
    const reply = answer(new Uint8Array(frame.buffer, frame.byteOffset, frame.length))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(reply.length, 0)
    write(Buffer.concat([length, reply]))
  }
}
