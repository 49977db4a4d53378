// Finds the engine's binary for this machine and says what to do where there is none.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A store in the engine. */
export interface StoreOptions {
  kind: 'sqlite' | 'postgres'
  place: string
  keepLog: boolean
}

/** See `src/options.rs`. */
export interface EngineOptions {
  timeoutMs: number
  debounceMs: number
  maxDebounceMs: number
  flushDelayMs: number
  awarenessDelayMs: number
  flushBytesMax: number
  unauthenticatedBytesMax: number
  unauthenticatedMessagesMax: number
  pendingDocumentsMax: number
  messageBytesMax: number
  gc: boolean
  tokenOptional: boolean
  store?: StoreOptions
}

/** The class of `src/engine.rs`; its methods are described there. */
export interface Engine {
  take(into: Buffer): number | Buffer
  setHooks(bits: number): void
  adopt(fd: number, head: Uint8Array, ip: string, pathDocument?: string): number
  pair(head: Uint8Array, ip: string, pathDocument?: string): [fd: number, connection: number]
  connect(ip: string, pathDocument?: string): number
  receive(connection: number, frame: Uint8Array): boolean
  gone(connection: number): void
  send(connection: number, frame: Uint8Array): boolean
  sendAfter(document: number, connection: number, frame: Uint8Array): void
  closeSocket(connection: number, code: number, reason: string): void
  closeSession(connection: number, number: number, code: number, reason: string): void
  setReadOnly(document: number, connection: number, number: number, readOnly: boolean): void
  yes(ticket: number, readOnly: boolean): void
  loaded(ticket: number, updates: Uint8Array[]): void
  states(ticket: number, clients: number[], clocks: number[], states: string[]): void
  no(ticket: number, code: number, reason: string): void
  load(name: string): void
  retire(document: number, leaving: number): boolean
  follow(document: number, updates: boolean, awareness: boolean): void
  rearm(document: number): void
  version(document: number): number
  changes(document: number): [version: number, at: number, connection: number, number: number]
  read(document: number, stateVector?: Uint8Array): Buffer | null
  awareness(document: number): Buffer | null
  update(document: number, update: Uint8Array): void
  updateAwareness(document: number, update: Uint8Array): void
  broadcast(document: number, payload: string, sessions?: number[]): void
  flush(document: number): void
  shutDown(deadlineMs: number, code: number, reason: string): void
}

interface Addon {
  Engine: new (options: EngineOptions, wake: () => void) => Engine
}

let loaded: Addon | undefined

/** The addon; looked for at first use, so that importing the package fails nowhere. */
export function addon(): Addon {
  loaded ??= find()
  return loaded
}

function find(): Addon {
  const here = typeof __filename === 'string' ? __filename : fileURLToPath(import.meta.url)
  const require = createRequire(here)
  const triple = platform()
  const places = [join(dirname(here), '..', `fidibus.${triple}.node`), `fidibus-${triple}`]
  const failures: string[] = []
  for (const place of places) {
    try {
      return require(place)
    } catch (error) {
      failures.push(`  ${place}: ${(error as Error).message.split('\n')[0]}`)
    }
  }
  throw new Error(
    `fidibus has no binary for this machine (${triple}, Node ${process.version}).\n` +
      `Install the optional dependency fidibus-${triple}, or build it: \`npm run build\` in bindings-node with Rust 1.95.\n` +
      failures.join('\n'),
  )
}

/** As napi names platforms. */
function platform(): string {
  const { platform, arch } = process
  if (platform === 'linux') return `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}`
  if (platform === 'win32') return `win32-${arch}-msvc`
  return `${platform}-${arch}`
}

function isMusl(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined
  return report?.header !== undefined && report.header.glibcVersionRuntime === undefined
}
