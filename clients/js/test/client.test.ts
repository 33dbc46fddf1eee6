import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LoggedOut, Refused, Trouble, createAuth } from '@authapi/client'
import { Device, load, smooth, type Fate } from './device.js'
import { Server } from './server.js'
import { World } from './world.js'

const alice = { username: 'alice', password: 'right', device: 'a phone' }

type Kind = 'body' | 'cookie'

/** Runs a test in a world of its own, once for each way a refresh token can travel. */
function each(name: string, body: (t: { world: World; server: Server; device: Device; kind: Kind }) => Promise<void>) {
  for (const kind of ['body', 'cookie'] as const)
    test(`${name} (${kind})`, async () => {
      const world = new World()
      try {
        const server = new Server(() => world.time)
        await body({ world, server, device: new Device(world, server), kind })
        assert.equal(server.alarms, 0, 'a reuse alarm')
      } finally {
        world.end()
      }
    })
}

const is = (type: new (...a: never[]) => Error, more: object = {}) => (error: unknown) => {
  assert.ok(error instanceof type, String(error))
  for (const [name, value] of Object.entries(more)) assert.deepEqual((error as unknown as Record<string, unknown>)[name], value, name)
  return true
}

/** What the package throws is of the copy's own classes. */
const named = (name: string, more: object = {}) => (error: unknown) => {
  assert.equal((error as Error).name, name, String(error))
  for (const [field, value] of Object.entries(more)) assert.deepEqual((error as Record<string, unknown>)[field], value, field)
  return true
}

each('the life of a session', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await assert.rejects(world.until(app.auth.login({ ...alice, password: 'wrong' })), named('Refused', { status: 401, code: 'invalid_grant' }))
  await assert.rejects(world.until(app.auth.token()), named('LoggedOut'))
  await world.until(app.auth.login(alice))
  assert.equal((await world.until(app.auth.me())).sub, 'alice')
  await world.pass(server.life * 2)
  assert.equal((await world.until(app.auth.me())).sub, 'alice')
  assert.equal(server.rotations, 2, 'one ahead of its end, since it was in use; one when it was needed again')
  const second = device.start(await load(), kind, { name: 'second', ...(kind === 'body' ? {} : {}) })
  if (kind === 'body') {
    await world.until(second.auth.login(alice))
    const all = await world.until(app.auth.sessions())
    assert.deepEqual(all.map((s) => s.current), [true, false])
    await world.until(app.auth.end(all[1]!.sid))
    await world.pass(server.life)
    await assert.rejects(world.until(second.auth.token()), named('LoggedOut', { reason: 'ended' }))
    await world.until(second.auth.login(alice))
    await world.until(app.auth.end())
    assert.equal((await world.until(app.auth.sessions())).length, 1)
  }
  await world.until(app.auth.logout())
  await assert.rejects(world.until(app.auth.token()), named('LoggedOut'))
  await world.until(app.auth.logout()) // again
  await world.pass(1)
  assert.deepEqual(app.seen, [[false], [true], [false]])
  for (const name of device.kept.keys()) assert.match(name, /^[\w.-]+$/, 'a name that some stores refuse')
  // What says that this device is known outlives the session, and goes with the next login.
  if (kind === 'body') {
    assert.deepEqual([...device.kept.keys()].filter((n) => !n.includes('second')), ['authapi.https___auth.test.mobile..device'])
    await world.until(app.auth.login(alice))
    const logins = server.requests.filter((r) => r.path === '/login')
    assert.equal(logins.at(-1)!.body.device_key, 'device s0')
    assert.equal(logins[0]!.body.device_key, undefined)
  }
  else assert.equal(device.cookie, undefined)
})

each('it is refreshed ahead of its end, and only if somebody uses it', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await world.until(app.auth.login(alice))
  await world.until(app.auth.token())
  await world.pass(server.life * 0.69)
  assert.equal(server.rotations, 0)
  await world.pass(server.life * 0.22)
  assert.equal(server.rotations, 1)
  await world.pass(server.life * 10)
  assert.equal(server.rotations, 1, 'nobody has asked since')
})

each('near the end of a token nobody waits for the next', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await world.until(app.auth.login(alice))
  await world.pass(server.life * 0.93)
  const before = world.time
  const old = await world.until(app.auth.token())
  assert.equal(world.time, before)
  assert.ok(server.accepts(old))
  await world.pass(1000)
  assert.notEqual(await world.until(app.auth.token()), old)
  assert.equal(server.rotations, 1)
})

