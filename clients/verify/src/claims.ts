/** What an access token says, and the rules that hold for each of its claims. */
import { InvalidTokenError } from './errors.js'
import { fold, integer, members, string, strings } from './strictjson.js'

/** The claims of a good access token. They are frozen, since requests with the same token share them. */
export interface Claims {
  readonly iss: string
  readonly sub: string
  /** Whom the token is for: at least one. */
  readonly aud: readonly string[]
  /** Unix seconds. */
  readonly exp: number
  /** Unix seconds. */
  readonly iat: number
  /** Unix seconds; undefined if the token does not say. */
  readonly nbf: number | undefined
  readonly jti: string
  readonly client_id: string
  /** The session, which ends when its user logs out. */
  readonly sid: string
  /** When the user logged in, in Unix seconds; undefined if the token does not say. */
  readonly auth_time: number | undefined
  /** Separated by spaces; empty if the token does not say. */
  readonly scope: string
  readonly roles: readonly string[]
  /** How the user logged in (RFC 8176). */
  readonly amr: readonly string[]
  /** Which key signed the token, from its header. */
  readonly kid: string
}

/** How far the clocks of issuer and verifier may be apart, in either direction, in seconds. */
export const leeway = 15
/** The longest time from iat to exp, in seconds: denials are kept for that long. */
export const maxLifetime = 3600
/** The last second of the year 9999. A number above it is not a date but an attempt to live forever. */
const maxDate = 253402300799

const names = ['iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti', 'client_id', 'sid', 'auth_time', 'scope', 'roles', 'amr']

/**
 * Reads the payload of a token whose signature was checked. A claim that is not known is ignored, unless it is one that is
 * but for letter case: another reader of the same payload would take SUB for sub.
 */
export function parseClaims(payload: Uint8Array, kid: string): Claims {
  let raw: Map<string, string>
  try {
    raw = members(payload)
  } catch {
    throw bad('not one JSON object with unique names')
  }
  for (const name of raw.keys()) {
    const known = fold(name)
    if (known !== name && names.includes(known)) throw bad(`${known} is spelled with other upper and lower case`)
  }

  function read<T>(name: string, parse: (value: string) => T | undefined): T | undefined {
    const value = raw.get(name)
    if (value === undefined) return undefined
    const parsed = parse(value)
    if (parsed === undefined) throw bad(`${name} has the wrong type`)
    return parsed
  }
  function needed<T extends string | number | readonly string[]>(name: string, parse: (value: string) => T | undefined): T {
    const value = read(name, parse)
    if (value === undefined || value === '') throw bad(`${name} missing`)
    return value
  }

  const claims: Claims = {
    iss: needed('iss', string),
    sub: needed('sub', string),
    aud: Object.freeze(needed('aud', audience)),
    exp: needed('exp', date),
    iat: needed('iat', date),
    nbf: read('nbf', date),
    jti: needed('jti', string),
    client_id: needed('client_id', string),
    sid: needed('sid', string),
    auth_time: read('auth_time', date),
    scope: read('scope', string) ?? '',
    roles: Object.freeze(read('roles', strings) ?? []),
    amr: Object.freeze(read('amr', strings) ?? []),
    kid,
  }
  if (claims.aud.length === 0 || claims.aud.includes('')) throw bad('aud missing')
  const lifetime = claims.exp - claims.iat
  if (lifetime <= 0 || lifetime > maxLifetime) throw bad('exp does not fit iat')
  return Object.freeze(claims)
}

/** Compares the claims with the clock, in Unix milliseconds: the part of the checks that has another outcome later. */
export function checkTime(claims: Claims, now: number): void {
  const latest = now + leeway * 1000
  if (claims.iat * 1000 > latest) throw bad('iat is in the future')
  if (claims.nbf !== undefined && claims.nbf * 1000 > latest) throw bad('nbf is in the future')
  // The other way round a clock that is no number would let in.
  if (!(now < (claims.exp + leeway) * 1000)) throw new InvalidTokenError('expired')
}

export function bad(detail: string): InvalidTokenError {
  return new InvalidTokenError('claims', detail)
}

function audience(raw: string): string[] | undefined {
  const one = string(raw)
  return one === undefined ? strings(raw) : [one]
}

/** Reads a NumericDate without a fraction. Zero is none: some libraries take it for "no expiry". */
function date(raw: string): number | undefined {
  const seconds = integer(raw)
  return seconds !== undefined && 0 < seconds && seconds <= maxDate ? seconds : undefined
}
