/** The page's element with this id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id)
  if (!found) throw new Error(`no #${id}`)
  return found as T
}

/** Makes an element. Text is text: nothing here is ever parsed as HTML. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

export function svg(tag: string, attributes: Record<string, string | number> = {}, ...children: (Node | string)[]): SVGElement {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value))
  made.append(...children)
  return made
}

/** A button works once at a time, and says what went wrong. */
export function onPress(id: string, task: () => Promise<void>, failed: (error: Error) => void) {
  const button = byId<HTMLButtonElement>(id)
  button.addEventListener('click', async () => {
    if (button.getAttribute('aria-disabled') === 'true') return
    // Not `disabled`: the focus would be lost.
    button.setAttribute('aria-disabled', 'true')
    try {
      await task()
    } catch (error) {
      failed(error as Error)
    } finally {
      button.removeAttribute('aria-disabled')
    }
  })
}

export const clock = (at: Date) => at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' })