each('many calls at once make one request', async ({ world, server, device, kind }) => {
  const copy = await load()
  const first = device.start(copy, kind)
  await world.until(first.auth.login(alice))
  await world.pass(server.life)
  const tokens = await world.until(Promise.all(Array.from({ length: 50 }, () => first.auth.token())))
  assert.equal(new Set(tokens).size, 1)
  assert.equal(server.requests.filter((r) => r.path === '/refresh').length, 1)
})

each('tabs share one refresh, a login and a logout', async ({ world, server, device, kind }) => {
  world.channels(() => 3)
  world.locks({ stuck: false })
  const tabs = []
  for (let i = 0; i < 10; i++) tabs.push(device.start(await load(), kind))
  await world.until(tabs[0]!.auth.login(alice))
  await world.pass(server.life)
  for (let round = 0; round < 5; round++) {
    const before = server.requests.length
    await world.until(Promise.all(tabs.map((tab) => tab.auth.token())))
    assert.ok(server.requests.length - before <= 2, `${server.requests.length - before} requests`)
    await world.pass(server.life * 1.5)
  }
  await world.until(tabs[3]!.auth.logout())
  await world.pass(100)
  for (const tab of tabs) assert.deepEqual(tab.seen, [[true], [false]])
})

each('a reload goes on with the session', async ({ world, server, device, kind }) => {
  const first = device.start(await load(), kind)
  await world.until(first.auth.login(alice))
  first.kill()
  for (let i = 0; i < 5; i++) {
    const next = device.start(await load(), kind)
    assert.ok(server.accepts(await world.until(next.auth.token())))
    await world.pass(1)
    assert.deepEqual(next.seen, [[true]])
    next.kill()
    await world.pass(3000)
  }
})

each('trouble logs nobody out', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await world.until(app.auth.login(alice))
  await world.pass(server.life)
  const troubles: Fate[] = [
    ...[408, 409, 429, 500, 502, 503, 504].map((status) => ({ ...smooth, instead: { status, through: false } })),
    { ...smooth, instead: { status: 503, through: true } },
    { ...smooth, lose: 'request' },
    { ...smooth, lose: 'answer' },
    { ...smooth, lose: 'rest' },
    { ...smooth, there: 60_000 },
    { ...smooth, back: 60_000 },
    { ...smooth, rest: 60_000 },
    // Somebody in between: a portal, a firewall.
    { ...smooth, instead: { status: 200, body: '<html>', through: false } },
    { ...smooth, instead: { status: 200, body: '{}', through: false } },
    { ...smooth, instead: { status: 200, body: 'null', through: false } },
    { ...smooth, instead: { status: 204, through: false } },
    { ...smooth, instead: { status: 401, body: '<html>', through: false } },
    { ...smooth, instead: { status: 403, body: '{"message":"forbidden"}', through: false } },
    { ...smooth, instead: { status: 407, through: true } },
  ]
  for (const fate of troubles) {
    device.fate = () => fate
    await assert.rejects(world.until(app.auth.token()), named('Trouble'), JSON.stringify(fate))
    await assert.rejects(world.until(app.auth.me()), named('Trouble'))
    device.fate = () => smooth
    await world.pass(120_000)
    assert.ok(server.accepts(await world.until(app.auth.token())), JSON.stringify(fate))
    await world.pass(server.life)
  }
  assert.deepEqual(app.seen, [[true]])
})

each('Retry-After is obeyed', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await world.until(app.auth.login(alice))
  await world.pass(server.life)
  let asked = 0
  device.fate = () => (asked++, { ...smooth, instead: { status: 429, headers: { 'Retry-After': '30' }, through: false } })
  for (let i = 0; i < 29; i++) {
    await assert.rejects(world.until(app.auth.token()), named('Trouble', { wait: 30_000 }))
    await world.pass(1000)
  }
  assert.equal(asked, 1)
  device.fate = () => smooth
  await world.pass(2000)
  await world.until(app.auth.token())
})

each('logout without an answer is trouble, and the session stays', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await world.until(app.auth.login(alice))
  device.fate = () => ({ ...smooth, lose: 'request' })
  await assert.rejects(world.until(app.auth.logout()), named('Trouble'))
  device.fate = () => smooth
  await world.pass(server.life)
  assert.ok(server.accepts(await world.until(app.auth.token())))
  assert.deepEqual(app.seen, [[true]])
  // The answer is lost, but not the request: the second finds it done.
  let lost = 0
  device.fate = () => (lost++ ? smooth : { ...smooth, lose: 'answer' })
  await world.until(app.auth.logout())
  await world.pass(1)
  assert.deepEqual(app.seen, [[true], [false]])
})

