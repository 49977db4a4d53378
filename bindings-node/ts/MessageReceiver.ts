// Applies a message to a Document in JavaScript. Sockets do not come through here, the engine handles theirs; this
// is for extensions that feed documents themselves (extension-redis) and for connections built by hand.

import { AuthMessageType } from '@hocuspocus/common'
import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate } from 'y-protocols/awareness'
import {
  messageYjsSyncStep1,
  messageYjsSyncStep2,
  messageYjsUpdate,
  readSyncStep1,
  readUpdate,
} from 'y-protocols/sync'
import * as Y from 'yjs'
import type Connection from './Connection.ts'
import type Document from './Document.ts'
import type { IncomingMessage } from './IncomingMessage.ts'
import { OutgoingMessage } from './OutgoingMessage.ts'
import { MessageType, type TransactionOrigin } from './types.ts'

type Reply = (message: Uint8Array) => void

export class MessageReceiver {
  message: IncomingMessage

  defaultTransactionOrigin?: TransactionOrigin

  constructor(message: IncomingMessage, defaultTransactionOrigin?: TransactionOrigin) {
    this.message = message
    this.defaultTransactionOrigin = defaultTransactionOrigin
  }

  async apply(document: Document, connection?: Connection, reply?: Reply): Promise<void> {
    const { message } = this
    const type = message.readVarUint()
    const answerBytes = message.length
    switch (type) {
      case MessageType.Sync:
      case MessageType.SyncReply: {
        message.writeVarUint(MessageType.Sync)
        await this.readSyncMessage(message, document, connection, reply, type !== MessageType.SyncReply)
        this.answer(answerBytes, connection, reply)
        break
      }
      case MessageType.Awareness:
        await this.#awareness(document, connection)
        break
      case MessageType.QueryAwareness:
        this.applyQueryAwarenessMessage(document, connection, reply)
        break
      case MessageType.Stateless:
        connection?.callbacks.statelessCallback({
          connection,
          documentName: document.name,
          document,
          payload: message.readVarString(),
        })
        break
      case MessageType.BroadcastStateless:
        // Only servers among themselves say this; clients ask with Stateless and a hook decides.
        if (connection) {
          throw new Error('BroadcastStateless is a server-internal opcode and cannot be sent from a client')
        }
        document.relayStateless(message.readVarString())
        break
      case MessageType.CLOSE:
        connection?.close({ code: 1000, reason: 'provider_initiated' })
        break
      case MessageType.Auth:
        this.#token(connection)
        break
      default:
        console.error(`Unable to handle message of type ${type}: no handler defined! Are your provider/server versions aligned?`)
    }
  }

  /** Sends what was written to the message behind its first bytes. */
  protected answer(startBytes: number, connection?: Connection, reply?: Reply): void {
    const { message } = this
    if (message.length <= startBytes + 1) return
    const answer = message.toUint8Array()
    if (reply) reply(answer)
    else connection?.send(answer)
  }

  protected originOf(connection?: Connection): TransactionOrigin {
    if (connection) return { source: 'connection', connection }
    return this.defaultTransactionOrigin ?? { source: 'local' }
  }

  #token(connection?: Connection): void {
    if (this.message.readVarUint() === AuthMessageType.Token) {
      connection?.callbacks.onTokenSyncCallback({ token: this.message.readVarString() })
      return
    }
    console.error(
      'Received an authentication message on a connection that is already fully authenticated. Probably your provider has been destroyed + recreated really fast.',
    )
  }

  /** Hooks see the states as a map that they may change; what is left of it is applied. */
  async #awareness(document: Document, connection?: Connection): Promise<void> {
    const origin = this.originOf(connection)
    let update = this.message.readVarUint8Array()
    const scratchDoc = new Y.Doc()
    const scratch = new Awareness(scratchDoc)
    try {
      applyAwarenessUpdate(scratch, update, null)
      await document.callbacks.beforeHandleAwareness(document, scratch.getStates(), origin)
      update = encodeAwarenessUpdate(scratch, [...scratch.getStates().keys()])
    } finally {
      scratch.destroy()
      scratchDoc.destroy()
    }
    applyAwarenessUpdate(document.awareness, update, origin)
  }

  async readSyncMessage(
    message: IncomingMessage,
    document: Document,
    connection?: Connection,
    reply?: Reply,
    requestFirstSync = true,
  ): Promise<number> {
    const type = message.readVarUint()
    if (connection) {
      await connection.callbacks.beforeSync(connection, { type, payload: message.peekVarUint8Array() })
    }
    this.step(type, document, connection, reply, requestFirstSync)
    return type
  }

  /** One step of the sync protocol, whose kind was read. */
  protected step(
    type: number,
    document: Document,
    connection?: Connection,
    reply?: Reply,
    requestFirstSync = true,
  ): void {
    const { message } = this
    const address = connection?.messageAddress ?? document.name
    switch (type) {
      case messageYjsSyncStep1: {
        readSyncStep1(message.decoder, message.encoder, document)
        if (reply && requestFirstSync) {
          reply(new OutgoingMessage(address).createSyncReplyMessage().writeFirstSyncStepFor(document).toUint8Array())
        } else {
          connection?.send(new OutgoingMessage(address).createSyncMessage().writeFirstSyncStepFor(document).toUint8Array())
        }
        break
      }
      case messageYjsSyncStep2:
      case messageYjsUpdate: {
        let saved = true
        if (connection?.readOnly) {
          // A step 2 that brings nothing new counts as saved; an update of a reader never does.
          saved =
            type === messageYjsSyncStep2 &&
            Y.snapshotContainsUpdate(Y.snapshot(document), message.readVarUint8Array())
        } else {
          readUpdate(message.decoder, document, this.originOf(connection))
        }
        connection?.send(new OutgoingMessage(address).writeSyncStatus(saved).toUint8Array())
        break
      }
      default:
        throw new Error(`Received a message with an unknown type: ${type}`)
    }
  }

  applyQueryAwarenessMessage(document: Document, connection?: Connection, reply?: Reply): void {
    const address = connection?.messageAddress ?? document.name
    reply?.(new OutgoingMessage(address).createAwarenessUpdateMessage(document.awareness).toUint8Array())
  }
}
