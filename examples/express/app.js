// The application: log in, who am I, refresh, log out. Its front end runs in
// browsers on the same origin, holds the access token in memory, and never sees
// the refresh token (see cookie.js).

import { claims, guard } from '@authapi/verify/express';
import express from 'express';
import { Refused, Trouble } from './sessions.js';

/**
 * @param verifier knows good access tokens
 * @param sessions the client of the token service (sessions.js)
 * @param cookie where a browser's refresh token is kept (cookie.js)
 * @param users whose passwords are right (users.js)
 */
export function routes({ verifier, sessions, cookie, users }) {
  const app = express.Router();
  const post = [ownPagesOnly, express.json({ limit: '4kb' })];

  app.post('/login', post, async (req, res) => {
    const user = await users.check(req.body?.username, req.body?.password);
    if (!user) return res.status(401).json({ error: 'wrong username or password' });
    const tokens = await sessions.start(user.id, { roles: user.roles });
    const old = cookie.read(req);
    if (old) await endIfAlive(old); // what regenerate() did: nobody goes on with what was there before
    hand(res, cookie, tokens);
  });

  app.get('/me', guard(verifier), (req, res) => {
    const { sub, roles } = claims(req);
    res.json({ user: { id: sub, roles } });
  });

  app.post('/refresh', post, async (req, res) => {
    const token = cookie.read(req);
    if (!token) return res.status(401).json({ error: 'login_required' });
    try {
      hand(res, cookie, await sessions.refresh(token, req.get('Idempotency-Key')));
    } catch (err) {
      if (!(err instanceof Refused)) throw err;
      cookie.clear(res);
      res.status(401).json({ error: 'login_required' });
    }
  });

  app.post('/logout', post, async (req, res) => {
    const token = cookie.read(req);
    if (token) await endIfAlive(token); // if that fails the cookie stays, so that the user can try again
    cookie.clear(res);
    res.json({ ok: true });
  });

  async function endIfAlive(token) {
    await sessions.end(token).catch((err) => {
      if (!(err instanceof Refused)) throw err;
    });
  }

  return app;
}

/** Gives a browser the tokens of its session: one to its scripts, one to its cookie. */
export function hand(res, cookie, tokens) {
  cookie.write(res, tokens);
  res.set('Cache-Control', 'no-store').json({ access_token: tokens.access_token, expires_in: tokens.expires_in });
}

// Trouble is never a logout: the browser keeps its cookie and tries again.
export function trouble(err, req, res, next) {
  if (!(err instanceof Trouble)) return next(err);
  console.error(err.message);
  res.set('Retry-After', '1').status(503).json({ error: 'temporarily_unavailable' });
}

// Against requests that another site makes in the user's name. A page there
// cannot send a header of its own without being asked first, and browsers say
// where a request comes from; a subdomain is another site, too.
export function ownPagesOnly(req, res, next) {
  const from = req.get('Sec-Fetch-Site') ?? 'same-origin';
  if (req.get('X-Requested-With') && from === 'same-origin') return next();
  res.status(403).json({ error: 'cross_site_request' });
}
