// For programs written for @hocuspocus/server 3.4. See README.md for what differs.

import { defaultConfiguration as current } from './defaults.ts'
import type { Hocuspocus } from './Hocuspocus.ts'
import { LegacyHocuspocus } from './legacy.ts'
import { defaultServerConfiguration as currentServer, Server as CurrentServer, type ServerConfiguration } from './Server.ts'
import type { WebSocketOptions } from './upgrade.ts'

export * from './Connection.ts'
export * from './debounce.ts'
export * from './IncomingMessage.ts'
export { LegacyDocument as Document } from './LegacyDocument.ts'
export { LegacyMessageReceiver as MessageReceiver } from './LegacyMessageReceiver.ts'
export * from './OutgoingMessage.ts'
export { FidibusPostgres, FidibusSqlite } from './stores.ts'
export * from './types.ts'
export { LegacyHocuspocus as Hocuspocus }

export const defaultConfiguration = { ...current, timeout: 30_000 }
export const defaultServerConfiguration = { ...currentServer, address: '0.0.0.0' }

export class Server<Context = any> extends CurrentServer<Context> {
  constructor(configuration?: Partial<ServerConfiguration<Context>>, websocketOptions: WebSocketOptions = {}) {
    super({ ...defaultConfiguration, ...defaultServerConfiguration, extensions: [], ...configuration, websocketOptions })
  }

  protected override createHocuspocus(): Hocuspocus<Context> {
    return new LegacyHocuspocus(this.configuration)
  }
}
