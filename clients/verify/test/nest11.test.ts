// The tests of the guard once more, in an application on NestJS 11: nest11/ has an installation of its own, in which the
// package is put as npm would put it.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, existsSync, rmSync } from 'node:fs'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const home = new URL('../nest11/', import.meta.url)
const { NODE_TEST_CONTEXT: _, ...env } = process.env
const node = (...args: string[]) =>
  promisify(execFile)(process.execPath, args, { cwd: fileURLToPath(home), env: { ...env, NEST_MAJOR: '11' } }).catch((error) => assert.fail(error.stdout || error))

test.before(() => {
  assert(existsSync(new URL('node_modules/@nestjs/common', home)), 'NestJS 11 is not installed: npm ci --prefix clients/verify/test/nest11')
  const installed = new URL('node_modules/@authapi/verify/', home)
  rmSync(installed, { recursive: true, force: true })
  for (const part of ['package.json', 'dist']) cpSync(new URL(`../../${part}`, import.meta.url), new URL(part, installed), { recursive: true })
  for (const file of ['nestjs.test.js', 'answers.js']) cpSync(new URL(file, import.meta.url), new URL(`dist/${file}`, home))
})

test('the tests of the guard on NestJS 11', async () => {
  const { stdout } = await node('--test', 'dist/nestjs.test.js')
  assert.match(stdout, /^# fail 0$/m)
  assert(Number(/^# pass (\d+)$/m.exec(stdout)![1]) >= 11, stdout)
})

// As most applications on NestJS 11 are.
test('an application of CommonJS modules', async () => {
  const { stdout } = await node(
    '-e',
    `require('reflect-metadata')
    const { NestFactory } = require('@nestjs/core')
    const { AuthGuard, AuthModule } = require('@authapi/verify/nestjs')
    const options = { issuer: 'http://localhost:1', audience: 'x', denied: () => false }
    NestFactory.createApplicationContext(AuthModule.forRoot(options), { logger: false }).then((app) => {
      console.log(app.get(AuthGuard) instanceof AuthGuard)
      return app.close()
    })`,
  )
  assert.equal(stdout, 'true\n')
})
