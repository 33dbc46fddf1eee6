/**
 * Log in, stay logged in, log out.
 *
 * Call {@link createAuth} once, then `auth.login()`, and use `auth.fetch()` instead
 * of `fetch()`: it sends the access token along and refreshes it when needed.
 * `auth.logout()` ends the session, in all tabs.
 *
 * How it works. The access token is in memory only. The refresh token is in a
 * cookie that scripts cannot read, or, on mobile, in a store that you hand in.
 * However many calls need a new access token at once, one request is made, and
 * where the browser has Web Locks and BroadcastChannel, one for all tabs. None of
 * this is needed to be safe: the server gives the same successor to whoever
 * repeats a refresh with the same `Idempotency-Key`, so the key is made and
 * stored before the request is sent, and kept until its answer has arrived.
 *
 * Only an answer `invalid_grant` means that the user is logged out. A network
 * that fails, a 429 and a 5xx never do: they end in {@link Trouble}, and the next
 * call tries again.
 *
 * What it does not do. It has no pages and no router, and it knows nothing of what
 * is in a token. Clocks are not asked what time it is, only how much has passed.
 */
export { createAuth, type Auth, type Options, type Session, type User } from './auth.js'
export { LoggedOut, Refused, Trouble } from './errors.js'
export type { Store } from './store.js'
