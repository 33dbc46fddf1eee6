// The guard in an application of the NestJS that is found from here: 12, and 11 where nest11.test.ts runs this file once
// more.
import 'reflect-metadata'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Claims, Verifier } from '@authapi/verify'
import { Auth, AuthException, AuthGuard, AuthModule, Public, Requires, VERIFIER } from '@authapi/verify/nestjs'
import { type Issuer, startIssuer } from '@authapi/verify/testing'
import { type ArgumentsHost, Catch, Controller, Get, type INestApplication, Module, type ModuleMetadata, UseFilters, UseGuards } from '@nestjs/common'
import { APP_GUARD, NestFactory } from '@nestjs/core'
import { ask, bearer, forbidden, interrogate, revoked, routes } from './answers.js'

const wanted = process.env.NEST_MAJOR ?? '12'

test('this is the NestJS that is meant', () => {
  for (const name of ['common', 'core', 'platform-express']) {
    const { version } = JSON.parse(readFileSync(fileURLToPath(import.meta.resolve(`@nestjs/${name}/package.json`)), 'utf8'))
    assert.equal(version.split('.')[0], wanted, name)
  }
})

/** Starts an application with the module that is given. */
async function start(t: TestContext, issuer: Issuer, metadata: ModuleMetadata): Promise<{ url: string; app: INestApplication }> {
  // In a module of its own, as most are: what guards it comes from elsewhere.
  class Feature {}
  Module(metadata)(Feature)
  class App {}
  Module({ imports: [AuthModule.forRoot(issuer.options()), Feature] })(App)
  const app = await NestFactory.create(App, { logger: false, abortOnError: false })
  t.after(() => app.close())
  await app.listen(0, '127.0.0.1')
  await app.get<Verifier>(VERIFIER).ready()
  return { app, url: `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}` }
}

async function issuing(t: TestContext): Promise<Issuer> {
  const issuer = await startIssuer()
  t.after(() => issuer.close())
  return issuer
}

const status = async (url: string, token?: string) => (await ask(url, token === undefined ? {} : bearer(token))).status

@Controller()
class Decorated {
  @Get('plain') @Requires() plain(@Auth() { sub }: Claims) { return sub }
  @Get('scoped') @Requires(routes['/scoped']) scoped(@Auth() { sub }: Claims) { return sub }
  @Get('editors') @Requires(routes['/editors']) editors(@Auth() { sub }: Claims) { return sub }
  @Get('lenient') @Requires(routes['/lenient']) lenient(@Auth() { sub }: Claims) { return sub }
  @Get('strict') @Requires(routes['/strict']) strict(@Auth() { sub }: Claims) { return sub }
  @Get('open') open() { return 'open' }
  @Get('forgotten') forgotten(@Auth() { sub }: Claims) { return sub }
}

test('all answers', async (t) => {
  const issuer = await issuing(t)
  const { url } = await start(t, issuer, { controllers: [Decorated] })
  await interrogate(url, issuer)
  assert.equal(await status(`${url}/open`), 200, 'nothing asks for a token')
  assert.equal(await status(`${url}/forgotten`, await issuer.token()), 500, 'claims without a guard')
})

test('all answers, where the guard is that of the application', async (t) => {
  const issuer = await issuing(t)
  const { url } = await start(t, issuer, { controllers: [Decorated], providers: [{ provide: APP_GUARD, useExisting: AuthGuard }] })
  await interrogate(url, issuer)
  assert.equal(await status(`${url}/open`), 401, 'everything asks for a token')
  assert.equal(await status(`${url}/open`, await issuer.token()), 200)
})

@Controller('class')
@Requires({ roles: ['editor'] })
class OfClass {
  @Get('inherits') inherits() { return 'in' }
  @Get('both') @Requires({ scopes: ['x'] }) both() { return 'in' }
  @Get('public') @Public() open() { return 'in' }
}

@Controller('public')
@Public()
class OpenClass {
  @Get('open') open() { return 'in' }
  @Get('guarded') @Requires({ roles: ['editor'] }) guarded() { return 'in' }
  @Get('contradiction') @Public() @Requires() contradiction() { return 'in' }
}

@Controller('subclass')
class Subclass extends OfClass {
  @Get('more') more() { return 'in' }
}

@Controller('used')
@UseGuards(AuthGuard)
class Used {
  @Get() get() { return 'in' }
}

