/** What this package throws on purpose. */
export class Known extends Error {}

/** There is no session, or it is over: the user must log in. */
export class LoggedOut extends Known {
  override name = 'LoggedOut'
  /**
   * Why, if the server says: `expired`, `ended` (by a logout or an administrator),
   * `reused` (somebody else had a copy of the token).
   */
  constructor(readonly reason?: string) {
    super(reason)
  }
}

/** It cannot be told now; the session is as it was. Try again later. */
export class Trouble extends Known {
  override name = 'Trouble'
  /** How long the server asks to wait, in milliseconds; 0 if it does not say. */
  readonly wait: number
  constructor(message: string, about: ErrorOptions & { wait?: number } = {}) {
    super(message, about)
    this.wait = about.wait || 0
  }
}

/** The server refuses what was asked, and asking again is of no use. */
export class Refused extends Known {
  override name = 'Refused'
  /** The error code of the answer, such as `invalid_grant` for a wrong password. */
  constructor(readonly status: number, readonly code: string, description?: string, readonly reason?: string) {
    super(description)
  }
}
