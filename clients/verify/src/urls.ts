/** Which URLs may be asked. Errors do not quote them. */

/**
 * Returns an https URL, or one that is http to a loopback host. Anywhere else http would let whoever sits on the way become
 * the issuer; allowHttp is for networks that protect what they carry, such as a service mesh.
 */
export function parseURL(what: string, text: string, allowHttp: boolean): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new Error(`${what} is not an absolute URL`)
  }
  if (url.username !== '' || url.password !== '') throw new Error(`${what} holds a user name`)
  if (text.includes('#')) throw new Error(`${what} has a fragment`)
  const http = url.protocol === 'http:' && (allowHttp || isLoopback(url.hostname))
  if (url.protocol !== 'https:' && !http) throw new Error(`${what} is not https; http is for loopback hosts, or needs allowHttp`)
  return url
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.[0-9]+\.[0-9]+\.[0-9]+$/.test(host)
}
