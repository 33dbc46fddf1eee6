import { AuthModule } from '@authapi/verify/nestjs';
import { type MiddlewareConsumer, Module, type NestModule, RequestMethod } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { moveAlong } from './moving.js';
import { ownPagesOnly } from './own-pages.js';
import { ReadinessController } from './readiness.controller.js';
import { RefreshCookie } from './refresh-cookie.js';
import { SessionController } from './session.controller.js';
import { Sessions } from './sessions.js';
import { TroubleFilter } from './trouble.filter.js';
import { Users } from './users.js';

// What is not set is that of the service's demo, on this machine.
const {
  PORT = '3000',
  ORIGIN = `http://localhost:${PORT}`, // of the front end, as browsers see it
  ISSUER: issuer = 'http://localhost:8080',
  CLIENT_ID = 'app',
  CLIENT_SECRET = 'app-secret',
  USERS_FILE = new URL('../../express/users.json', import.meta.url),
  REDIS_URL, // of the old sessions, for the time of the move
  SESSION_SECRET = '', // theirs
} = process.env;

const client = { id: CLIENT_ID, secret: CLIENT_SECRET };
const sessions = new Sessions({ issuer, client });
const cookie = new RefreshCookie(ORIGIN);

@Module({
  imports: [AuthModule.forRoot({ issuer, audience: issuer, client, onTrouble: (err) => console.error(err.message) })],
  controllers: [SessionController, ReadinessController],
  providers: [
    { provide: Sessions, useValue: sessions },
    { provide: RefreshCookie, useValue: cookie },
    { provide: Users, useFactory: () => new Users(USERS_FILE) },
    { provide: APP_FILTER, useClass: TroubleFilter },
  ],
})
export class AppModule implements NestModule {
  configure(consumer: MiddlewareConsumer): void {
    const post = (path: string) => ({ path, method: RequestMethod.POST });
    consumer.apply(ownPagesOnly).forRoutes(post('login'), post('refresh'), post('logout'));
    if (REDIS_URL) consumer.apply(moveAlong(sessions, cookie, REDIS_URL, SESSION_SECRET)).forRoutes(post('refresh'));
  }
}
