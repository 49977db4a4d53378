// Stores in the engine: no update of a document passes through JavaScript to be stored, and a client is told "saved"
// when its change is committed.

import type { StoreOptions } from './addon.ts'
import type { Extension } from './types.ts'

/** Documents in an SQLite file. */
export class FidibusSqlite implements Extension {
  extensionName = 'FidibusSqlite'

  readonly storeOptions: StoreOptions

  /** `keepLog`: updates are kept as history after they are in a snapshot. */
  constructor({ file, keepLog = false }: { file: string; keepLog?: boolean }) {
    if (!file) throw new Error('FidibusSqlite: `file` names the database file')
    this.storeOptions = { kind: 'sqlite', place: file, keepLog }
  }
}

/** Documents in PostgreSQL; the tables are made where they are missing. */
export class FidibusPostgres implements Extension {
  extensionName = 'FidibusPostgres'

  readonly storeOptions: StoreOptions

  /** `url`: `postgres://user:password@host:port/database`. `keepLog`: as for `FidibusSqlite`. */
  constructor({ url, keepLog = false }: { url: string; keepLog?: boolean }) {
    if (!url) throw new Error('FidibusPostgres: `url` names the database')
    this.storeOptions = { kind: 'postgres', place: url, keepLog }
  }
}

/** The engine's store among these extensions. */
export function storeOf(extensions: readonly Extension[]): StoreOptions | undefined {
  const stores = extensions.filter((one) => one instanceof FidibusSqlite || one instanceof FidibusPostgres)
  if (stores.length > 1) throw new Error('fidibus: an instance has one store; give it one of FidibusSqlite and FidibusPostgres')
  return stores[0]?.storeOptions
}
