import { pause } from './clock.js'
import { Known, Refused, Trouble } from './errors.js'

/**
 * For one answer, in milliseconds. Less than the server's retry window of 10 s: an
 * answer that could set an older cookie over a newer one is not waited for.
 */
const timeout = 8000

const attempts = 4

/** Nobody is told to wait longer than this, in milliseconds: a mistake must not cost a day. */
const maxWait = 60_000

/** No server is waited for longer than this before it is asked again, in milliseconds. */
const patience = 5000

/**
 * One request to the service: what its answer holds, or Refused, if the service
 * says so itself. Everything else is Trouble: no answer, one that breaks off, that
 * asks to wait, or that comes from somebody in between.
 */
export async function ask(send: typeof fetch, url: string, init: RequestInit): Promise<unknown> {
  const control = new AbortController()
  const timer = setTimeout(() => control.abort(), timeout)
  try {
    const answer = await send(url, { cache: 'no-store', redirect: 'error', ...init, signal: control.signal })
    const { status } = answer
    if (status >= 500 || [408, 409, 429].includes(status))
      throw new Trouble(`the server answers ${status}`, { wait: Math.min(Number(answer.headers.get('Retry-After')) * 1000, maxWait) })
    if (status === 204) return
    const body = await answer.json()
    if (answer.ok) return body
    if (body.error) throw new Refused(status, body.error, body.error_description, body.reason)
    throw new Trouble(`somebody answers ${status}`)
  } catch (cause) {
    throw cause instanceof Known ? cause : new Trouble('no answer', { cause })
  } finally {
    clearTimeout(timer)
  }
}

/** Tries again while there is trouble, a few times. */
export async function insist<T>(task: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await task()
    } catch (error) {
      if (!(error instanceof Trouble) || attempt >= attempts || error.wait > patience) throw error
      // Not all at once: a thousand clients see the same outage.
      await pause((error.wait || 200 * 2 ** attempt) * (0.75 + Math.random() / 2))
    }
  }
}
