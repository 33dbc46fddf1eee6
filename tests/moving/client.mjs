// Calls the sessions client of an example as an application would:
//
//     node client.mjs express|nestjs <issuer> <id> <secret> [<method> <arguments in JSON>]...
//
// and prints for each call a line with what it returns, or the name of the error.

const [example, issuer, id, secret, ...calls] = process.argv.slice(2);

const examples = {
  async express() {
    const { sessionsAt, ...errors } = await import('../../examples/express/sessions.js');
    return { sessions: sessionsAt({ issuer, clientId: id, clientSecret: secret }), errors };
  },
  async nestjs() {
    const { Sessions, ...errors } = await import('../../examples/nestjs/dist/sessions.js');
    return { sessions: new Sessions({ issuer, client: { id, secret } }), errors };
  },
};

const { sessions, errors } = await examples[example]();
while (calls.length > 0) {
  const [method, args] = calls.splice(0, 2);
  try {
    console.log(JSON.stringify(await sessions[method](...JSON.parse(args))));
  } catch (err) {
    const kind = Object.entries(errors).find(([, type]) => err instanceof type);
    if (!kind) throw err;
    console.log(JSON.stringify({ error: kind[0] }));
  }
}
