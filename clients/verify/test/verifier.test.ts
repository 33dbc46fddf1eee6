import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import test, { type TestContext } from 'node:test'
import { createVerifier, InvalidTokenError, UnavailableError, type VerifierOptions } from '@authapi/verify'
import { type Issuer, startIssuer } from '@authapi/verify/testing'
import { Cache } from '#dist/cache.js'
import { Replica } from '#dist/replica.js'

async function setting(t: TestContext, options: (issuer: Issuer) => Partial<VerifierOptions> = () => ({})) {
  const issuer = await startIssuer()
  const verifier = createVerifier({ ...issuer.options(), ...options(issuer) })
  t.after(() => {
    verifier.close()
    return issuer.close()
  })
  await verifier.ready()
  return { issuer, verifier }
}

test('options that are wrong, or would let in unchecked', () => {
  const good: VerifierOptions = { issuer: 'https://auth.example.com', audience: 'x', denied: () => false }
  const client = { id: 'a', secret: 'b' }
  for (const change of [
    { issuer: '' }, { issuer: undefined }, { audience: '' }, { audience: undefined }, { audience: ['x'] },
    { denied: undefined }, { denied: true }, { denied: undefined, client: { id: 'a', secret: '' } }, { client: { id: '', secret: 'b' } }, { client: {} }, { client: null },
    { cacheSize: -1 }, { cacheSize: 1.5 }, { onTrouble: 'x' }, { now: 5 }, { audiences: 'x' }, { jwksURI: 'https://x' },
    { issuer: 'http://auth.example.com' }, { issuer: 'auth.example.com' }, { jwksUri: 'http://auth.example.com/keys' }, { jwksUri: 'ftp://localhost/' },
    { jwksUri: 'https://a:b@auth.example.com/' }, { jwksUri: 'https://a@auth.example.com/' }, { jwksUri: 'https://auth.example.com/#x' }, { jwksUri: 'http://localhost.example.com/' },
    { jwksUri: 'http://127.0.0.1.example.com/' }, { jwksUri: 'ftp://auth.example.com', allowHttp: true },
    { client, revocationsUri: 'http://auth.example.com/revocations' }, { client, revocationsUri: 'https://a:b@auth.example.com/' },
  ]) {
    assert.throws(() => createVerifier({ ...good, ...change } as VerifierOptions), (error: Error) => !error.message.includes('a:b'), JSON.stringify(change))
  }
  for (const change of [{}, { client, denied: undefined }, { issuer: 'http://authapi.internal:8080', allowHttp: true }, { issuer: 'http://[::1]:1' }, { issuer: 'http://localhost:1/' }]) {
    createVerifier({ ...good, ...change }).close()
  }
})

test('a token that was verified before is judged at once, and by everything but its signature', async (t) => {
  let now = Date.now()
  const { issuer, verifier } = await setting(t, (issuer) => ({ denied: undefined, client: issuer.client, now: () => now }))
  const check = verifier.require({ freshness: 60_000 })
  const token = await issuer.token()
  const first = check(token)
  assert(first instanceof Promise, 'for the first time')
  const claims = await first
  assert.equal(check(token), claims, 'at once, and the same')
  assert(Object.isFrozen(claims))
  assert.throws(() => verifier.require({ freshness: 60_000, roles: ['x'] })(token), { status: 403 })
  now = (claims.exp + 15) * 1000 - 1
  assert.equal(check(token), claims, 'within the leeway')
  now++
  assert.throws(() => check(token), { reason: 'expired' })
})

test('what the function denied may do', { concurrency: true }, async (t) => {
  let answer: (signal: AbortSignal) => unknown = () => false
  const { issuer, verifier } = await setting(t, () => ({ denied: (_, signal) => answer(signal) as boolean }))
  const token = await issuer.token()
  const verdict = () => verifier.verify(token).then(({ sub }) => sub, (error) => error.reason ?? error.constructor)
  assert.equal(await verdict(), 'alice')
  for (const no of [true, Promise.resolve(true)]) {
    answer = () => no
    assert.equal(await verdict(), 'revoked')
  }
  answer = async () => false
  assert.equal(await verdict(), 'alice')
  for (const bad of [undefined, null, 0, '', 'false', {}, 1]) {
    answer = () => bad
    assert.equal(await verdict(), UnavailableError, `${bad}`)
  }
  answer = () => { throw new Error('its Redis is down') }
  assert.equal(await verdict(), UnavailableError)
  answer = () => Promise.reject(new Error('its Redis is down'))
  assert.equal(await verdict(), UnavailableError)
  const error: UnavailableError = await verifier.verify(token).then(() => assert.fail('accepted'), (error) => error)
  assert.match((error.cause as Error).message, /Redis is down/)
  assert(!error.message.includes('Redis'))
  let signal: AbortSignal | undefined
  answer = (given) => {
    signal = given
    return new Promise(() => {})
  }
  const began = performance.now()
  assert.equal(await verdict(), UnavailableError)
  assert(performance.now() - began < 2000)
  assert(signal!.aborted)
})

