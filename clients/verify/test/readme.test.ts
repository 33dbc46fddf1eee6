// The code in the README is compiled, and run against an issuer.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Issuer, startIssuer } from '@authapi/verify/testing'
import { ask, bearer, forbidden, revoked } from './answers.js'
import { eventually } from './eventually.js'

const run = promisify(execFile)
const home = new URL('readme/', import.meta.url)

test('the code in the README', async (t) => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  const blocks = new Map([...readme.matchAll(/^```ts ?(\w*)\n(.*?)^```$/gms)].map(([, name, code]) => [name!, code!]))
  assert.deepEqual([...blocks.keys()], ['express', 'nestjs', 'plain', 'testing'])
  rmSync(home, { recursive: true, force: true })
  mkdirSync(home)
  for (const [name, code] of blocks) writeFileSync(new URL(`${name}.ts`, home), code)
  writeFileSync(
    new URL('tsconfig.json', home),
    JSON.stringify({ extends: '../../tsconfig.json', compilerOptions: { rootDir: '.', outDir: 'js' }, include: ['*.ts'] }),
  )
  const tsc = fileURLToPath(new URL('../../../../node_modules/.bin/tsc', import.meta.url))
  await run(tsc, ['-p', fileURLToPath(home)]).catch(({ stdout }) => assert.fail(stdout))

  const issuer = await startIssuer()
  t.after(() => issuer.close())
  const env = { ...process.env, ISSUER: issuer.url, VERIFIER_SECRET: issuer.client.secret, NODE_TEST_CONTEXT: undefined }
  await t.test('express', (t) => serves(t, issuer, 'express', env))
  await t.test('nestjs', (t) => serves(t, issuer, 'nestjs', env))
  await t.test('plain', async () => {
    const ended = await issuer.token()
    issuer.revoke(ended)
    for (const [token, want] of [
      [await issuer.token({ sub: 'bob', scope: 'notes:read' }), 'it is bob'], [await issuer.token(), 'this token will never do'],
      [ended, 'get another token: revoked'], ['x', 'get another token: malformed'],
    ] as const) {
      const { stdout } = await run(process.execPath, [fileURLToPath(new URL('js/plain.js', home))], { env: { ...env, TOKEN: token } })
      assert.equal(stdout.trim(), want)
    }
  })
  await t.test('testing', async () => {
    const { stdout } = await run(process.execPath, ['--test', fileURLToPath(new URL('js/testing.js', home))], { env })
    assert.match(stdout, /^# pass 1$/m)
  })
})

async function serves(t: TestContext, issuer: Issuer, name: string, env: NodeJS.ProcessEnv): Promise<void> {
  const port = await freePort()
  const child = spawn(process.execPath, [fileURLToPath(new URL(`js/${name}.js`, home))], { env: { ...env, PORT: String(port) }, stdio: ['ignore', 'ignore', 'inherit'] })
  t.after(() => child.kill())
  const url = `http://127.0.0.1:${port}`
  const token = await issuer.token({ sub: 'bob' })
  const get = () => ask(`${url}/notes`, bearer(token)).catch(() => undefined)
  await eventually('it serves', async () => (await get())?.status === 200, 20_000)
  assert.equal((await get())!.body, 'the notes of bob')
  assert.deepEqual(await ask(`${url}/notes`, bearer(token), 'DELETE'), forbidden())
  assert.equal(Math.floor((await ask(`${url}/notes`, bearer(await issuer.token({ roles: ['editor'] })), 'DELETE')).status / 100), 2)
  assert.equal(Math.floor((await ask(`${url}/readyz`)).status / 100), 2)
  issuer.revoke(token)
  await eventually('it refuses what was revoked', async () => (await get())?.status === 401)
  assert.deepEqual(await get(), revoked)
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
