// The browser, and what all of these tests need of it.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const { CHROMIUM, PORT, CONTROL, USERNAME, PASSWORD } = process.env

export const origin = (host) => `https://${host}:${PORT}`
export const auth = origin('auth.example.test')
export const app = origin('app.example.test')
export const user = { username: USERNAME, password: PASSWORD }

/** Opens a browser of its own, with nothing in it. */
export async function open(options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'authapi-chromium-'))
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: CHROMIUM,
    ignoreHTTPSErrors: true,
    args: [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--ignore-certificate-errors',
      '--host-resolver-rules=MAP *.test 127.0.0.1',
    ],
    ...options,
  })
  return {
    context,
    async close() {
      await context.close()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/** The generation of each session that lives, as Redis has it. */
export const generations = async () => (await fetch(CONTROL)).json()

/** Opens a tab of the application, with its client in window.auth. */
export async function tab(context) {
  const page = await context.newPage()
  await page.goto(app)
  await page.evaluate(async (url) => {
    const { createAuth } = await import('/client/index.js')
    window.seen = []
    window.auth = createAuth({ url, changed: (...what) => window.seen.push(what) })
  }, auth)
  return page
}

export const refreshCookie = async (context) => (await context.cookies(auth)).find((c) => c.name === '__Host-refresh')
