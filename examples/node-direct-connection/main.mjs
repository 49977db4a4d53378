// A server that edits documents itself: POST /documents/<name> appends a line to the text of a document, whether somebody has it
// open or not, and everybody who does sees it at once.

import { FidibusSqlite, Server } from 'fidibus'

const LINE_BYTES_MAX = 10_000

/** A request's body, up to the limit. */
async function lineOf(request) {
  const chunks = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > LINE_BYTES_MAX) throw new RangeError(`a line has at most ${LINE_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function append(name, line) {
  const direct = await server.hocuspocus.openDirectConnection(name, { user: 'the server' })
  try {
    await direct.transact((document) => {
      const text = document.getText('lines')
      text.insert(text.length, `${line}\n`)
    })
    return direct.document.getText('lines').toString()
  } finally {
    // Stores the document, and unloads it where nobody else has it open.
    await direct.disconnect()
  }
}

const server = new Server({
  port: Number(process.env.PORT ?? 3000),
  address: '127.0.0.1',
  quiet: true,
  extensions: [new FidibusSqlite({ file: process.env.SQLITE_FILE ?? 'lines.db' })],

  async onRequest({ request, response }) {
    const name = /^\/documents\/([^/?]+)$/.exec(request.url)?.[1]
    if (request.method !== 'POST' || name === undefined) return
    try {
      const text = await append(decodeURIComponent(name), await lineOf(request))
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
      response.end(text)
    } catch (error) {
      response.writeHead(error instanceof RangeError ? 413 : 500)
      response.end(error.message)
    }
    // An empty rejection: the request is answered.
    throw null
  },
})
await server.listen()
console.log(JSON.stringify({ port: server.address.port }))
