// What the readers with a TypeScript SDK share: both versions' servers take a Request and
// give a Response, and both versions' clients fetch, so neither needs a socket.
import { lists, serve, view } from './frames.mjs';

export { view };

/** A result for each request that has an object or a list. */
export const results = {
    'tools/list': { tools: [] },
    'tools/call': { content: [] },
    'prompts/list': { prompts: [] },
    'prompts/get': { messages: [] },
    'resources/list': { resources: [] },
    'resources/templates/list': { resourceTemplates: [] },
    'resources/read': { contents: [] },
    'resources/subscribe': {},
    'resources/unsubscribe': {},
    'completion/complete': { completion: { values: [] } }
};

const turn = () => new Promise(resolve => setImmediate(resolve));
const after = ms => new Promise(resolve => setTimeout(resolve, ms));

/** Gives each body to a server, and answers with the calls that its handlers got. */
export function serveServer(handle) {
    return async ({ headers }, body) => {
        const calls = [];
        // Its answer is a stream that stays open.
        if (headers['Mcp-Method'] === 'subscriptions/listen') return { calls };
        const request = new Request('http://127.0.0.1/mcp', { method: 'POST', headers, body });
        const { response, close } = await handle(request, calls);
        // Of a request that is cancelled in its own batch, no answer ever comes.
        const status = await Promise.race([
            Promise.resolve(response).then(async response => {
                await Promise.race([response.text(), after(200)]);
                return response.status;
            }),
            after(200)
        ]);
        await turn(); // handlers of notifications are called when the answer has been given
        await close();
        return { status: status ?? 0, calls };
    };
}

/** How a client is made to send a request. */
const asked = {
    'tools/list': (client, options) => client.listTools({}, options),
    'prompts/list': (client, options) => client.listPrompts({}, options),
    'resources/list': (client, options) => client.listResources({}, options),
    'resources/templates/list': (client, options) => client.listResourceTemplates({}, options),
    'resources/read': (client, options) => client.readResource({ uri: 'file:///asked' }, options)
};

/**
 * Serves frames: what is an answer is given to a client that asks for it, which calls tools
 * with the one function; anything else is given to the other.
 */
export async function serveClient(Client, Transport, callTool, otherwise) {
    const methods = { ...asked, 'tools/call': callTool };
    let client, answer, asks, served;

    const reply = (id, result) => Response.json({ jsonrpc: '2.0', id, result });

    // The server that the client sees.
    async function fetch(_, init) {
        if (init?.method !== 'POST') return new Response(null, { status: 405 });
        const message = JSON.parse(init.body);
        if (message.method === 'initialize') {
            return reply(message.id, {
                protocolVersion: '2025-06-18',
                capabilities: { tools: {}, prompts: {}, resources: {} },
                serverInfo: { name: 'gateway', version: '1.0.0' }
            });
        }
        if (!(message.method in methods)) return new Response(null, { status: 202 });
        if (!answer) {
            // It goes on to the next page.
            return reply(message.id, { tools: [], prompts: [], resources: [], resourceTemplates: [], contents: [] });
        }
        const { type, body } = answer;
        answer = undefined;
        return new Response(
            new ReadableStream({
                start(controller) {
                    if (body.length) controller.enqueue(body);
                    controller.close();
                    served();
                }
            }),
            { headers: { 'content-type': type } }
        );
    }

    async function newClient() {
        const made = new Client({ name: 'reader', version: '1.0.0' });
        made.fallbackRequestHandler = async message => {
            asks.push(String(message.method));
            return {};
        };
        made.onerror = () => {};
        await made.connect(new Transport(new URL('http://127.0.0.1/mcp'), { fetch }));
        return made;
    }

    async function readAnswer({ method, id, type }, body) {
        asks = [];
        client ??= await newClient();
        client._requestMessageId = id;
        const unanswered = new AbortController();
        const given = new Promise(resolve => (served = resolve));
        answer = { type, body: new Uint8Array(body) };
        const result = methods[method](client, { signal: unanswered.signal });
        // What was served is read within a few turns of the event loop, or is no answer.
        given.then(async () => {
            for (let i = 0; i < 20; i++) await turn();
            unanswered.abort('unanswered');
        });
        try {
            return { views: [{ messages: [{ lists: lists(await result), asks }] }] };
        } catch (error) {
            return { views: [{ error: String(error?.message ?? error), messages: [{ lists: {}, asks }] }] };
        }
    }

    await serve((question, body) => (question.answer ? readAnswer(question, body) : otherwise(question, body)));
}
