// Reads messages as the TypeScript SDK 2.x does: with its Streamable HTTP server for all
// protocol versions, whose handlers report what they were called with, and with its client.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Server, createMcpHandler } from '@modelcontextprotocol/server';
import { results, serveClient, serveServer, view } from './sdk.mjs';

let current = [];

// One for each request; requests come one after the other.
function newServer() {
    const calls = current;
    const server = new Server(
        { name: 'ts2', version: '1.0.0' },
        { capabilities: { tools: {}, prompts: {}, resources: { subscribe: true }, completions: {}, logging: {} } }
    );
    for (const [method, result] of Object.entries(results)) {
        server.setRequestHandler(method, (message, context) => {
            calls.push({ kind: 'request', ...view(message, context.mcpReq.id) });
            return result;
        });
    }
    server.fallbackRequestHandler = async (message, context) => {
        calls.push({ kind: 'request', ...view(message, context.mcpReq.id) });
        return {};
    };
    server.fallbackNotificationHandler = async message => {
        calls.push({ kind: 'notification', ...view(message) });
    };
    return server;
}

const handler = createMcpHandler(newServer);

async function handle(request, calls) {
    current = calls;
    return { response: handler.fetch(request), close() {} };
}

const callTool = (client, options) => client.callTool({ name: 'ok' }, options);

await serveClient(Client, StreamableHTTPClientTransport, callTool, serveServer(handle));
