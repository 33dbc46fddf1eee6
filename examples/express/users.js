// The application's users: whose password is right. The table is a file here,
// and would be in your database.

import { scrypt as scryptWithCallback, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const scrypt = promisify(scryptWithCallback);

/** Reads a list of {id, username, roles, password}; a password is scrypt:N:r:p:salt:hash. */
export function usersFrom(file) {
  const users = new Map(JSON.parse(readFileSync(file, 'utf8')).map((user) => [user.username, user]));
  const [anybody] = users.values();

  return {
    /** The user with this name and password, or undefined. */
    async check(username, password) {
      if (typeof username !== 'string' || typeof password !== 'string') return undefined;
      const user = users.get(username);
      // A name that nobody has takes as long, or the clock would tell which exist.
      const right = await matches(password, (user ?? anybody).password);
      return right ? user : undefined;
    },
  };
}

async function matches(password, stored) {
  const [, N, r, p, salt, hash] = stored.split(':');
  const expected = Buffer.from(hash, 'base64url');
  const cost = { N: Number(N), r: Number(r), p: Number(p) };
  return timingSafeEqual(expected, await scrypt(password, Buffer.from(salt, 'base64url'), expected.length, cost));
}
