/**
 * The public keys of an issuer. `parseKeySet` reads a JWKS document (RFC 7517) of at most 64 KiB and 32 keys.
 *
 * Each key whose alg is known here must be perfect: the right kty and crv for its alg, use absent or "sig", key_ops absent
 * or ["verify"], a kid of 1 to 64 bytes that no other has, no private part, and no member of a key of another kind. One
 * that is not refuses the whole document, and the caller keeps the set it has: a broken publication must not take keys
 * away. A key without alg is refused likewise, since it would let the token choose. A key with an alg that is not known
 * here is ignored, whatever else it says: the issuer may begin to publish new kinds while old verifiers run.
 *
 * Errors quote nothing from the document.
 */
import { type CryptoKey, importJWK } from 'jose'
import { decode } from './base64url.js'
import { isSoundEd25519 } from './ed25519.js'
import { elements, fold, members, string, strings } from './strictjson.js'

/** The size in bytes of the largest document that is looked at. */
export const maxDocument = 64 << 10
/** The longest key id in bytes. */
export const maxKeyID = 64
const maxKeys = 32

type Alg = 'ES256' | 'EdDSA' | 'RS256'

/** What belongs to an algorithm. What is not in the table does not exist here ("none" and HMAC in particular). */
interface Algorithm {
  readonly kty: string
  readonly crv: string | undefined
  /** What a JWK may say about the key. */
  readonly members: readonly string[]
  /** The shortest and the longest signature in bytes. */
  readonly minSignature: number
  readonly maxSignature: number
  /** Throws if the key is not sound; returns the length of its signatures in bytes. kty and crv are right already. */
  readonly check: (jwk: Record<string, string>) => number
}

export const algorithms: ReadonlyMap<string, Algorithm> = new Map<Alg, Algorithm>([
  ['ES256', { kty: 'EC', crv: 'P-256', members: ['crv', 'x', 'y'], minSignature: 64, maxSignature: 64, check: checkP256 }],
  ['EdDSA', { kty: 'OKP', crv: 'Ed25519', members: ['crv', 'x'], minSignature: 64, maxSignature: 64, check: checkEd25519 }],
  ['RS256', { kty: 'RSA', crv: undefined, members: ['n', 'e'], minSignature: 256, maxSignature: 512, check: checkRSA }],
])

/** A key, and the only way in which it may be used. */
export interface Key {
  readonly alg: string
  /** The length in bytes of every signature of this key. */
  readonly signatureSize: number
  readonly key: CryptoKey
}

/** A set never changes: verdicts can be tied to the object. */
export interface KeySet {
  readonly keys: ReadonlyMap<string, Key>
  /** The same for the same keys. */
  readonly fingerprint: string
}

export async function parseKeySet(document: Uint8Array): Promise<KeySet> {
  if (document.length > maxDocument) throw new Error(`larger than ${maxDocument} bytes`)
  const documents = elements(members(document).get('keys') ?? '')
  if (documents === undefined) throw new Error('no array of keys')
  if (documents.length > maxKeys) throw new Error(`more than ${maxKeys} keys`)
  const keys = new Map<string, Key>()
  const known: string[] = []
  for (const [i, text] of documents.entries()) {
    try {
      const jwk = parseJWK(text)
      if (jwk === undefined) continue
      if (keys.has(jwk.kid!)) throw new Error('it has the id of another')
      keys.set(jwk.kid!, await importKey(jwk))
      known.push(JSON.stringify(Object.entries(jwk).sort()))
    } catch (error) {
      throw new Error(`key ${i}: ${(error as Error).message}`)
    }
  }
  // An empty set is always a fault, and to take it would log everyone out.
  if (keys.size === 0) throw new Error('no usable key')
  return { keys, fingerprint: known.sort().join('\n') }
}

/** What no published key may have: a private part is an accident. */
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth']
const keyMembers = ['crv', 'x', 'y', 'n', 'e']

/** Returns undefined for a key to be ignored. */
function parseJWK(text: string): Record<string, string> | undefined {
  const raw = members(text)
  const name = member(raw, 'alg')
  if (!name) throw new Error('no alg')
  const algorithm = algorithms.get(name)
  if (algorithm === undefined) return undefined

  for (const forbidden of [...privateMembers, ...keyMembers.filter((key) => !algorithm.members.includes(key))]) {
    if (has(raw, forbidden)) throw new Error(`member ${forbidden} must not be present`)
  }
  const jwk: Record<string, string> = { alg: name, kty: member(raw, 'kty') ?? '', kid: member(raw, 'kid') ?? '' }
  for (const key of algorithm.members) jwk[key] = member(raw, key) ?? ''
  if (jwk.kty !== algorithm.kty || jwk.crv !== algorithm.crv) throw new Error('kty or crv does not fit alg')
  const operations = has(raw, 'key_ops') ? strings(raw.get('key_ops') ?? '') : ['verify']
  if ((member(raw, 'use') ?? 'sig') !== 'sig' || operations?.length !== 1 || operations[0] !== 'verify') {
    throw new Error('not for verifying signatures')
  }
  if (!jwk.kid || Buffer.byteLength(jwk.kid) > maxKeyID) throw new Error(`kid is not 1 to ${maxKeyID} bytes`)
  return jwk
}

/** Whether there is such a member, be it spelled with other upper and lower case. */
function has(raw: Map<string, string>, name: string): boolean {
  return raw.has(name) || [...raw.keys()].some((other) => fold(other) === name)
}

function member(raw: Map<string, string>, name: string): string | undefined {
  if (!has(raw, name)) return undefined
  const value = string(raw.get(name))
  if (value === undefined) throw new Error(`member ${name} must be a string, and be spelled like this`)
  return value
}

async function importKey(jwk: Record<string, string>): Promise<Key> {
  const { alg, kid: _, ...key } = jwk
  const signatureSize = algorithms.get(alg!)!.check(jwk)
  try {
    return { alg: alg!, signatureSize, key: (await importJWK(key, alg)) as CryptoKey }
  } catch {
    // For P-256, it is this library that looks whether the point is on the curve.
    throw new Error('it is not a key')
  }
}

/** RFC 7518, section 6.2.1. */
function checkP256(jwk: Record<string, string>): number {
  for (const coordinate of [jwk.x!, jwk.y!]) {
    if (decode(coordinate)?.length !== 32) throw new Error('a coordinate is not 32 bytes in base64url')
  }
  return 64
}

/** RFC 8037, section 2. */
function checkEd25519(jwk: Record<string, string>): number {
  const point = decode(jwk.x!)
  if (point?.length !== 32) throw new Error('x is not 32 bytes in base64url')
  if (!isSoundEd25519(point)) throw new Error('x is not a point of the curve that can be a key')
  return 64
}

/**
 * RFC 7518, section 6.3.1. The lower bound is demanded there; the upper one bounds the work that a stranger's token can
 * cause. A small exponent lets some signatures be forged where padding is checked carelessly.
 */
function checkRSA(jwk: Record<string, string>): number {
  if (jwk.e !== 'AQAB') throw new Error('e is not 65537 in its shortest form')
  const n = decode(jwk.n!)
  if (n === undefined || n.length === 0 || n[0] === 0) throw new Error('n is not a number in base64url, in its shortest form')
  const bits = n.length * 8 - (Math.clz32(n[0]!) - 24)
  if (bits < 2048 || bits > 4096 || n.at(-1)! % 2 === 0) throw new Error('n is not odd, or not of 2048 to 4096 bits')
  return n.length
}
