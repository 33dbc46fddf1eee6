/**
 * Access tokens: JWTs as RFC 9068 profiles them. A token is header.payload.signature. The header has exactly three
 * members: alg, typ ("at+jwt") and kid.
 *
 * It is accepted what this issuer writes and no more, although the JWT standards would allow more: every liberty that two
 * parsers may take differently is a way in. `authentic` goes over the token once, in the order size, characters, dots,
 * base64, header, key, signature, claims, and stops at the first thing wrong. JSON is read by our own strict reader; only
 * the signature algorithms are jose's.
 *
 * Nothing here knows the time or what was revoked.
 */
import { compactVerify } from 'jose'
import { decode } from './base64url.js'
import { bad, type Claims, parseClaims } from './claims.js'
import { InvalidTokenError } from './errors.js'
import { algorithms, type KeySet, maxKeyID } from './keyset.js'
import { members, string } from './strictjson.js'

/** The size in bytes above which a token is not looked at. */
const maxSize = 8 << 10

/**
 * Returns the claims of a token that one of the keys signed, for this issuer and audience. It rejects with an
 * InvalidTokenError of any reason but `expired` and `revoked`.
 */
export async function authentic(token: string, keys: KeySet | undefined, issuer: string, audience: string): Promise<Claims> {
  const [header, payload, signature] = split(token)
  const { alg, kid } = parseHeader(header)
  // An empty signature ends here, before any key could be asked about it.
  const { minSignature, maxSignature } = algorithms.get(alg)!
  if (signature.length < minSignature || signature.length > maxSignature) throw malformed('signature size')
  const key = keys?.keys.get(kid)
  if (key === undefined) throw new InvalidTokenError('unknown_key')
  // The key decides how it is used. If the header did, a public key could be taken for an HMAC secret.
  if (key.alg !== alg || signature.length !== key.signatureSize) throw new InvalidTokenError('signature')
  try {
    await compactVerify(token, key.key, { algorithms: [key.alg] })
  } catch {
    throw new InvalidTokenError('signature')
  }
  const claims = parseClaims(payload, kid)
  if (claims.iss !== issuer) throw bad('another issuer')
  if (!claims.aud.includes(audience)) throw bad('another audience')
  return claims
}

/**
 * Takes a token apart. Size, characters and dots are checked before anything is decoded: a JWS in JSON form, a JWE, or a
 * megabyte of dots costs one look at it.
 */
function split(token: string): [Buffer, Buffer, Buffer] {
  if (typeof token !== 'string' || token.length > maxSize) throw malformed('too large, or no text')
  if (!/^[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*$/.test(token)) throw malformed('not three segments of base64url')
  const [header, payload, signature] = token.split('.').map(decode)
  if (!header || !payload || !signature) throw malformed('base64')
  return [header, payload, signature]
}

/**
 * Accepts exactly alg, typ and kid. That refuses everything by which a header could steer a verifier (jwk, jku, x5u, x5c),
 * change the rules (crit, b64, zip, cty), or that was never issued here.
 */
function parseHeader(header: Uint8Array): { alg: string; kid: string } {
  let raw: Map<string, string>
  try {
    raw = members(header)
  } catch {
    throw malformed('header')
  }
  const [alg, typ, kid] = ['alg', 'typ', 'kid'].map((name) => string(raw.get(name)))
  if (raw.size !== 3 || alg === undefined || typ === undefined || kid === undefined) throw malformed('header')
  // RFC 9068, section 4, allows these two. RFC 7515, section 4.1.9, would allow other letter cases too; the issuer never
  // writes one.
  if (typ !== 'at+jwt' && typ !== 'application/at+jwt') throw malformed('typ')
  if (kid === '' || Buffer.byteLength(kid) > maxKeyID) throw malformed('kid')
  if (!algorithms.has(alg)) throw malformed('alg')
  return { alg, kid }
}

function malformed(detail: string): InvalidTokenError {
  return new InvalidTokenError('malformed', detail)
}
