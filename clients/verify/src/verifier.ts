/** Accepts or refuses access tokens. */
import { Cache, type Verified } from './cache.js'
import { checkTime, type Claims } from './claims.js'
import { ForbiddenError, InvalidTokenError, UnavailableError } from './errors.js'
import { Feed } from './feed.js'
import type { Agent } from './get.js'
import { JWKS } from './jwks.js'
import type { KeySet } from './keyset.js'
import { partitionOf } from './partition.js'
import { allows, checked, defaultFreshness, type Policy } from './policy.js'
import { Replica } from './replica.js'
import { authentic } from './token.js'
import { parseURL } from './urls.js'

/** Which tokens to accept. `issuer` and `audience` are needed, and `client`, `denied` or both. */
export interface VerifierOptions {
  /** They must be those of the token, byte for byte. */
  readonly issuer: string
  readonly audience: string

  /** The id and secret of a client that may follow the issuer's revocations. */
  readonly client?: { readonly id: string; readonly secret: string }
  /**
   * Says whether a token, which is otherwise good, was revoked. It is asked when the copy of the revocations is too old,
   * or always if there is none; at most a second is waited for it, after which the signal is aborted. If it throws, or
   * returns anything but true and false, it cannot be told.
   */
  readonly denied?: (claims: Claims, signal: AbortSignal) => boolean | Promise<boolean>

  /** Where the issuer publishes its keys: default `issuer` + /.well-known/jwks.json. */
  readonly jwksUri?: string
  /** Where it publishes its revocations: default `issuer` + /revocations. */
  readonly revocationsUri?: string
  /**
   * Lets both be http to any host, and not only to this machine. It is for networks that protect what they carry, such as
   * a service mesh: anywhere else, whoever sits on the way becomes the issuer.
   */
  readonly allowHttp?: boolean
  /** Makes the requests to both, for whoever needs certificates or proxies of their own. */
  readonly agent?: Agent

  /**
   * How many verified tokens are remembered, so that their signature is not computed again: default 16384, 2 KB or so
   * each; 0 means none.
   */
  readonly cacheSize?: number
  /** Told what goes wrong with keys and revocations, for a log: what is new at once, what stays the same now and then. */
  readonly onTrouble?: (error: Error) => void
  /** The clock by which tokens expire, in Unix milliseconds; default Date.now. */
  readonly now?: () => number
}

/**
 * Judges a token. It returns the claims at once if it can, which is the rule for a token that was verified before, and a
 * promise otherwise; it throws and rejects alike.
 */
export type Check = (token: string) => Claims | Promise<Claims>

const defaultCacheSize = 16 << 10
const deniedTimeout = 1000

/**
 * Returns a verifier, which begins to fetch keys and to follow revocations. It throws a TypeError or an Error if the
 * options are wrong, or would let a token pass unchecked.
 */
export function createVerifier(options: VerifierOptions): Verifier {
  return new Verifier(options)
}

export class Verifier {
  readonly #issuer: string
  readonly #audience: string
  readonly #denied: VerifierOptions['denied']
  readonly #now: () => number
  readonly #cache: Cache
  readonly #keys: JWKS
  readonly #replica: Replica | undefined
  readonly #feed: Feed | undefined
  #closed = false

  /** @internal */
  constructor(options: VerifierOptions) {
    const { issuer, audience, client, denied, cacheSize = defaultCacheSize, onTrouble = () => {}, now = Date.now } = options
    refuseUnknown(options)
    if (!isText(issuer) || !isText(audience)) throw new TypeError('an issuer and an audience are needed')
    if (client === undefined && denied === undefined) throw new TypeError('nothing tells which tokens were revoked: client or denied is needed')
    if (client !== undefined && !(isText(client?.id) && isText(client.secret))) throw new TypeError("a client's id and secret are needed")
    for (const [name, value] of Object.entries({ denied, onTrouble, now })) {
      if (value !== undefined && typeof value !== 'function') throw new TypeError(`${name} is no function`)
    }
    if (!Number.isInteger(cacheSize) || cacheSize < 0) throw new TypeError('the cache size is not a number of tokens')
    this.#issuer = issuer
    this.#audience = audience
    this.#denied = denied
    this.#now = now
    this.#cache = new Cache(cacheSize)

    const { allowHttp = false, agent } = options
    const base = issuer.replace(/\/$/, '')
    const keys = parseURL('jwksUri', options.jwksUri ?? `${base}/.well-known/jwks.json`, allowHttp)
    const revocations = client && parseURL('revocationsUri', options.revocationsUri ?? `${base}/revocations`, allowHttp)
    // Later, and by nobody: what it throws must not end what goes on in the background.
    const report = (error: Error) => void setImmediate(onTrouble, error)
    this.#keys = new JWKS({ url: keys, agent, onTrouble: report })
    if (client && revocations) {
      this.#replica = new Replica()
      this.#feed = new Feed({ url: revocations, client: { id: client.id, secret: client.secret }, agent, onTrouble: report }, this.#replica)
    }
  }