each('the reason of an end', async ({ world, server, device, kind }) => {
  for (const reason of ['ended', 'reused', 'expired']) {
    const app = device.start(await load(), kind)
    await world.until(app.auth.login(alice))
    server.endAll(reason)
    await assert.rejects(world.until(app.auth.fetch('https://auth.test/me')), named('LoggedOut', { reason }))
    await assert.rejects(world.until(app.auth.me()), named('LoggedOut'))
    await world.pass(1)
    assert.deepEqual(app.seen, [[true], [false, reason]])
    app.kill()
  }
})

each('clocks that are wrong', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind)
  await world.until(app.auth.login(alice))
  const day = 86_400_000
  for (const step of [day, -day, -day, day, 3600_000, -3600_000]) {
    world.setClock(step)
    const before = server.requests.length
    for (let i = 0; i < 20; i++) {
      assert.equal((await world.until(app.auth.me())).sub, 'alice')
      await world.pass(1000)
    }
    const refreshes = server.requests.slice(before).filter((r) => r.path === '/refresh').length
    assert.ok(refreshes <= 2, `${refreshes} refreshes after a step of ${step}`)
    await world.pass(server.life)
  }
  // The lid is closed for a night, and one of the clocks is set back as well.
  world.sleep(8 * 3600_000)
  const asleep = server.requests.length
  assert.equal((await world.until(app.auth.me())).sub, 'alice')
  assert.deepEqual(server.requests.slice(asleep).map((r) => r.path), ['/refresh', '/me'], 'it believed a token that had ended')
  world.sleep(8 * 3600_000)
  world.setClock(-8 * 3600_000)
  assert.equal((await world.until(app.auth.me())).sub, 'alice')
  // Always wrong, by a lot.
  world.setClock(400 * day)
  for (let i = 0; i < 5; i++) {
    assert.ok(server.accepts(await world.until(app.auth.token())))
    await world.pass(server.life)
  }
})

each('a lock that somebody keeps stops nobody', async ({ world, server, device, kind }) => {
  for (const state of [{ stuck: true }, { stuck: false, fail: true }]) {
    world.locks(state)
    const tabs = [device.start(await load(), kind), device.start(await load(), kind), device.start(await load(), kind)]
    const began = world.time
    await world.until(tabs[0]!.auth.login(alice))
    for (const tab of tabs) await world.until(tab.auth.token())
    assert.ok(world.time - began < 25_000, `${world.time - began} ms`)
    for (let round = 0; round < 10; round++) {
      await world.pass(server.life)
      const before = world.time
      await world.until(Promise.all(tabs.map((tab) => tab.auth.me())))
      assert.ok(world.time - before < 3000, `${world.time - before} ms in round ${round}`)
    }
    await world.until(tabs[1]!.auth.logout())
    for (const tab of tabs) tab.kill()
    await world.pass(server.life)
  }
})

each('two on one store, at the same moment', async ({ world, server, device, kind }) => {
  let turn = 0
  device.storeDelay = () => [0, 1, 5, 2, 9, 3, 0, 7][turn++ % 8]!
  const together = await load()
  for (const copies of [
    [together, together],
    [await load(), await load()],
  ]) {
    const [a, b] = copies.map((copy) => device.start(copy!, kind))
    await world.until(a!.auth.login(alice))
    for (let round = 0; round < 30; round++) {
      await world.pass(server.life)
      const both = await world.until(Promise.all([a!.auth.token(), world.pause(round % 13).then(() => b!.auth.token())]))
      for (const token of both) assert.ok(server.accepts(token))
    }
    await world.until(b!.auth.logout())
  }
})

each('an answer that comes after others have gone on', async ({ world, server, device, kind }) => {
  if (kind === 'cookie') return
  world.locks({ stuck: false, fail: true })
  server.life = 3000
  const [slow, quick] = [device.start(await load(), kind), device.start(await load(), kind)]
  await world.until(slow.auth.login(alice))
  await world.pass(server.life)
  let first = true
  device.fate = () => {
    const fate = first ? { ...smooth, back: 7000 } : smooth
    first = false
    return fate
  }
  const late = slow.auth.token()
  await world.pass(1000)
  for (let i = 0; i < 3; i++) {
    await world.until(quick.auth.token())
    await world.pass(server.life)
  }
  await world.until(late)
  for (const app of [quick, slow, quick]) {
    assert.ok(server.accepts(await world.until(app.auth.token())))
    await world.pass(server.life)
  }
})

