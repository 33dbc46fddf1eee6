/** The field and the curve -x²+y² = 1+dx²y² of RFC 8032, section 5.1. */
const prime = 2n ** 255n - 19n
const d = modulo(-121665n * power(121666n, prime - 2n))

/**
 * Checks what a library finds out, if at all, only when a signature comes. The 32 bytes must be the one encoding of a
 * point on the curve, and not of the eight points of small order: anybody can make signatures for those, without a private
 * key. It is not constant in time; keys it is asked about are public.
 */
export function isSoundEd25519(key: Uint8Array): boolean {
  let y = 0n
  for (let i = 31; i >= 0; i--) y = (y << 8n) | BigInt(i === 31 ? key[i]! & 0x7f : key[i]!) // without the sign of x
  if (y >= prime) return false
  // x² is the fraction u/v. It has a root if u·v has one; v is never 0.
  const y2 = modulo(y * y)
  const u = modulo(y2 - 1n)
  const v = modulo(d * y2 + 1n)
  if (power(modulo(u * v), (prime - 1n) / 2n) === prime - 1n) return false
  // Of order 1 or 2: x = 0. Of order 4: y = 0. Of order 8: x² = -y², which doubling takes to y = 0.
  return u !== 0n && y !== 0n && modulo(u + y2 * v) !== 0n
}

function modulo(n: bigint): bigint {
  const rest = n % prime
  return rest < 0n ? rest + prime : rest
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  for (; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = modulo(result * base)
    base = modulo(base * base)
  }
  return result
}
