export class Known extends Error {
}
export class LoggedOut extends Known {
reason;
name = 'LoggedOut';
constructor(reason) {
super(reason);
this.reason = reason;
}
}
export class Trouble extends Known {
name = 'Trouble';
wait;
constructor(message, about = {}) {
super(message, about);
this.wait = about.wait || 0;
}
}
export class Refused extends Known {
status;
code;
reason;
name = 'Refused';
constructor(status, code, description, reason) {
super(description);
this.status = status;
this.code = code;
this.reason = reason;
}
}
