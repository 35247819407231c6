// The TypeScript SDK 1.x client, following tasks: its own, and those it is told of.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema, CreateTaskResultSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { emit } from './harness.mjs';
import { answers, config } from './scenario.mjs';

const client = new Client({ name: 'tasks', version: '1.0.0' }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, answers.elicit);
const headers = { ...config.headers };
if (config.token) headers.authorization = `Bearer ${config.token}`;
const transport = new StreamableHTTPClientTransport(new URL(config.url), { requestInit: { headers } });
await client.connect(transport);
await client.listTools(); // so that the client knows which tools are tasks
const tasks = client.experimental.tasks;

async function step(name, run) {
    try {
        emit({ step: name, value: await run() });
    } catch (error) {
        emit({ step: name, error: { code: error.code ?? 0, message: String(error.message) } });
    }
}

async function follow(name, args) {
    let created = 0;
    for await (const message of tasks.callToolStream({ name, arguments: args }, undefined, { task: { ttl: 60_000 } })) {
        if (message.type === 'taskCreated') created++;
        if (message.type === 'error') throw message.error;
        if (message.type === 'result') return `${created} task: ${message.result.content[0].text}`;
    }
}

let held;
await step('work', () => follow('work', { text: 'it' }));
await step('ask', () => follow('ask', {}));
await step('hold', async () => {
    const request = { method: 'tools/call', params: { name: 'hold', arguments: {} } };
    const { task } = await client.request(request, CreateTaskResultSchema, { task: { ttl: 60_000 } });
    held = task.taskId;
    return task.status;
});
emit({ step: 'held', value: held });
await step('get', async () => (await tasks.getTask(held)).status);
await step('list', async () => {
    let all = [];
    for (let cursor; ; ) {
        const page = await tasks.listTasks(cursor);
        all = all.concat(page.tasks);
        if (!(cursor = page.nextCursor)) break;
    }
    return { mine: all.some(task => task.taskId === held), others: all.filter(task => config.tasks?.includes(task.taskId)).length };
});
for (const [i, id] of (config.tasks ?? []).entries()) {
    await step(`${i} get`, async () => (await tasks.getTask(id)).status);
    if (config.results) await step(`${i} result`, () => tasks.getTaskResult(id, CallToolResultSchema, { timeout: 5000 }));
    await step(`${i} cancel`, async () => (await tasks.cancelTask(id)).status);
}
await transport.terminateSession();
await client.close();
process.exit(0);
