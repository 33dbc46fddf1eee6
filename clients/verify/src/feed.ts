/**
 * Follows the issuer's GET /revocations (Server-Sent Events) and tells a replica. A connection that ends is made again, and
 * goes on a little before the point that was reached.
 */
import type { IncomingMessage } from 'node:http'
import { elapsed, type Moment, now } from './clock.js'
import { type Frame, FrameReader } from './frames.js'
import { type Agent, get } from './get.js'
import type { Replica } from './replica.js'

export interface FeedConfig {
  readonly url: URL
  /** Those of a client that may follow. */
  readonly client: { readonly id: string; readonly secret: string }
  readonly agent: Agent | undefined
  readonly onTrouble: (error: Error) => void
}

/** How long there may be no frame before the connection is given up; five should come each second. */
const frameTimeout = 2000
/** How long a connection may take to bring the first frame. */
const answerTimeout = 5000

/**
 * How late a frame may be, and how often in a row it may be later, before the connection is made anew to measure again.
 */
const behind = 400
const maxLate = 25

/**
 * While a service waits, it does not know what is revoked: better many attempts than a long silence after the issuer is
 * back.
 */
const firstBackoff = 100
const maxBackoff = 2000
/** How long trouble that stays the same is kept back. */
const sameTrouble = 10_000

/** An answer that says when to come back, in ms. */
class RetryAfter extends Error {
  readonly wait: number
  constructor(wait: number) {
    super('the issuer cannot answer now')
    this.wait = wait
  }
}

export class Feed {
  readonly #config: FeedConfig
  readonly #replica: Replica
  readonly #closed = new AbortController()
  #mark = ''

  /** Begins to follow, at once. */
  constructor(config: FeedConfig, replica: Replica) {
    this.#config = config
    this.#replica = replica
    void this.#run()
  }

  close(): void {
    this.#closed.abort()
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed
    let backoff = firstBackoff
    let last = ''
    let reported: Moment | undefined
    while (!signal.aborted) {
      const began = now()
      // The issuer ends each stream after a while; that is no trouble.
      const trouble = await this.#connection().catch((error: Error) => error)
      if (signal.aborted) return
      if (elapsed(began) > maxBackoff) backoff = firstBackoff
      if (trouble && (trouble.message !== last || elapsed(reported!) > sameTrouble)) {
        last = trouble.message
        reported = now()
        this.#config.onTrouble(new Error(`revocations: ${last}`))
      }
      const wait = trouble instanceof RetryAfter ? trouble.wait : 0
      // Thousands that lost the same instance must not come back as one.
      await pause(Math.max(wait, backoff / 2 + (Math.random() * backoff) / 2), signal)
      backoff = Math.min(2 * backoff, maxBackoff)
    }
  }

  /** Reads one connection to its end. It rejects unless the issuer ended it in order. */
  async #connection(): Promise<void> {
    const { url, client, agent } = this.#config
    let sent = now()
    const { request, response } = get(
      url,
      {
        // RFC 6749, section 2.3.1, wants both parts encoded.
        Authorization: `Basic ${Buffer.from(`${formEncode(client.id)}:${formEncode(client.secret)}`).toString('base64')}`,
        Accept: 'text/event-stream',
        // Compressing means collecting.
        'Accept-Encoding': 'identity',
        ...(this.#mark === '' ? {} : { 'Last-Event-ID': this.#mark }),
      },
      agent,
      // The time that dialling takes, four round trips or a lost packet's second, would count as age for as long as the
      // stream lasts.
      () => (sent = now()),
    )
    let answered = false
    let silent = false
    const stop = () => request.destroy()
    const fallSilent = () => {
      silent = true
      stop()
    }
    let watch = setTimeout(fallSilent, answerTimeout).unref()
    this.#closed.signal.addEventListener('abort', stop)
    try {
      const answer = await response
      answered = true
      check(answer)
      await this.#frames(answer, sent, () => {
        clearTimeout(watch)
        watch = setTimeout(fallSilent, frameTimeout).unref()
      })
    } catch (error) {
      if (silent) throw new Error(answered ? 'the issuer fell silent' : 'the issuer does not answer')
      throw error
    } finally {
      clearTimeout(watch)
      this.#closed.signal.removeEventListener('abort', stop)
      stop()
    }
  }

  /** Takes in the frames of an answer to a request that was sent at that moment. */
  #frames(answer: IncomingMessage, sent: Moment, alive: () => void): Promise<void> {
    const reader = new FrameReader()
    let first: number | undefined
    let late = 0

    const take = (frame: Frame): void => {
      alive()
      first ??= frame.clock
      for (const { kind, id, until } of frame.denied) this.#replica.deny(kind, id, until)
      // Anything else could not be sent back in a header.
      if (frame.mark !== undefined && /^[\x21-\x7e]+$/.test(frame.mark)) this.#mark = frame.mark
      // The first frame was made after the request was sent. So this one was made no earlier than that much after it as
      // lies between the two on the issuer's clock; what has passed since comes on top, wherever the frame has been
      // waiting. (The clock's milliseconds are cut off; the two clocks may drift apart by some 100 ms while a connection
      // lasts.)
      const at = now()
      const took = at.steady - sent.steady
      const passed = frame.clock - first - 1
      if (frame.clock < first || passed > took + 1000) throw new Error("the issuer's clock leapt")
      // After a suspension, what lay in the socket looks young. Another request measures anew, which is right too if the
      // wall clock was just set.
      if (elapsed(sent, at) > took + 1000) throw new Error('this machine was suspended, or its clock was set')
      const since = took - passed
      // Perhaps the first frame was slow and the others are not.
      late = since > behind ? late + 1 : 0
      if (late > maxLate) throw new Error('what the issuer sends arrives late')
      for (const [p, age] of frame.ages.entries()) {
        if (age >= 0) this.#replica.confirm(p, Math.max(0, since) + age)
      }
    }

    return new Promise((resolve, reject) => {
      const broken = () => reject(new Error('the stream broke off, or is none'))
      answer.on('data', (piece: Buffer) => {
        let frames: Frame[]
        try {
          frames = reader.read(piece)
        } catch {
          return broken()
        }
        try {
          frames.forEach(take)
        } catch (error) {
          reject(error as Error)
        }
      })
      answer.once('end', () => (first === undefined ? broken() : resolve()))
      answer.once('error', broken)
      answer.once('close', broken)
    })
  }
}

function check(answer: IncomingMessage): void {
  const status = answer.statusCode
  if (status === 401 || status === 403) throw new Error("the issuer refuses the client's credentials")
  if (status === 503 || status === 429) {
    const seconds = Number(answer.headers['retry-after'])
    throw new RetryAfter(Math.min(seconds > 0 ? seconds * 1000 : 0, maxBackoff))
  }
  if (status !== 200) throw new Error(`the issuer answers ${status}`)
  if (answer.headers['content-type'] !== 'text/event-stream') throw new Error("the issuer's answer is no event stream")
}

function formEncode(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms).unref()
    signal.addEventListener('abort', end)
  })
}
