// What every guard answers, whatever the framework: the words of the guard in Go.
import assert from 'node:assert/strict'
import * as http from 'node:http'
import type { Issuer } from '@authapi/verify/testing'

/** Headers by name, as they are to be sent; twice if there is an array. */
export type Headers = Record<string, string | string[]>

export interface Answer {
  status: number
  headers: Record<string, string | undefined>
  body: string
}

/** Makes a request whose headers are sent as they are. */
export function ask(url: string, headers: Headers = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: false }, async (response) => {
      let body = ''
      for await (const chunk of response.setEncoding('utf8')) body += chunk
      const { ['www-authenticate']: challenge, ['retry-after']: retry, ['cache-control']: cache, ['content-type']: type } = response.headers
      resolve({ status: response.statusCode!, headers: { challenge, retry, cache, type }, body })
    })
    request.on('error', reject)
    request.end()
  })
}

export function bearer(token: string): Headers {
  return { Authorization: `Bearer ${token}` }
}

function refused(status: number, error: string, description: string, challenge?: string, retry?: string): Answer {
  return {
    status,
    headers: { challenge, retry, cache: 'no-store', type: 'application/json' },
    body: `{"error":"${error}","error_description":"${description}"}\n`,
  }
}

function invalid(description: string): Answer {
  return refused(401, 'invalid_token', description, `Bearer error="invalid_token", error_description="${description}"`)
}

const needed = refused(401, 'invalid_token', 'an access token is needed', 'Bearer')
export const notValid = invalid('the access token is not valid')
export const expired = invalid('the access token has expired')
export const revoked = invalid('the access token was revoked')
export const unavailable = refused(503, 'temporarily_unavailable', 'it cannot be told now whether the token is good', undefined, '1')

export function forbidden(scope?: string): Answer {
  const description = 'the access token does not allow this'
  const challenge = `Bearer error="insufficient_scope", error_description="${description}"${scope === undefined ? '' : `, scope="${scope}"`}`
  return refused(403, 'insufficient_scope', description, challenge)
}

/** The routes that a guarded application must have: each answers with the sub of the token. */
export const routes = {
  '/plain': {},
  '/scoped': { scopes: ['notes:read', 'notes:write'] },
  '/editors': { roles: ['editor', 'admin'] },
  '/lenient': { otherwise: 'accept-until-expiry' },
  '/strict': { strict: true },
} as const

/** Asks all that there is to ask of an application whose verifier was made from `issuer.options()`. */
export async function interrogate(url: string, issuer: Issuer): Promise<void> {
  const good = await issuer.token({ sub: 'bob' })
  const bob = (answer: Answer, what: string) => assert.deepEqual([answer.status, answer.body], [200, 'bob'], what)
  const same = async (path: string, headers: Headers, want: Answer, what: string) => assert.deepEqual(await ask(url + path, headers), want, what)

  for (const name of ['Bearer', 'bearer', 'BEARER']) bob(await ask(`${url}/plain`, { Authorization: `${name} ${good}` }), name)
  bob(await ask(`${url}/plain`, { 'aUTHORIZATION': `Bearer ${good}` }), 'name of the header')

  for (const [what, headers] of Object.entries<Headers>({
    'no header': {},
    'empty header': { Authorization: '' },
    'scheme alone': { Authorization: 'Bearer' },
    'scheme and space': { Authorization: 'Bearer ' },
    'token alone': { Authorization: good },
    'another scheme': { Authorization: `Basic ${good}` },
    'a longer scheme': { Authorization: `Bearers ${good}` },
    'a tab': { Authorization: `Bearer\t${good}` },
    'the same twice': { Authorization: [`Bearer ${good}`, `Bearer ${good}`] },
    'two of them': { Authorization: [`Bearer ${good}`, 'Basic eA=='] },
    'another header': { 'X-Authorization': `Bearer ${good}` },
  })) {
    await same('/plain', headers, needed, what)
  }
  await same(`/plain?access_token=${good}`, {}, needed, 'in the query')

  await same('/plain', { Authorization: `Bearer  ${good}` }, notValid, 'two spaces')
  await same('/plain', { Authorization: `Bearer ${good}, Bearer ${good}` }, notValid, 'two in one header')
  await same('/plain', bearer('x'), notValid, 'no token at all')
  await same('/plain', bearer(await issuer.forge()), notValid, 'forged')
  await same('/plain', bearer(await issuer.token({ aud: 'https://other.example' })), notValid, 'another audience')
  await same('/plain', bearer(await issuer.token({ expired: true })), expired, 'expired')

  await same('/scoped', bearer(good), forbidden('notes:read notes:write'), 'no scope')
  await same('/scoped', bearer(await issuer.token({ scope: 'notes:read' })), forbidden('notes:read notes:write'), 'one scope')
  await same('/scoped', bearer(await issuer.token({ scope: 'notes:reads notes:write' })), forbidden('notes:read notes:write'), 'a longer scope')
  bob(await ask(`${url}/scoped`, bearer(await issuer.token({ sub: 'bob', scope: 'x notes:write  notes:read' }))), 'all scopes')
  await same('/editors', bearer(good), forbidden(), 'no role')
  await same('/editors', bearer(await issuer.token({ roles: ['edit', 'editors'] })), forbidden(), 'other roles')
  bob(await ask(`${url}/editors`, bearer(await issuer.token({ sub: 'bob', roles: ['x', 'admin'] }))), 'one role')
  bob(await ask(`${url}/strict`, bearer(good)), 'strict')

  const head = await ask(`${url}/plain`, {}, 'HEAD')
  assert.deepEqual(head, { ...needed, body: '' }, 'HEAD')

  const ended = await issuer.token()
  issuer.revoke(ended)
  for (const path of Object.keys(routes)) await same(path, bearer(ended), revoked, `revoked, ${path}`)

  issuer.fail()
  await same('/plain', bearer(good), unavailable, 'nobody can tell')
  await same('/strict', bearer(good), unavailable, 'nobody can tell, strict')
  bob(await ask(`${url}/lenient`, bearer(good)), 'nobody can tell, but let in')
  await same('/lenient', bearer(await issuer.token({ expired: true })), expired, 'nobody can tell, and expired')
  issuer.recover()
  bob(await ask(`${url}/plain`, bearer(good)), 'recovered')
}
