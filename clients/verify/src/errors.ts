/**
 * Why a token was not accepted. Three kinds, because a client must act differently on each: get another token, give up,
 * or try again.
 *
 * No message holds any part of a token: messages end up in logs.
 */

/**
 * What is wrong with a token.
 *
 * - `malformed`: not a token of the form that is issued here. No key has been looked up.
 * - `unknown_key`: the form is right, but no key of that id is known. Anybody can cause this.
 * - `signature`: the key did not make this signature.
 * - `claims`: the token is authentic, but a claim is missing, of the wrong type, or not acceptable here and now.
 * - `expired`: the token is authentic and right in everything else, but its time is over.
 * - `revoked`: the token, its session or its key was revoked.
 */
export type Reason = 'malformed' | 'unknown_key' | 'signature' | 'claims' | 'expired' | 'revoked'

/** The token is no good: 401. */
export class InvalidTokenError extends Error {
  override readonly name = 'InvalidTokenError'
  readonly status = 401
  readonly reason: Reason

  constructor(reason: Reason, detail?: string) {
    super(`token refused: ${reason}${detail === undefined ? '' : `: ${detail}`}`)
    this.reason = reason
  }
}

/** The token is good, but lacks a scope or a role that the policy asks for: 403. */
export class ForbiddenError extends Error {
  override readonly name = 'ForbiddenError'
  readonly status = 403

  constructor() {
    super('the token does not allow this')
  }
}

/** It could not be told whether the token is good: 503. It says nothing about the token. */
export class UnavailableError extends Error {
  override readonly name = 'UnavailableError'
  readonly status = 503

  constructor(why: string, options?: ErrorOptions) {
    super(`it cannot be told whether the token is good: ${why}`, options)
  }
}

/**
 * Says in a few plain words why a token was refused. It tells what the client can find out anyway, and nothing of keys or
 * signatures.
 */
export function description(error: unknown): string {
  if (error instanceof ForbiddenError) return 'the access token does not allow this'
  if (error instanceof UnavailableError) return 'it cannot be told now whether the token is good'
  if (error instanceof InvalidTokenError) {
    if (error.reason === 'expired') return 'the access token has expired'
    if (error.reason === 'revoked') return 'the access token was revoked'
  }
  return 'the access token is not valid'
}
