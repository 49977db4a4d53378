// The WebSocket handshake (RFC 6455, 4.2) over Node's own HTTP server, and the hand-over of the socket to the engine: its
// descriptor is duplicated there with what Node has read of it, and Node's socket object is closed. Streams without
// a descriptor of their own (TLS) are pumped through a socket pair.

import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Engine } from './addon.ts'
import type { ClientConnection } from './ClientConnection.ts'
import { pathDocument } from './parameters.ts'
import type { WebSocketLike } from './types.ts'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** Options of ws' server that are honoured here. */
export interface WebSocketOptions {
  maxPayload?: number
  path?: string
  verifyClient?: (...args: any[]) => any
  handleProtocols?: (protocols: Set<string>, request: IncomingMessage) => string | false
  [option: string]: any
}

/** Options that change nothing here at these values. */
const HARMLESS: Record<string, (value: any) => boolean> = {
  perMessageDeflate: (value) => !value,
  clientTracking: () => true,
  skipUTF8Validation: () => true,
  noServer: (value) => value === undefined || value === true,
  autoPong: (value) => value !== false,
  allowSynchronousEvents: () => true,
  closeTimeout: () => true,
  maxPayload: (value) => value === undefined || (Number.isFinite(value) && value > 0),
  path: () => true,
  verifyClient: () => true,
  handleProtocols: () => true,
}

/** An option that cannot be honoured is an error, and never passed over. */
export function checkWebSocketOptions(options: WebSocketOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || HARMLESS[name]?.(value)) continue
    throw new Error(
      `fidibus: websocketOptions.${name} = ${JSON.stringify(value) ?? String(value)} is not supported: ` +
        'sockets are served by the engine. Serve them with ws and hocuspocus.handleConnection to keep it.',
    )
  }
}

/** A socket that the engine serves, as hooks see it. */
export class NativeSocket implements WebSocketLike {
  readyState = 1

  client: ClientConnection | undefined

  readonly id: number

  readonly #engine: Engine

  constructor(engine: Engine, id: number) {
    this.#engine = engine
    this.id = id
  }

  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void {
    if (this.readyState !== 1) return
    if (ArrayBuffer.isView(data)) {
      this.#engine.send(this.id, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    } else if (data instanceof ArrayBuffer) {
      this.#engine.send(this.id, new Uint8Array(data))
    } else {
      throw new TypeError('fidibus: sockets are binary; send bytes')
    }
  }

  close(code = 1000, reason = ''): void {
    if (this.readyState > 1) return
    this.readyState = 2
    this.#engine.closeSocket(this.id, code, reason)
  }

  terminate(): void {
    this.close(1001)
  }
}

type Adopted<T> = (socket: NativeSocket, request: () => Request) => T

/** `undefined`: the request was refused. */
export async function upgrade<T>(
  request: IncomingMessage,
  socket: Duplex,
  head: Uint8Array,
  engine: Engine,
  options: WebSocketOptions,
  adopted: Adopted<T>,
): Promise<T | undefined> {
  const ignore = () => {}
  // Until the engine has it: a peer that goes away meanwhile is nobody's error.
  socket.on('error', ignore)
  const key = await handshakeKey(request, socket, options)
  if (key === undefined) return undefined
  await new Promise<void>((resolve) => socket.write(acceptance(request, key, options), () => resolve()))
  if (socket.destroyed) return undefined
  const ip = request.socket.remoteAddress ?? ''
  const path = pathDocument(request.url)
  const id = handOver(engine, socket, head, ip, path)
  return adopted(new NativeSocket(engine, id), () => webRequest(request))
}

function handOver(engine: Engine, socket: Duplex, head: Uint8Array, ip: string, path: string | undefined): number {
  const handle = (socket as any)._handle
  const plain = socket instanceof Socket && !(socket as TLSSocket).encrypted && handle?.fd >= 0
  if (!plain) return pump(engine, socket, head, ip, path)
  handle.readStop?.()
  const rest: Buffer | null = socket.read()
  // Reading from a stream starts its source again.
  handle.readStop?.()
  const id = engine.adopt(handle.fd, rest === null ? head : Buffer.concat([head, rest]), ip, path)
  socket.destroy()
  return id
}

