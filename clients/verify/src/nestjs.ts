/**
 * Guards NestJS routes, on its Express platform.
 *
 *     @Module({ imports: [AuthModule.forRoot({ issuer, audience, client })], controllers: [Notes] })
 *
 *     @Controller('notes')
 *     @Requires({ scopes: ['notes:read'] })
 *     class Notes {
 *       @Get() list(@Auth() claims: Claims) { ... }
 *       @Delete() @Requires({ roles: ['editor'] }) clear() { ... }
 *     }
 *
 * `@Requires()` guards a class or a method; where it is on both, both must hold. To guard everything that is not
 * `@Public()`, provide `AuthGuard` as APP_GUARD. Policies are checked when the application starts, and the verifier is
 * closed when it ends.
 *
 * The answers are those of `@authapi/verify/express`, unless a filter of the application's own catches AuthException. What
 * is not HTTP is refused. No compiler has to emit metadata of types for any of this.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import * as nest from '@nestjs/common'
import { APP_FILTER, ModulesContainer, Reflector } from '@nestjs/core'
import { type Answer, bearer, refusal, send, tokenNeeded } from './answer.js'
import { claims, setClaims } from './guarded.js'
import type { Policy } from './policy.js'
import { type Check, createVerifier, Verifier, type VerifierOptions } from './verifier.js'

const policyKey = 'authapi policy'
const publicKey = 'authapi public'
const options = Symbol('authapi options')

/**
 * Guards a class or a method: it is reached only with a good access token that the policy allows. Nothing else needs to be
 * said, no @UseGuards either.
 */
export function Requires(policy: Policy = {}): ClassDecorator & MethodDecorator {
  return nest.applyDecorators(nest.SetMetadata(policyKey, policy), nest.UseGuards(AuthGuard))
}

/** Opens a class or a method to everybody, where AuthGuard is the APP_GUARD. A method with @Requires stays guarded. */
export function Public(): ClassDecorator & MethodDecorator {
  return nest.SetMetadata(publicKey, true)
}

/** Gives a method's parameter the Claims of the token. The request fails if nothing guarded it. */
export const Auth: () => ParameterDecorator = nest.createParamDecorator((_: unknown, context: nest.ExecutionContext) =>
  claims(context.switchToHttp().getRequest<object>()),
)

/** A refusal, for filters. Its response is the body that is answered, and its cause the error of the verifier, if any. */
export class AuthException extends nest.HttpException {
  /** @internal */
  readonly answer: Answer

  /** @internal */
  constructor(answer: Answer, cause?: unknown) {
    super(answer.body, answer.status, { cause })
    this.answer = answer
  }
}

/** The handler that a request was let in to, so that two guards in a row do not ask twice. */
const letInTo = Symbol('authapi handler')

/** Reaches the handler only if all policies of its method and its class hold. Without any, a good token is needed. */
export class AuthGuard implements nest.CanActivate {
  readonly #verifier: Verifier
  readonly #reflector: Reflector
  readonly #checks = new WeakMap<Policy, Check>()

  constructor(verifier: Verifier, reflector: Reflector) {
    this.#verifier = verifier
    this.#reflector = reflector
  }

  async canActivate(context: nest.ExecutionContext): Promise<boolean> {
    const handler = context.getHandler()
    const policies = policiesOf(this.#reflector, handler, context.getClass())
    if (policies === undefined) return true
    if (context.getType() !== 'http') throw new Error('AuthGuard guards HTTP requests, and nothing else')
    const request = context.switchToHttp().getRequest<IncomingMessage & { [letInTo]?: unknown }>()
    if (request[letInTo] === handler) return true
    const response = context.switchToHttp().getResponse<ServerResponse>()

    const token = bearer(request)
    if (token === undefined) throw refuse(response, tokenNeeded)
    for (const policy of policies) {
      try {
        setClaims(request, await this.#check(policy)(token))
      } catch (error) {
        const answer = refusal(error, policy.scopes ?? [])
        throw answer === undefined ? error : refuse(response, answer, error)
      }
    }
    request[letInTo] = handler
    return true
  }

  #check(policy: Policy): Check {
    let check = this.#checks.get(policy)
    if (check === undefined) this.#checks.set(policy, (check = this.#verifier.require(policy)))
    return check
  }
}

/** Sets the headers that must not be missing, whichever filter answers. */
function refuse(response: ServerResponse, answer: Answer, cause?: unknown): AuthException {
  for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value)
  return new AuthException(answer, cause)
}

