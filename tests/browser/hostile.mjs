import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { auth, generations, open, origin, refreshCookie, tab, user } from './browser.mjs'

const browser = await open()
const { context } = browser
after(() => browser.close())

for (const host of ['evil.test', 'evil.example.test'])
  test(`a page of ${host}`, async () => {
    const mine = await tab(context)
    await mine.evaluate((u) => auth.login(u), user)
    const access = await mine.evaluate(() => auth.token())
    await mine.close()
    const before = { cookie: (await refreshCookie(context)).value, generations: await generations() }

    const page = await context.newPage()
    page.on('dialog', (dialog) => dialog.dismiss())
    await page.goto(origin(host))
    const read = await page.evaluate(
      async ({ auth, user, access }) => {
        const read = []
        const tries = []
        const paths = ['/refresh', '/logout', '/login', '/sessions', '/me', '/users/alice/sessions']
        const headers = [
          {},
          { 'X-Requested-With': 'x', 'Content-Type': 'application/json' },
          { 'Content-Type': 'text/plain' },
          { 'Content-Type': 'application/x-www-form-urlencoded' },
        ]
        const body = JSON.stringify({ ...user, client_id: 'web' })
        for (const path of paths)
          for (const method of ['GET', 'POST', 'DELETE'])
            for (const h of headers)
              for (const mode of ['cors', 'no-cors'])
                tries.push(
                  fetch(auth + path, { method, mode, credentials: 'include', headers: h, ...(method === 'POST' ? { body } : {}) }).then(
                    async (answer) => (await answer.text()) && read.push(`${method} ${path} ${mode}: ${answer.status}`),
                    () => {},
                  ),
                )
        // With a token that it should not have, a page of a foreign origin still
        // cannot read what comes back.
        tries.push(
          fetch(auth + '/me', { headers: { Authorization: `Bearer ${access}` } }).then(
            async (answer) => read.push(`me with a token: ${await answer.text()}`),
            () => {},
          ),
        )
        await Promise.all(tries)

        const settled = (element) =>
          new Promise((over) => {
            element.onload = element.onerror = over
            setTimeout(over, 3000)
          })
        // Forms, into frames: the way around CORS. One looks like JSON.
        const forms = []
        for (const path of ['/refresh', '/logout', '/login'])
          for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
            const frame = document.createElement('iframe')
            frame.name = `f${forms.length}`
            document.body.append(frame)
            const form = document.createElement('form')
            Object.assign(form, { method: 'POST', action: auth + path, enctype, target: frame.name })
            const input = document.createElement('input')
            input.name = body.replace(/}$/, ',"x":"')
            input.value = '"}'
            form.append(input)
            document.body.append(form)
            form.submit()
            forms.push(settled(frame))
          }
        for (const path of ['/', '/docs', '/me', '/refresh', '/logout']) {
          const image = new Image()
          image.src = auth + path
          const frame = document.createElement('iframe')
          frame.src = auth + path
          const script = document.createElement('script')
          script.src = auth + path
          document.body.append(image, frame, script)
          forms.push(settled(image), settled(frame), settled(script))
        }
        await Promise.all(forms)
        for (const frame of document.querySelectorAll('iframe'))
          try {
            if (frame.contentDocument?.body?.textContent) read.push(`frame: ${frame.contentDocument.body.textContent}`)
          } catch {}

        // A neighbour may set cookies for the whole site, but not with this prefix.
        for (const domain of ['example.test', 'auth.example.test', ''])
          for (const name of ['__Host-refresh', 'refresh', '__host-refresh', ''])
            document.cookie = `${name}=evil; ${domain && `domain=${domain};`} path=/; secure`
        return read
      },
      { auth, user, access },
    )
    assert.deepEqual(read, [], 'it could read')

    // Going there takes it somewhere, but does nothing.
    await page.evaluate((auth) => {
      const form = document.createElement('form')
      Object.assign(form, { method: 'POST', action: auth + '/logout', enctype: 'text/plain' })
      document.body.append(form)
      form.submit()
    }, auth)
    await page.waitForURL(auth + '/logout')
    assert.match(await page.locator('body').innerText(), /error/)
    await page.close()

    assert.equal((await refreshCookie(context)).value, before.cookie, 'the cookie has changed')
    assert.deepEqual(await generations(), before.generations, 'something was rotated, started or ended')
    const after = await tab(context)
    assert.equal((await after.evaluate(() => auth.me())).username, user.username)
    await after.evaluate(() => auth.logout())
    await after.close()
  })
