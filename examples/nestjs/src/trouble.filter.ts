import { type ArgumentsHost, Catch, type ExceptionFilter, Logger } from '@nestjs/common';
import type { Response } from 'express';
import { Trouble } from './sessions.js';

/** Trouble is never a logout: the browser keeps its cookie and tries again. */
@Catch(Trouble)
export class TroubleFilter implements ExceptionFilter<Trouble> {
  readonly #log = new Logger('Sessions');

  catch(err: Trouble, host: ArgumentsHost): void {
    this.#log.error(err.message);
    const res = host.switchToHttp().getResponse<Response>();
    res.set('Retry-After', '1').status(503).json({ error: 'temporarily_unavailable' });
  }
}
