// What each TypeScript client does with a server that it has to step up for, in the
// same words as stepup_test.go's Go client.
import { emit } from './harness.mjs';
import { Application } from './login.mjs';
import { config } from './scenario.mjs';

export const application = new Application(config.login);

/** Reports every POST to the server, and how it was answered. */
export async function reportingFetch(url, init) {
    const response = await fetch(url, init);
    if (String(url) === config.url && init?.method === 'POST') {
        const { method, params } = JSON.parse(init.body);
        const challenge = response.headers.get('www-authenticate') ?? '';
        emit({ event: 'post', method, name: params?.name ?? '', status: response.status, challenge });
    }
    return response;
}

async function step(name, run) {
    try {
        emit({ step: name, value: await run() });
    } catch (error) {
        emit({ step: name, error: { code: error.code ?? 0, message: String(error.message) } });
    }
}

/** Runs the scenario. connect() makes a new connection, authorized(run) is Application.authorized. */
export async function stepUp({ connect, authorized, callTool, complete, close }) {
    const call = (name, args = {}) => authorized(async () => (await callTool({ name, arguments: args })).content[0].text);
    await step('connect', () => authorized(connect));
    await step('echo', () => call('echo', { text: 'before' }));
    await step('add', () => call('add', { a: 2, b: 3 }));
    await step('echo again', () => call('echo', { text: 'after' }));
    await step('admin', () => call('admin'));
    await step('complete', () =>
        authorized(async () => {
            const ref = { type: 'ref/prompt', name: 'greet' };
            return (await complete({ ref, argument: { name: 'name', value: 'a' } })).completion.values;
        })
    );
    await step('close', async () => (await close(), 'closed'));
    process.exit(0);
}
