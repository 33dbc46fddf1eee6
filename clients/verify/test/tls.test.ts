// Keys and revocations over https. The certificate is for this test alone: of 127.0.0.1, by itself, for a hundred years.
import assert from 'node:assert/strict'
import * as http from 'node:http'
import * as https from 'node:https'
import type { AddressInfo } from 'node:net'
import test from 'node:test'
import { createVerifier } from '@authapi/verify'
import { startIssuer } from '@authapi/verify/testing'
import { eventually } from './eventually.js'

const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJLdgDZE6lJJ3OMEv
D2rEQ0z5bGyGAeteYrO6lF+BJv6hRANCAAT9tmRyhzIbaMzRNjWrN2yQgfIRPnVb
aWBJzf7K1nwceIm32Xx5NH208dy7LBj8LC6WHuLKofyCcWBnhC+Pd/zr
-----END PRIVATE KEY-----`
const cert = `-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUG/UWYG1YLpeBnlkZQ+MoxHYW1D0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTIyNDgxNVoYDzIxMjYxMTAx
MjI0ODE1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT9tmRyhzIbaMzRNjWrN2yQgfIRPnVbaWBJzf7K1nwceIm32Xx5NH20
8dy7LBj8LC6WHuLKofyCcWBnhC+Pd/zro28wbTAdBgNVHQ4EFgQU0/5qCCFsYfEj
flTzIL1p9TaGBTMwHwYDVR0jBBgwFoAU0/5qCCFsYfEjflTzIL1p9TaGBTMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARhwR/AAABgglsb2NhbGhvc3QwCgYIKoZI
zj0EAwIDRwAwRAIgTfieiq+GWQUAJUJjU/JflNWuHg9WiqAE+VujcjrmjSECIC+V
cRi+BI4wyN3jf4QrqGB/pcVuv/rBAgiBwomjF41m
-----END CERTIFICATE-----`

test('over https, with certificates of one\'s own and without', async (t) => {
  const issuer = await startIssuer()
  let asked = 0
  const server = https.createServer({ key, cert }, (request, response) => {
    asked++
    const { url, headers } = request
    const onward = http.request(issuer.url + url, { headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    onward.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const base = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const options = { ...issuer.followingOptions(), jwksUri: `${base}/.well-known/jwks.json`, revocationsUri: `${base}/revocations` }

  const troubles: string[] = []
  const stranger = createVerifier({ ...options, onTrouble: (error) => troubles.push(error.message) })
  const verifier = createVerifier({ ...options, agent: new https.Agent({ ca: cert }) })
  t.after(() => {
    stranger.close()
    verifier.close()
    server.close()
    server.closeAllConnections()
    return issuer.close()
  })
  await verifier.ready()
  const token = await issuer.token()
  await verifier.verify(token)
  issuer.revoke(token)
  await eventually('it is refused', () => verifier.verify(token).then(() => false, ({ reason }) => reason === 'revoked'))
  await eventually('trouble with both', () => troubles.length >= 2)
  assert.deepEqual(troubles.sort().slice(0, 2), ['keys: no answer (DEPTH_ZERO_SELF_SIGNED_CERT)', 'revocations: no answer (DEPTH_ZERO_SELF_SIGNED_CERT)'])
  assert.equal(asked, 2, 'the other one has sent its secret')
})
