import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { generations, open, refreshCookie, tab, user } from './browser.mjs'

const seconds = (text) => /^(?:(\d+)m)?([\d.]+)s$/.exec(text).slice(1).reduce((sum, n) => sum * 60 + Number(n ?? 0), 0)
const duration = seconds(process.env.TABS_FOR) * 1000

const browser = await open()
const { context } = browser
after(() => browser.close())

const login = (page) => page.evaluate((u) => auth.login(u), user)
const seen = (page) => page.evaluate(() => seen)
const until = (page, condition) => page.waitForFunction(condition, null, { timeout: 20_000 })

test('login, refresh, reload', async () => {
  const page = await tab(context)
  await assert.rejects(page.evaluate(() => auth.token()), /LoggedOut/)
  await assert.rejects(page.evaluate((u) => auth.login({ ...u, password: 'wrong' }), user), /Refused/)
  await login(page)
  const cookie = await refreshCookie(context)
  assert.ok(cookie.httpOnly && cookie.secure)
  assert.equal(cookie.sameSite, 'Strict')
  assert.equal(cookie.domain, 'auth.example.test')
  assert.equal((await page.evaluate(() => auth.me())).username, user.username)
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage }))).includes('authapi_rt_'))
  // Until the access token has ended, and longer than a retry window.
  await page.waitForTimeout(3500)
  assert.equal((await page.evaluate(() => auth.me())).username, user.username)
  assert.notEqual((await refreshCookie(context)).value, cookie.value)
  await page.close()
  for (let i = 0; i < 3; i++) {
    const again = await tab(context)
    assert.equal((await again.evaluate(() => auth.me())).username, user.username)
    assert.deepEqual((await seen(again)).map(([loggedIn]) => loggedIn), [true])
    await again.close()
  }
  assert.equal(Object.keys(await generations()).length, 1)
})

/** Uses each tab without a pause to speak of, and says what went wrong. */
async function busy(pages, ms) {
  const reports = await Promise.all(
    pages.map((page) =>
      page.evaluate(async (ms) => {
        const end = performance.now() + ms
        const report = { calls: 0, slowest: 0, failed: [] }
        while (performance.now() < end) {
          const began = performance.now()
          try {
            await auth.me()
            report.calls++
          } catch (error) {
            report.failed.push(String(error))
          }
          report.slowest = Math.max(report.slowest, performance.now() - began)
          await new Promise((over) => setTimeout(over, 100 + 200 * Math.random()))
        }
        return report
      }, ms),
    ),
  )
  return {
    calls: reports.reduce((sum, r) => sum + r.calls, 0),
    slowest: Math.round(Math.max(...reports.map((r) => r.slowest))),
    failed: reports.flatMap((r) => r.failed),
  }
}

const many = []

test('two tabs, then ten, for a while', async (t) => {
  for (const n of [2, 10]) {
    while (many.length < n) many.push(await tab(context))
    const before = Object.values(await generations())
    const report = await busy(many, n === 2 ? Math.min(duration / 2, 5000) : duration)
    t.diagnostic(`${n} tabs: ${report.calls} calls, the slowest took ${report.slowest} ms, generation ${before} to ${Object.values(await generations())}`)
    assert.deepEqual(report.failed, [])
    for (const page of many) assert.ok((await seen(page)).every(([loggedIn]) => loggedIn), 'logged out')
  }
  assert.equal(Object.keys(await generations()).length, 1)
})

test('all tabs at the same moment, cold', async () => {
  await many[0].waitForTimeout(3200)
  const fresh = await Promise.all(many.slice(0, 5).map(() => tab(context)))
  const all = [...many, ...fresh]
  const failed = (await Promise.all(all.map((p) => p.evaluate(() => auth.me().then(() => '', String))))).filter(Boolean)
  assert.deepEqual(failed, [])
  for (const page of fresh) await page.close()
})

test('a tab that keeps the lock for ever stops nobody', async (t) => {
  const holder = await tab(context)
  const name = await holder.evaluate(() => Object.keys(localStorage).find((n) => n.startsWith('authapi.')))
  await holder.evaluate((name) => new Promise((got) => navigator.locks.request(name, () => (got(), new Promise(() => {})))), name)
  const pages = many.slice(0, 3)
  const report = await busy(pages, 8000)
  t.diagnostic(`${report.calls} calls, the slowest took ${report.slowest} ms`)
  assert.deepEqual(report.failed, [])
  assert.ok(report.slowest < 9000, `${report.slowest} ms`)
  const held = await holder.evaluate(async () => (await navigator.locks.query()).held.length)
  assert.ok(held >= 1, 'the lock was not held')
  await holder.close()
})

test('a login and a logout reach the other tabs', async () => {
  await many[3].evaluate(() => auth.logout())
  for (const page of many) await until(page, () => seen.at(-1)?.[0] === false)
  assert.equal(await refreshCookie(context), undefined)
  assert.deepEqual(await generations(), {})
  await assert.rejects(many[5].evaluate(() => auth.token()), /LoggedOut/)
  await login(many[7])
  for (const page of many) await until(page, () => seen.at(-1)?.[0] === true)
  const { failed } = await busy(many, 500)
  assert.deepEqual(failed, [])
})
