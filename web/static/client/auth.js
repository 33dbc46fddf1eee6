import { now, pause, since } from './clock.js';
import { LoggedOut, Refused, Trouble } from './errors.js';
import { ask, insist } from './service.js';
import { pageStore } from './store.js';
import { alone, tabs } from './tabs.js';
export function createAuth(options = {}) {
const inBody = options.store;
const clientId = options.clientId ?? (inBody ? 'mobile' : 'web');
const url = (options.url ?? '').replace(/\/$/, '');
const store = inBody ?? pageStore();
const name = `authapi.${url}.${clientId}.${options.name ?? ''}`.replace(/[^\w.-]/g, '_');
const send = options.send ?? ((input, init) => fetch(input, init));
const page = globalThis.location?.origin;
const origins = [...(options.origins ?? [page]), /^\w+:\/\/[^/]+/.exec(url)?.[0] ?? page];
let access;
let refreshing;
let timer;
let used = false;
let epoch = 0;
let loggedIn;
let trouble;
let troubled;
let useless;
const tell = tabs(name, (news) => {
if ('over' in news)
return forget(news.over);
if (news.login)
entered();
adopt(news.token, news.life, { ...now(), wall: news.wall });
});
const left = () => (access ? access.life - since(access.got) : 0);
const fresh = () => (access && left() > access.early ? access.token : undefined);
function know(yes, reason) {
if (loggedIn !== yes)
setTimeout(() => options.changed?.(yes, reason));
loggedIn = yes;
}
function entered() {
epoch++;
loggedIn = undefined;
}
function adopt(token, life, got) {
access = { token, got, life, early: life * (0.1 + 0.2 * Math.random()), late: Math.min(life / 20, 5000) };
used = false;
clearTimeout(timer);
timer = setTimeout(() => {
if (used)
refresh().catch(() => { });
}, left() - access.early);
timer.unref?.();
know(true);
return { token, life, wall: got.wall };
}
function forget(reason) {
epoch++;
access = undefined;
clearTimeout(timer);
know(false, reason);
}
async function stored(task) {
try {
return await task();
}
catch (cause) {
throw new Trouble('the store fails', { cause });
}
}
async function kept() {
const text = await stored(() => store.get(name));
try {
return JSON.parse(text || '{}');
}
catch {
return {};
}
}
const keep = (value) => stored(() => (value ? store.set(name, JSON.stringify(value)) : store.remove(name)));
const post = (path, body, headers) => ask(send, url + path, {
method: 'POST',
credentials: inBody ? 'omit' : 'include',
body: JSON.stringify(body),
headers: { 'Content-Type': 'application/json', 'X-Requested-With': 'authapi', ...headers },
});
const named = (had) => (inBody ? { refresh_token: had.token } : { client_id: clientId });
async function grant(answer) {
const g = (await answer);
if (typeof g?.access_token === 'string' && g.expires_in >= 0 && (!inBody || g.refresh_token))
return g;
throw new Trouble('the answer holds no tokens');
}
function refresh() {
if (trouble && since(troubled) < trouble.wait)
return Promise.reject(trouble);
return (refreshing ??= alone(name, rotate)
.catch((error) => {
trouble = error;
troubled = now();
throw error;
})
.finally(() => (refreshing = undefined)));
}
async function rotate(certain) {
let sure = false;
for (let round = 0; round < 8; round++) {
const token = fresh() ?? (await insist(once));
if (token)
return token;
if (round)
await pause(200 * round);
}
throw new Trouble('no token');
async function once() {
const began = epoch;
const from = now();
const { had, ours } = await claim(certain);
if (inBody && !had.token) {
forget();
throw new LoggedOut();
}
let g;
try {
g = await grant(post('/refresh', named(had), { 'Idempotency-Key': had.key }));
}
catch (error) {
if (!(error instanceof Refused) || error.code !== 'invalid_grant')
throw error;
if (began !== epoch)
return fresh();
if (inBody ? (await kept()).token !== had.token : !sure) {
sure = true;
return;
}
await keep();
tell({ over: error.reason });
forget(error.reason);
throw new LoggedOut(error.reason);
}
if (began !== epoch)
return fresh();
const has = await kept();
if (inBody) {
if (has.token === had.token)
await keep({ token: g.refresh_token });
}
else if (has.key === had.key) {
await keep(had.sent || (ours && !certain) ? { key: had.key } : {});
}
if (!g.expires_in)
return;
tell(adopt(g.access_token, g.expires_in * 1000, from));
return g.access_token;
}
}
async function claim(certain) {
let key;
for (let attempt = 0; attempt < 4; attempt++) {
const had = await kept();
if (had.key || (inBody && !had.token)) {
if (!inBody)
await keep({ ...had, sent: true });
return { had, ours: had.key === key };
}
await keep({ ...had, key: (key = newKey()) });
if (!certain)
await pause(30);
}
throw new Trouble('the store fails');
}
async function token() {
used = true;
const good = fresh();
if (good)
return good;
const next = refresh();
if (!access || left() <= access.late)
return next;
next.catch(() => { });
return access.token;
}
async function authorized(input, init = {}) {
const request = input instanceof Request && input;
const to = (request || new Request(input)).url;
if (!origins.some((o) => o && `${to}/`.startsWith(`${o}/`)))
throw new TypeError('no token is sent to this origin');
const headers = new Headers(init.headers ?? (request || init).headers);
const attempt = async (body, value) => {
headers.set('Authorization', `Bearer ${value}`);
return send(body, { ...init, headers });
};
const first = await token();
const answer = await attempt(request ? request.clone() : input, first);
if (answer.status !== 401 ||
(useless && since(useless) < 10_000) ||
init.body?.getReader ||
!/invalid_token/.test(answer.headers.get('WWW-Authenticate') ?? 'invalid_token'))
return answer;
if (access?.token === first)
access = undefined;
const again = await attempt(input, await token());
if (again.status === 401)
useless = now();
return again;
}
async function call(path, method = 'GET') {
await token();
return ask(authorized, url + path, { method });
}
return {
async login({ username, password, device }) {
await alone(name, async () => {
const from = now();
const device_key = (await stored(() => inBody?.get(name + '.device'))) ?? undefined;
const g = await grant(post('/login', { username, password, device, device_key, client_id: clientId }));
if (g.device_key)
await stored(() => inBody?.set(name + '.device', g.device_key));
await keep(inBody ? { token: g.refresh_token } : {});
entered();
tell({ ...adopt(g.access_token, g.expires_in * 1000, from), login: true });
});
},
async logout() {
const had = await kept();
const authorization = access && { Authorization: `Bearer ${access.token}` };
try {
await insist(() => post('/logout', named(had), authorization));
}
catch (error) {
if (!(error instanceof Refused) || error.status > 401)
throw error;
if (error.status === 400 && (await refresh().catch((why) => why instanceof LoggedOut)) !== true)
throw error;
}
forget();
await alone(name, () => keep());
tell({ over: undefined });
},
token,
fetch: authorized,
me: () => call('/me'),
sessions: async () => (await call('/sessions')).sessions,
end: async (sid) => void (await call(sid ? `/sessions/${encodeURIComponent(sid)}` : '/sessions?except=current', 'DELETE')),
};
}
function newKey() {
const bytes = globalThis.crypto?.getRandomValues(new Uint8Array(20));
return Array.from(bytes ?? Array(20), (byte = Math.floor(Math.random() * 256)) => byte.toString(16)).join('');
}
