/** Where the claims of a request are kept: under a name that no other middleware can take or set. */
import type { Claims } from './claims.js'

const key = Symbol('authapi claims')

export function setClaims(request: object, claims: Claims): void {
  ;(request as { [key]?: Claims })[key] = claims
}

/**
 * Returns the claims of the token that a guard accepted. It throws if the request was not guarded: a route that was left
 * open by mistake must not work.
 */
export function claims(request: object): Claims {
  const found = (request as { [key]?: Claims })[key]
  if (found === undefined) throw new Error('no guard has accepted an access token of this request')
  return found
}