each('a refusal of a cookie that a login has replaced', async ({ world, server, device, kind }) => {
  if (kind === 'body') return
  const [a, b] = [device.start(await load(), kind), device.start(await load(), kind)]
  await world.until(a.auth.login(alice))
  await world.pass(server.life)
  device.fate = (path) => (path === '/refresh' ? { ...smooth, there: 500 } : smooth)
  const token = a.auth.token()
  await world.pass(100)
  server.endAll('ended') // as a login does with the session that it replaces
  await world.until(b.auth.login(alice))
  assert.ok(server.accepts(await world.until(token)))
  await world.pass(1)
  assert.deepEqual(a.seen, [[true]])
})

each('a tab that is closed after another has finished with its key', async ({ world, server, device, kind }) => {
  if (kind === 'body') return
  const first = device.start(await load(), kind)
  await world.until(first.auth.login(alice))
  const [a, b, c] = [device.start(await load(), kind), device.start(await load(), kind), device.start(await load(), kind)]
  // One asks just before the retry window closes, the other is heard just after.
  await world.pass(9760)
  const token = a.auth.token()
  await world.pass(40)
  device.fate = () => ({ ...smooth, there: 300, lose: 'answer' })
  void b.auth.token()
  await world.pass(1)
  device.fate = () => smooth
  await world.until(token)
  await world.pass(250)
  b.kill()
  assert.equal(server.rotations, 0)
  await world.pass(60_000)
  assert.equal(server.rotations, 1)
  assert.ok(server.accepts(await world.until(c.auth.token())))
})

each('a store that fails is trouble', async ({ world, server, device, kind }) => {
  if (kind === 'cookie') return
  const broken = { get: false, set: false }
  const never = new Map<string, string>()
  const copy = await load()
  const auth = device.start(copy, kind, {
    store: {
      get: (name) => {
        if (broken.get) throw new Error('locked')
        return never.get(name)
      },
      set: async (name, value) => {
        if (broken.set) throw new Error('full')
        never.set(name, value)
      },
      remove: (name) => never.delete(name),
    },
  }).auth
  await world.until(auth.login(alice))
  for (const what of ['get', 'set'] as const) {
    await world.pass(server.life)
    const before = server.requests.length
    broken[what] = true
    await assert.rejects(world.until(auth.token()), named('Trouble'))
    assert.equal(server.requests.length, before, 'sent what could not be kept')
    broken[what] = false
    assert.ok(server.accepts(await world.until(auth.token())))
  }
  // It fails when the successor is to be kept.
  await world.pass(server.life)
  device.fate = () => ((broken.set = true), smooth)
  await assert.rejects(world.until(auth.token()), named('Trouble'))
  broken.set = false
  device.fate = () => smooth
  await world.pass(server.life)
  assert.ok(server.accepts(await world.until(auth.token())))
})

each('a login while a refresh is under way', async ({ world, server, device, kind }) => {
  for (let at = 0; at < 60; at += 7) {
    const app = device.start(await load(), kind)
    await world.until(app.auth.login(alice))
    await world.pass(server.life)
    device.fate = (path) => (path === '/refresh' ? { there: 30, back: 30, rest: 5 } : { there: 5, back: 5, rest: 1 })
    const refreshed = app.auth.token()
    await world.pass(at)
    await world.until(app.auth.login(alice))
    await world.until(refreshed)
    device.fate = () => smooth
    const newest = [...server.sessions.keys()].at(-1)
    for (let i = 0; i < 3; i++) {
      assert.equal((await world.until(app.auth.me())).sid, newest)
      await world.pass(server.life)
    }
    await world.until(app.auth.logout())
    app.kill()
  }
})

each('a logout while a refresh is under way', async ({ world, server, device, kind }) => {
  for (let at = 0; at < 70; at += 7) {
    const app = device.start(await load(), kind)
    await world.until(app.auth.login(alice))
    await world.pass(server.life)
    device.fate = (path) => (path === '/refresh' ? { there: 30, back: 30, rest: 5 } : { there: 5, back: 5, rest: 1 })
    const refreshed = app.auth.token().catch(() => {})
    await world.pass(at)
    await world.until(app.auth.logout())
    await world.until(refreshed)
    await world.pass(1000)
    assert.equal(app.seen.at(-1)![0], false)
    await assert.rejects(world.until(app.auth.token()), named('LoggedOut'))
    device.fate = () => smooth
    app.kill()
  }
})

