// A message to a client, built step by step behind its address.

import { writeAuthenticated, writePermissionDenied, writeTokenSyncRequest } from '@hocuspocus/common'
import * as encoding from 'lib0/encoding'
import { type Awareness, encodeAwarenessUpdate } from 'y-protocols/awareness'
import { writeSyncStep1, writeUpdate } from 'y-protocols/sync'
import type Document from './Document.ts'
import { MessageType } from './types.ts'

export class OutgoingMessage {
  encoder: encoding.Encoder

  type?: number

  category?: string

  constructor(documentName: string) {
    this.encoder = encoding.createEncoder()
    encoding.writeVarString(this.encoder, documentName)
  }

  createSyncMessage(): OutgoingMessage {
    return this.#begin(MessageType.Sync)
  }

  createSyncReplyMessage(): OutgoingMessage {
    return this.#begin(MessageType.SyncReply)
  }

  createAwarenessUpdateMessage(awareness: Awareness, changedClients?: Array<any>): OutgoingMessage {
    const update = encodeAwarenessUpdate(awareness, changedClients ?? [...awareness.getStates().keys()])
    this.#begin(MessageType.Awareness, 'Update')
    encoding.writeVarUint8Array(this.encoder, update)
    return this
  }

  writeQueryAwareness(): OutgoingMessage {
    return this.#begin(MessageType.QueryAwareness, 'Update')
  }

  writeTokenSyncRequest(): OutgoingMessage {
    this.#begin(MessageType.Auth, 'TokenSync')
    writeTokenSyncRequest(this.encoder)
    return this
  }

  writeAuthenticated(readonly: boolean): OutgoingMessage {
    this.#begin(MessageType.Auth, 'Authenticated')
    writeAuthenticated(this.encoder, readonly ? 'readonly' : 'read-write')
    return this
  }

  writePermissionDenied(reason: string): OutgoingMessage {
    this.#begin(MessageType.Auth, 'PermissionDenied')
    writePermissionDenied(this.encoder, reason)
    return this
  }

  writeFirstSyncStepFor(document: Document): OutgoingMessage {
    this.category = 'SyncStep1'
    writeSyncStep1(this.encoder, document)
    return this
  }

  writeUpdate(update: Uint8Array): OutgoingMessage {
    this.category = 'Update'
    writeUpdate(this.encoder, update)
    return this
  }

  writeStateless(payload: string): OutgoingMessage {
    return this.#text(MessageType.Stateless, payload)
  }

  writeBroadcastStateless(payload: string): OutgoingMessage {
    return this.#text(MessageType.BroadcastStateless, payload)
  }

  writeSyncStatus(updateSaved: boolean): OutgoingMessage {
    this.category = 'SyncStatus'
    encoding.writeVarUint(this.encoder, MessageType.SyncStatus)
    encoding.writeVarUint(this.encoder, updateSaved ? 1 : 0)
    return this
  }

  writeCloseMessage(reason: string): OutgoingMessage {
    this.#begin(MessageType.CLOSE)
    encoding.writeVarString(this.encoder, reason)
    return this
  }

  toUint8Array(): Uint8Array {
    return encoding.toUint8Array(this.encoder)
  }

  #begin(type: MessageType, category?: string): OutgoingMessage {
    this.type = type
    if (category !== undefined) this.category = category
    encoding.writeVarUint(this.encoder, type)
    return this
  }

  // Stateless messages leave `type` unset, as Hocuspocus' do.
  #text(type: MessageType, payload: string): OutgoingMessage {
    this.category = 'Stateless'
    encoding.writeVarUint(this.encoder, type)
    encoding.writeVarString(this.encoder, payload)
    return this
  }
}
