// An application in Express that follows an issuer, until its standard input ends. It prints its URL when it is ready:
// node follow.mjs <issuer> <client id> <client secret>
import { createVerifier } from '@authapi/verify'
import { claims, guard } from '@authapi/verify/express'
import express from 'express'

const [issuer, id, secret] = process.argv.slice(2)
const verifier = createVerifier({ issuer, audience: issuer, client: { id, secret }, onTrouble: () => {} })
const app = express()
for (const [path, policy] of Object.entries({
  '/': {},
  '/scoped': { scopes: ['notes:read', 'notes:write'] },
  '/editors': { roles: ['editor', 'admin'] },
  '/lenient': { otherwise: 'accept-until-expiry' },
})) {
  app.get(path, guard(verifier, policy), (request, response) => response.send(claims(request).sub))
}
await verifier.ready()
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
process.stdin.resume().on('end', () => {
  verifier.close()
  server.close()
  server.closeAllConnections()
})
