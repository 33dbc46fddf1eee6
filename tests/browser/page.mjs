import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { auth, generations, open, user } from './browser.mjs'

// Without a folder for pictures, two looks at each step are enough.
const folder = process.env.SCREENSHOTS
if (folder) mkdirSync(folder, { recursive: true })
const looks = [
  { colorScheme: 'light', width: 1180, name: 'light' },
  { colorScheme: 'dark', width: 360, name: 'dark-phone' },
  ...(folder
    ? [
        { colorScheme: 'dark', width: 1180, name: 'dark' },
        { colorScheme: 'light', width: 360, name: 'light-phone' },
      ]
    : []),
]
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

const browser = await open({ viewport: { width: 1180, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce' })
const { context } = browser
let page
const wrong = []

/** Whatever the browser itself complains about, but for refusals, which are the point. */
function listen(page) {
  page.on('pageerror', (error) => wrong.push(error.message))
  page.on('console', (message) => {
    // The viewer of /docs has a logo elsewhere, and does without.
    const expected = /status of 40[01]|cdn\.redoc\.ly\/redoc\/logo-mini\.svg/
    if (message.type() === 'error' && !expected.test(message.text())) wrong.push(message.text())
  })
  return page
}

before(async () => {
  page = listen(context.pages()[0] ?? (await context.newPage()))
})
after(() => browser.close())

/** In light and dark, wide and as narrow as a small phone: nothing sticks out, and axe finds nothing. */
async function look(step, of = page) {
  for (const { colorScheme, width, name } of looks) {
    await of.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await of.setViewportSize({ width, height: 900 })
    const where = `${step}, ${name}`
    assert.equal(await of.evaluate(() => document.documentElement.scrollWidth), width, `${where}: something sticks out`)
    await of.evaluate(axe)
    const { violations, passes } = await of.evaluate(() => axe.run())
    assert.ok(passes.length > 10)
    const found = violations.map((v) => [v.id, v.nodes.map((n) => n.html)])
    assert.deepEqual(found, [], where)
    if (folder) await of.screenshot({ path: join(folder, `${step}-${name}.png`), fullPage: true, animations: 'disabled' })
  }
  await of.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' })
  await of.setViewportSize({ width: 1180, height: 900 })
}

const story = (text) => page.locator('#story li:first-child', { hasText: text }).waitFor()
const press = (id) => page.locator(`#${id}`).click()
const hidden = (id) => page.locator(`#${id}`).waitFor({ state: 'hidden' })

test('the head of the page', async () => {
  const answer = await page.goto(auth)
  const headers = answer.headers()
  assert.equal(
    headers['content-security-policy'],
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  )
  assert.equal(headers['x-content-type-options'], 'nosniff')
  assert.equal(headers['referrer-policy'], 'no-referrer')
})

test('login, with the keyboard alone', async () => {
  await page.locator('#login').waitFor()
  await look('login')
  await page.locator('body').click({ position: { x: 5, y: 5 } })
  const order = []
  for (let i = 0; i < 4; i++) {
    await page.keyboard.press('Tab')
    const on = await page.evaluate(() => {
      const at = document.activeElement
      const { outlineStyle, outlineWidth } = getComputedStyle(at)
      return { name: at.getAttribute('name') ?? at.textContent, outlineStyle, outlineWidth: parseFloat(outlineWidth) }
    })
    assert.ok(on.outlineStyle !== 'none' && on.outlineWidth >= 2, `the focus on ${on.name} cannot be seen`)
    order.push(on.name)
    if (on.name === 'username') await page.keyboard.type(user.username)
    if (on.name === 'password') await page.keyboard.type('wrong')
  }
  assert.deepEqual(order, ['API reference', 'username', 'password', 'Log in'])
  await page.keyboard.press('Enter')
  await page.locator('#login-note', { hasText: 'wrong' }).waitFor()
  await page.keyboard.press('Shift+Tab')
  await page.keyboard.type(user.password)
  await page.keyboard.press('Enter')
  await page.locator('#watch').waitFor()
  await page.locator('#chain svg').waitFor()
})

test('the access token, taken apart', async () => {
  assert.equal((await page.locator('#token').innerText()).split('.').length, 3)
  assert.equal(JSON.parse(await page.locator('#header').innerText()).typ, 'at+jwt')
  assert.match(await page.locator('#claims').innerText(), /client_id\s*"web"/)
  const left = () => page.locator('#life').evaluate((bar) => bar.value)
  const before = await left()
  assert.ok(before > 250 && before <= 300)
  await page.waitForFunction((before) => document.getElementById('life').value < before - 1, before)
})

test('a chain, and an answer that is lost', async () => {
  await press('refresh')
  await story('The phone has generation 1.')
  await press('lose')
  await story('The second holds the same token, of generation 2.')
  await press('refresh')
  await story('The phone has generation 3.')
  assert.ok(Object.values(await generations()).includes(3))
  await press('ask')
  await page.locator('#answers li.good').nth(1).waitFor()
  await press('list')
  await page.locator('#sessions li').nth(1).waitFor()
  await look('chain')
})

test('a thief who comes second', async () => {
  await press('steal')
  await story('A thief has a copy of generation 3.')
  await press('refresh')
  await story('The phone has generation 4.')
  await press('thief')
  await story('The thief presented generation 3')
  await page.locator('#answers li.bad', { hasText: 'GET /verify' }).waitFor()
  await page.locator('#answers li.bad', { hasText: 'GET /me' }).waitFor()
  await page.locator('#sessions li').nth(1).waitFor({ state: 'detached' })
  await look('reuse-caught')
})

test('a thief who comes first', async () => {
  await page.locator('#phone-form input[name=username]').fill(user.username)
  await page.locator('#phone-form input[name=password]').fill(user.password)
  await page.locator('#phone-form button').click()
  await story('generation 0')
  await press('refresh')
  await story('generation 1')
  await press('steal')
  await press('thief')
  await story('The thief was first, and has generation 2.')
  await press('refresh')
  await story('The phone presented generation 1')
  await page.locator('#answers li.bad').nth(1).waitFor()
  if (folder) await look('reuse-of-the-phone')
})

test('a second tab, and sessions', async () => {
  const opened = context.waitForEvent('page')
  await page.locator('a', { hasText: 'Open a second tab' }).click()
  const second = listen(await opened)
  await second.locator('#watch').waitFor()
  assert.match(await second.locator('#claims').innerText(), /"web"/)
  await second.locator('#phone-form input[name=username]').fill(user.username)
  await second.locator('#phone-form input[name=password]').fill(user.password)
  await second.locator('#phone-form button').click()
  await second.locator('#chain svg').waitFor()
  await press('list')
  await page.locator('#sessions li').nth(1).waitFor()
  await look('sessions')
  // Ended in one tab, noticed by the phone in the other.
  await page.locator('#sessions li button').click()
  await page.locator('#sessions li').nth(1).waitFor({ state: 'detached' })
  await second.locator('#refresh').click()
  await second.locator('#story li:first-child', { hasText: 'The phone is refused: the session was ended.' }).waitFor()
  await second.locator('#answers li.bad').nth(1).waitFor()
  // A logout in one is one in both.
  await second.locator('#logout').click()
  for (const tab of [page, second]) await tab.locator('#login').waitFor()
  await hidden('watch')
  assert.deepEqual(await generations(), {})
  await second.close()
})

test('the reference', async () => {
  const docs = listen(await context.newPage())
  await docs.goto(auth + '/docs')
  await docs.locator('h2', { hasText: 'Exchange a refresh token' }).first().waitFor()
  for (const route of ['/login', '/refresh', '/logout', '/sessions', '/oauth/introspect', '/revocations'])
    assert.ok((await docs.locator('span', { hasText: route }).count()) > 0, route)
  if (folder) await docs.screenshot({ path: join(folder, 'docs.png') })
  await docs.close()
})

test('nothing that the browser complains about', () => assert.deepEqual(wrong, []))
