// What a loaded document tells the hooks: stateless broadcasts, and awareness before and after it counts.

import { awarenessStatesToArray } from '@hocuspocus/common'
import type { Awareness } from 'y-protocols/awareness'
import type Document from './Document.ts'
import type { DocumentLink } from './DocumentLink.ts'
import type { Hocuspocus } from './Hocuspocus.ts'
import { has } from './hooks.ts'
import { connectionOf } from './origins.ts'
import { getParameters } from './parameters.ts'
import type { AwarenessUpdate } from './types.ts'

/** Has the hooks of `instance` listen to a document. */
export function listen(instance: Hocuspocus, document: Document, link?: DocumentLink): void {
  document.beforeBroadcastStateless((document, payload) => {
    void instance.tell('beforeBroadcastStateless', { document, documentName: document.name, payload })
  })
  document.beforeHandleAwareness((document, states, transactionOrigin) => {
    const connection = connectionOf(transactionOrigin)
    return instance.hooks('beforeHandleAwareness', {
      awareness: document.awareness,
      clientsCount: document.getConnectionsCount(),
      context: connection?.context,
      document,
      documentName: document.name,
      instance,
      requestHeaders: connection?.request?.headers ?? new Headers(),
      requestParameters: getParameters(connection?.request),
      socketId: connection?.socketId ?? '',
      transactionOrigin,
      connection,
      states,
    })
  })
  const hear = (awareness: Awareness) =>
    awareness.on('update', (update: AwarenessUpdate, transactionOrigin: unknown) => {
      void instance.tell('onAwarenessUpdate', {
        document,
        documentName: document.name,
        instance,
        ...update,
        transactionOrigin,
        connection: connectionOf(transactionOrigin),
        awareness,
        states: awarenessStatesToArray(awareness.getStates()),
      })
    })
  if (link === undefined) {
    hear(document.awareness)
    return
  }
  if (link.awareness) hear(link.awareness)
  else link.onAwarenessCreated = hear
  if (instance.configuration.extensions.some((extension) => has(extension, 'onAwarenessUpdate'))) void document.awareness
}
