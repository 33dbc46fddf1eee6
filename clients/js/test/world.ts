/**
 * A world whose time is the tests' own. Timers go off in order and at once; the
 * two clocks that a client can see may be wrong, the world's own is right.
 */
export class World {
  /** Milliseconds since the world began. */
  time = 0
  private wall = 0
  private slept = 0
  private timers: { at: number; order: number; task: () => void }[] = []
  private order = 0
  private undo: (() => void)[] = []

  constructor(seed = 1) {
    const replace = <K extends string>(object: object, name: K, value: unknown) => {
      const was = Object.getOwnPropertyDescriptor(object, name)
      Object.defineProperty(object, name, { value, configurable: true, writable: true })
      this.undo.push(() => {
        if (was) Object.defineProperty(object, name, was)
        else delete (object as Record<string, unknown>)[name]
      })
    }
    replace(globalThis, 'setTimeout', (task: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => this.after(ms, () => task(...args)))
    replace(globalThis, 'clearTimeout', (timer: unknown) => {
      this.timers = this.timers.filter((t) => t !== timer)
    })
    replace(Math, 'random', dice(seed))
    replace(Date, 'now', () => 1_790_000_000_000 + this.time + this.wall)
    replace(performance, 'now', () => 5000 + this.time - this.slept)
    replace(globalThis, 'BroadcastChannel', undefined)
    replace(globalThis, 'navigator', {})
  }

  end() {
    for (const undo of this.undo.reverse()) undo()
  }

  private after(ms: number, task: () => void) {
    const timer = { at: this.time + Math.max(0, Math.ceil(ms || 0)), order: this.order++, task, unref() {} }
    this.timers.push(timer)
    return timer
  }

  pause = (ms: number) => new Promise<void>((over) => this.after(ms, over))

  /** Somebody sets the clock, by so many milliseconds. */
  setClock(by: number) {
    this.wall += by
  }

  /** The machine sleeps: time passes, and one of the clocks does not see it. No timer goes off. */
  sleep(ms: number) {
    this.time += Math.ceil(ms)
    this.slept += Math.ceil(ms)
  }

  /** Lets time pass. */
  async pass(ms: number) {
    await this.until(this.pause(ms))
  }

  /** Lets time pass until something has come of it, a day at most. */
  async until<T>(what: Promise<T>): Promise<T> {
    let settled = false
    const over = () => (settled = true)
    what.then(over, over)
    const end = this.time + 86_400_000
    for (;;) {
      await idle()
      if (settled) return what
      const next = this.timers.reduce<(typeof this.timers)[number] | undefined>(
        (a, b) => (a && (a.at < b.at || (a.at === b.at && a.order < b.order)) ? a : b),
        undefined,
      )
      if (!next) throw new Error('it waits for nothing')
      if (next.at > end) throw new Error('nothing comes of it')
      this.timers = this.timers.filter((t) => t !== next)
      this.time = Math.max(this.time, next.at)
      next.task()
    }
  }

  /** Tabs that hear each other, after a moment. */
  channels(delay: () => number) {
    const all = new Set<Channel>()
    const world = this
    class Channel {
      onmessage?: (message: { data: unknown }) => void
      constructor(readonly name: string) {
        all.add(this)
      }
      postMessage(data: unknown) {
        const copy = structuredClone(data)
        for (const other of all)
          if (other !== this && other.name === this.name) void world.pause(delay()).then(() => other.onmessage?.({ data: copy }))
      }
    }
    Object.defineProperty(globalThis, 'BroadcastChannel', { value: Channel, configurable: true, writable: true })
  }

  /** Web Locks; stuck: somebody has them all, for ever. */
  locks(state: { stuck: boolean; fail?: boolean }) {
    const queues = new Map<string, Promise<unknown>>()
    const request = async (name: string, options: { signal: AbortSignal }, task: () => Promise<unknown>) => {
      if (state.fail) throw new DOMException('no', 'SecurityError')
      const before = queues.get(name)
      let release!: () => void
      const mine = new Promise<void>((done) => (release = done))
      queues.set(name, Promise.all([before, mine]))
      try {
        const aborted = new Promise<never>((_, no) => options.signal.addEventListener('abort', () => no(options.signal.reason)))
        await Promise.race([state.stuck ? new Promise(() => {}) : before, aborted])
        return await task()
      } finally {
        release()
      }
    }
    Object.defineProperty(globalThis, 'navigator', { value: { locks: { request } }, configurable: true, writable: true })
  }
}

const realImmediate = setImmediate

/** Until all that can happen without time passing has happened. */
async function idle() {
  for (let i = 0; i < 3; i++) await new Promise((next) => realImmediate(next))
}

/** Numbers in [0, 1) that a seed makes: mulberry32. */
export function dice(seed: number) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
