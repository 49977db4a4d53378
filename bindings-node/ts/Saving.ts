// When the hooks store a document, and what they are told: debounced per document, never two at a time.

import { SkipFurtherHooksError } from '@hocuspocus/common'
import type Document from './Document.ts'
import { LINK, type DocumentLink } from './DocumentLink.ts'
import type { EngineEvents } from './EngineEvents.ts'
import type { Hocuspocus } from './Hocuspocus.ts'
import { contextOf } from './origins.ts'
import type { onStoreDocumentPayload } from './types.ts'

/** The name of a document's store in the debouncer; programs ask for it by this. */
export function storeId(document: Document): string {
  let id = ids.get(document)
  if (id === undefined) {
    id = `onStoreDocument-${document.name}`
    ids.set(document, id)
  }
  return id
}

/** Asked for at every change. */
const ids = new WeakMap<Document, string>()

export class Saving {
  readonly #instance: Hocuspocus
  /** `undefined` where no engine runs, or none any more. */
  readonly #events: () => EngineEvents | undefined

  constructor(instance: Hocuspocus, events: () => EngineEvents | undefined) {
    this.#instance = instance
    this.#events = events
  }

  /** The store's payload for a change that only the engine saw. */
  lastChange(document: Document): onStoreDocumentPayload {
    const link = document[LINK] as DocumentLink
    const [, , connection, number] = this.#events()?.engine.changes(link.id) ?? [0, 0, 0, 0]
    const author = this.#events()?.sockets.get(connection)?.sessions.get(number)?.connection
    const found = author ?? link.findDeparted({ connection, number })
    const origin = found === undefined ? { source: 'redis' } : { source: 'connection', connection: found }
    return {
      instance: this.#instance,
      clientsCount: document.getConnectionsCount(),
      document,
      lastContext: contextOf(origin),
      lastTransactionOrigin: origin,
      documentName: document.name,
    }
  }

  /** Stores once it has been quiet for the debounce. `payload` is asked when that is. */
  schedule(
    document: Document,
    payload: () => onStoreDocumentPayload,
    immediately?: boolean,
  ): Promise<any> {
    const link = document[LINK]
    const quiet = () => {
      if (link === undefined || link.following) return Number.POSITIVE_INFINITY
      const changedAt = this.#events()?.engine.changes(link.id)[1] ?? 0
      return Date.now() - changedAt
    }
    return this.#instance.debouncer.debounce(
      storeId(document),
      () => this.#store(document, payload),
      immediately ? 0 : this.#instance.configuration.debounce,
      this.#instance.configuration.maxDebounce,
      quiet,
    )
  }

  async #store(document: Document, payload: () => onStoreDocumentPayload): Promise<void> {
    try {
      await document.saveMutex.runExclusive(async () => {
        const link = document[LINK]
        // Before the hooks read the document: a change from now on is another store.
        if (link) this.#events()?.engine.rearm(link.id)
        const told = payload()
        link?.forgetDeparted()
        await this.#instance.hooks('onStoreDocument', told)
        await this.#instance.hooks('afterStoreDocument', told)
      })
    } catch (error) {
      if (!(error instanceof SkipFurtherHooksError)) {
        console.error('Caught error during storeDocumentHooks. Document stays in memory to avoid data loss', error)
        return
      }
    }
    setTimeout(() => {
      if (this.#instance.shouldUnloadDocument(document)) void this.#instance.unloadDocument(document).catch(ignore)
    }, 0)
  }
}

function ignore(): void {}
