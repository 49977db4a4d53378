// What a configuration means for the engine.

import type { EngineOptions } from './addon.ts'
import { storeOf } from './stores.ts'
import type { Configuration } from './types.ts'

/** One message, where ws' option sets no other limit: its own default. */
const MESSAGE_BYTES_MAX = 100 * 1024 * 1024

const AWARENESS_DELAY_MS = 16

/** Read once, when the engine is made. */
export function engineOptionsOf(configuration: Configuration): EngineOptions {
  return {
    timeoutMs: configuration.timeout,
    debounceMs: configuration.debounce,
    maxDebounceMs: configuration.maxDebounce,
    flushDelayMs: configuration.flushDelay === false ? -1 : configuration.flushDelay,
    awarenessDelayMs: configuration.awarenessDelay ?? AWARENESS_DELAY_MS,
    flushBytesMax: configuration.flushMaxBytes,
    unauthenticatedBytesMax: configuration.maxUnauthenticatedQueueSize,
    unauthenticatedMessagesMax: configuration.maxUnauthenticatedQueueMessages,
    pendingDocumentsMax: configuration.maxPendingDocuments,
    messageBytesMax: MESSAGE_BYTES_MAX,
    gc: configuration.yDocOptions.gc,
    tokenOptional: false,
    store: storeOf(configuration.extensions),
  }
}
