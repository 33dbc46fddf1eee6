/**
 * Where something is kept over reloads and restarts, by name. What `set` has kept
 * when it returns, or its promise is fulfilled, must be there after a crash.
 * `localStorage` is one but for the names; on React Native, wrap the Keychain or
 * Keystore. Whatever it throws ends in {@link Trouble}, and logs nobody out.
 */
export interface Store {
  get(name: string): string | null | undefined | Promise<string | null | undefined>
  set(name: string, value: string): unknown
  remove(name: string): unknown
}

/** What a page has: its localStorage, or, where that is not allowed, its memory. */
export function pageStore(): Store {
  const memory = new Map<string, string>()
  const local = <T>(task: (storage: Storage) => T): T | undefined => {
    try {
      return task(localStorage)
    } catch {} // full, forbidden, or there is none
    return
  }
  const get = (name: string) => memory.get(name) ?? local((s) => s.getItem(name))
  const remove = (name: string) => {
    memory.delete(name)
    local((s) => s.removeItem(name))
  }
  const set = (name: string, value: string) => {
    remove(name)
    local((s) => s.setItem(name, value))
    if (get(name) !== value) memory.set(name, value)
  }
  return { get, set, remove }
}
