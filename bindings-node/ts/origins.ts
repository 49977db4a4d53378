// What the origin of a change tells about its author.

import type Connection from './Connection.ts'
import { isTransactionOrigin } from './types.ts'

/** The connection that made a change. */
export function connectionOf(origin: unknown): Connection | undefined {
  return isTransactionOrigin(origin) && origin.source === 'connection' ? origin.connection : undefined
}

/** The context that hooks are told with a change. */
export function contextOf(origin: unknown): any {
  if (!isTransactionOrigin(origin)) return {}
  if (origin.source === 'connection') return origin.connection.context
  return origin.source === 'local' ? (origin.context ?? {}) : {}
}
