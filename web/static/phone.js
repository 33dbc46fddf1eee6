import { generationOf } from './tokens.js';
export class Phone {
    access = '';
    chain = { links: [] };
    thief;
    token = '';
    get present() {
        return this.token !== '';
    }
    get generation() {
        return generationOf(this.token);
    }
    async login(username, password) {
        const answer = await post('/login', { username, password, client_id: 'mobile', device: 'A phone, played by a page' });
        if (answer.status !== 200)
            throw new Error(answer.body.error_description);
        this.chain = { links: [{ by: 'phone', retries: 0 }] };
        this.thief = undefined;
        this.take(answer);
    }
    async refresh() {
        const from = this.generation;
        return this.outcome('phone', from, await post('/refresh', { refresh_token: this.token }, crypto.randomUUID()));
    }
    async refreshTwice() {
        const from = this.generation;
        const key = crypto.randomUUID();
        const lost = await post('/refresh', { refresh_token: this.token }, key);
        const said = this.outcome('phone', from, await post('/refresh', { refresh_token: this.token }, key));
        const link = this.chain.links[from + 1];
        if (this.chain.over || !link)
            return said;
        link.retries++;
        const same = lost.body.refresh_token === this.token;
        return `The first answer was lost. The second holds ${same ? 'the same' : 'another'} token, of generation ${this.generation}.`;
    }
    steal() {
        this.thief = this.token;
        this.chain.stolen = this.generation;
        return `A thief has a copy of generation ${this.generation}.`;
    }
    async thiefRefreshes() {
        if (!this.thief)
            return 'There is no copy yet.';
        const from = generationOf(this.thief);
        return this.outcome('thief', from, await post('/refresh', { refresh_token: this.thief }, crypto.randomUUID()));
    }
    outcome(by, from, answer) {
        const who = by === 'phone' ? 'The phone' : 'The thief';
        if (answer.status === 200) {
            this.chain.links[from + 1] ??= { by, retries: 0 };
            if (by === 'thief') {
                this.thief = answer.body.refresh_token;
                return `The thief was first, and has generation ${from + 1}. The phone does not know yet.`;
            }
            this.take(answer);
            return `The phone has generation ${this.generation}.`;
        }
        const { reason, error_description: why } = answer.body;
        if (answer.status !== 401 || !reason)
            return `${who} is told to wait: ${answer.status} ${why ?? ''}`;
        if (reason === 'reused' && !this.chain.reuse) {
            this.chain.reuse = { by, generation: from };
            this.chain.over = reason;
            return `${who} presented generation ${from}, which was spent. Somebody has a copy, so the session is over, for both.`;
        }
        this.chain.over ??= reason;
        return `${who} is refused: ${why ?? reason}.`;
    }
    take({ body }) {
        this.token = body.refresh_token;
        this.access = body.access_token;
    }
}
async function post(path, body, key) {
    const answer = await fetch(path, {
        method: 'POST',
        credentials: 'omit',
        headers: { 'Content-Type': 'application/json', ...(key ? { 'Idempotency-Key': key } : {}) },
        body: JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
}