function pump(engine: Engine, socket: Duplex, head: Uint8Array, ip: string, path: string | undefined): number {
  const [fd, id] = engine.pair(head, ip, path)
  const inner = new Socket({ fd, readable: true, writable: true })
  const end = () => {
    inner.destroy()
    socket.destroy()
  }
  inner.on('error', end)
  socket.on('error', end)
  inner.on('close', end)
  socket.on('close', end)
  socket.pipe(inner)
  inner.pipe(socket)
  return id
}

/** The request's key where it is a handshake that the options let pass; else it is answered and the socket ended. */
async function handshakeKey(
  request: IncomingMessage,
  socket: Duplex,
  options: WebSocketOptions,
): Promise<string | undefined> {
  const { headers } = request
  const key = headers['sec-websocket-key']
  if (request.method !== 'GET') return refuse(socket, 405, 'Invalid HTTP method')
  if (headers.upgrade?.toLowerCase() !== 'websocket') return refuse(socket, 400, 'Invalid Upgrade header')
  if (key === undefined || !/^[+/0-9A-Za-z]{22}==$/.test(key)) {
    return refuse(socket, 400, 'Missing or invalid Sec-WebSocket-Key header')
  }
  if (headers['sec-websocket-version'] !== '13' && headers['sec-websocket-version'] !== '8') {
    return refuse(socket, 400, 'Missing or invalid Sec-WebSocket-Version header', 'Sec-WebSocket-Version: 13, 8')
  }
  if (options.path !== undefined && request.url?.split('?')[0] !== options.path) {
    return refuse(socket, 400, 'Bad Request')
  }
  const [allowed, status, message] = await verified(request, options)
  return allowed ? key : refuse(socket, status, message)
}

/** `verifyClient` in both of ws' forms. */
async function verified(request: IncomingMessage, options: WebSocketOptions): Promise<[boolean, number, string]> {
  const { verifyClient } = options
  if (verifyClient === undefined) return [true, 101, '']
  const told = {
    origin: request.headers.origin,
    secure: (request.socket as TLSSocket).encrypted === true,
    req: request,
  }
  if (verifyClient.length < 2) return [Boolean(verifyClient(told)), 401, 'Unauthorized']
  return new Promise((resolve) => {
    verifyClient(told, (allowed: boolean, code = 401, message = 'Unauthorized') => resolve([allowed, code, message]))
  })
}

const STATUS: Record<number, string> = { 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 405: 'Method Not Allowed' }

function refuse(socket: Duplex, status: number, message: string, header?: string): undefined {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS[status] ?? 'Refused'}`,
    'Connection: close',
    'Content-Type: text/plain',
    `Content-Length: ${Buffer.byteLength(message)}`,
  ]
  if (header) lines.push(header)
  socket.once('finish', () => socket.destroy())
  socket.end(`${lines.join('\r\n')}\r\n\r\n${message}`)
}

function acceptance(request: IncomingMessage, key: string, options: WebSocketOptions): string {
  const accept = createHash('sha1').update(key + GUID).digest('base64')
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`,
  ]
  const offered = request.headers['sec-websocket-protocol']?.split(',').map((name) => name.trim())
  if (offered !== undefined && offered.length > 0) {
    const chosen = options.handleProtocols ? options.handleProtocols(new Set(offered), request) : offered[0]
    if (chosen) lines.push(`Sec-WebSocket-Protocol: ${chosen}`)
  }
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** Node's request as hooks of 4.x get it. */
export function webRequest(request: IncomingMessage): Request {
  const headers = new Headers()
  for (let index = 0; index < request.rawHeaders.length; index += 2) {
    headers.append(request.rawHeaders[index], request.rawHeaders[index + 1])
  }
  const scheme = (request.socket as TLSSocket).encrypted ? 'https' : 'http'
  const host = request.headers.host ?? 'localhost'
  const made = new Request(new URL(request.url ?? '/', `${scheme}://${host}`), { headers })
  nodeRequests.set(made, request)
  return made
}

const nodeRequests = new WeakMap<Request, IncomingMessage>()

/** The request of Node that a web request was made of: what hooks got before 4.0. */
export function nodeRequest(request: Request | undefined): IncomingMessage | undefined {
  return request && nodeRequests.get(request)
}
