/**
 * Guards Express routes.
 *
 *     app.get('/notes', guard(verifier, { scopes: ['notes:read'] }), (req, res) => res.send(claims(req).sub))
 *
 * It works with Express 4 and 5, and with whatever else calls middlewares with Node's own request and response.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { bearer, refusal, send, tokenNeeded } from './answer.js'
import type { Claims } from './claims.js'
import { setClaims } from './guarded.js'
import type { Policy } from './policy.js'
import type { Verifier } from './verifier.js'

export { claims } from './guarded.js'

/** A middleware of Express. */
export type Guard = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void

/**
 * Returns a middleware that calls the next handler only for requests with a good access token that the policy allows.
 *
 * It answers 401 for a token that is no good, 403 for one that lacks a scope or a role (both with WWW-Authenticate, RFC
 * 6750, section 3), and 503 with Retry-After for trouble, each with a JSON body in the form of RFC 6749.
 *
 * It throws a TypeError if the policy asks for what the verifier cannot do: it is a mistake in the program, found when the
 * routes are made.
 */
export function guard(verifier: Verifier, policy: Policy = {}): Guard {
  const check = verifier.require(policy)
  const scopes = [...(policy.scopes ?? [])]

  return (request, response, next) => {
    const token = bearer(request)
    if (token === undefined) return send(response, tokenNeeded)

    const accept = (claims: Claims) => {
      setClaims(request, claims)
      next()
    }
    const refuse = (error: unknown) => {
      const answer = refusal(error, scopes)
      if (answer === undefined) next(error)
      else send(response, answer)
    }
    let verdict: Claims | Promise<Claims>
    try {
      verdict = check(token)
    } catch (error) {
      return refuse(error)
    }
    if (verdict instanceof Promise) verdict.then(accept, refuse)
    else accept(verdict)
  }
}
