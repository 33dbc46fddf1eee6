import { atMost, pause } from './clock.js'

/** What tabs tell each other: a token with its life in milliseconds, from when on, or that it is over, and why. */
export type News = { token: string; life: number; wall: number; login?: true } | { over: string | undefined }

/** How long a tab waits for another's refresh before it makes its own, in milliseconds. */
const patience = 5000

let stuck = false
const queue = new Map<string, Promise<unknown>>()

/**
 * Runs a task while nobody else runs one of this name: no other tab, if the
 * browser can tell, or nobody in this one. The task is told whether that is
 * certain for all tabs. A holder that hangs is not waited for: the lock makes
 * things cheaper, not right.
 */
export async function alone<T>(name: string, task: (certain: boolean) => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks
  if (!locks) {
    const before = queue.get(name)
    // Who is before us is no other process, and ends by itself.
    const mine = atMost(20 * patience, before).then(() => task(false))
    queue.set(name, mine.catch(() => {}))
    return mine
  }
  let begun: Promise<T> | undefined
  const begin = (certain: boolean) => (begun ??= task(certain))
  const control = new AbortController()
  const got = locks.request(name, { signal: control.signal }, () => {
    stuck = false
    return atMost(2 * patience, begin(true))
  })
  await atMost(stuck ? patience / 10 : patience, got)
  control.abort()
  if (!begun) {
    // Waited for too long, or this page has no locks. Those who have waited with
    // us should not all go now.
    stuck = true
    await pause((Math.random() * patience) / 10)
  }
  return begin(false)
}

/** Tells other tabs, and is told by them. Without BroadcastChannel, nobody. */
export function tabs(name: string, heard: (news: News) => void): (news: News) => void {
  try {
    const channel = new BroadcastChannel(name)
    channel.onmessage = (message) => heard(message.data as News)
    // In Node a channel would keep the process.
    ;(channel as { unref?: () => void }).unref?.()
    return (news) => channel.postMessage(news)
  } catch {
    return () => {}
  }
}
