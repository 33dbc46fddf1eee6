// How oauth4webapi works with the service: discovery, refresh, revocation,
// introspection, and access tokens as a resource server sees them.
//
// A session begins with the service's own routes: POST /login, or POST /sessions
// for a client with users of its own. Everything after that is OAuth.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as oauth from 'oauth4webapi';

const { ISSUER, AUDIENCE, USERNAME, PASSWORD, SHOP, SHOP_SECRET, INTROSPECTOR, INTROSPECTOR_SECRET } = process.env;

// There is no TLS in this test. With https:// leave it out.
const options = { [oauth.allowInsecureRequests]: true };

const issuer = new URL(ISSUER);
const as = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...options }),
);

const mobile = { client_id: 'mobile' }; // a public client
const shop = { client_id: SHOP }; // a client with a secret
const introspector = { client_id: INTROSPECTOR };

async function post(path, body, headers) {
  const response = await fetch(ISSUER + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  assert.ok(response.ok, `${path}: ${response.status}`);
  return response.json();
}

const login = () => post('/login', { username: USERNAME, password: PASSWORD });

const startSession = () => {
  const credentials = [SHOP, SHOP_SECRET].map(encodeURIComponent).join(':');
  return post('/sessions', { sub: '42', roles: [] }, { authorization: `Basic ${btoa(credentials)}` });
};

async function refresh(client, auth, token, additionalParameters) {
  const response = await oauth.refreshTokenGrantRequest(as, client, auth, token, { additionalParameters, ...options });
  return oauth.processRefreshTokenResponse(as, client, response);
}

async function revoke(client, auth, token) {
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, token, options));
}

async function introspect(token) {
  const auth = oauth.ClientSecretBasic(INTROSPECTOR_SECRET);
  const response = await oauth.introspectionRequest(as, introspector, auth, token, options);
  return oauth.processIntrospectionResponse(as, introspector, response);
}

// What a resource server does with a request. It knows nothing of revocations:
// for that there is the feed, or introspection.
function accept(token, audience = AUDIENCE) {
  const request = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } });
  return oauth.validateJwtAccessToken(as, request, audience, { signingAlgorithms: ['ES256'], ...options });
}

const responseError = (status, error) => (e) => {
  assert.ok(e instanceof oauth.ResponseBodyError, e);
  assert.deepEqual([e.status, e.error, e.cause.error], [status, error, error]);
  return true;
};
const invalidGrant = (reason) => (e) => responseError(400, 'invalid_grant')(e) && e.cause.reason === reason;

test('a public client refreshes', async () => {
  let tokens = await login();
  for (let i = 0; i < 3; i++) {
    const next = await refresh(mobile, oauth.None(), tokens.refresh_token);
    assert.notEqual(next.refresh_token, tokens.refresh_token);
    assert.deepEqual([next.token_type, next.expires_in], ['bearer', 300]);
    assert.equal((await accept(next.access_token)).client_id, 'mobile');
    tokens = next;
  }
});

for (const method of ['ClientSecretBasic', 'ClientSecretPost']) {
  test(`a confidential client refreshes, ${method}`, async () => {
    let tokens = await startSession();
    for (let i = 0; i < 3; i++) {
      tokens = await refresh(shop, oauth[method](SHOP_SECRET), tokens.refresh_token);
      const { client_id, sub } = await accept(tokens.access_token);
      assert.deepEqual([client_id, sub], [SHOP, '42']);
    }
  });

  test(`a wrong secret is refused, ${method}`, async () => {
    const tokens = await startSession();
    await assert.rejects(refresh(shop, oauth[method]('not ' + SHOP_SECRET), tokens.refresh_token), (e) => {
      assert.ok(e instanceof oauth.WWWAuthenticateChallengeError, e);
      assert.deepEqual([e.status, e.cause[0].scheme], [401, 'basic']);
      return true;
    });
    await refresh(shop, oauth[method](SHOP_SECRET), tokens.refresh_token);
  });
}

