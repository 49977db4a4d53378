// Calls that wait for quiet, by id: never two of one id at the same time, and none later than its bound.

interface Timer {
  timeout: NodeJS.Timeout
  start: number
  /** When it is to run; the timeout may fire earlier and is set again then, which is cheaper than at every call. */
  due: number
  quiet: Quiet | undefined
  func: () => any
}

/** How many milliseconds it has been quiet, for callers that are not told of every change. */
type Quiet = () => number

const WAITING = Promise.resolve()

/** A timer may be this part of the debounce late. */
const LATE = 1 / 50

/**
 * Of many documents that change all the time, each would wake the process at a time of its own; rounded up they come due
 * together. The first timer of a document is exact.
 */
function together(rest: number, debounce: number): number {
  const step = Math.floor(debounce * LATE)
  if (step <= 1) return rest
  const now = Date.now()
  return Math.ceil((now + rest) / step) * step - now
}

export const useDebounce = () => {
  const timers = new Map<string, Timer>()
  const running = new Map<string, Promise<any>>()

  const run = async (id: string, func: () => any): Promise<any> => {
    timers.delete(id)
    if (running.has(id)) await running.get(id)
    const execution = func()
    running.set(id, execution)
    try {
      return await execution
    } finally {
      running.delete(id)
    }
  }

  // Called for every change, so nothing is made here that a later call makes again.
  const debounce = (
    id: string,
    func: () => any | Promise<() => any>,
    debounce: number,
    maxDebounce: number,
    quiet?: Quiet,
  ): Promise<any> => {
    const old = timers.get(id)
    const now = Date.now()
    const start = old?.start ?? now
    if (debounce === 0 || now - start >= maxDebounce) {
      if (old) clearTimeout(old.timeout)
      return run(id, func)
    }
    const due = now + debounce
    if (old !== undefined && old.due <= due) {
      old.due = due
      old.quiet = quiet
      old.func = func
      return WAITING
    }
    if (old) clearTimeout(old.timeout)
    const fire = () => {
      const timer = timers.get(id)
      if (timer === undefined) return
      // A change that nobody told of may have come meanwhile: then the rest of the quiet is waited for.
      const unheard = Math.min(debounce - (timer.quiet?.() ?? debounce), start + maxDebounce - Date.now())
      const rest = Math.max(timer.due - Date.now(), unheard)
      if (rest <= 0) return run(id, timer.func)
      timer.timeout = setTimeout(fire, together(rest, debounce))
    }
    timers.set(id, { start, timeout: setTimeout(fire, debounce), due, quiet, func })
    return WAITING
  }

  const executeNow = (id: string): any => {
    const timer = timers.get(id)
    if (timer) {
      clearTimeout(timer.timeout)
      return run(id, timer.func)
    }
  }

  const isDebounced = (id: string): boolean => timers.has(id)

  const isCurrentlyExecuting = (id: string): boolean => running.has(id)

  return { debounce, isDebounced, isCurrentlyExecuting, executeNow }
}
