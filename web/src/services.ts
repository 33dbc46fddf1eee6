import { byId, el } from './dom.js'

const asked = [
  { path: '/verify', who: 'A gateway' },
  { path: '/me', who: 'A service' },
]

/** Shows what those say who are shown an access token. */
export async function ask(token: string): Promise<void> {
  const rows = await Promise.all(
    asked.map(async ({ path, who }) => {
      const began = performance.now()
      const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, credentials: 'omit' })
      const took = Math.round(performance.now() - began)
      const good = answer.ok
      return el(
        'li',
        { class: good ? 'good' : 'bad' },
        el('strong', {}, good ? 'accepts it' : answer.status === 401 ? 'refuses it' : 'cannot say'),
        el('span', {}, who, ' ', el('code', {}, `GET ${path}`)),
        el('span', { class: 'aside' }, `${answer.status} in ${took} ms`),
      )
    }),
  )
  byId('answers').replaceChildren(...rows)
}
