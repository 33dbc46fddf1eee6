import { byId, clock, el } from './dom.js'
import { takeApart, type Claims } from './tokens.js'

let shown = ''
let got = 0

/** Shows an access token taken apart, and says whether it is another than before. */
export function showAccess(token: string): boolean {
  if (token === shown) return false
  shown = token
  got = performance.now()
  const { parts, header, claims } = takeApart(token)
  byId('token').replaceChildren(
    ...parts.flatMap((part, i) => [...(i ? ['.'] : []), el('span', { class: ['header', 'claims', 'signature'][i]! }, part)]),
  )
  byId('header').textContent = JSON.stringify(header, null, 2)
  byId('claims').replaceChildren(...Object.entries(claims).flatMap(claim))
  life(claims)
  return true
}

/** What the numbers mean is said; all else is shown as it is. */
function claim([name, value]: [string, unknown]): Node[] {
  const time = (name === 'exp' || name === 'iat' || name === 'auth_time') && typeof value === 'number'
  const text = time ? `${value}` : JSON.stringify(value)
  return [el('dt', {}, name), el('dd', {}, text, ...(time ? [el('span', { class: 'aside' }, ` ${clock(new Date((value as number) * 1000))}`)] : []))]
}

let span = { whole: 1, left: 0 }

function life({ exp, iat }: Claims) {
  // By the token's own times: this computer's clock may be wrong.
  span = { whole: exp - iat, left: exp - iat }
  tick()
}

/** Lets the token's life run down. */
export function tick() {
  const passed = (performance.now() - got) / 1000
  const left = Math.max(0, span.whole - passed)
  const bar = byId<HTMLProgressElement>('life')
  bar.max = span.whole
  bar.value = left
  byId('left').textContent = left > 90 ? `${Math.floor(left / 60)} min ${Math.floor(left % 60)} s left` : `${Math.ceil(left)} s left`
}
