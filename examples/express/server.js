// Starts the application. Any number of processes can run side by side: they
// share nothing, and keep nothing about sessions.

import { fileURLToPath } from 'node:url';
import { createVerifier } from '@authapi/verify';
import express from 'express';
import { ownPagesOnly, routes, trouble } from './app.js';
import { refreshCookie } from './cookie.js';
import { moveAlong } from './moving.js';
import { sessionsAt } from './sessions.js';
import { usersFrom } from './users.js';

// What is not set is that of the service's demo, on this machine.
const {
  PORT = '3000',
  ORIGIN = `http://localhost:${PORT}`, // of the front end, as browsers see it
  ISSUER = 'http://localhost:8080',
  CLIENT_ID = 'app',
  CLIENT_SECRET = 'app-secret',
  USERS_FILE = new URL('users.json', import.meta.url),
  REDIS_URL, // of the old sessions, for the time of the move
  SESSION_SECRET, // theirs
} = process.env;

const verifier = createVerifier({
  issuer: ISSUER,
  audience: ISSUER,
  client: { id: CLIENT_ID, secret: CLIENT_SECRET },
  onTrouble: (err) => console.error(err.message),
});

const sessions = sessionsAt({ issuer: ISSUER, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET });
const cookie = refreshCookie(ORIGIN);

const app = express();
// 'trust proxy' stays off: nothing here believes X-Forwarded-*. If you need
// req.ip, set it to your proxy's address, and never to true: with that, anybody
// can make up theirs.
app.disable('x-powered-by');
if (REDIS_URL) app.post('/refresh', ownPagesOnly, moveAlong({ sessions, cookie, redisURL: REDIS_URL, secret: SESSION_SECRET }));
app.use(routes({ verifier, sessions, cookie, users: usersFrom(USERS_FILE) }));
app.get('/readyz', (req, res) => res.sendStatus(verifier.isReady ? 200 : 503));
app.use(express.static(fileURLToPath(new URL('public', import.meta.url))));
app.use(trouble);

const server = app.listen(PORT, () => console.log(ORIGIN));
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    server.close(() => process.exit());
    setTimeout(() => process.exit(), 5000); // a connection that says nothing does not hold it up
  });
}