  /**
   * Returns the claims of a good access token that the policy allows. It rejects with an InvalidTokenError (401), a
   * ForbiddenError (403), or an UnavailableError (503), which says nothing about the token.
   */
  async verify(token: string, policy: Policy = {}): Promise<Claims> {
    return this.require(policy)(token)
  }

  /**
   * Returns what judges tokens under a policy, for whoever asks often. It throws a TypeError if the policy asks for what
   * the verifier cannot do: it is a mistake in the program, found when the routes are made.
   */
  require(policy: Policy = {}): Check {
    const p = checked(policy)
    if (p.strict && this.#denied === undefined) throw new TypeError('a strict policy needs the function denied')
    return (token) => {
      const keys = this.#keys.current
      const known = this.#cache.get(token, keys)
      if (known === undefined) return this.#first(token, keys, p)
      checkTime(known.claims, this.#now())
      return this.#judge(known, p)
    }
  }

  /** Judges a token that is not remembered. */
  async #first(token: string, keys: KeySet | undefined, policy: Required<Policy>): Promise<Claims> {
    let claims: Claims
    try {
      claims = await authentic(token, keys, this.#issuer, this.#audience)
    } catch (error) {
      if (error instanceof InvalidTokenError && error.reason === 'unknown_key') {
        // The token at hand is judged by the keys that are here: whoever waited could be made to wait by anybody with a
        // made-up key id.
        this.#keys.refresh()
        if (keys === undefined) throw new UnavailableError('no keys yet')
      }
      throw error
    }
    checkTime(claims, this.#now())
    const verified = { claims, partition: partitionOf(claims.sid), keys: keys! }
    this.#cache.put(token, verified)
    return this.#judge(verified, policy)
  }

  /** Returns the claims unless the token was revoked, or lacks something. */
  #judge({ claims, partition }: Verified, policy: Required<Policy>): Claims | Promise<Claims> {
    const replica = this.#replica
    if (replica !== undefined) {
      if (replica.denies(claims)) {
        if (replica.deniesKey(claims.kid)) this.#keys.refresh()
        throw new InvalidTokenError('revoked')
      }
      if (!policy.strict && replica.age(partition) <= policy.freshness) return permitted(claims, policy)
    }
    return this.#ask(claims, policy)
  }

  /** Asks the function denied, if there is one. */
  async #ask(claims: Claims, policy: Required<Policy>): Promise<Claims> {
    let trouble: unknown
    if (this.#denied !== undefined) {
      let denied: unknown
      try {
        denied = await withinTime((signal) => this.#denied!(claims, signal))
      } catch (error) {
        trouble = error
      }
      if (denied === true) throw new InvalidTokenError('revoked')
      // Not "falsy": a forgotten return must not let in.
      if (denied === false) return permitted(claims, policy)
      trouble ??= new TypeError('denied returned neither true nor false')
    }
    if (policy.otherwise === 'accept-until-expiry') return permitted(claims, policy)
    throw new UnavailableError('the copy of the revocations is out of date', { cause: trouble })
  }

  /** Whether a token can be judged now without the function denied: there are keys, and the copy is up to date. */
  get isReady(): boolean {
    return !this.#closed && this.#keys.current !== undefined && (this.#replica === undefined || this.#replica.oldest <= defaultFreshness)
  }

  /** Resolves when `isReady`. It rejects with an UnavailableError if that takes longer than so many milliseconds. */
  async ready(timeout = 10_000): Promise<void> {
    const end = performance.now() + timeout
    while (!this.isReady) {
      if (this.#closed) throw new UnavailableError('the verifier was closed')
      if (performance.now() > end) throw new UnavailableError(`not ready after ${timeout} ms`)
      // This timer keeps the process running, since somebody waits.
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /**
   * How many milliseconds ago the copy of the revocations last knew everything, in the partition where that is longest;
   * Infinity if it never did, 0 if there is no copy. It is for gauges, like `size`.
   */
  get age(): number {
    return this.#replica?.oldest ?? 0
  }

  /** How many sessions and tokens are known to be revoked. */
  get size(): number {
    return this.#replica?.size ?? 0
  }

  /** Ends all that goes on in the background. The verifier soon refuses with 503 what it can no longer tell. */
  close(): void {
    this.#closed = true
    this.#keys.close()
    this.#feed?.close()
    this.#replica?.close()
  }
}

function permitted(claims: Claims, policy: Required<Policy>): Claims {
  if (!allows(policy, claims)) throw new ForbiddenError()
  return claims
}

async function withinTime<T>(ask: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new Error(`denied took longer than ${deniedTimeout} ms`)
      controller.abort(error)
      reject(error)
    }, deniedTimeout)
  })
  try {
    return await Promise.race([ask(controller.signal), late])
  } finally {
    clearTimeout(timer)
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

const known = [
  'issuer', 'audience', 'client', 'denied', 'jwksUri', 'revocationsUri', 'allowHttp', 'agent', 'cacheSize', 'onTrouble', 'now',
]

/** What is misspelled would not count, and nobody would notice. */
function refuseUnknown(options: VerifierOptions): void {
  const other = Object.keys(options).find((name) => !known.includes(name))
  if (other !== undefined) throw new TypeError(`there is no option ${other}`)
}
