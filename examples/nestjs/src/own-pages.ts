import type { NextFunction, Request, Response } from 'express';

// Against requests that another site makes in the user's name. A page there
// cannot send a header of its own without being asked first, and browsers say
// where a request comes from; a subdomain is another site, too.
export function ownPagesOnly(req: Request, res: Response, next: NextFunction): void {
  const from = req.get('Sec-Fetch-Site') ?? 'same-origin';
  if (req.get('X-Requested-With') && from === 'same-origin') return next();
  res.status(403).json({ error: 'cross_site_request' });
}
