/**
 * The service as a client sees it, in one process and without cryptography: the
 * rules of docs/rotation.md, line by line.
 */
export interface Asked {
  method: string
  path: string
  body: Record<string, string>
  headers: Headers
  cookie?: string | undefined
}

export interface Answered {
  status: number
  body?: object
  headers?: Record<string, string>
  /** The cookie that is set, or '' to clear it. */
  cookie?: string
}

interface Session {
  sid: string
  cookie: boolean
  generation: number
  rotated: number
  granted: number
  keys: string[]
  repeats: number
  ended?: string
}

export class Server {
  sessions = new Map<string, Session>()
  /** How often somebody presented a spent token. */
  alarms = 0
  rotations = 0
  requests: Asked[] = []
  window = 10_000
  life = 300_000

  constructor(private readonly now: () => number) {}

  handle(asked: Asked): Answered {
    this.requests.push(asked)
    switch (`${asked.method} ${asked.path}`) {
      case 'POST /login':
        return this.login(asked)
      case 'POST /refresh':
        return this.refresh(asked)
      case 'POST /logout':
        return this.logout(asked)
      case 'GET /me':
        return this.guarded(asked, (s) => ({ status: 200, body: { sub: 'alice', sid: s.sid } }))
      case 'GET /sessions':
        return this.guarded(asked, (s) => ({
          status: 200,
          body: { sessions: [...this.sessions.values()].filter((o) => !o.ended).map((o) => ({ sid: o.sid, current: o === s })) },
        }))
      case 'DELETE /sessions?except=current':
        return this.guarded(asked, (s) => {
          for (const other of this.sessions.values()) if (other !== s) this.end(other, 'ended')
          return { status: 204 }
        })
    }
    const named = /^DELETE \/sessions\/(.+)$/.exec(`${asked.method} ${asked.path}`)
    if (named)
      return this.guarded(asked, () => {
        const s = this.sessions.get(decodeURIComponent(named[1]!))
        if (!s) return problem(404, 'not_found')
        this.end(s, 'ended')
        return { status: 204 }
      })
    return problem(404, 'not_found')
  }

  end(s: Session, reason: string) {
    s.ended ??= reason
  }

  endAll(reason: string) {
    for (const s of this.sessions.values()) this.end(s, reason)
  }

  /** What a service says about an access token. */
  accepts(access: string | undefined): Session | undefined {
    const [, sid, expires] = /^access (.+) (\d+)$/.exec(access ?? '') ?? []
    const s = this.sessions.get(sid ?? '')
    return s && !s.ended && Number(expires) > this.now() ? s : undefined
  }

  private guarded(asked: Asked, then: (s: Session) => Answered): Answered {
    const s = this.accepts(bearer(asked))
    return s ? then(s) : { ...problem(401, 'invalid_token'), headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' } }
  }

  private login({ body, headers }: Asked): Answered {
    if (body.password !== 'right') return problem(401, 'invalid_grant')
    const cookie = body.client_id === 'web'
    if (cookie && !headers.get('X-Requested-With')) return problem(403, 'access_denied')
    const sid = `s${this.sessions.size}`
    const s: Session = { sid, cookie, generation: 0, rotated: this.now(), granted: this.now() + this.life, keys: [], repeats: 0 }
    this.sessions.set(sid, s)
    const granted = this.grant(s)
    if (!cookie) Object.assign(granted.body as object, { device_key: `device ${sid}` })
    return granted
  }

  private grant(s: Session): Answered {
    const token = `refresh ${s.sid} ${s.generation}`
    const body = {
      access_token: `access ${s.sid} ${s.granted}`,
      token_type: 'Bearer',
      expires_in: Math.max(0, Math.floor((s.granted - this.now()) / 1000)),
      ...(s.cookie ? {} : { refresh_token: token }),
    }
    return { status: 200, body, ...(s.cookie ? { cookie: token } : {}) }
  }

  private find(asked: Asked): { s?: Session | undefined; generation: number; cookie: boolean } {
    const [, sid, generation] = /^refresh (.+) (\d+)$/.exec(asked.body.refresh_token ?? asked.cookie ?? '') ?? []
    return { s: this.sessions.get(sid ?? ''), generation: Number(generation), cookie: asked.body.refresh_token === undefined }
  }

  private refresh(asked: Asked): Answered {
    const { s, generation, cookie } = this.find(asked)
    if (cookie && !asked.headers.get('X-Requested-With')) return problem(403, 'access_denied')
    if (!s || s.cookie !== cookie) return problem(401, 'invalid_grant')
    if (s.ended) return problem(401, 'invalid_grant', s.ended)
    const given = asked.headers.get('Idempotency-Key')
    const key = `${given ?? Math.random()} ${generation}`
    const inWindow = this.now() - s.rotated < this.window
    const d = generation - s.generation
    if (d > 0) throw new Error('a token from the future')
    if (d === 0 && s.cookie && inWindow) return this.grant(s)
    if (d === 0) {
      this.rotations++
      Object.assign(s, { generation: generation + 1, rotated: this.now(), granted: this.now() + this.life, keys: [key, ...s.keys].slice(0, 4), repeats: 0 })
      return this.grant(s)
    }
    if (d === -1) {
      if (s.keys[0] === key) return this.grant(s)
      if (inWindow && (s.cookie || !given)) {
        if (s.repeats >= 8) return { ...problem(429, 'slow_down'), headers: { 'Retry-After': '1' } }
        s.repeats++
        return this.grant(s)
      }
    }
    if (s.keys.includes(key)) return problem(401, 'invalid_grant')
    this.alarms++
    this.end(s, 'reused')
    return problem(401, 'invalid_grant', 'reused')
  }

  private logout(asked: Asked): Answered {
    const { s, cookie } = this.find(asked)
    const [, sid] = /^access (.+) \d+$/.exec(bearer(asked) ?? '') ?? []
    const all = [s, this.sessions.get(sid ?? '')].filter((one) => !!one)
    if (!all.length) return problem(400, 'invalid_request')
    for (const one of all) this.end(one, 'ended')
    return { status: 204, ...(cookie ? { cookie: '' } : {}) }
  }
}

const bearer = (asked: Asked) => /^Bearer (.+)$/.exec(asked.headers.get('Authorization') ?? '')?.[1]

const problem = (status: number, error: string, reason?: string): Answered => ({
  status,
  body: { error, error_description: error, ...(reason ? { reason } : {}) },
})
