// Reads messages as the TypeScript SDK 1.x does: with its Streamable HTTP server, whose
// handlers report what they were called with, and with its client.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import * as types from '@modelcontextprotocol/sdk/types.js';
import { results, serveClient, serveServer, view } from './sdk.mjs';

const schemas = {
    'tools/list': types.ListToolsRequestSchema,
    'tools/call': types.CallToolRequestSchema,
    'prompts/list': types.ListPromptsRequestSchema,
    'prompts/get': types.GetPromptRequestSchema,
    'resources/list': types.ListResourcesRequestSchema,
    'resources/templates/list': types.ListResourceTemplatesRequestSchema,
    'resources/read': types.ReadResourceRequestSchema,
    'resources/subscribe': types.SubscribeRequestSchema,
    'resources/unsubscribe': types.UnsubscribeRequestSchema,
    'completion/complete': types.CompleteRequestSchema
};

let calls;
const server = new Server(
    { name: 'ts1', version: '1.0.0' },
    { capabilities: { tools: {}, prompts: {}, resources: { subscribe: true }, completions: {}, logging: {} } }
);
for (const [method, schema] of Object.entries(schemas)) {
    server.setRequestHandler(schema, (message, { requestId }) => {
        calls.push({ kind: 'request', ...view(message, requestId) });
        return results[method] ?? {};
    });
}
server.fallbackRequestHandler = async (message, { requestId }) => {
    calls.push({ kind: 'request', ...view(message, requestId) });
    return {};
};
server.fallbackNotificationHandler = async message => {
    calls.push({ kind: 'notification', ...view(message) });
};

// A transport for each request, as the SDK wants it without sessions.
async function handle(request, seen) {
    calls = seen;
    const transport = new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: undefined,
        enableJsonResponse: true
    });
    await server.connect(transport);
    return { response: transport.handleRequest(request), close: () => server.close() };
}

const callTool = (client, options) => client.callTool({ name: 'ok' }, undefined, options);

await serveClient(Client, StreamableHTTPClientTransport, callTool, serveServer(handle));
