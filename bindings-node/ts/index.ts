// The public surface: the names of @hocuspocus/server 4.7, and the stores in the engine.

export * from './Connection.ts'
export * from './debounce.ts'
export { defaultConfiguration } from './defaults.ts'
export * from './Document.ts'
export * from './Hocuspocus.ts'
export * from './IncomingMessage.ts'
export * from './MessageReceiver.ts'
export * from './OutgoingMessage.ts'
export * from './Server.ts'
export { FidibusPostgres, FidibusSqlite } from './stores.ts'
export * from './types.ts'
