import { generationOf } from './tokens.js'

/** What has happened in a chain of refresh tokens, as the picture shows it. */
export interface Chain {
  /** By generation. */
  links: { by: 'phone' | 'thief'; retries: number }[]
  /** The generation that was copied, if one was. */
  stolen?: number
  /** Whose spent token ended the session, and of which generation it was. */
  reuse?: { by: 'phone' | 'thief'; generation: number }
  /** Why the session is over. */
  over?: string
}

export interface Answer {
  status: number
  body: { access_token?: string; refresh_token?: string; reason?: string; error_description?: string }
}

/**
 * Acts as an application on a phone, and as whoever steals its refresh token.
 * Both have it in this page's memory only. It does by hand what the client does by
 * itself, to let things go wrong that the client would not.
 */
export class Phone {
  access = ''
  chain: Chain = { links: [] }
  thief: string | undefined
  private token = ''

  get present() {
    return this.token !== ''
  }

  get generation() {
    return generationOf(this.token)
  }

  async login(username: string, password: string): Promise<void> {
    const answer = await post('/login', { username, password, client_id: 'mobile', device: 'A phone, played by a page' })
    if (answer.status !== 200) throw new Error(answer.body.error_description)
    this.chain = { links: [{ by: 'phone', retries: 0 }] }
    this.thief = undefined
    this.take(answer)
  }

  /** Asks for the successor; says what came of it. */
  async refresh(): Promise<string> {
    const from = this.generation
    return this.outcome('phone', from, await post('/refresh', { refresh_token: this.token }, crypto.randomUUID()))
  }

  /** The first answer never arrives. */
  async refreshTwice(): Promise<string> {
    const from = this.generation
    const key = crypto.randomUUID()
    const lost = await post('/refresh', { refresh_token: this.token }, key)
    const said = this.outcome('phone', from, await post('/refresh', { refresh_token: this.token }, key))
    const link = this.chain.links[from + 1]
    if (this.chain.over || !link) return said
    link.retries++
    const same = lost.body.refresh_token === this.token
    return `The first answer was lost. The second holds ${same ? 'the same' : 'another'} token, of generation ${this.generation}.`
  }

  steal(): string {
    this.thief = this.token
    this.chain.stolen = this.generation
    return `A thief has a copy of generation ${this.generation}.`
  }

  async thiefRefreshes(): Promise<string> {
    if (!this.thief) return 'There is no copy yet.'
    const from = generationOf(this.thief)
    return this.outcome('thief', from, await post('/refresh', { refresh_token: this.thief }, crypto.randomUUID()))
  }

  private outcome(by: 'phone' | 'thief', from: number, answer: Answer): string {
    const who = by === 'phone' ? 'The phone' : 'The thief'
    if (answer.status === 200) {
      this.chain.links[from + 1] ??= { by, retries: 0 }
      if (by === 'thief') {
        this.thief = answer.body.refresh_token
        return `The thief was first, and has generation ${from + 1}. The phone does not know yet.`
      }
      this.take(answer)
      return `The phone has generation ${this.generation}.`
    }
    const { reason, error_description: why } = answer.body
    if (answer.status !== 401 || !reason) return `${who} is told to wait: ${answer.status} ${why ?? ''}`
    if (reason === 'reused' && !this.chain.reuse) {
      this.chain.reuse = { by, generation: from }
      this.chain.over = reason
      return `${who} presented generation ${from}, which was spent. Somebody has a copy, so the session is over, for both.`
    }
    this.chain.over ??= reason
    return `${who} is refused: ${why ?? reason}.`
  }

  private take({ body }: Answer) {
    this.token = body.refresh_token!
    this.access = body.access_token!
  }
}

async function post(path: string, body: object, key?: string): Promise<Answer> {
  const answer = await fetch(path, {
    method: 'POST',
    credentials: 'omit', // the browser's own session is none of the phone's business
    headers: { 'Content-Type': 'application/json', ...(key ? { 'Idempotency-Key': key } : {}) },
    body: JSON.stringify(body),
  })
  return { status: answer.status, body: await answer.json() }
}
