import type { Verifier } from '@authapi/verify';
import { VERIFIER } from '@authapi/verify/nestjs';
import { Controller, Get, Inject, ServiceUnavailableException } from '@nestjs/common';

@Controller('readyz')
export class ReadinessController {
  constructor(@Inject(VERIFIER) private readonly verifier: Verifier) {}

  @Get()
  ready(): string {
    if (!this.verifier.isReady) throw new ServiceUnavailableException();
    return 'OK';
  }
}