test('a replica that is up to date is asked first, and a strict policy asks the function too', async (t) => {
  let asked = 0
  const { issuer, verifier } = await setting(t, (issuer) => ({ client: issuer.client, denied: () => { asked++; return false } }))
  const token = await issuer.token()
  await verifier.verify(token)
  assert.equal(asked, 0)
  await verifier.verify(token, { strict: true })
  assert.equal(asked, 1)
  await verifier.verify(token, { freshness: 0.001 })
  assert.equal(asked, 2, 'too old')
})

test('what is no text is no token', async (t) => {
  const { verifier } = await setting(t)
  for (const token of [undefined, null, 5, {}, [], ['a.b.c'], new String('a.b.c')]) {
    await assert.rejects(verifier.verify(token as string), (error) => error instanceof InvalidTokenError && error.reason === 'malformed')
  }
})

test('before there are keys nothing can be told', async (t) => {
  const issuer = await startIssuer()
  const token = await issuer.token()
  await issuer.close()
  const verifier = createVerifier(issuer.options())
  t.after(() => verifier.close())
  await assert.rejects(verifier.verify(token), UnavailableError)
  await assert.rejects(verifier.verify('x'), InvalidTokenError)
  await assert.rejects(verifier.ready(50), UnavailableError)
  assert(!verifier.isReady)
  verifier.close()
  await assert.rejects(verifier.ready(), /closed/)
})

test('a cache has a bound, keeps what is used, and belongs to one key set', () => {
  const cache = new Cache(100)
  const keys = { keys: new Map(), fingerprint: '' }
  const entry = { claims: {} as never, partition: 0, keys }
  const texts = Array.from({ length: 10_000 }, (_, i) => `token ${i}`)
  for (const text of texts) {
    cache.put(text, entry)
    cache.get('token 0', keys)
  }
  const held = texts.filter((text) => cache.get(text, keys))
  assert(held.length <= 100 && held.length > 40, `${held.length}`)
  assert(held.includes('token 0'))
  assert.equal(cache.get('token 9999', { keys: new Map(), fingerprint: '' }), undefined)
  cache.put('x'.repeat(2049), entry)
  assert.equal(cache.get('x'.repeat(2049), keys), undefined)
  const none = new Cache(0)
  none.put('x', entry)
  assert.equal(none.get('x', keys), undefined)
})

test('ids are forgotten when the last token that they deny has expired, and not before', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const replica = new Replica()
  const now = Date.now() / 1000
  for (let i = 0; i < 1000; i++) {
    replica.deny('sid', `old ${i}`, now - 1)
    replica.deny('jti', `new ${i}`, now + 3600)
    replica.deny('kid', `old ${i}`, now - 1)
  }
  replica.deny('sid', 'old 7', now + 3600)
  replica.deny('sid', 'old 7', now - 5) // never takes back
  replica.deny('later', 'x', now + 3600)
  assert.equal(replica.size, 2000)
  t.mock.timers.tick(61_000)
  assert.equal(replica.size, 1001)
  assert(replica.denies({ sid: 'old 7', jti: '', kid: '' } as never))
  assert(!replica.deniesKey('old 9'))
  // A wall clock that leaps ahead by mistake makes nothing forgotten.
  const real = Date.now
  t.mock.method(Date, 'now', () => real() + 86_400_000)
  t.mock.timers.tick(61_000)
  assert.equal(replica.size, 1001)
  replica.close()
})

for (const [name, end] of [['closed', 'verifier.close()'], ['not closed', '']]) {
  test(`a process ends although there was a verifier, ${name}`, async (t) => {
    const issuer = await startIssuer() // which goes on
    t.after(() => issuer.close())
    const script = `
      import { createVerifier } from '@authapi/verify'
      const { options, token } = JSON.parse(process.env.SETTING)
      const verifier = createVerifier(options)
      await verifier.ready()
      await verifier.verify(token)
      ${end}
      console.log('done')`
    const SETTING = JSON.stringify({ options: issuer.followingOptions(), token: await issuer.token() })
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'], cwd: import.meta.dirname, env: { ...process.env, SETTING },
    })
    const ended = once(child, 'close')
    const late = setTimeout(() => child.kill('SIGKILL'), 8000)
    let output = ''
    for await (const chunk of child.stdout) output += chunk
    const [code, signal] = await ended
    clearTimeout(late)
    assert.deepEqual([output.trim(), code, signal], ['done', 0, null])
  })
}
