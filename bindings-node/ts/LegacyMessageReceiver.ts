// MessageReceiver as 2.x and 3.x have it: what it applies is there when `apply` returns.

import { applyAwarenessUpdate } from 'y-protocols/awareness'
import type Connection from './Connection.ts'
import type Document from './Document.ts'
import { MessageReceiver } from './MessageReceiver.ts'
import { MessageType } from './types.ts'

type Reply = (message: Uint8Array) => void

const DONE = Promise.resolve()

export class LegacyMessageReceiver extends MessageReceiver {
  override apply(document: Document, connection?: Connection, reply?: Reply): Promise<void> {
    const { message } = this
    const start = message.decoder.pos
    const type = message.readVarUint()
    switch (type) {
      case MessageType.Sync:
      case MessageType.SyncReply:
        this.#sync(document, connection, reply, type !== MessageType.SyncReply)
        return DONE
      case MessageType.Awareness:
        applyAwarenessUpdate(document.awareness, message.readVarUint8Array(), this.originOf(connection))
        return DONE
      default:
        // The rest waits for nothing.
        message.decoder.pos = start
        return super.apply(document, connection, reply)
    }
  }

  #sync(document: Document, connection?: Connection, reply?: Reply, requestFirstSync?: boolean): void {
    const { message } = this
    const startBytes = message.length
    message.writeVarUint(MessageType.Sync)
    const type = message.readVarUint()
    // Told and not waited for, before 4.0.
    connection?.callbacks
      .beforeSync(connection, { type, payload: message.peekVarUint8Array() })
      .catch((error) => connection.close(connection.refusal(error)))
    this.step(type, document, connection, reply, requestFirstSync)
    this.answer(startBytes, connection, reply)
  }
}
