import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Device, load, smooth, type App, type Fate } from './device.js'
import { Server } from './server.js'
import { World, dice } from './world.js'

/**
 * Histories drawn at random: several tabs or processes on one device, a network
 * that loses, delays and breaks, applications that are killed between any two
 * steps, clocks that jump. Whatever happens, nobody is logged out whose session
 * the server has not ended, and no honest client looks like a thief.
 *
 *   SEED=123 npm test -w clients/js     repeats one history
 *   HISTORIES=10000 npm test ...        draws more
 */
const histories = Number(process.env.HISTORIES ?? 80)
const given = process.env.SEED

async function history(seed: number) {
  const roll = dice(seed)
  const pick = <T>(...from: T[]) => from[Math.floor(roll() * from.length)]!
  // Of this history alone: a copy remembers a lock that was stuck.
  const copies: Awaited<ReturnType<typeof load>>[] = []
  for (let i = 0; i < 6; i++) copies.push(await load())
  const world = new World(seed)
  try {
    const server = new Server(() => world.time)
    const device = new Device(world, server)
    const kind = pick('body', 'cookie')
    const locks = pick('none', 'good', 'stuck')
    const state = { stuck: locks === 'stuck' }
    if (locks !== 'none') world.locks(state)
    if (roll() < 0.6) world.channels(() => Math.floor(roll() * 20))
    // Tabs have locks, and a storage that answers at once. Elsewhere there is one
    // process, and its store takes its time.
    const alone = locks === 'none' && kind === 'body'
    if (alone) device.storeDelay = () => Math.floor(roll() * 4)
    server.life = pick(60_000, 300_000)

    // The share of requests that something happens to. Without locks, requests of
    // several tabs are under way at once; if most of them went wrong for many
    // seconds, a late answer could set a cookie that is two generations old.
    let bad = 0
    const worst = kind === 'cookie' && locks !== 'good' ? 0.2 : 0.9
    const status = () => pick(408, 409, 429, 500, 502, 503)
    device.fate = (): Fate => {
      const fate = { there: 20 + roll() * 100, back: 20 + roll() * 100, rest: roll() * 10 }
      if (roll() >= bad) return fate
      switch (Math.floor(roll() * 7)) {
        case 0:
          return { ...fate, lose: 'request' }
        case 1:
          return { ...fate, lose: 'answer' }
        case 2:
          return { ...fate, lose: 'rest' }
        case 3:
          return { ...fate, instead: { status: status(), through: roll() < 0.5 } }
        case 4:
          return { ...fate, there: fate.there + roll() * 12_000 }
        case 5:
          return { ...fate, back: fate.back + roll() * 12_000 }
        default:
          return { ...fate, instead: { status: 429, headers: { 'Retry-After': String(Math.floor(roll() * 8)) }, through: false } }
      }
    }

    let next = 0
    const start = () => device.start(copies[alone ? next : next++ % copies.length]!, kind)
    const apps: App[] = Array.from({ length: pick(1, 2, 3) }, start)
    await world.until(apps[0]!.auth.login({ username: 'alice', password: 'right' }))
    const session = [...server.sessions.values()][0]!

    const use = (app: App, at: number) =>
      world.pause(at).then(() =>
        app.auth.token().then(
          (token) => assert.ok(token),
          (error: Error) => {
            if (error.name === 'LoggedOut') assert.ok(session.ended, 'logged out, though the session lives')
            else assert.equal(error.name, 'Trouble', String(error.stack))
          },
        ),
      )

    for (let step = 0; step < 40; step++) {
      const what = roll()
      if (what < 0.5) {
        const crowd = apps.filter(() => roll() < 0.7).map((app) => use(app, roll() < 0.5 ? 0 : roll() * 200))
        if (roll() < 0.5) await world.until(Promise.all(crowd))
      } else if (what < 0.62) {
        // Killed at any moment of what it is about to do.
        const i = Math.floor(roll() * apps.length)
        void use(apps[i]!, 0)
        await world.pass(roll() * 400)
        if (alone) next = (next + 1) % copies.length
        for (const j of alone ? apps.keys() : [i]) {
          apps[j]!.kill()
          apps[j] = start()
        }
      } else if (what < 0.7) world.setClock(pick(-1, 1) * pick(1000, 3600_000, 86_400_000))
      else if (what < 0.74) world.sleep(roll() * 2 * server.life)
      else if (what < 0.85) bad = pick(0, 0, 0.2, worst)
      else if (what < 0.88 && locks !== 'none') state.stuck = roll() < 0.5
      await world.pass(roll() < 0.5 ? roll() * 1000 : roll() * 1.5 * server.life)
      assert.equal(server.alarms, 0, 'an honest client looks like a thief')
    }

    bad = 0
    await world.pass(90_000)
    assert.equal(session.ended, undefined)
    for (const app of apps) {
      const token = await world.until(app.auth.token())
      assert.ok(token)
      assert.equal((await world.until(app.auth.me())).sid, session.sid)
      for (const [loggedIn] of app.seen) assert.ok(loggedIn, 'told that the user is logged out')
    }
    const end = roll() < 0.5 ? 'ended' : 'expired'
    server.endAll(end)
    await world.pass(server.life)
    let told = 0
    for (const app of apps)
      await world.until(app.auth.token()).then(
        () => assert.fail('a token of a session that has ended'),
        (error: Error & { reason?: string }) => {
          assert.equal(error.name, 'LoggedOut')
          if (error.reason === end || app.seen.some(([, reason]) => reason === end)) told++
        },
      )
    assert.ok(told > 0, 'nobody was told why')
    assert.equal(server.alarms, 0)
    return server.rotations
  } finally {
    world.end()
  }
}

test(`${given ? 1 : histories} histories`, async (t) => {
  const first = given ? Number(given) : Math.floor(Math.random() * 2 ** 31)
  let rotations = 0
  for (let i = 0; i < (given ? 1 : histories); i++)
    try {
      rotations += await history(first + i)
    } catch (error) {
      throw new Error(`SEED=${first + i}: ${(error as Error).message}`, { cause: error })
    }
  t.diagnostic(`from seed ${first}: ${rotations} rotations`)
  assert.ok(rotations > 0)
})
