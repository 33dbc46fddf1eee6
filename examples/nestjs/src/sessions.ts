// The client of the token service. It is the sessions.js of the Express example
// as a class, for injection.
//
// A call fails in one of two ways. Refused: the session is over, its user must
// log in. Trouble: nobody knows, and nothing is lost; keep what you have and try
// again. Whatever is not known to be a refusal is trouble.

export class Refused extends Error {}
export class Trouble extends Error {}

export interface Tokens {
  access_token: string;
  expires_in: number; // seconds, as below
  refresh_token: string;
  refresh_expires_in: number;
}

export interface SessionsOptions {
  issuer: string;
  client: { id: string; secret: string };
  /** Milliseconds for one attempt. */
  timeout?: number;
}

interface Request {
  wants?: 'tokens' | 'nothing';
  body?: object;
  headers?: Record<string, string>;
  attempts?: number;
}

export class Sessions {
  readonly #issuer: string;
  readonly #timeout: number;
  readonly #credentials: { authorization: string };

  constructor({ issuer, client, timeout = 2000 }: SessionsOptions) {
    this.#issuer = issuer;
    this.#timeout = timeout;
    // Both are encoded first (RFC 6749, section 2.3.1): a secret may hold a colon.
    const pair = [client.id, client.secret].map(encodeURIComponent).join(':');
    this.#credentials = { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
  }

  /** Begins a session. There is one attempt, since a second could begin a second session. */
  start(sub: string, { roles, authTime }: { roles?: string[]; authTime?: Date } = {}): Promise<Tokens> {
    return this.#call('POST', '/sessions', {
      wants: 'tokens',
      body: { sub, roles, auth_time: authTime?.toISOString(), amr: ['pwd'] },
      attempts: 1,
    });
  }

  /** Trades a refresh token for its successor. With the same key that is always the same one. */
  refresh(token: string, key?: string): Promise<Tokens> {
    return this.#call('POST', '/refresh', {
      wants: 'tokens',
      body: { refresh_token: token },
      headers: key ? { ...this.#credentials, 'idempotency-key': key } : this.#credentials,
    });
  }

  /** Ends the session of a refresh token, whether or not it has ended already. The token is proof enough. */
  end(token: string): Promise<void> {
    return this.#call('POST', '/logout', { body: { refresh_token: token }, headers: {} });
  }

  /** Ends all sessions of a user. */
  endAll(sub: string): Promise<void> {
    return this.#call('DELETE', `/users/${encodeURIComponent(sub)}/sessions`);
  }

  /** Replaces a user's roles, from the next refresh of each session on. */
  setRoles(sub: string, roles: string[]): Promise<void> {
    return this.#call('PUT', `/users/${encodeURIComponent(sub)}/roles`, { body: { roles } });
  }

  async #call(method: string, path: string, request: Request = {}): Promise<any> {
    const { wants, body, headers = this.#credentials, attempts = 2 } = request;
    let status, answer;
    try {
      const response = await fetch(this.#issuer + path, {
        method,
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        redirect: 'error', // would take the secret elsewhere
        signal: AbortSignal.timeout(this.#timeout),
      });
      status = response.status;
      answer = status === 204 ? {} : await response.json();
    } catch (cause) {
      if (attempts > 1) return this.#call(method, path, { ...request, attempts: attempts - 1 });
      throw new Trouble('the token service does not answer', { cause });
    }
    if (wants === 'tokens' ? status === 200 && answer?.refresh_token : status === 204) return answer;
    if (status === 401 && answer?.error === 'invalid_grant') throw new Refused(answer.error_description);
    throw new Trouble(`the token service says ${status} ${answer?.error}`);
  }
}