each('where the token is sent', async ({ world, server, device, kind }) => {
  const app = device.start(await load(), kind, { origins: ['https://api.test'] })
  await world.until(app.auth.login(alice))
  const before = server.requests.length
  for (const url of [
    'https://evil.test/',
    'https://api.test.evil.test/',
    'https://api.test@evil.test/',
    'https://api.test:8443/',
    'http://api.test/',
    'https://auth.test.evil.test/',
    'https://xapi.test/',
    'https://api.tes',
    'https:\\\\evil.test/https://api.test/',
    'https://evil.test/?https://api.test/',
    ' https://evil.test#https://api.test/',
  ])
    for (const input of [url, ...(URL.canParse(url) && !url.includes('@') ? [new URL(url), new Request(url)] : [])])
      await assert.rejects(world.until(app.auth.fetch(input)), (e: Error) => e.name === 'TypeError', url)
  assert.equal(server.requests.length, before)
  for (const url of ['https://api.test', 'https://api.test/a?b', 'https://auth.test/me', 'https://api.test:443/', 'HTTPS://API.TEST/x'])
    await world.until(app.auth.fetch(url))
  for (const { headers } of server.requests.slice(before)) assert.match(headers.get('Authorization') ?? '', /^Bearer access /)
})

each('a request that is sent again', async ({ world, server, device, kind }) => {
  const bodies: string[] = []
  let refuse = 1
  const copy = await load()
  const app = device.start(copy, kind)
  await world.until(app.auth.login(alice))
  const inner = device as unknown as { send: (...a: unknown[]) => Promise<Response> }
  const through = inner.send.bind(device)
  inner.send = async (input, init, life) => {
    const request = new Request(input as RequestInfo, init as RequestInit)
    if (!request.url.includes('/upload')) return through(input, init, life)
    bodies.push(request.body ? await request.text() : '')
    if (refuse-- > 0) return new Response('', { status: 401 })
    return new Response(request.headers.get('X-Mine'))
  }
  const form = new FormData()
  form.set('file', new Blob(['twice']), 'x.txt')
  const to = 'https://auth.test/upload'
  const stream = () => new Blob(['a stream']).stream()
  const cases: [RequestInfo, RequestInit | undefined, string][] = [
    [to, { method: 'POST', body: 'text' }, 'text'],
    [to, { method: 'POST', body: form }, 'twice'],
    [to, { method: 'POST', body: new URLSearchParams({ a: 'b' }) }, 'a=b'],
    [to, { method: 'POST', body: new Uint8Array([104, 105]) }, 'hi'],
    [new Request(to, { method: 'POST', body: 'of a request' }), undefined, 'of a request'],
    [new Request(to, { method: 'POST', body: stream(), duplex: 'half' } as RequestInit), undefined, 'a stream'],
  ]
  for (const [input, init, text] of cases) {
    bodies.length = 0
    refuse = 1
    const answer = await world.until(app.auth.fetch(input, { ...init, headers: { 'X-Mine': 'kept' } }))
    assert.equal(answer.status, 200)
    assert.equal(await answer.text(), 'kept')
    assert.equal(bodies.length, 2)
    for (const body of bodies) assert.match(body, new RegExp(text))
    await world.pass(20_000)
  }
  // A stream can be sent once only.
  bodies.length = 0
  refuse = 1
  const once = await world.until(app.auth.fetch(to, { method: 'POST', body: stream(), duplex: 'half' } as RequestInit))
  assert.equal(once.status, 401)
  assert.deepEqual(bodies, ['a stream'])
  // A service that refuses everything does not make it refresh each time.
  await world.pass(20_000)
  const before = server.requests.length
  refuse = Infinity
  for (let i = 0; i < 20; i++) assert.equal((await world.until(app.auth.fetch(to))).status, 401)
  assert.ok(server.requests.length - before <= 1)
  assert.equal((await world.until(app.auth.me())).sub, 'alice')
})

test('a page without storage, and options that are left out', async () => {
  const world = new World()
  try {
    const server = new Server(() => world.time)
    const device = new Device(world, server)
    const app = device.start(await load(), 'cookie')
    Object.defineProperty(globalThis, 'localStorage', {
      configurable: true,
      get() {
        throw new DOMException('denied', 'SecurityError')
      },
    })
    await world.until(app.auth.login(alice))
    await world.pass(server.life)
    await world.until(app.auth.me())
    const auth = createAuth()
    await assert.rejects(world.until(auth.token()), is(Trouble)) // there is no page, and so no address
    assert.equal(new LoggedOut("reused").message, "reused")
    assert.equal(new Refused(400, 'x', 'y').message, 'y')
  } finally {
    delete (globalThis as Record<string, unknown>)['localStorage']
    world.end()
  }
})
