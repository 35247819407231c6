// What every client does with a server, in the same words as scenario_test.go's
// Go client: one event per step, with the step's value or its error.
import { emit } from './harness.mjs';

const LOG_LEVEL = 'io.modelcontextprotocol/logLevel';

/** What a client is asked to do: the URL, the token or credentials, the tag of this run. */
export const config = JSON.parse(process.env.CLIENT_CONFIG ?? '{}');

/** Arrived counts what arrives by name, and lets a step wait for it. */
class Arrivals {
    #seen = new Set();
    #waiting = new Map();

    add(name) {
        this.#seen.add(name);
        this.#waiting.get(name)?.();
    }

    async wait(...names) {
        for (const name of names) {
            if (this.#seen.has(name)) continue;
            await new Promise((resolve, reject) => {
                const timer = setTimeout(() => reject(new Error(`did not arrive: ${name}`)), 15_000);
                this.#waiting.set(name, () => (clearTimeout(timer), resolve()));
            });
        }
        return names;
    }
}

export const arrivals = new Arrivals();

/** Answers of the user and of the model, for every client. */
export const answers = {
    elicit: () => ({ action: 'accept', content: { color: 'blue' } }),
    sample: ({ params }) => ({
        model: 'parrot',
        role: 'assistant',
        content: { type: 'text', text: [params.messages[0].content].flat()[0].text }
    })
};

async function step(name, run) {
    try {
        emit({ step: name, value: await run() });
    } catch (error) {
        emit({ step: name, error: { code: error.code ?? 0, message: String(error.message) } });
    }
}

/**
 * Runs the scenario. A peer has: version, callTool(params, options), the list, read,
 * get and complete methods of the SDK's client, subscribe(uri), listChanged(), close().
 */
export async function scenario(peer) {
    const { client, callTool } = peer;
    const { tag } = config;
    const modern = peer.version >= '2026';
    const call = async (name, args = {}, options = {}, meta) => {
        const params = { name, arguments: args, ...(meta && { _meta: meta }) };
        const result = await callTool(params, { timeout: 20_000, ...options });
        if (result.isError) throw new Error(`tool error: ${result.content[0].text}`);
        return result.content[0].text;
    };
    const read = async uri => (await client.readResource({ uri })).contents[0].text;
    const prompt = async name => (await client.getPrompt({ name, arguments: { name: 'ada' } })).messages[0].content.text;
    const complete = async name => {
        const ref = { type: 'ref/prompt', name };
        return (await client.complete({ ref, argument: { name: 'name', value: 'a' } })).completion.values;
    };
    const slow = (key, hold, onheld, signal) => {
        const progress = [];
        const onprogress = event => {
            progress.push(event.progress);
            if (event.progress === 1) onheld();
        };
        const text = call('slow', { key, steps: 3, hold }, { onprogress, signal });
        return text.then(value => ({ text: value, progress }));
    };

    await step('version', () => peer.version);
    await step('tools', async () => (await client.listTools()).tools.map(tool => tool.name).sort());
    await step('resources', async () => (await client.listResources()).resources.map(each => each.uri).sort());
    await step('templates', async () =>
        (await client.listResourceTemplates()).resourceTemplates.map(each => each.uriTemplate)
    );
    await step('prompts', async () => (await client.listPrompts()).prompts.map(each => each.name).sort());
    await step('echo', () => call('echo', { text: `hällo "${tag}"` }));
    await step('add', () => call('add', { a: 2, b: 3 }));
    await step('read', () => read('test://a'));
    await step('read template', () => read('test://b/7'));
    await step('read hidden', () => read('test://hidden'));
    await step('prompt', () => prompt('greet'));
    await step('prompt secret', () => prompt('secret'));
    await step('complete', () => complete('greet'));
    await step('complete secret', () => complete('secret'));
    await step('progress', () => slow(`${tag} progress`, false, () => {}));
    await step('cancel', async () => {
        const abort = new AbortController();
        const pending = slow(`${tag} cancel`, true, () => abort.abort('enough'), abort.signal);
        return pending.then(
            () => 'finished',
            () => 'cancelled'
        );
    });
    await step('admin', () => call('admin'));
    await step('unknown', () => call('no_such_tool'));
    if (peer.asks) {
        await step('ask', () => call('ask'));
        await step('sample', () => call('sample'));
    }
    if (peer.follows) {
        await step('subscribe', () => peer.subscribe('test://a'));
        await step('subscribe hidden', () => peer.subscribe('test://hidden'));
        if (!modern) await step('log level', async () => (await client.setLoggingLevel('info'), 'set'));
        await step('notify', async () => {
            await call('notify', { tag }, {}, modern ? { [LOG_LEVEL]: 'info' } : undefined);
            return arrivals.wait('updated test://a', 'tools changed', `notified ${tag}`);
        });
    }
    if (peer.resumes) {
        await step('resume', () => {
            const key = `${tag} resume`;
            const release = () => call('release', { key, cut: true }).catch(error => emit({ fault: String(error) }));
            return slow(key, true, release);
        });
    }
    await step('close', async () => (await peer.close(), 'closed'));
}
