/**
 * An issuer for the tests of services: tokens in one line, revocation at once, trouble on demand.
 *
 *     const issuer = await startIssuer()
 *     const verifier = createVerifier(issuer.options())
 *     const token = await issuer.token({ roles: ['editor'] })
 *
 * Serve a request with the token, and the handler is reached. After `issuer.revoke(token)` the answer is 401, and after
 * `issuer.fail()`, when nobody can tell what was revoked, it is 503 or whatever the route's policy says. Both hold from
 * the next request on.
 *
 * It listens on a loopback address, where metadata, keys and revocations lie as with the real issuer. Signatures are real.
 * Sessions are not: nothing logs in, refreshes or expires here but the tokens themselves, and a session that was revoked
 * stays so.
 */
import { createHash, randomBytes } from 'node:crypto'
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import { calculateJwkThumbprint, CompactSign, type CryptoKey, exportJWK, generateKeyPair, type JWK } from 'jose'
import { leeway, maxLifetime } from './claims.js'
import { partitionOf, partitions, tagOf } from './partition.js'
import type { VerifierOptions } from './verifier.js'

/** What a token is to say. */
export interface TokenOptions {
  /** The user, otherwise alice. */
  readonly sub?: string
  /**
   * The session id, otherwise a new one for each token. It needs to have the form of one: uv.2F5uQdw0khr5SaFjY0mKKQ. To
   * get two tokens of one session, make it up, or take it from the claims of the first token.
   */
  readonly sid?: string
  /** The client that the user has logged in with, otherwise mobile. */
  readonly client_id?: string
  /** The user's roles, otherwise none. */
  readonly roles?: readonly string[]
  /** Scopes, separated by spaces, otherwise none. */
  readonly scope?: string
  /** Whom the token is for, otherwise the audience of the issuer. */
  readonly aud?: string | readonly string[]
  /** How the user logged in, otherwise by password. */
  readonly amr?: readonly string[]
  /** Makes the token ten minutes older, so that it expired five minutes ago. */
  readonly expired?: boolean
}

export interface IssuerOptions {
  /** Whom the tokens are for, otherwise the issuer's URL, as with the real issuer. */
  readonly audience?: string
}

/** Starts an issuer on a free port. A test ends it with `close`. */
export async function startIssuer(options: IssuerOptions = {}): Promise<Issuer> {
  const server = http.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return new Issuer(server, url, options.audience ?? url, [await newKey(), await newKey()])
}

interface Key {
  readonly kid: string
  readonly jwk: JWK
  readonly key: CryptoKey
}

interface Denial {
  readonly kind: 'sid' | 'jti' | 'kid'
  readonly id: string
  readonly until: number
}

const lifetime = 300
/** Outlives every token that was issued before, and is what the real issuer takes. */
const denyFor = maxLifetime + leeway + 60
/** How often followers are told that there is nothing new, in ms. */
const lifeEvery = 200
/** How many keys a set can hold. */
const maxKeys = 32

export class Issuer {
  /** The issuer's name, the iss of its tokens, and where it is to be found. */
  readonly url: string
  /** Whom its tokens are for. */
  readonly audience: string
  /** The client that may follow its revocations. */
  readonly client = { id: 'verifier', secret: 'verifier-secret' }

  readonly #server: http.Server
  #keys: Key[] // the last one is to sign next, the one before signs now
  readonly #issued = new Map<string, { sid: string; jti: string }>()
  readonly #denied: Denial[] = []
  readonly #streams = new Map<http.ServerResponse, number>() // and how many denials each has been sent
  readonly #began = performance.now()
  readonly #life: NodeJS.Timeout
  #currentAt: number // since when nothing was known, if it fails
  #failing = false

