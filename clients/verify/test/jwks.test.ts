// How the key set is fetched and kept, by a clock that the test sets.
import assert from 'node:assert/strict'
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import test, { type TestContext } from 'node:test'
import { createVerifier } from '@authapi/verify'
import { startIssuer } from '@authapi/verify/testing'
import { JWKS } from '#dist/jwks.js'
import { eventually, pause } from './eventually.js'

const jwk = (kid: string) => ({ kty: 'OKP', use: 'sig', alg: 'EdDSA', kid, crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' })
const good: http.RequestListener = (_, response) => response.end(JSON.stringify({ keys: [jwk('a')] }))

async function setting(t: TestContext, answer: http.RequestListener = good) {
  const server = http.createServer((request, response) => {
    s.asked.push(request.url!)
    s.answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const troubles: string[] = []
  let ahead = 0
  const jwks = new JWKS({
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`),
    agent: undefined,
    onTrouble: (error) => troubles.push(error.message),
    now: () => ({ steady: performance.now() + ahead, wall: Date.now() + ahead }),
  })
  t.after(() => {
    jwks.close()
    server.close()
    server.closeAllConnections()
  })
  const s = { jwks, troubles, asked: [] as string[], answer, pass: (ms: number) => void (ahead += ms) }
  return s
}

test('a flood of unknown keys costs one fetch per cool-down', async (t) => {
  const s = await setting(t)
  await eventually('keys', () => s.jwks.current !== undefined)
  for (let round = 1; round <= 3; round++) {
    for (let i = 0; i < 10_000; i++) s.jwks.refresh()
    await pause(20)
    assert.equal(s.asked.length, round, 'within the cool-down')
    s.pass(10_000)
    await eventually('the fetch that was put off', () => s.asked.length === round + 1, 3000)
    await pause(50)
  }
})

test('the same through a verifier', async (t) => {
  const issuer = await startIssuer()
  let fetches = 0
  const server = http.createServer((_, response) => {
    fetches++
    response.end(JSON.stringify({ keys: [jwk('a')] }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const verifier = createVerifier({ ...issuer.options(), jwksUri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` })
  t.after(() => {
    verifier.close()
    server.close()
    return issuer.close()
  })
  await verifier.ready()
  const token = await issuer.token()
  await Promise.all(Array.from({ length: 500 }, () => assert.rejects(verifier.verify(token), { reason: 'unknown_key' })))
  assert.equal(fetches, 1)
})

test('as long as the keys are the same, it is the same set', async (t) => {
  const s = await setting(t)
  await eventually('keys', () => s.jwks.current !== undefined)
  const first = s.jwks.current
  s.answer = (_, response) => response.end(JSON.stringify({ keys: [Object.fromEntries(Object.entries(jwk('a')).reverse()), { alg: 'unknown' }] }))
  s.pass(5 * 60_000)
  await eventually('it is fetched every five minutes', () => s.asked.length === 2)
  await pause(50)
  assert.equal(s.jwks.current, first)
  s.answer = (_, response) => response.end(JSON.stringify({ keys: [jwk('a'), jwk('b')] }))
  s.pass(5 * 60_000)
  await eventually('another set', () => s.jwks.current !== first)
  assert.deepEqual([...s.jwks.current!.keys.keys()], ['a', 'b'])
  assert.deepEqual(s.troubles, [])
})

const odd: Record<string, { answer: http.RequestListener; trouble: RegExp }> = {
  gone: { answer: (_, r) => void r.destroy(), trouble: /^keys: no answer/ },
  error: { answer: (_, r) => void r.writeHead(500).end(JSON.stringify({ keys: [jwk('c')] })), trouble: /^keys: the server answers 500$/ },
  redirect: { answer: (_, r) => void r.writeHead(302, { Location: '/elsewhere' }).end(), trouble: /^keys: the server answers 302$/ },
  'a page': { answer: (_, r) => void r.end('<html>hello</html>'), trouble: /^keys: not JSON$/ },
  'one bad key': { answer: (_, r) => void r.end(JSON.stringify({ keys: [jwk('c'), { ...jwk('d'), use: 'enc' }] })), trouble: /^keys: key 1: not for verifying signatures$/ },
  'no keys': { answer: (_, r) => void r.end('{"keys":[]}'), trouble: /^keys: no usable key$/ },
  'too large': { answer: (_, r) => void r.end(' '.repeat(1 << 20)), trouble: /^keys: the document is larger than 65536 bytes$/ },
  'cut off': { answer: (_, r) => void r.writeHead(200, { 'Content-Length': 1000 }).write('{"keys"', () => r.destroy()), trouble: /^keys: / },
  late: { answer: (_, r) => void r.writeHead(200).write('{'), trouble: /^keys: no complete answer within 5 s$/ },
}

// All at once: one of them waits.
test('the last good set is kept', { concurrency: true }, async (t) => {
  await Promise.all(Object.entries(odd).map(([name, { answer, trouble }]) => t.test(name, (t) => kept(t, answer, trouble))))
})

async function kept(t: TestContext & { readonly name: string }, answer: http.RequestListener, trouble: RegExp): Promise<void> {
  const s = await setting(t)
  await eventually('keys', () => s.jwks.current !== undefined)
  const first = s.jwks.current
  s.answer = answer
  s.pass(5 * 60_000)
  await eventually('trouble', () => s.troubles.length > 0)
  assert.match(s.troubles[0]!, trouble)
  assert.equal(s.jwks.current, first)
  assert(s.asked.every((url) => url === '/keys'), 'the redirect was followed')
  if (t.name === 'late') return // each further fetch would take as long
  s.pass(23 * 3600_000)
  await pause(1100)
  assert.equal(s.jwks.current, first, 'after 23 hours')
  s.pass(3600_000)
  await eventually('it is dropped after a day', () => s.jwks.current === undefined)
  s.answer = good
  await eventually('the issuer is back', () => s.jwks.current !== undefined, 15_000)
}

test('without keys it is tried again soon, and the same trouble is told once', async (t) => {
  const s = await setting(t, (_, response) => void response.writeHead(503).end())
  await eventually('it has tried twice', () => s.asked.length >= 2)
  assert.equal(s.jwks.current, undefined)
  assert.deepEqual(s.troubles, ['keys: the server answers 503'])
  s.answer = good
  await eventually('keys', () => s.jwks.current !== undefined)
})
