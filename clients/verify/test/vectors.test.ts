// The list of key sets, tokens and streams that the verifier in Go is held to as well. That package says what the members
// of the file mean.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'node:test'
import { type Claims, createVerifier, InvalidTokenError } from '@authapi/verify'
import { FrameReader } from '#dist/frames.js'
import { parseKeySet } from '#dist/keyset.js'

interface Vectors {
  issuer: string
  audience: string
  sets: Record<string, unknown>
  keySets: { name: string; document?: string; base64?: string; pad?: number; keys: string[] }[]
  tokens: { name: string; set: string; now: number; token: string; repeat?: number; accepted?: object; refused?: string }[]
  streams: { name: string; stream: string; repeat?: number; frames: object[]; broken?: boolean }[]
}

const vectors: Vectors = JSON.parse(readFileSync(new URL('../../../../tests/vectors/access-tokens.json', import.meta.url), 'utf8'))

test('key sets', async () => {
  assert(vectors.keySets.length > 100)
  for (const { name, document = '', base64, pad = 0, keys } of vectors.keySets) {
    const bytes = Buffer.concat([Buffer.from(base64 ?? document, base64 === undefined ? 'utf8' : 'base64'), Buffer.alloc(pad, ' ')])
    const found = await parseKeySet(bytes).then(
      (set) => (assert(set.keys.size > 0, name), [...set.keys.keys()].sort()),
      (error: Error) => {
        for (const part of ['f83OJ3D2', '11qYAYKx', '0vx7agoe']) assert(!error.message.includes(part), `${name}: quoted: ${error.message}`)
        return []
      },
    )
    assert.deepEqual(found, keys, name)
  }
})

test('tokens', async (t) => {
  assert(vectors.tokens.length > 300)
  const server = http.createServer((request, response) => response.end(JSON.stringify(vectors.sets[decodeURIComponent(request.url!.slice(1))])))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  let now = 0
  const verifierOf = new Map(
    Object.keys(vectors.sets).map((set) => [
      set,
      createVerifier({
        issuer: vectors.issuer,
        audience: vectors.audience,
        jwksUri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/${encodeURIComponent(set)}`,
        denied: () => false,
        now: () => now,
        onTrouble: (error) => assert.fail(error),
      }),
    ]),
  )
  t.after(() => verifierOf.forEach((verifier) => verifier.close()))
  for (const verifier of verifierOf.values()) await verifier.ready()

  // Twice, since a token that was accepted is remembered. At first all at their own time, so that what was remembered is
  // still judged by the clock.
  for (const round of ['first', 'second']) {
    for (const vector of vectors.tokens) {
      now = vector.now
      const token = vector.token.repeat(vector.repeat ?? 1)
      const verdict = await verifierOf.get(vector.set)!.verify(token).then(simplified, reasonOf)
      assert.deepEqual(verdict, vector.accepted ?? vector.refused, `${vector.name}, ${round} time`)
    }
  }
})

/** In the form of the file, which does not have nbf. */
function simplified({ nbf: _, auth_time = 0, ...claims }: Claims): object {
  assert(Object.isFrozen(claims.roles))
  return { ...claims, auth_time }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof InvalidTokenError)) throw error
  for (const secret of ['alice', 'mobile', 'q6.2F', 'evil', 'https:']) assert(!error.message.includes(secret), error.message)
  return error.reason
}

test('streams of revocations', () => {
  assert(vectors.streams.length > 20)
  for (const { name, stream, repeat = 1, frames, broken = false } of vectors.streams) {
    const bytes = Buffer.from(stream.repeat(repeat))
    // In one piece, byte by byte, and in pieces that cut characters and line ends in two.
    for (const size of bytes.length > 10_000 ? [bytes.length, 4093] : [Math.max(1, bytes.length), 1, 3, 7]) {
      const reader = new FrameReader()
      const found: object[] = []
      let mark = ''
      let failed = false
      try {
        for (let i = 0; i < bytes.length; i += size) {
          for (const frame of reader.read(bytes.subarray(i, i + size))) {
            mark = frame.mark ?? mark
            found.push({ ...frame, mark })
          }
        }
      } catch {
        failed = true
      }
      // What arrives in one piece with something broken is not worth more than that.
      if (!broken || size === 1) assert.deepEqual(found, frames, `${name}, in pieces of ${size}`)
      assert.equal(failed, broken, `${name}, in pieces of ${size}`)
    }
  }
})
