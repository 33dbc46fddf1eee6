// For the time of the move: whoever comes with a live session of express-session
// gets one of the token service in its place, and notices nothing. When the
// longest of the old sessions has expired, delete this file.

import { RedisStore } from 'connect-redis';
import session from 'express-session';
import { createClient } from 'redis';
import { hand } from './app.js';
import { Trouble } from './sessions.js';

/** Goes before POST /refresh. express-session is configured as it was. */
export function moveAlong({ sessions, cookie, redisURL, secret }) {
  const redis = createClient({ url: redisURL, disableOfflineQueue: true });
  redis.on('error', (err) => console.error(`old sessions: ${err.message}`));
  redis.connect();
  const store = new RedisStore({ client: redis, prefix: 'sess:' });
  const old = session({ store, name: 'sid', secret, resave: false, saveUninitialized: false });

  async function move(req, res) {
    const { user, since } = req.session;
    const tokens = await sessions.start(String(user.id), {
      roles: [user.role],
      authTime: new Date(since ?? '2000-01-01'), // not now: nobody has typed a password
    });
    await store.destroy(req.sessionID);
    res.clearCookie('sid');
    hand(res, cookie, tokens);
  }

  return (req, res, next) => {
    if (cookie.read(req)) return next(); // has moved
    old(req, res, (err) => {
      if (err) return next(new Trouble('the old sessions cannot be read'));
      if (!req.session.user) return next();
      move(req, res).catch(next);
    });
  };
}
