// The client of the token service: sessionsAt(...) gives start, refresh and end
// of a session, and what concerns all sessions of a user.
//
// A call fails in one of two ways. Refused: the session is over, its user must
// log in. Trouble: nobody knows, and nothing is lost; keep what you have and try
// again. Whatever is not known to be a refusal is trouble.

export class Refused extends Error {}
export class Trouble extends Error {}

/** @param timeout milliseconds for one attempt */
export function sessionsAt({ issuer, clientId, clientSecret, timeout = 2000 }) {
  // Both are encoded first (RFC 6749, section 2.3.1): a secret may hold a colon.
  const credentials = [clientId, clientSecret].map(encodeURIComponent).join(':');
  const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;

  async function call(method, path, body, { wants = 'nothing', attempts = 2, headers = { authorization } } = {}) {
    let status, answer;
    try {
      const response = await fetch(issuer + path, {
        method,
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        redirect: 'error', // would take the secret elsewhere
        signal: AbortSignal.timeout(timeout),
      });
      status = response.status;
      answer = status === 204 ? {} : await response.json();
    } catch (cause) {
      if (attempts > 1) return call(method, path, body, { wants, attempts: attempts - 1, headers });
      throw new Trouble('the token service does not answer', { cause });
    }
    if (wants === 'tokens' ? status === 200 && answer?.refresh_token : status === 204) return answer;
    if (status === 401 && answer?.error === 'invalid_grant') throw new Refused(answer.error_description);
    throw new Trouble(`the token service says ${status} ${answer?.error}`);
  }

  return {
    /**
     * Begins a session: {access_token, expires_in, refresh_token, refresh_expires_in, ...}.
     * There is one attempt, since a second could begin a second session.
     */
    start: (sub, { roles, authTime } = {}) =>
      call('POST', '/sessions', { sub, roles, auth_time: authTime?.toISOString(), amr: ['pwd'] }, {
        wants: 'tokens',
        attempts: 1,
      }),

    /** Trades a refresh token for its successor. With the same key that is always the same one. */
    refresh: (token, key) =>
      call('POST', '/refresh', { refresh_token: token }, {
        wants: 'tokens',
        headers: key ? { authorization, 'idempotency-key': key } : { authorization },
      }),

    /** Ends the session of a refresh token, whether or not it has ended already. The token is proof enough. */
    end: (token) => call('POST', '/logout', { refresh_token: token }, { headers: {} }),

    /** Ends all sessions of a user. */
    endAll: (sub) => call('DELETE', `/users/${encodeURIComponent(sub)}/sessions`),

    /** Replaces a user's roles, from the next refresh of each session on. */
    setRoles: (sub, roles) => call('PUT', `/users/${encodeURIComponent(sub)}/roles`, { roles }),
  };
}
