import { now, pause, since, type Moment } from './clock.js'
import { LoggedOut, Refused, Trouble } from './errors.js'
import { ask, insist } from './service.js'
import { pageStore, type Store } from './store.js'
import { alone, tabs, type News } from './tabs.js'

export interface Options {
  /** Where the service is: `https://auth.example.com`, with a path if it has one. Default: the page's own origin. */
  url?: string
  /** Default: `web` without a store, `mobile` with one. */
  clientId?: string
  /**
   * Where the refresh token is kept, for clients whose transport is `body`. Without
   * it the server keeps it in a cookie, which is right for browsers.
   */
  store?: Store
  /** Keeps sessions apart that would share a store: one name for each account. */
  name?: string
  /**
   * To which origins `fetch` may send the access token, exactly:
   * `https://api.example.com`. Default: the page's own. The service's always is one.
   */
  origins?: string[]
  /** Called when it turns out that the user is logged in, or is not, in whichever tab it happened. */
  changed?: (loggedIn: boolean, reason?: string) => void
  /** How requests are sent. Default: the global `fetch`. */
  send?: typeof fetch
}

export interface User {
  sub: string
  username?: string
  sid: string
  client_id: string
  roles: string[]
  scope: string
  /** RFC 3339, as all times here. */
  auth_time: string
  expires_at: string
}

export interface Session {
  sid: string
  client_id: string
  device: string
  created_at: string
  last_used_at: string
  expires_at: string
  current: boolean
}

export interface Auth {
  /** Throws {@link Refused} for a wrong password, {@link Trouble} if it cannot be told. */
  login(user: { username: string; password: string; device?: string }): Promise<void>
  /** Ends the session. Throws {@link Trouble} if the server cannot be reached: then it has not ended. */
  logout(): Promise<void>
  /** A good access token. Throws {@link LoggedOut} or {@link Trouble}. */
  token(): Promise<string>
  /**
   * `fetch` with an access token. Throws what {@link token} throws if there is none
   * to be had, and a TypeError for an origin that gets none. A request that is
   * refused for its token is sent once more with a new one, unless its body is a
   * stream.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>
  me(): Promise<User>
  /** Those of the user, on all devices. */
  sessions(): Promise<Session[]>
  /** Ends one of the user's sessions, or all others if none is named. */
  end(sid?: string): Promise<void>
}

/**
 * What is kept over reloads: the refresh token, unless a cookie has it, the key of
 * the next refresh, and whether that was sent already.
 */
interface Kept {
  token?: string
  key?: string
  sent?: true
}

interface Grant {
  access_token: string
  expires_in: number
  refresh_token?: string
  device_key?: string
}

/** An access token, and its life in milliseconds. */
interface Access {
  token: string
  got: Moment
  life: number
  /** With this much left, a new one is fetched; with that much, it is waited for. */
  early: number
  late: number
}

