/**
 * Time on two clocks. The steady one stands still while the machine is suspended, and the wall clock can be set back: both
 * at once would be needed to make what is old look young.
 */

/** A moment: milliseconds on each of the two clocks. */
export interface Moment {
  readonly steady: number
  readonly wall: number
}

export function now(): Moment {
  return { steady: performance.now(), wall: Date.now() }
}

/** The milliseconds since then, by the clock that says more. */
export function elapsed(since: Moment, until: Moment = now()): number {
  return Math.max(until.steady - since.steady, until.wall - since.wall)
}
