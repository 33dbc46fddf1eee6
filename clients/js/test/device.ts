import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Auth, Options, Store } from '@authapi/client'
import type { Server } from './server.js'
import type { World } from './world.js'

type Package = typeof import('@authapi/client')

const dist = fileURLToPath(new URL('../../dist', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'authapi-client-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
let copies = 0

/** The package as another process or tab has it: nothing in memory is shared. */
export async function load(): Promise<Package> {
  const copy = join(folder, String(copies++))
  cpSync(dist, copy, { recursive: true, filter: (from) => !from.endsWith('.d.ts') })
  return (await import(pathToFileURL(join(copy, 'index.js')).href)) as Package
}

/** What the network does to one request. Times are in milliseconds. */
export interface Fate {
  there: number
  back: number
  /** For the body, behind the head of the answer. */
  rest: number
  lose?: 'request' | 'answer' | 'rest'
  /** Somebody in between answers, and the request gets through or not. */
  instead?: { status: number; headers?: Record<string, string>; body?: string; through: boolean }
}

export const smooth: Fate = { there: 20, back: 20, rest: 1 }

/** A phone or a browser: what outlives its applications and tabs. */
export class Device {
  /** The cookie jar's one cookie. */
  cookie: string | undefined
  kept = new Map<string, string>()
  fate: (path: string) => Fate = () => smooth
  storeDelay = () => 0

  constructor(
    readonly world: World,
    readonly server: Server,
  ) {}

  /** Starts an application, or opens a tab, that can be killed at any moment. */
  start(copy: Package, kind: 'body' | 'cookie', options: Options = {}): App {
    const { world } = this
    const life = { dead: false }
    const never = new Promise<never>(() => {})
    const step = async <T>(task: () => T): Promise<T> => {
      if (life.dead) return never
      const before = this.storeDelay()
      if (before) await world.pause(before)
      if (life.dead) return never
      const result = task()
      const after = this.storeDelay()
      if (after) await world.pause(after)
      return life.dead ? never : result
    }
    const store: Store = {
      get: (name) => step(() => this.kept.get(name)),
      set: (name, value) => step(() => void this.kept.set(name, value)),
      remove: (name) => step(() => void this.kept.delete(name)),
    }
    // A page's own storage answers at once.
    const page = {
      getItem: (name: string) => this.kept.get(name) ?? null,
      setItem: (name: string, value: string) => void (life.dead || this.kept.set(name, value)),
      removeItem: (name: string) => void (life.dead || this.kept.delete(name)),
    }
    Object.defineProperty(globalThis, 'localStorage', { value: page, configurable: true, writable: true })
    const seen: [boolean, string?][] = []
    const auth = copy.createAuth({
      url: 'https://auth.test',
      send: (input, init) => (life.dead ? never : this.send(input, init, life)),
      changed: (loggedIn, reason) => seen.push(reason ? [loggedIn, reason] : [loggedIn]),
      ...(kind === 'body' ? { store } : {}),
      ...options,
    })
    return { auth, seen, kill: () => (life.dead = true) }
  }

  private async send(input: RequestInfo | URL, init: RequestInit = {}, life: { dead: boolean }): Promise<Response> {
    const { world } = this
    const request = new Request(input, { ...init, signal: null, redirect: 'follow' } as RequestInit)
    const url = new URL(request.url)
    const path = url.pathname + url.search
    const fate = this.fate(path)
    const withCookies = request.credentials === 'include'
    const cookie = withCookies ? this.cookie : undefined
    const text = request.body ? await request.text() : ''
    let body = {}
    try {
      body = JSON.parse(text || '{}')
    } catch {} // it is something else
    const gone = new Promise<never>((_, no) => init.signal?.addEventListener('abort', () => no(init.signal!.reason)))
    gone.catch(() => {})
    const answered = (async () => {
      await world.pause(fate.there)
      // What was given up before it has arrived does not arrive: its connection is
      // closed. An application that is killed may have got it through.
      if (fate.lose === 'request' || init.signal?.aborted) return new Promise<never>(() => {})
      const through = fate.instead?.through ?? true
      const answer = through ? this.server.handle({ method: request.method, path, body, headers: request.headers, cookie }) : undefined
      await world.pause(fate.back)
      if (fate.lose === 'answer') throw new TypeError('connection reset')
      if (fate.instead)
        return { status: fate.instead.status, headers: fate.instead.headers, text: fate.instead.body ?? '', cookie: undefined }
      return { status: answer!.status, headers: answer!.headers, text: answer!.body ? JSON.stringify(answer!.body) : '', cookie: answer!.cookie }
    })()
    const head = await Promise.race([answered, gone])
    if (life.dead) return new Promise<never>(() => {})
    if (withCookies && head.cookie !== undefined && !init.signal?.aborted) this.cookie = head.cookie || undefined
    const bytes = new TextEncoder().encode(head.text)
    const stream = new ReadableStream({
      start: async (out) => {
        try {
          const half = fate.lose === 'rest' ? bytes.length >> 1 : bytes.length
          await Promise.race([world.pause(fate.rest), gone])
          out.enqueue(bytes.subarray(0, half))
          if (half < bytes.length) throw new TypeError('terminated')
          out.close()
        } catch (error) {
          out.error(error)
        }
      },
    })
    return new Response(head.status === 204 || !bytes.length ? null : stream, { status: head.status, headers: head.headers ?? {} })
  }
}

export interface App {
  auth: Auth
  /** What `changed` was told. */
  seen: [boolean, string?][]
  kill(): void
}
