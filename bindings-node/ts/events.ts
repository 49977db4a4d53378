// Reads what the engine writes: the table of `src/event.rs`. Both change together.

/** A session: a connection and the how-manieth session of it. */
export interface SessionId {
  connection: number
  number: number
}

/** Sessions as keys of a map. */
export function keyOf(id: SessionId): string {
  return `${id.connection}/${id.number}`
}

/** Reads batches of events in a buffer, field by field. */
export class EventReader {
  readonly #bytes: Buffer
  readonly #plain: Uint8Array
  readonly #view: DataView
  #at = 0
  #end = 0

  constructor(bytes: Buffer) {
    const { buffer, byteOffset, length } = bytes
    this.#bytes = bytes
    // A Buffer's own `slice` copies nothing.
    this.#plain = new Uint8Array(buffer, byteOffset, length)
    this.#view = new DataView(buffer, byteOffset, length)
  }

  /** The first `length` bytes are a new batch. */
  begin(length: number): this {
    this.#at = 0
    this.#end = length
    return this
  }

  get done(): boolean {
    return this.#at >= this.#end
  }

  kind(): number {
    return this.#plain[this.#at++]
  }

  small(): number {
    const value = this.#view.getUint32(this.#at, true)
    this.#at += 4
    return value
  }

  number(): number {
    const value = this.#view.getFloat64(this.#at, true)
    this.#at += 8
    return value
  }

  /** `undefined`: nobody. */
  session(): SessionId | undefined {
    const connection = this.number()
    const number = this.small()
    return connection === 0 ? undefined : { connection, number }
  }

  /** A copy: what is handed to users must not keep the whole batch alive. */
  bytes(): Uint8Array {
    const length = this.small()
    const bytes = this.#plain.slice(this.#at, this.#at + length)
    this.#at += length
    return bytes
  }

  text(): string {
    const length = this.small()
    const text = this.#bytes.toString('utf8', this.#at, this.#at + length)
    this.#at += length
    return text
  }

  optionalText(): string | undefined {
    return this.kind() === 0 ? undefined : this.text()
  }
}

/** The kinds of events. */
export const Kind = {
  Authenticate: 1,
  TokenSync: 2,
  Load: 3,
  LoadFailed: 4,
  Entered: 5,
  Left: 6,
  Changed: 7,
  Touched: 8,
  Awareness: 9,
  Stateless: 10,
  Ended: 11,
  BeforeMessage: 12,
  BeforeSync: 13,
  BeforeAwareness: 14,
  AfterMessage: 15,
  SocketClosed: 16,
  Frames: 17,
} as const
