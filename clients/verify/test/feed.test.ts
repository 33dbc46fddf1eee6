// What becomes of a verifier that follows revocations, when the line or the issuer is not as it should be.
import assert from 'node:assert/strict'
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import test, { type TestContext } from 'node:test'
import { createVerifier, InvalidTokenError, UnavailableError, type Verifier, type VerifierOptions } from '@authapi/verify'
import { type Issuer, startIssuer } from '@authapi/verify/testing'
import { eventually, pause } from './eventually.js'

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void

interface Setting {
  issuer: Issuer
  verifier: Verifier
  /** What was told to onTrouble. */
  troubles: string[]
  /** The requests for revocations, and how they are answered. */
  asked: http.IncomingMessage[]
  answer: Handler
  /** Ends all connections. */
  cut: () => void
}

/** Makes a verifier whose revocations come from a server of the test, and whose keys come from an issuer. */
async function setting(t: TestContext, answer: Handler, options: Partial<VerifierOptions> = {}): Promise<Setting> {
  const issuer = await startIssuer()
  const server = http.createServer((request, response) => {
    s.asked.push(request)
    s.answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const troubles: string[] = []
  const verifier = createVerifier({
    ...issuer.followingOptions(),
    revocationsUri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/revocations`,
    onTrouble: (error) => troubles.push(error.message),
    ...options,
  })
  const s = { issuer, verifier, troubles, asked: [] as http.IncomingMessage[], answer, cut: () => server.closeAllConnections() }
  t.after(() => {
    verifier.close()
    server.close()
    server.closeAllConnections()
    return issuer.close()
  })
  return s
}

/** Passes on what the issuer has to say. */
function proxy(issuer: () => Issuer): Handler {
  return (request, response) => {
    const onward = http.request(`${issuer().url}/revocations`, { headers: request.headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    onward.end()
  }
}

const ages = (age: number) => JSON.stringify(Array.from({ length: 16 }, () => age))

function event(response: http.ServerResponse, text: string): void {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' })
  response.write(text)
}

async function verdict(verifier: Verifier, token: string): Promise<string> {
  return verifier.verify(token).then(
    () => 'accepted',
    (error) => (error instanceof InvalidTokenError ? error.reason : error instanceof UnavailableError ? 'unavailable' : String(error)),
  )
}

const odd: Record<string, { answer: Handler; trouble: string }> = {
  unauthorized: { answer: (_, r) => void r.writeHead(401).end(), trouble: "refuses the client's credentials" },
  forbidden: { answer: (_, r) => void r.writeHead(403).end(), trouble: "refuses the client's credentials" },
  busy: { answer: (_, r) => void r.writeHead(503, { 'Retry-After': '1' }).end(), trouble: 'cannot answer now' },
  broken: { answer: (_, r) => void r.writeHead(500).end(), trouble: 'answers 500' },
  redirect: { answer: (request, r) => void r.writeHead(307, { Location: `http://${request.headers.host}/elsewhere` }).end(), trouble: 'answers 307' },
  'a page': { answer: (_, r) => void r.writeHead(200, { 'Content-Type': 'text/html' }).end('<html>hello</html>'), trouble: 'no event stream' },
  'a charset': { answer: (_, r) => void r.writeHead(200, { 'Content-Type': 'text/event-stream;charset=latin1' }).end(), trouble: 'no event stream' },
  empty: { answer: (_, r) => (event(r, ''), r.end()), trouble: 'broke off' },
  'no JSON': { answer: (_, r) => event(r, 'data: {\n\n'), trouble: 'broke off' },
  'cut off': { answer: (_, r) => (event(r, `data: {"clock":1,"ages":${ages(0)}}\n`), r.end()), trouble: 'broke off' },
  'too long': { answer: (_, r) => event(r, `data: ${' '.repeat(2 << 20)}`), trouble: 'broke off' },
  backwards: { answer: (_, r) => event(r, `data: {"clock":5}\n\ndata: {"clock":4,"ages":${ages(0)}}\n\n`), trouble: 'clock leapt' },
  leaping: { answer: (_, r) => event(r, `data: {"clock":5}\n\ndata: {"clock":9000000000000000000,"ages":${ages(0)}}\n\n`), trouble: 'clock leapt' },
  ancient: {
    answer: (_, r) => {
      event(r, `data: {"clock":5,"ages":${ages(86_400_000)}}\n\ndata: {`)
      setTimeout(() => r.destroy(), 50)
    },
    trouble: 'broke off',
  },
  late: {
    answer: (_, r) => {
      event(r, 'data: {"clock":1000}\n\n')
      const timer = setInterval(() => r.write('data: {"clock":1000}\n\n'), 10)
      r.on('close', () => clearInterval(timer))
    },
    trouble: 'arrives late',
  },
  'ages left out': { answer: (_, r) => event(r, 'data: {"clock":5,"ages":[0,0,0]}\n\n'), trouble: 'fell silent' },
  silent: { answer: (_, r) => event(r, 'data: {"clock":5}\n\n'), trouble: 'fell silent' },
  'no answer': { answer: () => {}, trouble: 'does not answer' },
  'hangs up': { answer: (_, r) => void r.destroy(), trouble: 'no answer' },
  'no HTTP': { answer: (_, r) => void r.socket!.end('hello\r\n\r\n'), trouble: 'no answer' },
}

// All at once: mostly they wait.
test('what is no stream of revocations is not listened to, and the next one is', { concurrency: true }, async (t) => {
  await Promise.all(Object.entries(odd).map(([name, { answer, trouble }]) => t.test(name, (t) => recovers(t, name, answer, trouble))))
})

async function recovers(t: TestContext, name: string, answer: Handler, trouble: string): Promise<void> {
  const s = await setting(t, answer)
  const began = performance.now()
  await eventually('trouble', () => s.troubles.some((text) => text.includes(trouble)), 9000)
  assert(s.verifier.age > 3600_000, 'current all the same')
  assert(!s.verifier.isReady)
  await pause(1000)
  // 100 ms, 200 ms, 400 ms ... with the latter half at random.
  const most = name === 'busy' ? 3 : 4 + (performance.now() - began) / 500
  assert(s.asked.length <= most, `asked ${s.asked.length} times`)
  if (name === 'redirect') assert(s.asked.every(({ url }) => url === '/revocations'))
  s.answer = proxy(() => s.issuer)
  s.cut()
  await eventually('up to date', () => s.verifier.isReady, 10_000)
  for (const text of s.troubles) assert(!/secret|<html|elsewhere/.test(text), text)
}

test('revocations arrive, and each kind of id counts', async (t) => {
  const s = await setting(t, proxy(() => s.issuer))
  await s.verifier.ready()
  const [one, two, three] = [await s.issuer.token(), await s.issuer.token(), await s.issuer.token()]
  const same = await s.issuer.token({ sid: (await s.verifier.verify(one)).sid })
  for (const token of [one, two, three, same]) assert.equal(await verdict(s.verifier, token), 'accepted')
  s.issuer.revoke(one)
  s.issuer.revokeToken(two)
  await eventually('both are refused', async () => (await verdict(s.verifier, one)) === 'revoked' && (await verdict(s.verifier, two)) === 'revoked', 1000)
  assert.equal(await verdict(s.verifier, same), 'revoked', 'of the same session')
  assert.equal(await verdict(s.verifier, three), 'accepted')
  assert.equal(s.verifier.size, 2)

  await s.issuer.dropKey()
  await eventually('its key is refused', async () => (await verdict(s.verifier, three)) === 'revoked', 1000)
  assert.equal(await verdict(s.verifier, await s.issuer.token()), 'accepted', 'by the next key')
  assert.deepEqual(s.troubles, [])
})

test('when nothing is heard, it cannot be told after a second', async (t) => {
  const s = await setting(t, proxy(() => s.issuer))
  await s.verifier.ready()
  const [token, other] = [await s.issuer.token(), await s.issuer.token()]
  assert.equal(await verdict(s.verifier, token), 'accepted')
  s.issuer.fail()
  const failed = performance.now()
  s.issuer.revoke(other)
  assert.equal(await verdict(s.verifier, token), 'accepted', 'at first')
  await eventually('it is too old', async () => (await verdict(s.verifier, token)) === 'unavailable', 1500)
  assert(performance.now() - failed > 200, `after ${performance.now() - failed} ms`)
  assert.equal(await s.verifier.verify(token, { otherwise: 'accept-until-expiry' }).then(({ sub }) => sub), 'alice')
  assert.equal(await s.verifier.verify(token, { freshness: 60_000 }).then(({ sub }) => sub), 'alice')
  s.issuer.recover()
  await eventually('it knows again', async () => (await verdict(s.verifier, token)) === 'accepted' && (await verdict(s.verifier, other)) === 'revoked')
})

test('a line that is cut over and over loses nothing, and goes on from the mark', async (t) => {
  const s = await setting(t, proxy(() => s.issuer))
  await s.verifier.ready()
  const tokens: string[] = []
  for (let i = 0; i < 300; i++) {
    tokens.push(await s.issuer.token())
    s.issuer.revokeToken(tokens.at(-1)!)
    if (i % 50 === 25) s.cut()
    if (i % 10 === 0) await pause(5)
  }
  await eventually('all of them', () => s.verifier.size === tokens.length)
  const marks = s.asked.map(({ headers }) => headers['last-event-id'])
  assert.equal(marks[0], undefined)
  assert(Number(marks.at(-1)) > 0, `marks ${marks}`)
  assert(marks.length >= 3, `${marks.length} connections`)
})

test('what was cut off in the middle has no mark', async (t) => {
  const s = await setting(t, (_, response) => {
    event(response, `: a comment\r\n\r\nevent: whatever\r\nid: 17\r\ndata: {"clock":1,"ages":${ages(7)},\r\ndata: "denied":[{"kind":"sid","id":"x","until":99}]}\r\n\r\nid: 18\ndata: {`)
    response.end()
  })
  await eventually('a second request', () => s.asked.length > 1)
  assert.equal(s.asked[1]!.headers['last-event-id'], '17')
  assert.equal(s.verifier.size, 1)
})

test('a mark that fits no header is not kept', async (t) => {
  const s = await setting(t, (_, response) => {
    event(response, `id: 17\ndata: {"clock":1}\n\nid: 1é\u0001\ndata: {"clock":1}\n\n`)
    response.end()
  })
  await eventually('a second request', () => s.asked.length > 1)
  assert.equal(s.asked[1]!.headers['last-event-id'], '17')
})

test('what the request says', async (t) => {
  const s = await setting(t, proxy(() => s.issuer), { client: { id: 'veri:fier', secret: 's+cret/of=the&client ~' } })
  await eventually('a request', () => s.asked.length > 0)
  const { headers, method } = s.asked[0]!
  const [id, secret] = Buffer.from(headers.authorization!.replace('Basic ', ''), 'base64').toString().split(':')
  assert.deepEqual([id, secret].map((part) => new URLSearchParams(`v=${part}`).get('v')), ['veri:fier', 's+cret/of=the&client ~'])
  assert.deepEqual([method, headers.accept, headers['accept-encoding']], ['GET', 'text/event-stream', 'identity'])
  await eventually('trouble', () => s.troubles.length > 0) // the issuer does not know this client
  assert(!s.troubles.some((text) => text.includes('cret')), 'the secret is in the trouble')
})

test('each partition has an age of its own', async (t) => {
  const s = await setting(t, (_, response) => {
    const began = Date.now()
    const known = Array.from({ length: 16 }, (_, p) => (p === 3 ? -1 : p === 4 ? 1500 : 0))
    const frame = () => `data: ${JSON.stringify({ clock: Date.now() - began, ages: known })}\n\n`
    event(response, frame())
    const timer = setInterval(() => response.write(frame()), 100)
    response.on('close', () => clearInterval(timer))
  })
  const id = '.2F5uQdw0khr5SaFjY0mKKQ'
  const [good, unknown, old] = await Promise.all(['18', '3r', 'd2'].map((tag) => s.issuer.token({ sid: tag + id })))
  await eventually('the first partition', async () => (await verdict(s.verifier, good!)) === 'accepted')
  assert.equal(await verdict(s.verifier, unknown!), 'unavailable')
  assert.equal(await verdict(s.verifier, old!), 'unavailable')
  assert.equal(await s.verifier.verify(old!, { freshness: 2500 }).then(({ sub }) => sub), 'alice')
  assert.equal(s.verifier.age, Infinity)
})

test('what was held up on its way is as old as it is', async (t) => {
  const delay = 1500
  const s = await setting(t, (request, response) => {
    let first = true
    const onward = http.request(`${s.issuer.url}/revocations`, { headers: request.headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.on('data', (piece) => {
        // What comes at once says when the clock began.
        if (first) response.write(piece)
        else setTimeout(() => response.write(piece), delay)
        first = false
      })
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    onward.end()
  })
  await eventually('a first frame', () => s.verifier.age < 60_000)
  await pause(delay) // since the first one was not held up
  for (let i = 0; i < 100; i++) {
    assert(s.verifier.age >= delay, `age ${s.verifier.age}, and everything is held up`)
    await pause(5)
  }
})

test('a machine that was suspended does not believe what lay in the socket', async (t) => {
  const s = await setting(t, proxy(() => s.issuer))
  await s.verifier.ready()
  const token = await s.issuer.token()
  assert.equal(await verdict(s.verifier, token), 'accepted')
  // The steady clock stands still meanwhile.
  const real = Date.now
  t.mock.method(Date, 'now', () => real() + 20_000)
  assert.equal(await verdict(s.verifier, token), 'unavailable')
  assert(s.verifier.age >= 20_000)
  await eventually('it has asked anew', () => s.verifier.isReady)
  assert(s.asked.length > 1)
  assert.match(s.troubles[0]!, /suspended/)
  // And the other way round: a wall clock that is set back makes nothing younger.
  t.mock.restoreAll()
  t.mock.method(Date, 'now', () => real() - 3600_000)
  s.issuer.fail()
  await eventually('it is too old all the same', () => s.verifier.age > 1000)
})
