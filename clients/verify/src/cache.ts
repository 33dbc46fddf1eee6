/**
 * Remembers which tokens have been verified, so that the signature of a token is checked once and not with every request.
 *
 * A token is found by its whole text and nothing shorter: of a signature there may be several valid texts. What was found
 * is good for the key set it was verified with, and no other. Time and revocation are not the cache's business: whoever
 * asks it must check both.
 *
 * It is made of two halves. What is used moves to the young one; when that is full it becomes the old one, and what was
 * in that is forgotten.
 */
import type { Claims } from './claims.js'
import type { KeySet } from './keyset.js'

export interface Verified {
  readonly claims: Claims
  /** The partition of its session; undefined if the id has not the form of one. */
  readonly partition: number | undefined
  readonly keys: KeySet
}

/** The length of the longest token that is kept, so that the cache has a limit in bytes too. */
const maxCached = 2 << 10

export class Cache {
  readonly #half: number
  #young = new Map<string, Verified>()
  #old = new Map<string, Verified>()

  /** The size is how many tokens are remembered at most; 0 means none. */
  constructor(size: number) {
    this.#half = Math.floor(size / 2)
  }

  get(token: string, keys: KeySet | undefined): Verified | undefined {
    let found = this.#young.get(token)
    if (found === undefined) {
      found = this.#old.get(token)
      if (found !== undefined) this.put(token, found)
    }
    return found?.keys === keys ? found : undefined
  }

  put(token: string, verified: Verified): void {
    if (token.length > maxCached || this.#half === 0) return
    if (this.#young.size >= this.#half) {
      this.#old = this.#young
      this.#young = new Map()
    }
    // A copy: the text may be part of a larger one, which would be kept alive.
    this.#young.set(Buffer.from(token, 'latin1').toString('latin1'), verified)
  }
}