for (const providers of [[], [{ provide: APP_GUARD, useExisting: AuthGuard }]]) {
  test(`classes and methods, ${providers.length} guards of the application`, async (t) => {
    const issuer = await issuing(t)
    const { url } = await start(t, issuer, { controllers: [OfClass, OpenClass, Subclass, Used], providers })
    const [nobody, editor, scoped, both] = [await issuer.token(), await issuer.token({ roles: ['editor'] }), await issuer.token({ scope: 'x' }), await issuer.token({ roles: ['editor'], scope: 'x' })]
    for (const [path, token, want] of [
      ['class/inherits', nobody, 403], ['class/inherits', editor, 200], ['class/inherits', undefined, 401],
      ['class/both', editor, 403], ['class/both', scoped, 403], ['class/both', both, 200],
      ['class/public', undefined, 200],
      ['public/open', undefined, 200], ['public/guarded', undefined, 401], ['public/guarded', nobody, 403], ['public/guarded', editor, 200],
      ['public/contradiction', undefined, 401], ['public/contradiction', nobody, 200],
      ['subclass/more', nobody, 403], ['subclass/both', editor, 403], ['subclass/both', both, 200],
      ['used', undefined, 401], ['used', nobody, 200],
    ] as const) {
      assert.equal(await status(`${url}/${path}`, token), want, `${path}, ${want}`)
    }
    assert.deepEqual(await ask(`${url}/class/both`, bearer(editor)), forbidden('x'))
    assert.deepEqual(await ask(`${url}/class/both`, bearer(scoped)), forbidden())
  })
}

test('a strict route asks once, however many guards it has', async (t) => {
  const issuer = await issuing(t)
  let asked = 0
  class App {}
  Module({
    imports: [AuthModule.forRootAsync({ inject: ['SECRETS'], imports: [Secrets], useFactory: async () => ({ ...issuer.options(), denied: () => { asked++; return false } }) })],
    providers: [{ provide: APP_GUARD, useExisting: AuthGuard }],
    controllers: [Decorated],
  })(App)
  const app = await NestFactory.create(App, { logger: false, abortOnError: false })
  t.after(() => app.close())
  await app.listen(0, '127.0.0.1')
  await app.get<Verifier>(VERIFIER).ready()
  assert.equal(await status(`http://127.0.0.1:${app.getHttpServer().address().port}/strict`, await issuer.token()), 200)
  assert.equal(asked, 1)
})

@Module({ providers: [{ provide: 'SECRETS', useValue: {} }], exports: ['SECRETS'] })
class Secrets {}

test('a bad policy is found when the application starts', async (t) => {
  const issuer = await issuing(t)
  for (const [policy, options] of [
    [{ strict: true }, issuer.followingOptions()], [{ roles: 'admin' }, issuer.options()], [{ role: ['admin'] }, issuer.options()],
  ] as const) {
    @Controller()
    class Bad {
      @Get() @Requires(policy as object) get() { return 'in' }
    }
    class App {}
    Module({ imports: [AuthModule.forRoot(options)], controllers: [Bad] })(App)
    const app = await NestFactory.create(App, { logger: false, abortOnError: false })
    await assert.rejects(app.init(), TypeError, JSON.stringify(policy))
    app.get<Verifier>(VERIFIER).close()
  }
})

test('without the module there is no application', async () => {
  class App {}
  Module({ controllers: [Decorated] })(App)
  await assert.rejects(NestFactory.create(App, { logger: false, abortOnError: false }), /AuthGuard|authapi/)
})

@Catch()
class EverythingFilter {
  catch(error: unknown, host: ArgumentsHost) {
    host.switchToHttp().getResponse().status(error instanceof AuthException ? error.getStatus() : 500).json({ mine: true })
  }
}

@Controller()
@UseFilters(EverythingFilter)
class Filtered {
  @Get() @Requires() get() { return 'in' }
}

test('a filter of the application may answer, and the headers are there all the same', async (t) => {
  const issuer = await issuing(t)
  const { url } = await start(t, issuer, { controllers: [Filtered] })
  const token = await issuer.token()
  issuer.revoke(token)
  const answer = await ask(url, bearer(token))
  assert.equal(answer.status, 401)
  assert.equal(answer.headers.challenge, revoked.headers.challenge)
  assert.equal(answer.headers.cache, 'no-store')
  assert.equal(answer.body, '{"mine":true}')
})

test('what is not HTTP is refused', async (t) => {
  const issuer = await issuing(t)
  const { app } = await start(t, issuer, { controllers: [Decorated] })
  const context = { getHandler: () => Decorated.prototype.plain, getClass: () => Decorated, getType: () => 'rpc', switchToHttp: () => assert.fail() }
  await assert.rejects(app.get(AuthGuard).canActivate(context as never), /HTTP/)
})

test('the verifier is closed with the application', async (t) => {
  const issuer = await issuing(t)
  const { app } = await start(t, issuer, { controllers: [Decorated] })
  const verifier = app.get<Verifier>(VERIFIER)
  assert(verifier.isReady)
  await app.close()
  assert(!verifier.isReady)
})
