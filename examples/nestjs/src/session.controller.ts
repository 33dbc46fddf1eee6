import { Auth, Requires } from '@authapi/verify/nestjs';
import type { Claims } from '@authapi/verify';
import { Body, Controller, Get, HttpCode, Inject, Post, Req, Res, UnauthorizedException } from '@nestjs/common';
import type { Request, Response } from 'express';
import { RefreshCookie } from './refresh-cookie.js';
import { Refused, Sessions } from './sessions.js';
import { Users } from './users.js';

@Controller()
export class SessionController {
  constructor(
    @Inject(Sessions) private readonly sessions: Sessions,
    @Inject(RefreshCookie) private readonly cookie: RefreshCookie,
    @Inject(Users) private readonly users: Users,
  ) {}

  @Post('login')
  @HttpCode(200)
  async login(@Body() body: any, @Req() req: Request, @Res({ passthrough: true }) res: Response) {
    const user = await this.users.check(body?.username, body?.password);
    if (!user) throw new UnauthorizedException({ error: 'wrong username or password' });
    const tokens = await this.sessions.start(user.id, { roles: user.roles });
    const old = this.cookie.read(req);
    if (old) await this.endIfAlive(old); // what regenerate() did: nobody goes on with what was there before
    return this.cookie.hand(res, tokens);
  }

  @Get('me')
  @Requires()
  me(@Auth() { sub, roles }: Claims) {
    return { user: { id: sub, roles } };
  }

  @Post('refresh')
  @HttpCode(200)
  async refresh(@Req() req: Request, @Res({ passthrough: true }) res: Response) {
    const token = this.cookie.read(req);
    if (!token) throw new UnauthorizedException({ error: 'login_required' });
    try {
      return this.cookie.hand(res, await this.sessions.refresh(token, req.get('Idempotency-Key')));
    } catch (err) {
      if (!(err instanceof Refused)) throw err;
      this.cookie.clear(res);
      throw new UnauthorizedException({ error: 'login_required' });
    }
  }

  @Post('logout')
  @HttpCode(200)
  async logout(@Req() req: Request, @Res({ passthrough: true }) res: Response) {
    const token = this.cookie.read(req);
    if (token) await this.endIfAlive(token); // if that fails the cookie stays, so that the user can try again
    this.cookie.clear(res);
    return { ok: true };
  }

  private async endIfAlive(token: string): Promise<void> {
    await this.sessions.end(token).catch((err) => {
      if (!(err instanceof Refused)) throw err;
    });
  }
}
