// The message log of 2.x. What the engine handles does not pass through JavaScript and is not in it; programs and extension
// packages of 2.x make one, hand it on and log to it.

import { MessageType } from './types.ts'

/** Newest entries that are kept. */
const LOGS_MAX = 1_000

interface Entry {
  direction?: 'in' | 'out'
  type: MessageType
  category?: string
}

export class Debugger {
  logs: any[] = []

  listen = false

  output = false

  enable(): void {
    this.flush()
    this.listen = true
  }

  disable(): void {
    this.listen = false
  }

  verbose(): void {
    this.output = true
  }

  quiet(): void {
    this.output = false
  }

  log(message: Entry): Debugger {
    if (!this.listen) return this
    const item = { ...message, type: MessageType[message.type] }
    this.logs.push(item)
    if (this.logs.length > LOGS_MAX) this.logs.shift()
    if (this.output) console.log(`[DEBUGGER] ${item.direction === 'in' ? 'IN' : 'OUT'} ${item.type}/${item.category}`)
    return this
  }

  flush(): Debugger {
    this.logs = []
    return this
  }

  get(): { logs: any[] } {
    return { logs: this.logs }
  }
}
