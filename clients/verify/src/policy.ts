/** What a route asks for. */
import type { Claims } from './claims.js'

/**
 * What a route asks for. The empty policy asks for a good token whose revocation would be known within a second, and
 * refuses if that cannot be told.
 */
export interface Policy {
  /** All of them are needed. */
  readonly scopes?: readonly string[]
  /** One of them is needed; none if empty. */
  readonly roles?: readonly string[]
  /**
   * How many milliseconds ago the replica may last have known everything about the token's partition: default 1000. Below
   * about 500 a replica is too old at times although nothing is wrong.
   */
  readonly freshness?: number
  /**
   * Asks the function `denied` with each request, so that a revocation counts from the moment it was answered. It costs a
   * round trip.
   */
  readonly strict?: boolean
  /**
   * What happens if nobody can tell whether the token was revoked. `refuse`, the default, answers 503.
   * `accept-until-expiry` lets in whoever has a token that has not expired. It suits routes that must work when nothing
   * else does, and that whoever stole a token may use for some minutes more.
   */
  readonly otherwise?: 'refuse' | 'accept-until-expiry'
}

export const defaultFreshness = 1000

/**
 * Returns a copy that no longer changes, with all defaults. It throws for what it does not know, a misspelled member too:
 * to take that for a milder policy would open what was meant to be closed.
 */
export function checked(policy: Policy): Required<Policy> {
  const { scopes = [], roles = [], freshness = defaultFreshness, strict = false, otherwise = 'refuse', ...unknown } = policy
  const other = Object.keys(unknown)[0]
  if (other !== undefined) throw new TypeError(`a policy has no member ${other}`)
  if (!isListOfWords(scopes) || scopes.some((scope) => /[ "\\]/.test(scope))) {
    throw new TypeError("a policy's scopes are an array of scopes, none of them empty or more than one")
  }
  if (!isListOfWords(roles)) throw new TypeError("a policy's roles are an array of roles, none of them empty")
  if (typeof freshness !== 'number' || !(freshness > 0)) throw new TypeError("a policy's freshness is a positive number of ms")
  if (typeof strict !== 'boolean') throw new TypeError("a policy's strict is true or false")
  if (otherwise !== 'refuse' && otherwise !== 'accept-until-expiry') throw new TypeError("a policy's otherwise is unknown")
  return Object.freeze({ scopes: [...scopes], roles: [...roles], freshness, strict, otherwise })
}

function isListOfWords(list: unknown): list is readonly string[] {
  return Array.isArray(list) && list.every((word) => typeof word === 'string' && word !== '')
}

export function allows(policy: Required<Policy>, claims: Claims): boolean {
  const { scopes, roles } = policy
  if (scopes.length > 0) {
    const granted = claims.scope.split(' ')
    if (!scopes.every((scope) => granted.includes(scope))) return false
  }
  return roles.length === 0 || roles.some((role) => claims.roles.includes(role))
}