const anyGoodToken: Policy = Object.freeze({})

/** Returns undefined for what is public. What is nearer to the handler counts more, except that policies add up. */
function policiesOf(reflector: Reflector, handler: Function, controller: Function): Policy[] | undefined {
  const [ofMethod, ofClass] = [handler, controller].map((target) => reflector.get<Policy | undefined>(policyKey, target as never))
  const [methodIsPublic, classIsPublic] = [handler, controller].map((target) => reflector.get<true | undefined>(publicKey, target as never))
  if (ofMethod === undefined && (methodIsPublic || (classIsPublic && ofClass === undefined))) return undefined
  const policies = [ofClass, ofMethod].filter((policy) => policy !== undefined)
  return policies.length > 0 ? policies : [anyGoodToken]
}

/** Answers a refusal in the words of Express's guard, byte for byte. */
class AuthFilter implements nest.ExceptionFilter<AuthException> {
  catch(exception: AuthException, host: nest.ArgumentsHost): void {
    send(host.switchToHttp().getResponse<ServerResponse>(), exception.answer)
  }
}

/** How the options are made, if they are not constants. */
export interface AuthModuleAsyncOptions extends Pick<nest.ModuleMetadata, 'imports'> {
  readonly inject?: nest.FactoryProvider['inject']
  readonly useFactory: (...injected: any[]) => VerifierOptions | Promise<VerifierOptions>
}

/** The injection token of the Verifier, for readiness checks and gauges. */
export const VERIFIER = Symbol('authapi verifier')

/** Makes the verifier of the application, for the guards of all its modules. Import it once. */
export class AuthModule implements nest.OnModuleInit, nest.OnApplicationShutdown {
  readonly #verifier: Verifier
  readonly #reflector: Reflector
  readonly #modules: ModulesContainer

  constructor(verifier: Verifier, reflector: Reflector, modules: ModulesContainer) {
    this.#verifier = verifier
    this.#reflector = reflector
    this.#modules = modules
  }

  static forRoot(options: VerifierOptions): nest.DynamicModule {
    return AuthModule.forRootAsync({ useFactory: () => options })
  }

  static forRootAsync({ imports = [], inject = [], useFactory }: AuthModuleAsyncOptions): nest.DynamicModule {
    return {
      module: AuthModule,
      global: true,
      imports,
      providers: [
        { provide: options, inject, useFactory },
        { provide: VERIFIER, inject: [options], useFactory: createVerifier },
        { provide: APP_FILTER, useClass: AuthFilter },
        AuthGuard,
      ],
      exports: [VERIFIER, AuthGuard],
    }
  }

  /** Finds policies that the verifier cannot follow when the application starts, and not when a request comes. */
  onModuleInit(): void {
    for (const { controllers } of this.#modules.values()) {
      for (const { metatype } of controllers.values()) {
        if (typeof metatype !== 'function') continue
        for (const handler of methodsOf(metatype)) {
          for (const policy of policiesOf(this.#reflector, handler, metatype) ?? []) this.#verifier.require(policy)
        }
      }
    }
  }

  /** Not before: requests may be under way until then. */
  onApplicationShutdown(): void {
    this.#verifier.close()
  }
}

function methodsOf(controller: Function): Function[] {
  const methods: Function[] = []
  for (let type = controller.prototype; type && type !== Object.prototype; type = Object.getPrototypeOf(type)) {
    for (const { value } of Object.values(Object.getOwnPropertyDescriptors(type))) if (typeof value === 'function') methods.push(value)
  }
  return methods
}

// What decorators would say, said in a way that every compiler understands.
nest.Injectable()(AuthGuard)
nest.Inject(VERIFIER)(AuthGuard, undefined, 0)
nest.Inject(Reflector)(AuthGuard, undefined, 1)
nest.Catch(AuthException)(AuthFilter)
nest.Module({})(AuthModule)
nest.Inject(VERIFIER)(AuthModule, undefined, 0)
nest.Inject(Reflector)(AuthModule, undefined, 1)
nest.Inject(ModulesContainer)(AuthModule, undefined, 2)