export function createAuth(options: Options = {}): Auth {
  const inBody = options.store
  const clientId = options.clientId ?? (inBody ? 'mobile' : 'web')
  const url = (options.url ?? '').replace(/\/$/, '')
  const store = inBody ?? pageStore()
  // Some stores take few characters in names.
  const name = `authapi.${url}.${clientId}.${options.name ?? ''}`.replace(/[^\w.-]/g, '_')
  const send = options.send ?? ((input, init) => fetch(input, init))
  const page = globalThis.location?.origin
  const origins = [...(options.origins ?? [page]), /^\w+:\/\/[^/]+/.exec(url)?.[0] ?? page]

  let access: Access | undefined
  let refreshing: Promise<string> | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let used = false // since the last refresh
  let epoch = 0 // of logins and logouts
  let loggedIn: boolean | undefined
  let trouble: Trouble | undefined // the last one, and when
  let troubled: Moment
  let useless: Moment | undefined // when a service has refused a new token, too

  const tell = tabs(name, (news) => {
    if ('over' in news) return forget(news.over)
    if (news.login) entered()
    adopt(news.token, news.life, { ...now(), wall: news.wall })
  })

  const left = () => (access ? access.life - since(access.got) : 0)
  const fresh = () => (access && left() > access.early ? access.token : undefined)

  function know(yes: boolean, reason?: string) {
    // What it throws is not ours to handle.
    if (loggedIn !== yes) setTimeout(() => options.changed?.(yes, reason))
    loggedIn = yes
  }

  function entered() {
    epoch++
    loggedIn = undefined // it may be another user
  }

  function adopt(token: string, life: number, got: Moment): News {
    // Not all at the same moment: neither tabs, nor the clients that an outage
    // has made wait together.
    access = { token, got, life, early: life * (0.1 + 0.2 * Math.random()), late: Math.min(life / 20, 5000) }
    used = false
    clearTimeout(timer)
    timer = setTimeout(() => {
      // A page that nobody uses lets its session run out.
      if (used) refresh().catch(() => {})
    }, left() - access.early)
    ;(timer as { unref?: () => void }).unref?.()
    know(true)
    return { token, life, wall: got.wall }
  }

  function forget(reason?: string) {
    epoch++
    access = undefined
    clearTimeout(timer)
    know(false, reason)
  }

  /** What a store throws says nothing about the session. */
  async function stored<T>(task: () => T): Promise<Awaited<T>> {
    try {
      return await task()
    } catch (cause) {
      throw new Trouble('the store fails', { cause })
    }
  }

  async function kept(): Promise<Kept> {
    const text = await stored(() => store.get(name))
    try {
      return JSON.parse(text || '{}') as Kept
    } catch {
      return {}
    }
  }

  const keep = (value?: Kept) => stored(() => (value ? store.set(name, JSON.stringify(value)) : store.remove(name)))

  const post = (path: string, body: object, headers?: Record<string, string>) =>
    ask(send, url + path, {
      method: 'POST',
      credentials: inBody ? 'omit' : 'include',
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', 'X-Requested-With': 'authapi', ...headers },
    })

  /** Names a session: by its token, or by whose cookie holds it. */
  const named = (had: Kept) => (inBody ? { refresh_token: had.token } : { client_id: clientId })

  /** An answer that is none of the service's is Trouble: somebody may sit in between. */
  async function grant(answer: Promise<unknown>): Promise<Grant> {
    const g = (await answer) as Grant | undefined
    if (typeof g?.access_token === 'string' && g.expires_in >= 0 && (!inBody || g.refresh_token)) return g
    throw new Trouble('the answer holds no tokens')
  }

  function refresh(): Promise<string> {
    if (trouble && since(troubled) < trouble.wait) return Promise.reject(trouble)
    return (refreshing ??= alone(name, rotate)
      .catch((error) => {
        trouble = error
        troubled = now()
        throw error
      })
      .finally(() => (refreshing = undefined)))
  }

  async function rotate(certain: boolean): Promise<string> {
    let sure = false
    for (let round = 0; round < 8; round++) {
      const token = fresh() ?? (await insist(once)) // another tab may have been faster
      if (token) return token
      if (round) await pause(200 * round)
    }
    throw new Trouble('no token')

    /** What was found out does not always make a token: then it is to be called again. */
    async function once(): Promise<string | undefined> {
      const began = epoch
      const from = now()
      const { had, ours } = await claim(certain)
      if (inBody && !had.token) {
        forget()
        throw new LoggedOut()
      }
      let g
      try {
        g = await grant(post('/refresh', named(had), { 'Idempotency-Key': had.key! }))
      } catch (error) {
        if (!(error instanceof Refused) || error.code !== 'invalid_grant') throw error
        if (began !== epoch) return fresh()
        // The refusal may be for a token that another tab, process or login has
        // replaced meanwhile. A cookie cannot be looked at, but asked again.
        if (inBody ? (await kept()).token !== had.token : !sure) {
          sure = true
          return
        }
        await keep()
        tell({ over: error.reason })
        forget(error.reason)
        throw new LoggedOut(error.reason)
      }
      if (began !== epoch) return fresh()
      // Whoever waited for us in vain may have gone on already.
      const has = await kept()
      if (inBody) {
        if (has.token === had.token) await keep({ token: g.refresh_token! })
      } else if (has.key === had.key) {
        // Another request with this key may still be on its way, and leave the
        // cookie as it is or was. Then the next refresh needs the key.
        await keep(had.sent || (ours && !certain) ? { key: had.key! } : {})
      }
      // A repeated answer ends when the first one did, which may be by now.
      if (!g.expires_in) return
      tell(adopt(g.access_token, g.expires_in * 1000, from))
      return g.access_token
    }
  }

  /**
   * The refresh token and the key to send it with. The key is stored before it is
   * sent: should the answer be lost, with this page or not, the next attempt asks
   * for the same successor. What is sent is what was read last, so two that do
   * this at once find the same key, if a write is seen by the other in time.
   */
  async function claim(certain: boolean): Promise<{ had: Kept; ours: boolean }> {
    let key
    for (let attempt = 0; attempt < 4; attempt++) {
      const had = await kept()
      if (had.key || (inBody && !had.token)) {
        if (!inBody) await keep({ ...had, sent: true })
        return { had, ours: had.key === key }
      }
      await keep({ ...had, key: (key = newKey()) })
      if (!certain) await pause(30)
    }
    throw new Trouble('the store fails')
  }

  async function token(): Promise<string> {
    used = true
    const good = fresh()
    if (good) return good
    const next = refresh()
    if (!access || left() <= access.late) return next
    next.catch(() => {}) // whoever asks last will know
    return access.token
  }

  async function authorized(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    const request = input instanceof Request && input
    const to = (request || new Request(input)).url
    if (!origins.some((o) => o && `${to}/`.startsWith(`${o}/`))) throw new TypeError('no token is sent to this origin')
    const headers = new Headers(init.headers ?? (request || init).headers)
    const attempt = async (body: RequestInfo | URL, value: string) => {
      headers.set('Authorization', `Bearer ${value}`)
      return send(body, { ...init, headers })
    }
    const first = await token()
    const answer = await attempt(request ? request.clone() : input, first)
    if (
      answer.status !== 401 ||
      (useless && since(useless) < 10_000) || // or whoever refuses all tokens would have us refresh without end
      (init.body as ReadableStream | null)?.getReader ||
      !/invalid_token/.test(answer.headers.get('WWW-Authenticate') ?? 'invalid_token')
    )
      return answer
    // Revoked, or the service's clock is ahead.
    if (access?.token === first) access = undefined
    const again = await attempt(input, await token())
    if (again.status === 401) useless = now()
    return again
  }

  async function call(path: string, method = 'GET'): Promise<unknown> {
    await token() // may take longer than an answer
    return ask(authorized, url + path, { method })
  }

  return {
    async login({ username, password, device }) {
      // The answer to a refresh that is under way would be written over it, by the
      // browser itself if it is a cookie.
      await alone(name, async () => {
        const from = now()
        // Of an earlier login here: by it nobody else's wrong passwords keep this device out.
        const device_key = (await stored(() => inBody?.get(name + '.device'))) ?? undefined
        const g = await grant(post('/login', { username, password, device, device_key, client_id: clientId }))
        if (g.device_key) await stored(() => inBody?.set(name + '.device', g.device_key!))
        await keep(inBody ? { token: g.refresh_token! } : {})
        entered()
        tell({ ...adopt(g.access_token, g.expires_in * 1000, from), login: true })
      })
    },

    async logout() {
      const had = await kept()
      const authorization = access && { Authorization: `Bearer ${access.token}` }
      try {
        await insist(() => post('/logout', named(had), authorization))
      } catch (error) {
        if (!(error instanceof Refused) || error.status > 401) throw error
        // There may be nothing left to end, and there may be something wrong
        // with the request.
        if (error.status === 400 && (await refresh().catch((why) => why instanceof LoggedOut)) !== true) throw error
      }
      forget()
      await alone(name, () => keep())
      tell({ over: undefined })
    },

    token,
    fetch: authorized,
    me: () => call('/me') as Promise<User>,
    sessions: async () => ((await call('/sessions')) as { sessions: Session[] }).sessions,
    end: async (sid) => void (await call(sid ? `/sessions/${encodeURIComponent(sid)}` : '/sessions?except=current', 'DELETE')),
  }
}

/** Random, and as unpredictable as the platform can: React Native has no crypto of its own. */
function newKey(): string {
  const bytes = globalThis.crypto?.getRandomValues(new Uint8Array(20))
  return Array.from(bytes ?? Array(20), (byte = Math.floor(Math.random() * 256)) => byte.toString(16)).join('')
}
