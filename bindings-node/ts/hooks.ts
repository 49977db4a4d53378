// Which hooks a user has. The engine asks JavaScript only where there is one, so the bits have to follow the live list
// of extensions: array methods are watched, and everything else shows at the next client or document.

import type { Extension, HookName } from './types.ts'

/** The bits of `HookSet` in core/src/hooks/mod.rs, for the hooks that the engine decides by. */
const BITS: Partial<Record<HookName, number>> = {
  onTokenSync: 1 << 4,
  beforeHandleMessage: 1 << 9,
  afterHandleMessage: 1 << 10,
  beforeSync: 1 << 11,
  beforeHandleAwareness: 1 << 12,
  onAwarenessUpdate: 1 << 13,
  onStateless: 1 << 15,
  onChange: 1 << 16,
}

/** Marks hooks that nobody has to be asked for. */
const NOTHING = Symbol('fidibus.nothing')

/** A hook that does nothing and that nobody has to be asked for. */
export function nothing(): () => Promise<any> {
  return Object.assign(() => Promise.resolve(null), { [NOTHING]: true })
}

/** Whether an extension really has a hook. */
export function has(extension: Extension, name: HookName): boolean {
  const hook = extension[name]
  return typeof hook === 'function' && !(NOTHING in hook)
}

/** The bits of a list of extensions. */
export function bits(extensions: readonly Extension[]): number {
  let set = 0
  for (const name in BITS) {
    if (extensions.some((extension) => has(extension, name as HookName))) set |= BITS[name as HookName] ?? 0
  }
  return set
}

const MUTATORS = ['push', 'pop', 'shift', 'unshift', 'splice'] as const
const watchers = new WeakMap<object, Set<WeakRef<() => void>>>()

/** Has `changed` called after the array's methods changed it. The array keeps its identity and its elements. */
export function watch(extensions: Extension[], changed: () => void): void {
  let watching = watchers.get(extensions)
  if (watching === undefined) {
    watching = new Set()
    watchers.set(extensions, watching)
    const all = watching
    for (const name of MUTATORS) {
      Object.defineProperty(extensions, name, {
        configurable: true,
        enumerable: false,
        writable: true,
        value: (...items: any[]) => {
          const result = (Array.prototype[name] as (...items: any[]) => unknown).apply(extensions, items)
          for (const watcher of all) {
            const call = watcher.deref()
            if (call) call()
            else all.delete(watcher)
          }
          return result
        },
      })
    }
  }
  watching.add(new WeakRef(changed))
}

const READY = Promise.resolve()

/** The extensions that really have a hook. */
export function having(extensions: readonly Extension[], name: HookName): Extension[] {
  const found: Extension[] = []
  for (const extension of extensions) if (has(extension, name)) found.push(extension)
  return found
}

/** What becomes of a chain of hooks. */
interface Outcome {
  /** Gets what each hook returns. */
  // biome-ignore lint/complexity/noBannedTypes: the type that Hocuspocus has
  callback?: Function | null
  /** Nobody waits for the hooks: a failure is shown and stops nothing. */
  told?: boolean
}

/** Runs a hook of extensions in turn, beginning in a microtask; each is waited for where it returns a promise. */
export async function run(
  extensions: readonly Extension[],
  name: HookName,
  payload: unknown,
  { callback, told }: Outcome,
): Promise<any> {
  await READY
  let result: any
  for (const extension of extensions) {
    try {
      result = (extension[name] as ((payload: unknown) => any) | undefined)?.(payload)
      if (isThenable(result)) result = await result
    } catch (error: any) {
      if (error?.message) console.error(`[${name}]`, error.message)
      if (told) return report(name, error)
      throw error
    }
    if (callback) {
      result = callback(result)
      if (isThenable(result)) result = await result
    }
  }
  return result
}

function isThenable(value: any): boolean {
  return typeof value?.then === 'function'
}

/** Shows an author the failure of a hook that nobody waits for; stock ends the process instead. */
export function report(name: string, error: unknown): void {
  // An empty rejection only ends the chain.
  if (!error) return
  process.emitWarning(`${name}: ${(error as Error)?.message ?? error}`, {
    type: 'HocuspocusHookWarning',
    detail: (error as Error)?.stack,
  })
}
