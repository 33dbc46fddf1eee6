// The cookie that keeps a browser's refresh token; cookie.js of the Express
// example says why it is as it is.

import type { CookieOptions, Request, Response } from 'express';
import type { Tokens } from './sessions.js';

export class RefreshCookie {
  readonly #name: string;
  readonly #attributes: CookieOptions;
  readonly #shape: RegExp;

  /** @param origin what the browser's address bar shows: https://shop.example.com */
  constructor(origin: string) {
    const { protocol, hostname } = new URL(origin);
    const secure = protocol === 'https:';
    if (!secure && hostname !== 'localhost') throw new Error(`${origin}: cookies need https, or localhost`);
    this.#name = secure ? '__Host-refresh' : 'refresh';
    this.#attributes = { httpOnly: true, secure, sameSite: 'strict', path: '/' };
    this.#shape = new RegExp(`^${this.#name}=([\\w-]{1,256})$`);
  }

  /** The token of a request, or undefined. What cannot be one is as good as none. */
  read(req: Request): string | undefined {
    const pairs = (req.headers.cookie ?? '').split(/; */);
    return pairs.map((pair) => this.#shape.exec(pair)?.[1]).find(Boolean);
  }

  /** Gives a browser the tokens of its session: one to its cookie, and the rest, which is returned, to its scripts. */
  hand(res: Response, { access_token, expires_in, refresh_token, refresh_expires_in }: Tokens) {
    res.cookie(this.#name, refresh_token, { ...this.#attributes, maxAge: refresh_expires_in * 1000 });
    res.set('Cache-Control', 'no-store');
    return { access_token, expires_in };
  }

  clear(res: Response): void {
    res.clearCookie(this.#name, this.#attributes);
  }
}
