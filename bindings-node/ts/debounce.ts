// Calls that wait for quiet, by id: never two of one id at the same time, and none later than its bound.

interface Timer {
  timeout: NodeJS.Timeout
  start: number
  func: () => any
}

/** How many milliseconds it has been quiet, for callers that are not told of every change. */
type Quiet = () => number

export const useDebounce = () => {
  const timers = new Map<string, Timer>()
  const running = new Map<string, Promise<any>>()

  const debounce = async (
    id: string,
    func: () => any | Promise<() => any>,
    debounce: number,
    maxDebounce: number,
    quiet?: Quiet,
  ): Promise<any> => {
    const old = timers.get(id)
    const start = old?.start || Date.now()

    const run = async () => {
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

    // A change that nobody told of may have come meanwhile: then the rest of the quiet is waited for.
    const due = () => {
      const rest = quiet === undefined ? 0 : Math.min(debounce - quiet(), start + maxDebounce - Date.now())
      if (rest <= 0) return run()
      timers.set(id, { start, timeout: setTimeout(due, rest), func: run })
    }

    if (old) clearTimeout(old.timeout)
    if (debounce === 0 || Date.now() - start >= maxDebounce) return run()
    timers.set(id, { start, timeout: setTimeout(due, debounce), func: run })
  }

  const executeNow = (id: string): any => {
    const timer = timers.get(id)
    if (timer) {
      clearTimeout(timer.timeout)
      return timer.func()
    }
  }

  const isDebounced = (id: string): boolean => timers.has(id)

  const isCurrentlyExecuting = (id: string): boolean => running.has(id)

  return { debounce, isDebounced, isCurrentlyExecuting, executeNow }
}
