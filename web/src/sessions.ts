import type { Auth, Session } from './client/index.js'
import { byId, clock, el } from './dom.js'

/** Lists the user's sessions, each with a button that ends it. */
export async function listSessions(auth: Auth, ended: (sid: string) => void, failed: (error: Error) => void): Promise<void> {
  const again = () => listSessions(auth, ended, failed).catch(failed)
  const all = await auth.sessions()
  all.sort((a, b) => Number(b.current) - Number(a.current) || b.created_at.localeCompare(a.created_at))
  byId('sessions').replaceChildren(
    ...all.map((session) => {
      const row = el(
        'li',
        {},
        el('div', {}, el('strong', {}, session.device || session.client_id), ...(session.current ? [el('span', { class: 'badge' }, 'this browser')] : [])),
        el('div', { class: 'aside' }, describe(session)),
      )
      if (!session.current) {
        const button = el('button', { type: 'button', class: 'small', 'aria-label': `End the session of ${session.device || session.client_id}` }, 'End')
        button.addEventListener('click', () => {
          auth
            .end(session.sid)
            .then(() => {
              ended(session.sid)
              byId('sessions-title').focus() // the button is gone with its row
            })
            .catch(failed)
            .then(again)
        })
        row.append(button)
      }
      return row
    }),
  )
  byId('end-others').hidden = all.length < 2
}

function describe(s: Session): string {
  return `${s.client_id} · since ${clock(new Date(s.created_at))} · last refresh ${clock(new Date(s.last_used_at))}`
}
