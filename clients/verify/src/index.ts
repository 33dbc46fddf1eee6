/**
 * Verifies authapi's access tokens locally, and refuses revoked ones within a second.
 *
 * Call `createVerifier` once, and guard routes with `@authapi/verify/express` or `@authapi/verify/nestjs`, or call
 * `verifier.verify(token)` by hand.
 *
 * A verifier fetches the issuer's keys and follows its revocations in the background. No request waits for the network: a
 * token is verified here, its revocation looked up in memory, and a token that was verified before costs no signature
 * again. The copy of the revocations knows how old it is. If it has not heard from the issuer for the time that a policy
 * allows, a second by default, the function `denied` is asked, if there is one. If that does not help either, the request
 * is refused with 503, not 401, because trouble here says nothing about the token, and a client that is told so keeps its
 * login.
 *
 * It knows access tokens only, and changes no state.
 */
export type { Claims } from './claims.js'
export { description, ForbiddenError, InvalidTokenError, type Reason, UnavailableError } from './errors.js'
export type { Policy } from './policy.js'
export { type Check, createVerifier, type Verifier, type VerifierOptions } from './verifier.js'
