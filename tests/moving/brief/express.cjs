// The application that people have today: sessions in Redis with express-session
// and connect-redis, as a page of advice gives it. It is here to be moved from
// and to be measured against, so it is changed only as far as it must be to run:
//
//  - connect-redis 9 has no default export: as printed, the program ends with
//    "RedisStore is not a constructor". The class is a named export now.
//  - The port is taken from the environment, since two processes run.
//  - Without a listener for errors the Redis client ends the process when Redis
//    hangs up.

const express = require('express');
const session = require('express-session');
const { createClient } = require('redis');
const { RedisStore } = require('connect-redis');

const app = express();
app.use(express.json());

// 1) Redis client
const redis = createClient({ url: process.env.REDIS_URL || 'redis://localhost:6379' });
redis.on('error', (err) => console.error('redis:', err.message));
redis.connect();

// 2) Session store
const store = new RedisStore({ client: redis, prefix: 'sess:' });

// 3) Session middleware
app.use(session({
  store,
  name: 'sid',                    // cookie name
  secret: process.env.SESSION_SECRET || 'change-me',
  resave: false,
  saveUninitialized: false,
  cookie: {
    httpOnly: true,
    secure: false,                // true behind HTTPS / proxy
    sameSite: 'lax',
    maxAge: 1000 * 60 * 30        // 30 minutes
  },
}));

// 4) Login: create session (rotate to prevent fixation)
app.post('/login', async (req, res) => {
  // fake auth
  const user = { id: 1, role: 'user', name: 'Rohit' };
  req.session.regenerate(err => {
    if (err) return res.status(500).send('error');
    req.session.user = { id: user.id, role: user.role };
    res.json({ ok: true });
  });
});

// 5) Guard middleware
function auth(req, res, next) {
  if (req.session?.user) return next();
  res.status(401).json({ error: 'unauthorized' });
}

// 6) Protected route
app.get('/me', auth, (req, res) => {
  res.json({ user: req.session.user });
});

// 7) Logout: destroy + clear cookie
app.post('/logout', (req, res) => {
  req.session.destroy(() => {
    res.clearCookie('sid');
    res.json({ ok: true });
  });
});

const port = process.env.PORT || 3000;
app.listen(port, () => console.log(`http://localhost:${port}`));
