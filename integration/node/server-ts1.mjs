// An MCP server on the TypeScript SDK 1.x: sessions, an event store, protocol
// versions up to 2025-11-25.
import { randomUUID } from 'node:crypto';
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js';
import { completable } from '@modelcontextprotocol/sdk/server/completable.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { SubscribeRequestSchema, UnsubscribeRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { Events, Gates, emit, listen } from './harness.mjs';

const gates = new Gates();
const sessions = new Map();
const text = value => ({ content: [{ type: 'text', text: value }] });

function newServer() {
    const server = new McpServer(
        { name: 'ts1', version: '1.0.0' },
        { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } } }
    );
    const subscribed = new Set();
    server.server.setRequestHandler(SubscribeRequestSchema, ({ params }) => (subscribed.add(params.uri), {}));
    server.server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => (subscribed.delete(params.uri), {}));

    const tool = (name, inputSchema, run) => server.registerTool(name, { description: name, inputSchema }, run);
    tool('echo', { text: z.string() }, args => text(args.text));
    tool('add', { a: z.number(), b: z.number() }, args => text(String(args.a + args.b)));
    tool('admin', {}, () => text('done'));
    tool('slow', { key: z.string(), steps: z.number(), hold: z.boolean() }, async ({ key, steps, hold }, extra) => {
        for (let progress = 1; progress <= steps; progress++) {
            const params = { progressToken: extra._meta?.progressToken, progress, total: steps };
            await extra.sendNotification({ method: 'notifications/progress', params });
            if (progress > 1 || !hold) continue;
            try {
                await gates.wait(key, extra.signal);
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
    tool('ask', {}, async (_, extra) => {
        const requestedSchema = { type: 'object', properties: { color: { type: 'string' } }, required: ['color'] };
        const answer = await server.server.elicitInput(
            { message: 'Which color?', requestedSchema },
            { relatedRequestId: extra.requestId }
        );
        return text(`${answer.action} ${answer.content?.color}`);
    });
    tool('sample', {}, async (_, extra) => {
        const messages = [{ role: 'user', content: { type: 'text', text: 'a haiku' } }];
        const answer = await server.server.createMessage(
            { messages, maxTokens: 10 },
            { relatedRequestId: extra.requestId }
        );
        return text(`${answer.model}: ${answer.content.text}`);
    });
    tool('notify', { tag: z.string() }, async ({ tag }, extra) => {
        await server.sendLoggingMessage({ level: 'info', data: `notified ${tag}` }, extra.sessionId);
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
    server.registerPrompt('greet', { argsSchema: { name } }, args => prompt(`Hello, ${args.name}`));
    server.registerPrompt('secret', { argsSchema: { name } }, args => prompt(`Secret of ${args.name}`));
    return server;
}

async function newTransport() {
    const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: 10,
        onsessioninitialized: id => sessions.set(id, transport),
        onsessionclosed: id => (sessions.delete(id), emit({ event: 'session closed', session: id }))
    });
    await newServer().connect(transport);
    return transport;
}

listen('/mcp', async (req, res, body) => {
    const message = body ? JSON.parse(body) : undefined;
    const id = req.headers['mcp-session-id'];
    if (id && !sessions.has(id)) return res.writeHead(404).end();
    const transport = sessions.get(id) ?? (await newTransport());
    const key = message?.params?.arguments?.key;
    if (key && message.params.name === 'slow') gates.opened(key, res);
    await transport.handleRequest(req, res, message);
});
