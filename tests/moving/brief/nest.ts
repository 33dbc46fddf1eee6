// The same for NestJS. Besides what express.cjs says:
//
//  - connect-redis has exported a class, not a factory, since version 7.
//  - An ES module can import express-session by its default export only: a
//    namespace cannot be called.
//  - The page leaves the module, the guard and the controller to its reader.

import 'reflect-metadata';
import { Controller, Get, HttpCode, Module, Post, Req, Res, UseGuards } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import session from 'express-session';
import { createClient } from 'redis';
import { RedisStore } from 'connect-redis';

class SessionGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    return Boolean(context.switchToHttp().getRequest().session?.user);
  }
}

@Controller()
class AppController {
  @Post('login')
  @HttpCode(200)
  login(@Req() req: any): Promise<object> {
    const user = { id: 1, role: 'user', name: 'Rohit' };
    return new Promise((resolve, reject) => {
      req.session.regenerate((err: unknown) => {
        if (err) return reject(err);
        req.session.user = { id: user.id, role: user.role };
        resolve({ ok: true });
      });
    });
  }

  @Get('me')
  @UseGuards(SessionGuard)
  me(@Req() req: any): object {
    return { user: req.session.user };
  }

  @Post('logout')
  @HttpCode(200)
  logout(@Req() req: any, @Res({ passthrough: true }) res: any): Promise<object> {
    return new Promise((resolve) => {
      req.session.destroy(() => {
        res.clearCookie('sid');
        resolve({ ok: true });
      });
    });
  }
}

@Module({ controllers: [AppController] })
class AppModule {}

async function bootstrap() {
  const app = await NestFactory.create(AppModule);

  const redis = createClient({ url: process.env.REDIS_URL || 'redis://localhost:6379' });
  redis.on('error', (err) => console.error('redis:', err.message));
  await redis.connect();

  app.use(session({
    store: new RedisStore({ client: redis, prefix: 'sess:' }),
    name: 'sid',
    secret: process.env.SESSION_SECRET || 'change-me',
    resave: false,
    saveUninitialized: false,
    cookie: {
      httpOnly: true,
      secure: false,            // set true behind HTTPS
      sameSite: 'lax',
      maxAge: 1000 * 60 * 30,
    },
  }));

  await app.listen(process.env.PORT || 3000);
}
bootstrap();
