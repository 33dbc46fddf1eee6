// Runs the front end's session.js as several tabs of a browser would, against
// two processes of an application, over a network that loses answers.
//
// The browser is made of as little as session.js needs: fetch with cookies,
// localStorage and navigator.locks, shared by all tabs. A module that is imported
// under another name is another tab.

import assert from 'node:assert/strict';

const [a, b, username, password] = process.argv.slice(2);

let cookie = '';
let asked = []; // the requests: [path, Idempotency-Key]
let faults = []; // what happens to the next ones
let at = a;

const network = globalThis.fetch;
globalThis.fetch = async (path, { headers, ...options } = {}) => {
  asked.push([path, headers['Idempotency-Key']]);
  const fault = faults[0]?.path === path && faults.shift();
  if (fault?.answer) return fault.answer;
  const response = await network(at + path, { ...options, headers: { ...headers, cookie, 'Sec-Fetch-Site': 'same-origin' } });
  if (fault?.lost) throw new TypeError('fetch failed');
  for (const line of response.headers.getSetCookie()) cookie = line.split(';')[0];
  return response;
};

globalThis.localStorage = {};

let last = Promise.resolve();
const locks = { request: (_, what) => (last = last.then(what, what)) };
Object.defineProperty(globalThis, 'navigator', { value: { locks } });

const session = new URL(process.env.SESSION ?? '../../examples/express/public/session.js', import.meta.url);
const tab = (n) => import(`${session}?tab=${n}`);
const paths = () => asked.splice(0).map(([path]) => path);
const refused = () => new Response('{}', { status: 401 });

const one = await tab(1);
await one.login(username, password);
assert.equal((await one.api('/me')).status, 200);
assert.deepEqual(paths(), ['/login', '/me'], 'a login is enough');

// Ten calls of one tab find out together that the token has expired.
faults = Array.from({ length: 10 }, () => ({ path: '/me', answer: refused() }));
const calls = await Promise.all(Array.from({ length: 10 }, () => one.api('/me')));
assert.deepEqual(calls.map((r) => r.status), Array(10).fill(200));
assert.equal(paths().filter((path) => path === '/refresh').length, 1, 'one refresh for all calls');

// Ten tabs are opened at once, and know nothing but the cookie.
const tabs = await Promise.all(Array.from({ length: 10 }, (_, n) => tab(n + 2)));
const all = await Promise.all(tabs.map((t) => t.api('/me')));
assert.deepEqual(all.map((r) => r.status), Array(10).fill(200));
const keys = asked.splice(0).filter(([path]) => path === '/refresh').map(([, key]) => key);
assert.equal(new Set(keys).size, 10, 'each has a key of its own');
assert.equal(localStorage.refreshKey, undefined);

// The answer is lost; another tab asks again, and reaches the other process.
faults = [{ path: '/me', answer: refused() }, { path: '/refresh', lost: true }];
await assert.rejects(one.api('/me'), TypeError);
const [, lost] = asked.splice(0).find(([path]) => path === '/refresh');
at = b;
faults = [{ path: '/me', answer: refused() }];
assert.equal((await tabs[0].api('/me')).status, 200);
const [, again] = asked.splice(0).find(([path]) => path === '/refresh');
assert.equal(again, lost, 'the same key');
assert.ok(lost, 'a key');
assert.equal((await one.api('/me')).status, 200);

// Trouble: an error that is not 401, and the key stays for the next attempt.
paths();
const trouble = () => new Response('{}', { status: 503 });
faults = [{ path: '/me', answer: refused() }, { path: '/refresh', answer: trouble() }];
await assert.rejects(one.api('/me'), { status: 503 });
assert.ok(localStorage.refreshKey);
assert.equal((await one.api('/me')).status, 200);

// An answer from long ago, whose access token has expired: ask for the next one.
paths();
const stale = () => new Response('{"access_token":"stale","expires_in":0}', { status: 200 });
faults = [{ path: '/me', answer: refused() }, { path: '/refresh', answer: stale() }];
assert.equal((await one.api('/me')).status, 200);
assert.deepEqual(paths(), ['/me', '/refresh', '/refresh', '/me']);

// Logged out in one tab, so in all.
await tabs[5].logout();
await new Promise((resolve) => setTimeout(resolve, 1000));
await assert.rejects(one.api('/me'), { status: 401 });
await assert.rejects(one.login(username, 'wrong'), { status: 401 });
await one.login(username, password);
assert.equal((await tabs[7].api('/me')).status, 200);