test('a refresh can ask for less scope, not for more', async () => {
  const auth = oauth.ClientSecretBasic(SHOP_SECRET);
  const tokens = await startSession();
  assert.equal(tokens.scope, 'orders:read orders:write');
  await assert.rejects(
    refresh(shop, auth, tokens.refresh_token, { scope: 'orders:read admin' }),
    responseError(400, 'invalid_scope'),
  );
  const narrow = await refresh(shop, auth, tokens.refresh_token, { scope: 'orders:read' });
  assert.equal(narrow.scope, 'orders:read');
  assert.equal((await accept(narrow.access_token)).scope, 'orders:read');
  // Less for this access token; the session has what it had.
  const full = await refresh(shop, auth, narrow.refresh_token);
  assert.equal(full.scope, 'orders:read orders:write');
});

const owners = [
  ['a public client', login, mobile, oauth.None()],
  ['a confidential client', startSession, shop, oauth.ClientSecretPost(SHOP_SECRET)],
];
for (const [who, begin, client, auth] of owners) {
  test(`${who} revokes a refresh token, and the session is over`, async () => {
    const tokens = await begin();
    await revoke(client, auth, tokens.refresh_token);
    await assert.rejects(refresh(client, auth, tokens.refresh_token), invalidGrant('ended'));
    assert.deepEqual(await introspect(tokens.access_token), { active: false });
    await revoke(client, auth, tokens.refresh_token); // again is no error
  });

  test(`${who} revokes an access token, and the session goes on`, async () => {
    const tokens = await begin();
    await revoke(client, auth, tokens.access_token);
    assert.deepEqual(await introspect(tokens.access_token), { active: false });
    const next = await refresh(client, auth, tokens.refresh_token);
    assert.equal((await introspect(next.access_token)).active, true);
  });
}

test('a token of another client is refused', async () => {
  const tokens = await login();
  const auth = oauth.ClientSecretBasic(SHOP_SECRET);
  await assert.rejects(refresh(shop, auth, tokens.refresh_token), invalidGrant(undefined));
  await assert.rejects(revoke(shop, auth, tokens.refresh_token), responseError(400, 'unauthorized_client'));
  await refresh(mobile, oauth.None(), tokens.refresh_token);
});

test('introspection tells what a token is good for', async () => {
  const tokens = await startSession();
  const access = await introspect(tokens.access_token);
  assert.deepEqual(
    [access.active, access.token_type, access.iss, access.sub, access.client_id, access.scope],
    [true, 'Bearer', ISSUER, '42', SHOP, 'orders:read orders:write'],
  );
  assert.equal(access.exp - access.iat, 300);
  const whole = await introspect(tokens.refresh_token);
  assert.deepEqual([whole.active, whole.sid], [true, access.sid]);
  assert.deepEqual(await introspect('garbage'), { active: false });
});

test('introspection is not for everybody', async () => {
  const { access_token } = await startSession();
  const auth = oauth.ClientSecretBasic(SHOP_SECRET);
  const response = await oauth.introspectionRequest(as, shop, auth, access_token, options);
  await assert.rejects(
    oauth.processIntrospectionResponse(as, shop, response),
    responseError(403, 'unauthorized_client'),
  );
});

test('access tokens are those of RFC 9068', async () => {
  const { access_token } = await login();
  const claims = await accept(access_token);
  assert.equal(claims.iss, ISSUER);
  const wrong = (code) => (e) => {
    assert.equal(e.code, code);
    return true;
  };
  await assert.rejects(accept(access_token, 'https://other.example.com'), wrong(oauth.JWT_CLAIM_COMPARISON));
  const [header, payload, signature] = access_token.split('.');
  const altered = signature.replace(/^./, (c) => (c === 'A' ? 'B' : 'A'));
  await assert.rejects(accept([header, payload, altered].join('.')), wrong(oauth.INVALID_RESPONSE));
});
