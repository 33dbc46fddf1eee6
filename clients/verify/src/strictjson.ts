/**
 * Reads JSON objects in the one way that leaves no room for two readers to understand them differently.
 *
 * Call `members` for the raw text of each member of an object, and `string`, `strings`, `integer` or `elements` to read
 * those.
 *
 * JSON.parse decides what is JSON. On top of that an object is refused when a member name comes twice, or twice but for
 * letter case: JSON.parse lets the last one win, other parsers keep the first one or ignore case, and an attacker lives in
 * the difference. Invalid UTF-8 and unpaired surrogates are refused rather than replaced, so that two different inputs
 * never become the same string. Numbers are read from their text, since JSON.parse takes 1.0 for 1.
 *
 * Only names at the top level are checked. The size of the input is the caller's business.
 */

/** How many members an object may have. */
const maxMembers = 128
/** How deep values may be nested. */
const maxDepth = 10_000

/** The input is no JSON object in which each name comes once. The message quotes nothing of it. */
export class StrictJSONError extends Error {
  override readonly name = 'StrictJSONError'
}

// A byte order mark is not dropped but left in place, where JSON has no use for it.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Returns the raw text of each member by its name, unescaped, or throws a StrictJSONError. */
export function members(data: Uint8Array | string): Map<string, string> {
  let text: string
  try {
    text = typeof data === 'string' ? data : utf8.decode(data)
    JSON.parse(text)
  } catch {
    throw new StrictJSONError('not JSON')
  }
  let i = skipSpace(text, 0)
  if (text[i] !== '{') throw new StrictJSONError('not an object')
  const found = new Map<string, string>()
  const seen = new Set<string>()
  i = skipSpace(text, i + 1)
  while (text[i] !== '}') {
    const nameEnd = stringEnd(text, i)
    const name = string(text.slice(i, nameEnd))
    if (name === undefined) throw new StrictJSONError('a name with an unpaired surrogate')
    if (found.size === maxMembers) throw new StrictJSONError('too many members')
    const folded = fold(name)
    if (seen.has(folded)) throw new StrictJSONError('a member name comes twice')
    seen.add(folded)
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1)
    const end = valueEnd(text, start)
    found.set(name, text.slice(start, end))
    i = next(text, end)
  }
  return found
}

/** Returns what a raw string stands for; undefined if it is none, or has an unpaired surrogate. */
export function string(raw: string | undefined): string | undefined {
  if (raw === undefined || raw[0] !== '"') return undefined
  const value: string = JSON.parse(raw)
  return value.isWellFormed() ? value : undefined
}

/** Returns a raw array of strings; undefined if it is anything else. */
export function strings(raw: string): string[] | undefined {
  const found: string[] = []
  for (const element of elements(raw) ?? [undefined]) {
    const value = string(element)
    if (value === undefined) return undefined
    found.push(value)
  }
  return found
}

/** Returns a whole number written without fraction and exponent; undefined if it is none. It is exact up to 2^53. */
export function integer(raw: string): number | undefined {
  return /^-?[0-9]+$/.test(raw) ? Number(raw) : undefined
}

/** Returns the raw elements of an array; undefined if it is none. */
export function elements(raw: string): string[] | undefined {
  if (raw[0] !== '[') return undefined
  const found: string[] = []
  for (let i = skipSpace(raw, 1); raw[i] !== ']'; ) {
    const end = valueEnd(raw, i)
    found.push(raw.slice(i, end))
    i = next(raw, end)
  }
  return found
}

/**
 * Makes names alike that differ in letter case only, by the simple case folding of Unicode. A character whose other case
 * is longer has none there; the dotless i belongs to Turkish alone.
 */
export function fold(name: string): string {
  if (/^[\0-\x7f]*$/.test(name)) return name.toLowerCase()
  let folded = ''
  for (const character of name) {
    if (character === 'ı') {
      folded += character
      continue
    }
    const upper = sameLength(character.toUpperCase(), character)
    folded += sameLength(upper.toLowerCase(), upper)
  }
  return folded
}

function sameLength(changed: string, character: string): string {
  return [...changed].length === 1 ? changed : character
}

// The functions below walk JSON that JSON.parse has accepted. That is why they check neither grammar nor bounds.

/** Returns where the next name or element, or the closing bracket, begins. */
function next(text: string, i: number): number {
  i = skipSpace(text, i)
  return text[i] === ',' ? skipSpace(text, i + 1) : i
}

function skipSpace(text: string, i: number): number {
  while (text[i] === ' ' || text[i] === '\t' || text[i] === '\n' || text[i] === '\r') i++
  return i
}

/** Returns the index after the string that starts at i. */
function stringEnd(text: string, i: number): number {
  for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++
  return i + 1
}

/** Returns the index after the value that starts at i. It counts brackets instead of recursing: nesting costs no stack. */
function valueEnd(text: string, i: number): number {
  let depth = 0
  for (;;) {
    switch (text[i]) {
      case '"':
        i = stringEnd(text, i)
        break
      case '{':
      case '[':
        // One more is the object that the value is in.
        if (++depth >= maxDepth) throw new StrictJSONError('nested too deeply')
        i++
        continue
      case '}':
      case ']':
        depth--
        i++
        break
      case ' ':
      case '\t':
      case '\n':
      case '\r':
      case ',':
      case ':':
        i++
        continue
      default:
        while (!/[,\]} \t\n\r]/.test(text[i] ?? ',')) i++
    }
    if (depth === 0) return i
  }
}
