/** One GET request over a connection of its own, in which redirects are not followed. */
import * as http from 'node:http'
import * as https from 'node:https'
import type { TLSSocket } from 'node:tls'

/** Makes the requests, for whoever needs certificates or proxies of their own. */
export type Agent = http.Agent | https.Agent

export interface Get {
  readonly request: http.ClientRequest
  /** Rejects if there is no answer, with a message that quotes nothing of what a server has said. */
  readonly response: Promise<http.IncomingMessage>
}

/** Begins the request. `onSent` is called when there is a connection, just before the request is written to it. */
export function get(url: URL, headers: http.OutgoingHttpHeaders, agent: Agent | undefined, onSent?: () => void): Get {
  const { request } = url.protocol === 'https:' ? https : http
  // Without an agent, a connection is closed after use: one that has lain idle for minutes is often dead.
  const req = request(url, { headers, agent: agent ?? false })
  req.once('socket', (socket) => {
    // Following an issuer is no reason to keep a process running.
    socket.unref()
    const send = () => {
      onSent?.()
      req.end()
    }
    if ((socket as TLSSocket & { secureConnecting?: boolean }).secureConnecting) socket.once('secureConnect', send)
    else if (socket.connecting) socket.once('connect', send)
    else send()
  })
  const response = new Promise<http.IncomingMessage>((resolve, reject) => {
    req.once('response', resolve)
    // It stays, so that an error after the answer does not end the process.
    req.on('error', (error) => reject(new Error(cause(error))))
    req.once('close', () => reject(new Error('no answer')))
  })
  return { request: req, response }
}

/** Says what went wrong between here and the server. The codes are constants of Node and OpenSSL. */
export function cause(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return typeof code === 'string' && /^[A-Z0-9_]+$/.test(code) ? `no answer (${code})` : 'no answer, or none that is HTTP'
}
