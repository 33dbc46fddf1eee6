// How jose verifies the service's access tokens, by the published keys.
//
// This accepts a token until it expires, also after a logout: jose knows nothing
// of revocations. For that there is the feed (docs/verify.md), or introspection.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRemoteJWKSet, customFetch, generateKeyPair, jwtVerify, SignJWT, UnsecuredJWT } from 'jose';

const { ISSUER, AUDIENCE, USERNAME, PASSWORD, ROTATE } = process.env;

// A verifier as a service would make it, once, and the count of its fetches.
function newVerifier(options) {
  const verifier = { fetches: 0 };
  const keys = createRemoteJWKSet(new URL(ISSUER + '/.well-known/jwks.json'), {
    ...options,
    [customFetch]: (...request) => {
      verifier.fetches++;
      return fetch(...request);
    },
  });
  verifier.verify = (token, change) =>
    jwtVerify(token, keys, {
      issuer: ISSUER,
      audience: AUDIENCE,
      typ: 'at+jwt',
      algorithms: ['ES256'],
      requiredClaims: ['exp', 'sub', 'client_id', 'sid', 'jti'],
      ...change,
    });
  return verifier;
}

async function post(url, body) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  assert.ok(response.ok, `${url}: ${response.status}`);
  return response;
}

async function newToken() {
  const response = await post(ISSUER + '/login', { username: USERNAME, password: PASSWORD });
  return (await response.json()).access_token;
}

const rotate = () => post(ROTATE);

test('a token is accepted', async () => {
  const { verify } = newVerifier();
  const { payload, protectedHeader } = await verify(await newToken());
  assert.deepEqual([protectedHeader.typ, protectedHeader.alg], ['at+jwt', 'ES256']);
  assert.equal(payload.exp - payload.iat, 300);
  assert.deepEqual([payload.client_id, payload.roles], ['mobile', ['editor']]);
});

test('what is wrong with a token is found', async () => {
  const { verify } = newVerifier();
  const token = await newToken();
  const claim = (name) => ({ code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: name });
  await assert.rejects(verify(token, { issuer: 'https://other.example.com' }), claim('iss'));
  await assert.rejects(verify(token, { audience: 'https://other.example.com' }), claim('aud'));
  await assert.rejects(verify(token, { typ: 'JWT' }), claim('typ'));
  await assert.rejects(verify(token, { algorithms: ['RS256'] }), { code: 'ERR_JOSE_ALG_NOT_ALLOWED' });
  await assert.rejects(verify(token, { currentDate: new Date(Date.now() + 301_000) }), { code: 'ERR_JWT_EXPIRED' });
});

test('a stranger cannot sign', async () => {
  const verifier = newVerifier({ cooldownDuration: 0 });
  const { payload, protectedHeader } = await verifier.verify(await newToken());
  const { privateKey } = await generateKeyPair('ES256');
  const signed = (kid) => new SignJWT(payload).setProtectedHeader({ ...protectedHeader, kid }).sign(privateKey);
  await assert.rejects(verifier.verify(await signed(protectedHeader.kid)), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' });
  assert.equal(verifier.fetches, 1);
  // jose asks for the keys again, and still finds none of that name.
  await assert.rejects(verifier.verify(await signed('unknown')), { code: 'ERR_JWKS_NO_MATCHING_KEY' });
  assert.equal(verifier.fetches, 2);
  await assert.rejects(verifier.verify(new UnsecuredJWT(payload).encode()), { code: 'ERR_JOSE_ALG_NOT_ALLOWED' });
});

test('a new key is known before it signs', async () => {
  const verifier = newVerifier();
  const old = await newToken();
  const before = (await verifier.verify(old)).protectedHeader.kid;
  await rotate();
  const after = (await verifier.verify(await newToken())).protectedHeader.kid;
  assert.notEqual(after, before);
  await verifier.verify(old);
  assert.equal(verifier.fetches, 1, 'nothing had to be fetched for it');
});

test('a key that it does not know is fetched', async () => {
  // By default jose does so 30 seconds after its last fetch at the earliest.
  const verifier = newVerifier({ cooldownDuration: 0 });
  const old = await newToken();
  await verifier.verify(old);
  await rotate();
  await rotate();
  await verifier.verify(await newToken());
  assert.equal(verifier.fetches, 2);
  await verifier.verify(old);
});
