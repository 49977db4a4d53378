// A message that came from a client, with an answer that is being written behind it.

import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import type { MessageType } from './types.ts'

export class IncomingMessage {
  decoder: decoding.Decoder

  #encoder?: encoding.Encoder

  constructor(input: any) {
    this.decoder = decoding.createDecoder(input instanceof Uint8Array ? input : new Uint8Array(input))
  }

  /** Made when it is first written to: most messages are only read. */
  get encoder(): encoding.Encoder {
    this.#encoder ??= encoding.createEncoder()
    return this.#encoder
  }

  get length(): number {
    return encoding.length(this.encoder)
  }

  readVarUint8Array(): Uint8Array {
    return decoding.readVarUint8Array(this.decoder)
  }

  peekVarUint8Array(): Uint8Array {
    const position = this.decoder.pos
    const bytes = decoding.readVarUint8Array(this.decoder)
    this.decoder.pos = position
    return bytes
  }

  readVarUint(): number {
    return decoding.readVarUint(this.decoder)
  }

  readVarString(): string {
    return decoding.readVarString(this.decoder)
  }

  toUint8Array(): Uint8Array {
    return encoding.toUint8Array(this.encoder)
  }

  writeVarUint(type: MessageType): void {
    encoding.writeVarUint(this.encoder, type)
  }

  writeVarString(string: string): void {
    encoding.writeVarString(this.encoder, string)
  }
}
