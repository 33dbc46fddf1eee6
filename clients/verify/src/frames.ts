/**
 * The form in which revocations travel: each Server-Sent Event holds one JSON object, the RevocationFrame of the issuer's
 * openapi.yaml. Members and kinds that are not known are ignored, since the form may grow.
 */
import { partitions } from './partition.js'

export interface Frame {
  /** When the frame was made, in ms on a clock of the sender's that never leaps. */
  readonly clock: number
  /** How old the sender's knowledge was, in ms, for each partition; -1 if it has none. */
  readonly ages: readonly number[]
  readonly denied: readonly Denial[]
  /** The id of the event, by which one can go on from there; undefined if it has none. */
  readonly mark: string | undefined
}

export interface Denial {
  readonly kind: string
  readonly id: string
  /** Unix seconds. */
  readonly until: number
}

/** The length in bytes of the longest line that is read: far above what a full frame of the longest ids needs. */
const maxLine = 1 << 20

/** Puts an event stream together from the pieces in which it arrives. */
export class FrameReader {
  #rest: Buffer[] = [] // of a line that has not ended
  #size = 0
  #data: string[] = []
  #mark: string | undefined

  /** Returns the frames that are complete with this piece. It throws if they are not of the known form. */
  read(piece: Buffer): Frame[] {
    const frames: Frame[] = []
    let start = 0
    for (let end; (end = piece.indexOf(10, start)) >= 0; start = end + 1) {
      const frame = this.#line(this.#complete(piece.subarray(start, end)))
      if (frame !== undefined) frames.push(frame)
    }
    this.#hold(piece.subarray(start))
    return frames
  }

  #hold(part: Buffer): void {
    this.#size += part.length
    if (this.#size >= maxLine) throw new Error('a line is too long')
    if (part.length > 0) this.#rest.push(part)
  }

  /** Decodes a line as a whole: a character may have arrived in two pieces. */
  #complete(end: Buffer): string {
    this.#hold(end)
    const line = this.#rest.length === 1 ? this.#rest[0]! : Buffer.concat(this.#rest)
    this.#rest = []
    this.#size = 0
    return line.toString('utf8').replace(/\r$/, '')
  }

  #line(line: string): Frame | undefined {
    if (line === '') return this.#dispatch()
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'data') this.#data.push(value)
    else if (field === 'id') this.#mark = value
    return undefined
  }

  #dispatch(): Frame | undefined {
    if (this.#data.length === 0) return undefined
    const text = this.#data.join('\n')
    // Only what was read to its end has a mark: what was cut off in the middle comes again.
    const mark = this.#mark
    this.#data = []
    this.#mark = undefined
    return { ...parse(text), mark }
  }
}

function parse(text: string): Omit<Frame, 'mark'> {
  let frame
  try {
    frame = JSON.parse(text)
  } catch {
    frame = undefined
  }
  const clock = frame?.clock ?? 0
  const ages = frame?.ages ?? []
  const denied = frame?.denied ?? []
  const known =
    typeof frame === 'object' &&
    !Array.isArray(frame) &&
    Number.isInteger(clock) &&
    Array.isArray(ages) &&
    ages.every((age) => age === null || Number.isInteger(age)) &&
    Array.isArray(denied) &&
    denied.every((d) => typeof d?.kind === 'string' && typeof d.id === 'string' && Number.isInteger(d.until))
  if (!known) throw new Error('a frame is not JSON of the known form') // quotes nothing of it
  return {
    clock,
    // What is left out is not known, and not as young as can be.
    ages: Array.from({ length: partitions }, (_, p) => ages[p] ?? -1),
    denied: denied.map(({ kind, id, until }: Denial) => ({ kind, id, until })),
  }
}
