import { byId, clock, el } from './dom.js';
import { takeApart } from './tokens.js';
let shown = '';
let got = 0;
export function showAccess(token) {
    if (token === shown)
        return false;
    shown = token;
    got = performance.now();
    const { parts, header, claims } = takeApart(token);
    byId('token').replaceChildren(...parts.flatMap((part, i) => [...(i ? ['.'] : []), el('span', { class: ['header', 'claims', 'signature'][i] }, part)]));
    byId('header').textContent = JSON.stringify(header, null, 2);
    byId('claims').replaceChildren(...Object.entries(claims).flatMap(claim));
    life(claims);
    return true;
}
function claim([name, value]) {
    const time = (name === 'exp' || name === 'iat' || name === 'auth_time') && typeof value === 'number';
    const text = time ? `${value}` : JSON.stringify(value);
    return [el('dt', {}, name), el('dd', {}, text, ...(time ? [el('span', { class: 'aside' }, ` ${clock(new Date(value * 1000))}`)] : []))];
}
let span = { whole: 1, left: 0 };
function life({ exp, iat }) {
    span = { whole: exp - iat, left: exp - iat };
    tick();
}
export function tick() {
    const passed = (performance.now() - got) / 1000;
    const left = Math.max(0, span.whole - passed);
    const bar = byId('life');
    bar.max = span.whole;
    bar.value = left;
    byId('left').textContent = left > 90 ? `${Math.floor(left / 60)} min ${Math.floor(left % 60)} s left` : `${Math.ceil(left)} s left`;
}
