// An MCP server on the TypeScript SDK 2.x: 2026-07-28 without sessions, and the
// earlier versions with sessions and an event store, at one URL.
import { randomUUID } from 'node:crypto';
import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import {
    McpServer,
    ResourceTemplate,
    acceptedContent,
    completable,
    createMcpHandler,
    inputRequired,
    inputResponse,
    isLegacyRequest
} from '@modelcontextprotocol/server';
import { z } from 'zod';
import { Events, Gates, emit, listen } from './harness.mjs';

const gates = new Gates();
const sessions = new Map();
const text = value => ({ content: [{ type: 'text', text: value }] });

function newServer({ era }) {
    const server = new McpServer(
        { name: 'ts2', version: '1.0.0' },
        { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } } }
    );
    const subscribed = new Set();
    if (era === 'legacy') {
        server.server.setRequestHandler('resources/subscribe', ({ params }) => (subscribed.add(params.uri), {}));
        server.server.setRequestHandler('resources/unsubscribe', ({ params }) => (subscribed.delete(params.uri), {}));
    }

    const tool = (name, shape, run) =>
        server.registerTool(name, { description: name, inputSchema: z.object(shape) }, run);
    tool('echo', { text: z.string() }, args => text(args.text));
    tool('add', { a: z.number(), b: z.number() }, args => text(String(args.a + args.b)));
    tool('admin', {}, () => text('done'));
    tool('slow', { key: z.string(), steps: z.number(), hold: z.boolean() }, async ({ key, steps, hold }, ctx) => {
        for (let progress = 1; progress <= steps; progress++) {
            const params = { progressToken: ctx.mcpReq._meta?.progressToken, progress, total: steps };
            await ctx.mcpReq.notify({ method: 'notifications/progress', params });
            if (progress > 1 || !hold) continue;
            try {
                await gates.wait(key, ctx.mcpReq.signal);
            } catch (error) {
                emit({ event: 'cancelled', key });
                throw error;
            }
        }
        return text(`slow ${steps}`);
    });
    tool('release', { key: z.string(), cut: z.boolean() }, async ({ key, cut }) => {
        await gates.release(key, cut);
        return text('released');
    });
    // Both eras: the SDK turns input_required into requests for older clients.
    tool('ask', {}, (_, ctx) => {
        const color = z.object({ color: z.string() });
        const answer = acceptedContent(ctx.mcpReq.inputResponses, 'color', color);
        if (answer) return text(`accept ${answer.color}`);
        const request = inputRequired.elicit({ message: 'Which color?', requestedSchema: color });
        return inputRequired({ inputRequests: { color: request } });
    });
    tool('sample', {}, (_, ctx) => {
        const answer = inputResponse(ctx.mcpReq.inputResponses, 'haiku');
        if (answer.kind === 'sampling') return text(`${answer.result.model}: ${answer.result.content.text}`);
        const messages = [{ role: 'user', content: { type: 'text', text: 'a haiku' } }];
        const request = inputRequired.createMessage({ messages, maxTokens: 10 });
        return inputRequired({ inputRequests: { haiku: request }, requestState: 'opaque' });
    });
    tool('notify', { tag: z.string() }, async ({ tag }, ctx) => {
        await ctx.mcpReq.log('info', `notified ${tag}`);
        if (era === 'modern') {
            modern.notify.resourceUpdated('test://a');
            modern.notify.toolsChanged();
            return text('notified');
        }
        if (subscribed.has('test://a')) await server.server.sendResourceUpdated({ uri: 'test://a' });
        server.sendToolListChanged();
        return text('notified');
    });

    const read = async uri => ({ contents: [{ uri: uri.href, text: `content of ${uri.href}` }] });
    server.registerResource('a', 'test://a', {}, read);
    server.registerResource('hidden', 'test://hidden', {}, read);
    server.registerResource('b', new ResourceTemplate('test://b/{id}', { list: undefined }), {}, read);

    const prompt = value => ({ messages: [{ role: 'user', content: { type: 'text', text: value } }] });
    const names = ['ada', 'alan', 'grace'];
    const name = completable(z.string(), prefix => names.filter(each => each.startsWith(prefix)));
    const argsSchema = z.object({ name });
    server.registerPrompt('greet', { argsSchema }, args => prompt(`Hello, ${args.name}`));
    server.registerPrompt('secret', { argsSchema }, args => prompt(`Secret of ${args.name}`));
    return server;
}

const modern = createMcpHandler(newServer, { legacy: 'reject' });
const serveModern = toNodeHandler(modern);

async function newTransport() {
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: 10,
        onsessioninitialized: id => void sessions.set(id, transport),
        onsessionclosed: id => (sessions.delete(id), emit({ event: 'session closed', session: id }))
    });
    await newServer({ era: 'legacy' }).connect(transport);
    return transport;
}

listen('/mcp', async (req, res, body) => {
    const message = body ? JSON.parse(body) : undefined;
    const key = message?.params?.arguments?.key;
    if (key && message.params.name === 'slow') gates.opened(key, res);
    if (!(await isLegacyRequest(await toWebRequest(req, message)))) return serveModern(req, res, message);
    const id = req.headers['mcp-session-id'];
    if (id && !sessions.has(id)) return res.writeHead(404).end();
    const transport = sessions.get(id) ?? (await newTransport());
    await transport.handleRequest(req, res, message);
});
