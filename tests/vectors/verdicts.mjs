// Prints what the verifier for Node says about each token of a list (JSON, standard input), at a fixed time:
// node verdicts.mjs <URL of the keys> <issuer> <audience> <Unix milliseconds>
import { text } from 'node:stream/consumers'
import { createVerifier, InvalidTokenError } from '@authapi/verify'

const [jwksUri, issuer, audience, now] = process.argv.slice(2)
const verifier = createVerifier({ issuer, audience, jwksUri, denied: () => false, now: () => Number(now) })
await verifier.ready()
const verdicts = []
for (const token of JSON.parse(await text(process.stdin))) {
  verdicts.push(
    await verifier.verify(token).then(
      ({ jti, sub, roles, kid }) => `accepted ${jti} ${sub} ${roles.join(' ')} ${kid}`,
      (error) => {
        if (!(error instanceof InvalidTokenError)) throw error
        return error.reason
      },
    ),
  )
}
console.log(JSON.stringify(verdicts))
verifier.close()
