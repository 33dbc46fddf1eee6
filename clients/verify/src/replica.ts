/**
 * A copy in memory of what was revoked, which knows how old it is.
 *
 * It only ever adds up what it is told, and forgets an id when the last token that it denies has expired. What the issuer
 * has lost is still denied here.
 */
import type { Claims } from './claims.js'
import { elapsed, type Moment, now } from './clock.js'
import { partitions } from './partition.js'

/** How often expired ids are forgotten. */
const sweepEvery = 60_000
/** Ids are swept in small pieces, and maps that are not large grow without a pause that anybody notices. */
const shards = 64

export class Replica {
  readonly #sessions = new Ids()
  readonly #tokens = new Ids()
  readonly #keys = new Map<string, number>() // denied signing keys: a handful
  /** For each partition, up to which moment every denial is here. */
  readonly #known: (Moment | undefined)[] = Array.from({ length: partitions }, () => undefined)
  readonly #began = now()
  readonly #timer: NodeJS.Timeout
  #next = 0

  constructor() {
    this.#timer = setInterval(() => this.#sweep(), sweepEvery / shards).unref()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  /** How many sessions and tokens are denied. */
  get size(): number {
    return this.#sessions.size + this.#tokens.size
  }

  /**
   * The milliseconds since the replica last knew everything about a partition; Infinity if it never did, or there is no
   * such partition.
   */
  age(partition: number | undefined): number {
    const known = partition === undefined ? undefined : this.#known[partition]
    return known === undefined ? Infinity : elapsed(known)
  }

  /** The age in the partition where it is longest. */
  get oldest(): number {
    return this.#known.reduce((oldest, _, p) => Math.max(oldest, this.age(p)), 0)
  }

  /**
   * Whether the token is known to be revoked, however old the replica is: a denial is never taken back.
   */
  denies(claims: Claims): boolean {
    return this.#sessions.has(claims.sid) || this.#tokens.has(claims.jti) || this.#keys.has(claims.kid)
  }

  deniesKey(kid: string): boolean {
    return this.#keys.has(kid)
  }

  /** Takes note that an id is denied, until a moment in Unix seconds. */
  deny(kind: string, id: string, until: number): void {
    if (kind === 'sid') this.#sessions.deny(id, until)
    else if (kind === 'jti') this.#tokens.deny(id, until)
    else if (kind === 'kid' && until > (this.#keys.get(id) ?? 0)) this.#keys.set(id, until)
    // Others are of a later version.
  }

  /**
   * Takes note that everything denied in a partition until so many milliseconds ago is here. What is known can only grow:
   * a report that comes late takes nothing back.
   */
  confirm(partition: number, age: number): void {
    const { steady, wall } = now()
    const before = this.#known[partition]
    if (before === undefined || steady - age > before.steady) this.#known[partition] = { steady: steady - age, wall: wall - age }
  }

  #sweep(): void {
    // A wall clock that leaps ahead by mistake and back again must not make the replica forget in between.
    const { steady, wall } = now()
    const seconds = Math.min(wall, this.#began.wall + steady - this.#began.steady) / 1000
    this.#sessions.sweep(this.#next, seconds)
    this.#tokens.sweep(this.#next, seconds)
    for (const [kid, until] of this.#keys) if (until <= seconds) this.#keys.delete(kid)
    this.#next = (this.#next + 1) % shards
  }
}

/** Ids, and until when each is denied, in Unix seconds. */
class Ids {
  readonly #shards = Array.from({ length: shards }, () => new Map<string, number>())

  get size(): number {
    return this.#shards.reduce((sum, shard) => sum + shard.size, 0)
  }

  has(id: string): boolean {
    return this.#of(id).has(id)
  }

  deny(id: string, until: number): void {
    const shard = this.#of(id)
    if (until > (shard.get(id) ?? 0)) shard.set(id, until)
  }

  sweep(shard: number, now: number): void {
    const ids = this.#shards[shard]!
    for (const [id, until] of ids) if (until <= now) ids.delete(id)
  }

  /** The ends of ids are random. */
  #of(id: string): Map<string, number> {
    return this.#shards[(id.charCodeAt(id.length - 3) * 31 + id.charCodeAt(id.length - 2)) & (shards - 1)]!
  }
}
