// The application's users: whose password is right. The table is a file of the
// same form as the Express example's, and would be in your database.

import { scrypt, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

export interface User {
  id: string;
  username: string;
  roles: string[];
  password: string; // scrypt:N:r:p:salt:hash
}

export class Users {
  readonly #users: Map<string, User>;
  readonly #anybody: User;

  constructor(file: string | URL) {
    const table: User[] = JSON.parse(readFileSync(file, 'utf8'));
    if (table.length === 0) throw new Error('there are no users');
    this.#users = new Map(table.map((user) => [user.username, user]));
    this.#anybody = table[0];
  }

  /** The user with this name and password, or undefined. */
  async check(username: unknown, password: unknown): Promise<User | undefined> {
    if (typeof username !== 'string' || typeof password !== 'string') return undefined;
    const user = this.#users.get(username);
    // A name that nobody has takes as long, or the clock would tell which exist.
    const right = await matches(password, (user ?? this.#anybody).password);
    return right ? user : undefined;
  }
}

function matches(password: string, stored: string): Promise<boolean> {
  const [, N, r, p, salt, hash] = stored.split(':');
  const expected = Buffer.from(hash, 'base64url');
  const cost = { N: Number(N), r: Number(r), p: Number(p) };
  return new Promise((resolve, reject) => {
    scrypt(password, Buffer.from(salt, 'base64url'), expected.length, cost, (err, key) =>
      err ? reject(err) : resolve(timingSafeEqual(expected, key)));
  });
}
