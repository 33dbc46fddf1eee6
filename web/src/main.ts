import { showAccess, tick } from './access.js'
import { draw } from './chain.js'
import { LoggedOut, Refused, Trouble, createAuth } from './client/index.js'
import { byId, clock, el, onPress } from './dom.js'
import { Phone } from './phone.js'
import { ask } from './services.js'
import { listSessions } from './sessions.js'

// This browser: the client does everything, and the page watches.

let mine = false // the next new token is of this tab's own asking

const auth = createAuth({
  changed: (loggedIn, reason) => show(loggedIn, reason),
  send: async (input, init) => {
    const answer = await fetch(input, init)
    if (String(input).endsWith('/refresh') || String(input).endsWith('/login')) mine = answer.ok
    return answer
  },
})

const phone = new Phone()

const reasons: Record<string, string> = {
  expired: 'Nobody has used the session for a long time. Log in again.',
  ended: 'The session was ended from elsewhere.',
  reused: 'The session was ended: somebody had a copy of its token.',
}

function show(loggedIn: boolean, reason?: string) {
  document.body.dataset.state = loggedIn ? 'in' : 'out'
  byId('login').hidden = loggedIn
  byId('watch').hidden = !loggedIn
  byId('logout').hidden = !loggedIn
  if (loggedIn) {
    say('login-note', '')
    void look()
    void list()
  } else say('login-note', reason ? (reasons[reason] ?? reason) : '')
}

function say(id: string, text: string) {
  byId(id).textContent = text
}

function failed(error: Error) {
  if (error instanceof LoggedOut) return // `changed` shows it
  say('trouble', error instanceof Trouble ? 'The service does not answer. You are still logged in.' : error.message)
}

async function look() {
  const token = await auth.token().catch(failed)
  if (!token) return
  say('trouble', '')
  if (!showAccess(token)) return
  say('tabs-note', `${clock(new Date())}: ${mine ? 'this tab has fetched a new access token, for all tabs.' : 'another tab has fetched a new access token; this one has it too.'}`)
  mine = false
}

const list = () => listSessions(auth, () => {}, failed).catch(failed)

setInterval(() => {
  if (document.body.dataset.state !== 'in') return
  tick()
  if (!document.hidden) void look()
}, 500)

// The login starts two sessions: the browser's, and the phone's.

byId('login-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.target as HTMLFormElement
  const { username, password } = Object.fromEntries(new FormData(form)) as Record<string, string>
  say('login-note', '')
  const button = form.querySelector('button')!
  button.setAttribute('aria-disabled', 'true')
  try {
    await auth.login({ username: username!, password: password!, device: 'This browser' })
    form.reset()
    await startPhone(username!, password!)
    byId('browser-title').focus()
  } catch (error) {
    say('login-note', error instanceof Refused ? 'The name or the password is wrong.' : 'The service does not answer. Try again.')
  } finally {
    button.removeAttribute('aria-disabled')
  }
})

onPress('logout', async () => {
  await auth.logout()
  byId('username').focus()
}, failed)

onPress('end-others', async () => {
  await auth.end()
  await list()
}, failed)
onPress('list', list, failed)

// The phone and the thief.

async function startPhone(username: string, password: string) {
  await phone.login(username, password)
  byId('story').replaceChildren()
  tell('The phone has logged in, and has generation 0.')
  await list()
}

byId('phone-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.target as HTMLFormElement
  const { username, password } = Object.fromEntries(new FormData(form)) as Record<string, string>
  try {
    await startPhone(username!, password!)
    form.reset()
    say('phone-note', '')
    byId('refresh').focus()
  } catch (error) {
    say('phone-note', (error as Error).message)
  }
})

function tell(text: string) {
  byId('story').prepend(el('li', {}, text))
  paint()
}

function paint() {
  const { chain } = phone
  const over = chain.over !== undefined
  byId('phone-login').hidden = phone.present && !over
  say('phone-hint', over ? 'Log in again to start another chain.' : 'The phone lives in this page’s memory, and is gone after a reload.')
  byId('phone-on').hidden = !phone.present
  byId('phone-buttons').hidden = over
  byId('thief').hidden = !phone.thief
  byId('steal').hidden = !!phone.thief
  const picture = byId('chain')
  if (phone.present) picture.replaceChildren(draw(chain))
  scrollToEnd()
}

function scrollToEnd() {
  const picture = byId('chain')
  picture.scrollLeft = picture.scrollWidth
}
addEventListener('resize', scrollToEnd)

/** One step of the phone's story; whoever looks sees what services make of it. */
const act = (id: string, step: () => Promise<string> | string) =>
  onPress(
    id,
    async () => {
      const before = phone.access
      tell(await step())
      if (phone.chain.over) {
        await ask(before)
        byId('services-title').focus()
        await list()
      }
    },
    (error) => tell(`It did not work: ${error.message}`),
  )

act('refresh', () => phone.refresh())
act('lose', () => phone.refreshTwice())
act('steal', () => phone.steal())
act('thief', () => phone.thiefRefreshes())
onPress('ask', () => ask(phone.access), (error) => say('trouble', error.message))

if (/^(localhost|127\.|\[::1\])/.test(location.hostname)) byId('demo').hidden = false

paint()
auth.token().catch(failed) // shows one or the other
