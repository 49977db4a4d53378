// A document opened by this process itself.

import type Document from './Document.ts'
import type { Hocuspocus } from './Hocuspocus.ts'
import type { DirectConnection as Interface, DisconnectOptions, LocalTransactionOrigin } from './types.ts'

export class DirectConnection<Context = any> implements Interface {
  document: Document | null

  instance: Hocuspocus

  context: Context

  constructor(document: Document, instance: Hocuspocus, context?: Context) {
    this.document = document
    this.instance = instance
    this.context = (context ?? {}) as Context
    document.addDirectConnection()
  }

  get #origin(): LocalTransactionOrigin {
    return { source: 'local', context: this.context }
  }

  /** An asynchronous transaction is not waited for. */
  async transact(transaction: (document: Document) => void): Promise<void> {
    const { document } = this
    if (!document) throw new Error('direct connection closed')
    document.transact(() => {
      transaction(document)
    }, this.#origin)
  }

  async disconnect(options?: DisconnectOptions): Promise<void> {
    const { document, instance } = this
    if (!document) return
    const unloadImmediately = options?.unloadImmediately ?? true
    document.removeDirectConnection()
    const clientsCount = document.getConnectionsCount()
    await instance.storeDocumentHooks(
      document,
      {
        clientsCount,
        lastContext: this.context,
        lastTransactionOrigin: this.#origin,
        document,
        documentName: document.name,
        instance,
      },
      unloadImmediately,
    )
    if (document.getConnectionsCount() === 0 && !document.saveMutex.isLocked()) {
      await instance.hooks('onDisconnect', {
        instance,
        clientsCount: document.getConnectionsCount(),
        context: this.context,
        document,
        socketId: 'server',
        documentName: document.name,
        requestHeaders: new Headers(),
        requestParameters: new URLSearchParams(),
      })
      if (unloadImmediately) await instance.unloadDocument(document)
    }
    this.document = null
  }
}
