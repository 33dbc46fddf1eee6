// For the time of the move: whoever comes with a live session of express-session
// gets one of the token service in its place, and notices nothing. When the
// longest of the old sessions has expired, delete this file.

import { RedisStore } from 'connect-redis';
import type { RequestHandler } from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import type { RefreshCookie } from './refresh-cookie.js';
import { type Sessions, Trouble } from './sessions.js';

declare module 'express-session' {
  interface SessionData {
    user: { id: number; role: string };
    since: string;
  }
}

/** Goes before POST /refresh. express-session is configured as it was. */
export function moveAlong(sessions: Sessions, cookie: RefreshCookie, redisURL: string, secret: string): RequestHandler {
  const redis = createClient({ url: redisURL, disableOfflineQueue: true });
  redis.on('error', (err) => console.error(`old sessions: ${err.message}`));
  redis.connect();
  const store = new RedisStore({ client: redis, prefix: 'sess:' });
  const old = session({ store, name: 'sid', secret, resave: false, saveUninitialized: false });

  return (req, res, next) => {
    if (cookie.read(req)) return next(); // has moved
    old(req, res, (err) => {
      if (err) return next(new Trouble('the old sessions cannot be read'));
      if (!req.session.user) return next();
      move(req.session.user).catch(next);
    });

    async function move(user: { id: number; role: string }): Promise<void> {
      const tokens = await sessions.start(String(user.id), {
        roles: [user.role],
        authTime: new Date(req.session.since ?? '2000-01-01'), // not now: nobody has typed a password
      });
      await store.destroy(req.sessionID);
      res.clearCookie('sid');
      res.json(cookie.hand(res, tokens));
    }
  };
}
