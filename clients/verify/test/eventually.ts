// What tests wait for.

/** Waits until something holds, or says that it did not. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>, ms = 8000): Promise<void> {
  for (const end = performance.now() + ms; !(await holds()); await pause(3)) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
