/**
 * The key set of an issuer, fetched again and again in the background. Nobody waits for it: a token is judged by the keys
 * that are here.
 *
 * While the issuer is out of reach, or publishes a document that `parseKeySet` refuses, the last good set stays for 24
 * hours.
 */
import { elapsed, type Moment, now } from './clock.js'
import { type Agent, get } from './get.js'
import { type KeySet, maxDocument, parseKeySet } from './keyset.js'

export interface JWKSConfig {
  readonly url: URL
  readonly agent: Agent | undefined
  readonly onTrouble: (error: Error) => void
  /** The clocks, for tests. */
  readonly now?: () => Moment
}

/**
 * How long a set is used after the issuer has confirmed it for the last time. An issuer that is out of reach has not
 * withdrawn its keys. But a key that leaked is withdrawn by publishing a set without it, and whoever is cut off from that
 * would believe the thief for ever. Such a key is also denied on the feed, for 7 days: a set of a day is gone long before
 * that denial is.
 */
const maxAge = 24 * 3600_000
/** How often the keys are fetched, or up to a tenth sooner. An issuer publishes a key 15 minutes before it signs. */
const every = 5 * 60_000
/** The shortest time from the end of a fetch to the next one. */
const cooldown = 10_000
const firstRetry = 1000 // doubled with each failure
const fetchTime = 5000 // for all of a fetch
const reportEvery = 3600_000 // for trouble that stays the same
/** Timers stand still while a machine is suspended; what was due meanwhile is noticed this soon. */
const lookEvery = 1000

export class JWKS {
  readonly #config: JWKSConfig
  readonly #now: () => Moment
  #current: KeySet | undefined
  #wanted = false
  #fetching = false
  #closed = new AbortController()
  #timer: NodeJS.Timeout | undefined

  #confirmed: Moment | undefined // when the request for the set was sent
  #ended: Moment // of the last fetch
  #pause = 0
  #retry = firstRetry
  #reported = ''
  #reportedAt: Moment

  /** Begins to fetch the keys, at once. */
  constructor(config: JWKSConfig) {
    this.#config = config
    this.#now = config.now ?? now
    this.#ended = this.#reportedAt = this.#now()
    void this.#fetch()
  }

  /** The keys, undefined while none are known. As long as the issuer publishes the same keys it is the same object. */
  get current(): KeySet | undefined {
    return this.#current
  }

  /**
   * Asks for a fetch soon, because a token names a key that is not in the set. Anybody can make such tokens, so it may be
   * called for each of them. The fetch comes as soon as the cool-down since the end of the last one is over: under a flood
   * of invented keys the issuer is asked once per cool-down. What is asked for meanwhile is put off and not dropped.
   */
  refresh(): void {
    if (this.#wanted) return
    this.#wanted = true
    this.#look()
  }

  close(): void {
    this.#closed.abort()
    clearTimeout(this.#timer)
  }

  /** Fetches if that is due, and looks again later if not. */
  #look(): void {
    clearTimeout(this.#timer)
    this.#expire()
    if (this.#fetching || this.#closed.signal.aborted) return
    const due = this.#wanted ? Math.min(this.#pause, cooldown) : this.#pause
    const left = due - elapsed(this.#ended, this.#now())
    if (left <= 0) return void this.#fetch()
    this.#timer = setTimeout(() => this.#look(), Math.min(left, lookEvery)).unref()
  }

  async #fetch(): Promise<void> {
    this.#fetching = true
    this.#wanted = false // this fetch is for all who asked until now
    const began = this.#now()
    try {
      const set = await parseKeySet(await download(this.#config.url, this.#config.agent, this.#closed.signal))
      this.#confirmed = began
      this.#reported = ''
      // Verdicts are tied to the object.
      if (set.fingerprint !== this.#current?.fingerprint) this.#current = set
      this.#pause = every
      this.#retry = firstRetry
    } catch (error) {
      this.#trouble((error as Error).message)
      this.#pause = Math.min(every, this.#retry)
      this.#retry = 2 * this.#pause
    }
    // Services that were started, or lost the issuer, in the same second must not come back in the same second.
    this.#pause -= (Math.random() * this.#pause) / 10
    // Without keys everything is refused: that is worth some more requests.
    if (this.#current !== undefined) this.#pause = Math.max(this.#pause, cooldown)
    this.#ended = this.#now()
    this.#fetching = false
    this.#look()
  }

  /** Drops a set that is too old. */
  #expire(): void {
    if (this.#current === undefined || elapsed(this.#confirmed!, this.#now()) < maxAge) return
    this.#current = undefined
    this.#trouble('those known were dropped, since they were not confirmed for 24 hours')
  }

  #trouble(message: string): void {
    if (this.#closed.signal.aborted) return
    const at = this.#now()
    if (message === this.#reported && elapsed(this.#reportedAt, at) < reportEvery) return
    this.#reported = message
    this.#reportedAt = at
    this.#config.onTrouble(new Error(`keys: ${message}`))
  }
}

/** Fetches the document, without anything in errors that the server has said but the status. */
async function download(url: URL, agent: Agent | undefined, closed: AbortSignal): Promise<Buffer> {
  const { request, response } = get(url, { Accept: 'application/json' }, agent)
  let late = false
  const stop = () => request.destroy()
  const timer = setTimeout(() => {
    late = true
    stop()
  }, fetchTime).unref()
  closed.addEventListener('abort', stop)
  try {
    const answer = await response
    if (answer.statusCode !== 200) throw new Error(`the server answers ${answer.statusCode}`)
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk)
      size += chunk.length
      if (size > maxDocument) throw new Error(`the document is larger than ${maxDocument} bytes`)
    }
    return Buffer.concat(chunks)
  } catch (error) {
    throw late ? new Error(`no complete answer within ${fetchTime / 1000} s`) : error
  } finally {
    clearTimeout(timer)
    closed.removeEventListener('abort', stop)
    stop()
  }
}
