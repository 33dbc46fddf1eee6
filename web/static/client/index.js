export { createAuth } from './auth.js';
export { LoggedOut, Refused, Trouble } from './errors.js';
