/**
 * A moment by two clocks. One may stand still while the machine sleeps, the other
 * can be set: whichever says that more time has passed is believed, and then a
 * wrong clock costs a refresh too many at worst.
 */
export interface Moment {
  wall: number
  steady: number
}

export const now = (): Moment => ({ wall: Date.now(), steady: performance.now() })

/** Milliseconds since then. */
export const since = (then: Moment): number => {
  const at = now()
  return Math.max(at.wall - then.wall, at.steady - then.steady)
}

export const pause = (ms: number) => new Promise<void>((over) => setTimeout(over, ms))

/** Waits until a promise has settled, but not for longer than that. */
export const atMost = (ms: number, promise: Promise<unknown> | undefined) =>
  new Promise<void>((over) => {
    const timer = setTimeout(over, ms)
    const done = () => {
      clearTimeout(timer)
      over()
    }
    Promise.resolve(promise).then(done, done)
  })
