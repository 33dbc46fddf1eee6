// Starts the application. Any number of processes can run side by side: they
// share nothing, and keep nothing about sessions.

import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';

const app = await NestFactory.create<NestExpressApplication>(AppModule, { bodyParser: false, logger: ['error', 'warn'] });
app.useBodyParser('json', { limit: '4kb' }); // and no forms, which other sites could send
// 'trust proxy' stays off: nothing here believes X-Forwarded-*. If you need
// req.ip, set it to your proxy's address, and never to true: with that, anybody
// can make up theirs.
app.disable('x-powered-by');
app.enableShutdownHooks();
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => setTimeout(() => process.exit(), 5000)); // a connection that says nothing does not hold it up
}
await app.listen(process.env.PORT ?? 3000);