  /** @internal */
  constructor(server: http.Server, url: string, audience: string, keys: Key[]) {
    this.#server = server
    this.url = url
    this.audience = audience
    this.#keys = keys
    this.#currentAt = this.#began
    server.on('request', (request, response) => this.#serve(request, response))
    this.#life = setInterval(() => this.#tell(), lifeEvery)
  }

  /**
   * Returns what makes a verifier of this issuer's tokens, for `createVerifier`: with a function `denied` that is never
   * wrong and never late. For a verifier that follows the issuer, as one does in production, call `followingOptions`.
   */
  options(): VerifierOptions {
    return { issuer: this.url, audience: this.audience, denied: (claims) => this.#isDenied(claims) }
  }

  /**
   * Returns what makes a verifier that has everything over HTTP. It is ready, and hears of revocations, some milliseconds
   * later: a test has to wait for it, for the former by `verifier.ready()`.
   */
  followingOptions(): VerifierOptions {
    return { issuer: this.url, audience: this.audience, client: this.client }
  }

  /**
   * Returns an access token. It is good for five minutes from now, and belongs to a session of its own, which the user
   * alice has just begun with the client mobile, unless the options say otherwise.
   */
  async token(options: TokenOptions = {}): Promise<string> {
    const claims = this.#claims(options)
    const token = await sign(this.#signing, this.#signing.key, claims)
    this.#issued.set(token, claims)
    return token
  }

  /** Returns a token that says the same as one of `token`, names the issuer's key, and was signed by somebody else. */
  async forge(options: TokenOptions = {}): Promise<string> {
    return sign(this.#signing, (await newKey()).key, this.#claims(options))
  }

  /** Ends the session of a token, as a logout does: all tokens of that session are refused, those still to come too. */
  revoke(token: string): void {
    this.#deny('sid', this.#of(token).sid)
  }

  /** Revokes one token, and leaves its session alone. */
  revokeToken(token: string): void {
    this.#deny('jti', this.#of(token).jti)
  }

  /**
   * Makes the issuer one that has lost its Redis: until `recover`, nobody can tell what was revoked. It still has its
   * keys. The function `denied` throws at once. Whoever follows hears no sign of life any more, and is out of date as soon
   * as the time has passed that a policy allows.
   */
  fail(): void {
    this.#tell()
    this.#failing = true
    this.#currentAt = performance.now()
  }

  /** Ends what `fail` began. What was revoked meanwhile is known now. */
  recover(): void {
    this.#failing = false
    this.#tell()
  }

  /**
   * Makes the issuer sign with its next key. The keys before stay valid, and the one after is published, as the real
   * issuer does long before it signs with it. So nobody notices a rotation, unless it is the second one before the keys
   * were fetched again.
   */
  async rotateKey(): Promise<void> {
    this.#keys = [...this.#keys, await newKey()].slice(-maxKeys)
  }

  /**
   * Is for a key that has leaked: the one that signs is withdrawn and denied, so that all tokens that it has signed are
   * refused, and the next one signs.
   */
  async dropKey(): Promise<void> {
    const next = await newKey()
    const dropped = this.#signing
    this.#keys = [...this.#keys.filter((key) => key !== dropped), next]
    this.#deny('kid', dropped.kid)
  }

  /** Ends the issuer and all that is connected to it. */
  async close(): Promise<void> {
    clearInterval(this.#life)
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  get #signing(): Key {
    return this.#keys.at(-2)!
  }

  #of(token: string): { sid: string; jti: string } {
    const claims = this.#issued.get(token)
    if (claims === undefined) throw new Error('this issuer has not issued that token')
    return claims
  }

  #isDenied(claims: { sid: string; jti: string; kid: string }): boolean {
    if (this.#failing) throw new Error('the issuer fails, as the test wants it')
    return this.#denied.some(({ kind, id }) => claims[kind] === id)
  }

  #claims(options: TokenOptions) {
    const { sub = 'alice', client_id = 'mobile', roles = [], scope = '', aud = this.audience, amr = ['pwd'], expired = false } = options
    const iat = Math.floor(Date.now() / 1000) - (expired ? 2 * lifetime : 0)
    const sid = options.sid ?? `${tagOf(createHash('sha256').update(sub).digest()[0]! % partitions)}.${randomID()}`
    // A token with another one would be accepted by no service that follows revocations.
    if (partitionOf(sid) === undefined) throw new TypeError('that has not the form of a session id, such as uv.2F5uQdw0khr5SaFjY0mKKQ')
    return { iss: this.url, sub, aud, exp: iat + lifetime, iat, jti: randomID(), client_id, sid, auth_time: iat, scope, roles, amr }
  }

  #deny(kind: Denial['kind'], id: string): void {
    this.#denied.push({ kind, id, until: Math.floor(Date.now() / 1000) + denyFor })
    this.#tell()
  }

  #serve(request: http.IncomingMessage, response: http.ServerResponse): void {
    switch (`${request.method} ${request.url}`) {
      case 'GET /.well-known/oauth-authorization-server':
        return document(response, { issuer: this.url, jwks_uri: `${this.url}/.well-known/jwks.json` })
      case 'GET /.well-known/jwks.json':
        return document(response, { keys: this.#keys.map(({ jwk }) => jwk) })
      case 'GET /revocations':
        return this.#follow(request, response)
    }
    response.writeHead(404).end()
  }

  #follow(request: http.IncomingMessage, response: http.ServerResponse): void {
    const credentials = Buffer.from(`${this.client.id}:${this.client.secret}`).toString('base64')
    if (request.headers.authorization !== `Basic ${credentials}`) {
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="testing"' }).end()
      return
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
    // The mark is how many denials were sent.
    const mark = Number(request.headers['last-event-id'] ?? 0)
    this.#streams.set(response, mark <= this.#denied.length ? mark : 0)
    response.once('close', () => this.#streams.delete(response))
    this.#tell()
  }

  /** Sends each follower what is new, and how old that is. What was revoked while the issuer fails waits. */
  #tell(): void {
    if (!this.#failing) this.#currentAt = performance.now()
    const clock = Math.floor(performance.now() - this.#began)
    const age = Math.ceil(performance.now() - this.#currentAt)
    for (const [response, sent] of this.#streams) {
      const denied = this.#failing ? [] : this.#denied.slice(sent)
      const data = JSON.stringify({ clock, ages: Array.from({ length: partitions }, () => age), denied })
      this.#streams.set(response, sent + denied.length)
      response.write(`id: ${sent + denied.length}\ndata: ${data}\n\n`)
    }
  }
}

function document(response: http.ServerResponse, body: unknown): void {
  response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
}

async function newKey(): Promise<Key> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const jwk = await exportJWK(publicKey)
  const kid = await calculateJwkThumbprint(jwk)
  return { kid, jwk: { ...jwk, use: 'sig', alg: 'ES256', kid }, key: privateKey }
}

function sign({ kid }: Key, key: CryptoKey, claims: object): Promise<string> {
  return new CompactSign(Buffer.from(JSON.stringify(claims))).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid }).sign(key)
}

/** Has the form of a jti and of the second half of a sid. */
function randomID(): string {
  return randomBytes(16).toString('base64url')
}
