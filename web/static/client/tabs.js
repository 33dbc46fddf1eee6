import { atMost, pause } from './clock.js';
const patience = 5000;
let stuck = false;
const queue = new Map();
export async function alone(name, task) {
const locks = globalThis.navigator?.locks;
if (!locks) {
const before = queue.get(name);
const mine = atMost(20 * patience, before).then(() => task(false));
queue.set(name, mine.catch(() => { }));
return mine;
}
let begun;
const begin = (certain) => (begun ??= task(certain));
const control = new AbortController();
const got = locks.request(name, { signal: control.signal }, () => {
stuck = false;
return atMost(2 * patience, begin(true));
});
await atMost(stuck ? patience / 10 : patience, got);
control.abort();
if (!begun) {
stuck = true;
await pause((Math.random() * patience) / 10);
}
return begin(false);
}
export function tabs(name, heard) {
try {
const channel = new BroadcastChannel(name);
channel.onmessage = (message) => heard(message.data);
channel.unref?.();
return (news) => channel.postMessage(news);
}
catch {
return () => { };
}
}
