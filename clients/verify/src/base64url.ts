/**
 * Base64url in the one spelling that an encoder writes. Buffer skips what it does not know, takes the other alphabet too,
 * and drops bits in the last character that stand for nothing: each would give a token more than one text.
 */
export function decode(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? bytes : undefined
}
