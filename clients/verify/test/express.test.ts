import assert from 'node:assert/strict'
import * as http from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import test, { type TestContext } from 'node:test'
import { createVerifier, type Verifier } from '@authapi/verify'
import { claims, type Guard, guard } from '@authapi/verify/express'
import { startIssuer } from '@authapi/verify/testing'
import express from 'express'
// @ts-expect-error The types of Express 5 are installed, and not those of 4.
import express4 from 'express4'
import { ask, bearer, interrogate, routes } from './answers.js'

async function listen(t: TestContext, handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function guarded(t: TestContext) {
  const issuer = await startIssuer()
  const verifier = createVerifier(issuer.options())
  t.after(() => {
    verifier.close()
    return issuer.close()
  })
  await verifier.ready()
  return { issuer, verifier }
}

function onExpress(express: () => express.Express, verifier: Verifier): http.RequestListener {
  const app = express()
  for (const [path, policy] of Object.entries(routes)) {
    app.get(path, guard(verifier, policy), (request, response) => void response.send(claims(request).sub))
  }
  return app
}

/** Without a framework: a guard needs no more than request, response and next. */
function byHand(verifier: Verifier): http.RequestListener {
  const guards = new Map<string, Guard>(Object.entries(routes).map(([path, policy]) => [path, guard(verifier, policy)]))
  return (request, response) =>
    guards.get(request.url!.split('?')[0]!)!(request, response, (error) => {
      if (error !== undefined) throw error
      response.end(claims(request).sub)
    })
}

for (const [name, application] of Object.entries({
  'Express 5': (verifier: Verifier) => onExpress(express, verifier),
  'Express 4': (verifier: Verifier) => onExpress(express4, verifier),
  'node:http': byHand,
})) {
  test(`${name}: all answers`, async (t) => {
    const { issuer, verifier } = await guarded(t)
    await interrogate(await listen(t, application(verifier)), issuer)
  })
}

test('two headers that differ in letter case', async (t) => {
  const { issuer, verifier } = await guarded(t)
  const url = new URL(await listen(t, onExpress(express, verifier)))
  const token = await issuer.token()
  const socket = connect(Number(url.port), url.hostname)
  socket.write(`GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nauthorization: Bearer ${token}\r\n\r\n`)
  let answer = ''
  for await (const chunk of socket.setEncoding('latin1')) answer += chunk
  assert.match(answer, /^HTTP\/1\.1 401 /)
})

test('a route that nothing guards has no claims', async (t) => {
  const { issuer } = await guarded(t)
  const app = express()
  app.set('env', 'test') // where Express does not print errors
  app.get('/open', (request, response) => void response.send(claims(request).sub))
  const { status } = await ask(`${await listen(t, app)}/open`, bearer(await issuer.token()))
  assert.equal(status, 500)
})

test('what goes wrong in the verifier itself does not let in', async (t) => {
  const { verifier } = await guarded(t)
  const broken = { require: () => () => { throw new RangeError('broken') } } as unknown as Verifier
  const later = { require: () => () => Promise.reject(new RangeError('broken')) } as unknown as Verifier
  assert(verifier)
  for (const v of [broken, later]) {
    const app = express()
    app.set('env', 'test')
    app.get('/', guard(v), (_, response) => void response.send('in'))
    assert.equal((await ask(await listen(t, app), bearer('x'))).status, 500)
  }
})

test('a bad policy is found when the route is made', async (t) => {
  const { verifier } = await guarded(t)
  const following = createVerifier({ issuer: 'http://localhost:1', audience: 'x', client: { id: 'a', secret: 'b' } })
  t.after(() => following.close())
  assert.throws(() => guard(following, { strict: true }), TypeError)
  for (const policy of [
    { scopes: [''] }, { scopes: ['a b'] }, { scopes: ['a"'] }, { scopes: ['a\\'] }, { scopes: 'a' }, { scopes: [1] }, { scopes: null },
    { roles: [''] }, { roles: 'admin' }, { roles: [null] }, { role: ['admin'] }, { scope: 'a' },
    { freshness: 0 }, { freshness: -1 }, { freshness: NaN }, { freshness: '5' }, { strict: 'yes' }, { otherwise: 'accept' }, { otherwise: null },
  ]) {
    assert.throws(() => guard(verifier, policy as object), TypeError, JSON.stringify(policy))
  }
})
