// An MCP server on the TypeScript SDK 1.x that runs tools as tasks (2025-11-25). It
// tells everybody about every task, whatever the session: whose a task is, only the
// gateway knows.
import { randomUUID } from 'node:crypto';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { InMemoryTaskMessageQueue, InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks';
import { z } from 'zod';
import { Events, emit, listen } from './harness.mjs';

class Everybodys extends InMemoryTaskStore {
    lookup(taskId) {
        return super.lookup(taskId, undefined);
    }
}

const taskStore = new Everybodys();
const sessions = new Map();
const text = value => ({ content: [{ type: 'text', text: value }] });

function newServer() {
    const server = new McpServer(
        { name: 'tasks', version: '1.0.0' },
        {
            capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
            taskStore,
            taskMessageQueue: new InMemoryTaskMessageQueue()
        }
    );
    const tool = (name, inputSchema, run) =>
        server.experimental.tasks.registerToolTask(
            name,
            { description: name, inputSchema, execution: { taskSupport: 'required' } },
            {
                async createTask(args, { taskStore, taskRequestedTtl }) {
                    const task = await taskStore.createTask({ ttl: taskRequestedTtl, pollInterval: 20 });
                    run(args, task.taskId)
                        .then(result => result && taskStore.storeTaskResult(task.taskId, 'completed', result))
                        .catch(() => taskStore.storeTaskResult(task.taskId, 'failed', { ...text('failed'), isError: true }))
                        .catch(error => emit({ event: 'fault', message: String(error) }));
                    return { task };
                },
                getTask: (_args, { taskId, taskStore }) => taskStore.getTask(taskId),
                getTaskResult: (_args, { taskId, taskStore }) => taskStore.getTaskResult(taskId)
            }
        );
    tool('work', { text: z.string() }, async args => text(`worked on ${args.text}`));
    tool('hold', {}, async () => undefined);
    tool('ask', {}, async (_, taskId) => {
        const requestedSchema = { type: 'object', properties: { color: { type: 'string' } }, required: ['color'] };
        await taskStore.updateTaskStatus(taskId, 'input_required');
        const answer = await server.server.elicitInput(
            { message: 'Which color?', requestedSchema },
            { relatedTask: { taskId } }
        );
        return text(`${answer.action} ${answer.content?.color}`);
    });
    return server;
}

async function newTransport() {
    const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: 10,
        onsessioninitialized: id => sessions.set(id, transport),
        onsessionclosed: id => sessions.delete(id)
    });
    await newServer().connect(transport);
    return transport;
}

listen('/mcp', async (req, res, body) => {
    const id = req.headers['mcp-session-id'];
    if (id && !sessions.has(id)) return res.writeHead(404).end();
    const transport = sessions.get(id) ?? (await newTransport());
    await transport.handleRequest(req, res, body ? JSON.parse(body) : undefined);
});
