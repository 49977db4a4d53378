// What a configuration holds before anybody configures it.

import type { HookName } from './types.ts'

export const defaultConfiguration = {
  name: null,
  timeout: 60_000,
  debounce: 2_000,
  maxDebounce: 10_000,
  quiet: false,
  yDocOptions: {
    gc: true,
    gcFilter: () => true,
  },
  unloadImmediately: true,
  maxUnauthenticatedQueueSize: 5 * 1024 * 1024,
  maxUnauthenticatedQueueMessages: 1_000,
  maxPendingDocuments: 100,
  flushDelay: 0 as false | number,
  flushMaxBytes: 1024 * 1024,
}

/** Hooks that a configuration has from the start; they do nothing. */
export const DEFAULT_HOOKS = [
  'onConfigure',
  'onListen',
  'onUpgrade',
  'onConnect',
  'connected',
  'beforeHandleMessage',
  'afterHandleMessage',
  'beforeHandleAwareness',
  'beforeSync',
  'beforeBroadcastStateless',
  'onStateless',
  'onChange',
  'onCreateDocument',
  'onLoadDocument',
  'onStoreDocument',
  'afterStoreDocument',
  'onAwarenessUpdate',
  'onRequest',
  'onDisconnect',
  'onDestroy',
] as const satisfies readonly HookName[]

/** Hooks that the configuration's own extension takes over, in the order that Hocuspocus lists them. */
export const CONFIGURED_HOOKS = [
  ...DEFAULT_HOOKS.filter((name) => name !== 'onCreateDocument'),
  'onAuthenticate',
  'onTokenSync',
  'afterLoadDocument',
  'beforeUnloadDocument',
  'afterUnloadDocument',
] as const satisfies readonly HookName[]
