// What verification costs. Run `npm run build -w clients/verify` first:
//
//   node clients/verify/bench/verify.mjs
//
// It prints the processor time that one check takes, the requests that Express answers in a second of it without and with
// the guard (the client's share included), and the memory that revoked ids take (with --expose-gc). Processor time says the
// same on a machine that has other things to do.
import { randomBytes } from 'node:crypto'
import * as http from 'node:http'
import express from 'express'
import { createVerifier } from '@authapi/verify'
import { claims, guard } from '@authapi/verify/express'
import { startIssuer } from '@authapi/verify/testing'
import { Replica } from '../dist/replica.js'

const issuer = await startIssuer()
const verifier = createVerifier({ ...issuer.followingOptions(), cacheSize: 2000 })
const forgetful = createVerifier({ ...issuer.followingOptions(), cacheSize: 0 })
await Promise.all([verifier.ready(), forgetful.ready()])
const freshness = 60_000 // nothing arrives while a loop runs
const policy = { freshness, scopes: ['notes:read'] }
const tokens = await Promise.all(Array.from({ length: 500 }, (_, i) => issuer.token({ sub: `user ${i}`, scope: 'notes:read notes:write', roles: ['editor'] })))

const check = verifier.require(policy)
for (const token of tokens) await check(token)
// As they come from a socket: each a new text, whose hash nobody has computed yet.
const fresh = () => tokens.map((token) => Buffer.from(`Bearer ${token}`).toString('latin1'))
for (let i = 0; i < 20; i++) for (const header of fresh()) check(header.slice(7))
const rounds = 200
let batches = Array.from({ length: rounds }, fresh)
let cost = cpu()
for (const batch of batches) for (const header of batch) check(header.slice(7))
report('a token that was verified before', cost() / rounds / tokens.length, 'µs')

const middleware = guard(verifier, policy)
const next = () => {}
batches = Array.from({ length: rounds }, () => fresh().map((header) => ({ rawHeaders: ['Host', 'x', 'Accept', '*/*', 'User-Agent', 'x', 'Authorization', header] })))
cost = cpu()
for (const batch of batches) for (const request of batch) middleware(request, undefined, next)
report('the same in the guard of Express', cost() / rounds / tokens.length, 'µs')
batches = []

const first = forgetful.require(policy)
for (const token of tokens) await first(token)
cost = cpu()
for (const token of tokens) await first(token)
report('a new token, one after the other', cost() / tokens.length, 'µs')
cost = cpu()
for (let i = 0; i < 4; i++) await Promise.all(tokens.map((token) => first(token)))
report('a new token, many at once', cost() / tokens.length / 4, 'µs')

const app = express()
app.get('/bare', (_, response) => void response.end('ok'))
app.get('/guarded', guard(verifier, policy), (request, response) => void response.end(claims(request).sub && 'ok'))
const server = app.listen(0, '127.0.0.1')
await new Promise((resolve) => server.once('listening', resolve))
for (const path of ['/bare', '/guarded', '/bare', '/guarded']) {
  report(`requests that Express answers, ${path}`, await load(`http://127.0.0.1:${server.address().port}${path}`), 'per s')
}
server.closeAllConnections()
server.close()

if (globalThis.gc) {
  const replica = new Replica()
  const until = Math.floor(Date.now() / 1000) + 3600
  globalThis.gc()
  const before = process.memoryUsage()
  const count = 1_000_000
  cost = cpu()
  for (let i = 0; i < count; i++) replica.deny('sid', JSON.parse(`"q6.${randomBytes(16).toString('base64url')}"`), until)
  report('learning a million ids', cost() / 1000, 'ms')
  globalThis.gc()
  const after = process.memoryUsage()
  report('a revoked id of a million, in memory', (after.heapUsed - before.heapUsed + after.external - before.external) / count, 'bytes')
  replica.close()
}
verifier.close()
forgetful.close()
await issuer.close()

/** Returns requests per second of processor time, over 32 connections. */
async function load(url, ms = 2000) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 32 })
  const headers = tokens.map((token) => ({ Authorization: `Bearer ${token}` }))
  let done = 0
  let n = 0
  const end = performance.now() + ms
  const cost = cpu()
  const one = () =>
    new Promise((resolve, reject) => {
      http
        .get(url, { agent, headers: headers[n++ % headers.length] }, (response) => {
          if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`))
          response.resume().on('end', resolve)
        })
        .on('error', reject)
    })
  await Promise.all(
    Array.from({ length: 32 }, async () => {
      while (performance.now() < end) {
        await one()
        done++
      }
    }),
  )
  agent.destroy()
  return (done * 1e6) / cost()
}

/** Returns what tells the microseconds that the processors have worked since. */
function cpu() {
  const began = process.cpuUsage()
  return () => {
    const { user, system } = process.cpuUsage(began)
    return user + system
  }
}

function report(what, figure, unit) {
  console.log(`${what.padEnd(44)} ${figure.toFixed(figure < 100 ? 2 : 0).padStart(8)} ${unit}`)
}
