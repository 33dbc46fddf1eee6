import { pause } from './clock.js';
import { Known, Refused, Trouble } from './errors.js';
const timeout = 8000;
const attempts = 4;
const maxWait = 60_000;
const patience = 5000;
export async function ask(send, url, init) {
const control = new AbortController();
const timer = setTimeout(() => control.abort(), timeout);
try {
const answer = await send(url, { cache: 'no-store', redirect: 'error', ...init, signal: control.signal });
const { status } = answer;
if (status >= 500 || [408, 409, 429].includes(status))
throw new Trouble(`the server answers ${status}`, { wait: Math.min(Number(answer.headers.get('Retry-After')) * 1000, maxWait) });
if (status === 204)
return;
const body = await answer.json();
if (answer.ok)
return body;
if (body.error)
throw new Refused(status, body.error, body.error_description, body.reason);
throw new Trouble(`somebody answers ${status}`);
}
catch (cause) {
throw cause instanceof Known ? cause : new Trouble('no answer', { cause });
}
finally {
clearTimeout(timer);
}
}
export async function insist(task) {
for (let attempt = 1;; attempt++) {
try {
return await task();
}
catch (error) {
if (!(error instanceof Trouble) || attempt >= attempts || error.wait > patience)
throw error;
await pause((error.wait || 200 * 2 ** attempt) * (0.75 + Math.random() / 2));
}
}
}
