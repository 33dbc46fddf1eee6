// The cookie that keeps a browser's refresh token. No script can read it
// (HttpOnly), no other site's page can make the browser send it (SameSite), and
// with the prefix __Host- no neighbouring subdomain can plant one of its own.
//
// A browser takes that prefix over https only, and not every browser and tool
// counts http://localhost as safe. So there, and nowhere else, the cookie has a
// plain name. The origin is configured: a header that a proxy sets, or somebody
// who goes round it, must not decide whether cookies are safe.

/** @param origin what the browser's address bar shows: https://shop.example.com */
export function refreshCookie(origin) {
  const { protocol, hostname } = new URL(origin);
  const secure = protocol === 'https:';
  if (!secure && hostname !== 'localhost') throw new Error(`${origin}: cookies need https, or localhost`);
  const name = secure ? '__Host-refresh' : 'refresh';
  const attributes = { httpOnly: true, secure, sameSite: 'strict', path: '/' };
  const shape = new RegExp(`^${name}=([\\w-]{1,256})$`);

  return {
    /** The token of a request, or undefined. What cannot be one is as good as none. */
    read(req) {
      const pairs = (req.headers.cookie ?? '').split(/; */);
      return pairs.map((pair) => shape.exec(pair)?.[1]).find(Boolean);
    },
    /** Keeps the token of a session for as long as it can be used. */
    write(res, tokens) {
      res.cookie(name, tokens.refresh_token, { ...attributes, maxAge: tokens.refresh_expires_in * 1000 });
    },
    clear: (res) => res.clearCookie(name, attributes),
  };
}
