// The browser's half of a session: use api() in place of fetch().

let access; // in memory only: a script that steals it has it for minutes, and cannot read the cookie

/** fetch() with the access token, which is renewed when it is refused. */
export async function api(path, options = {}) {
  for (let again = false; ; again = true) {
    const used = (access ??= await refresh());
    const response = await fetch(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${used}` } });
    if (response.status !== 401 || again) return response;
    if (access === used) access = undefined; // else another call has renewed it meanwhile
  }
}

export const login = (username, password) => alone(async () => {
  access = (await post('/login', {}, { username, password })).access_token;
});

export const logout = () => alone(async () => {
  await post('/logout');
  access = undefined;
});

// Many calls find out at once that the token has expired: one refresh is for all.
let refreshing;
const refresh = () => (refreshing ??= alone(renew).finally(() => (refreshing = undefined)));

// If the answer is lost, whichever tab is next asks for it again by its key.
async function renew() {
  const key = (localStorage.refreshKey ??= crypto.randomUUID());
  const tokens = await post('/refresh', { 'Idempotency-Key': key });
  delete localStorage.refreshKey;
  return tokens.expires_in > 0 ? tokens.access_token : renew(); // 0: an answer from long ago
}

// Tabs share the cookie, and two refreshes with one token look like theft.
function alone(what) {
  return navigator.locks.request('session', what);
}

/** Fails with status 401 if the user must log in. Anything else means: try again later. */
async function post(path, headers = {}, body = {}) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { ...headers, 'X-Requested-With': 'fetch', 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
  return response.json();
}
