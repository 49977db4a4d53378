// What 2.x and 3.x share: Node's request and headers in payloads, the older fields beside the newer ones, bare origins, and
// a handleConnection that listens to its socket itself.

import type { IncomingMessage } from 'node:http'
import type { ClientConnection } from './ClientConnection.ts'
import { Hocuspocus } from './Hocuspocus.ts'
import { LegacyDocument } from './LegacyDocument.ts'
import { type HookName, isTransactionOrigin, type WebSocketLike } from './types.ts'
import { nodeRequest, webRequest } from './upgrade.ts'

/** The origin of changes that came over Redis, before 4.0. */
export const REDIS_ORIGIN = '__hocuspocus__redis__origin__'

/** A socket of ws. */
interface EventedSocket extends WebSocketLike {
  on(event: string, listener: (...args: any[]) => void): unknown
}

export class LegacyHocuspocus<Context = any> extends Hocuspocus<Context> {
  /** A payload in the older shape. Objects that hooks change (context, connectionConfig) stay the same ones. */
  protected override adapt(name: HookName, payload: Record<string, any>): Record<string, any> {
    if (name === 'onRequest' || name === 'onUpgrade') return payload
    const adapted = { ...payload }
    const origin = payload.transactionOrigin ?? payload.lastTransactionOrigin
    const connection = payload.connection ?? (isTransactionOrigin(origin) && 'connection' in origin ? origin.connection : undefined)
    const request = nodeRequest(payload.request ?? connection?.request)
    if ('request' in payload) adapted.request = request ?? payload.request
    if ('requestHeaders' in payload) adapted.requestHeaders = request?.headers ?? plain(payload.requestHeaders)
    if ('transactionOrigin' in payload) adapted.transactionOrigin = bare(origin)
    if (name === 'onStoreDocument' || name === 'afterStoreDocument') {
      adapted.context = payload.lastContext
      adapted.transactionOrigin = bare(origin)
    }
    if (name === 'onStoreDocument' || name === 'afterStoreDocument' || name === 'onAwarenessUpdate') {
      adapted.context ??= connection?.context ?? {}
      adapted.requestHeaders = request?.headers ?? {}
      adapted.requestParameters = new URLSearchParams(request?.url?.split('?')[1] ?? '')
      adapted.socketId = connection?.socketId ?? ''
    }
    return adapted
  }

  protected override newDocument(...given: ConstructorParameters<typeof LegacyDocument>): LegacyDocument {
    return new LegacyDocument(...given)
  }

  /** Edits without an origin were not stored. */
  protected override skipsStore(origin: unknown): boolean {
    return !origin || origin === REDIS_ORIGIN || super.skipsStore(origin)
  }

  override handleConnection(
    incoming: WebSocket | WebSocketLike,
    request: Request | IncomingMessage,
    defaultContext: Context = {} as Context,
  ): ClientConnection<Context> {
    const web = request instanceof Request ? request : webRequest(request)
    const client = super.handleConnection(incoming, web, defaultContext)
    const socket = incoming as EventedSocket
    if (typeof socket.on === 'function') {
      socket.on('message', (data: Uint8Array | ArrayBuffer | Buffer[]) => {
        client.handleMessage(Array.isArray(data) ? Buffer.concat(data) : (data as Uint8Array))
      })
      socket.on('close', (code: number, reason: Buffer) => client.handleClose({ code, reason: String(reason) }))
      socket.on('error', (error: Error) => console.error('WebSocket error:', error))
    }
    return client
  }
}

function plain(headers: Headers | Record<string, string> | undefined): Record<string, string> {
  return headers instanceof Headers ? Object.fromEntries([...(headers as any)]) : (headers ?? {})
}

/** Before 4.0 an origin was the connection itself. */
function bare(origin: unknown): unknown {
  if (!isTransactionOrigin(origin)) return origin
  if (origin.source === 'connection') return origin.connection
  return origin.source === 'redis' ? REDIS_ORIGIN : origin
}
