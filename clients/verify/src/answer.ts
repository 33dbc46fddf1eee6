/** How HTTP requests bring tokens, and what those are told that bring none that is good. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { description, ForbiddenError, InvalidTokenError, UnavailableError } from './errors.js'

/**
 * Returns the access token of a request, from its Authorization header (RFC 6750, section 2.1). Tokens in the query or in
 * the body are not looked for: they end up in logs. It returns undefined if there is none, or more than one such header:
 * which of two counts is a question on which proxies and services differ, and Node hides the second one.
 */
export function bearer(request: IncomingMessage): string | undefined {
  const { rawHeaders } = request
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (name.length !== 13 || name.toLowerCase() !== 'authorization') continue
    if (found !== undefined) return undefined
    found = rawHeaders[i + 1]!
  }
  if (found === undefined || found.length < 8 || found[6] !== ' ') return undefined
  return found.slice(0, 6).toLowerCase() === 'bearer' ? found.slice(7) : undefined
}

/** A refusal: its status, its headers, and its body in the form of RFC 6749. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: { readonly error: string; readonly error_description: string }
}

/** The answer to a request without a token. */
export const tokenNeeded = answer(401, 'invalid_token', 'an access token is needed', { 'WWW-Authenticate': 'Bearer' })

/** Returns what to answer for an error of a verifier; undefined if it is none of those. */
export function refusal(error: unknown, scopes: readonly string[]): Answer | undefined {
  const text = description(error)
  if (error instanceof UnavailableError) return answer(503, 'temporarily_unavailable', text, { 'Retry-After': '1' })
  if (error instanceof ForbiddenError) {
    const scope = scopes.length > 0 ? `, scope="${scopes.join(' ')}"` : ''
    return answer(403, 'insufficient_scope', text, {
      'WWW-Authenticate': `Bearer error="insufficient_scope", error_description="${text}"${scope}`,
    })
  }
  if (error instanceof InvalidTokenError) {
    return answer(401, 'invalid_token', text, { 'WWW-Authenticate': `Bearer error="invalid_token", error_description="${text}"` })
  }
  return undefined
}

function answer(status: number, error: string, text: string, headers: Record<string, string>): Answer {
  return {
    status,
    headers: { ...headers, 'Cache-Control': 'no-store' },
    body: { error, error_description: text },
  }
}

/** Writes the answer past whatever a framework would add to it. */
export function send(response: ServerResponse, { status, headers, body }: Answer): void {
  response.statusCode = status
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  response.setHeader('Content-Type', 'application/json')
  response.end(`${JSON.stringify(body)}\n`)
}
