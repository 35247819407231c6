// The TypeScript SDK 1.x client, which speaks versions up to 2025-11-25.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
    CreateMessageRequestSchema,
    ElicitRequestSchema,
    LoggingMessageNotificationSchema,
    ResourceUpdatedNotificationSchema,
    ToolListChangedNotificationSchema
} from '@modelcontextprotocol/sdk/types.js';
import { emit } from './harness.mjs';
import { answers, arrivals, config, scenario } from './scenario.mjs';

const client = new Client({ name: 'ts1', version: '1.0.0' }, { capabilities: { elicitation: {}, sampling: {} } });
client.setRequestHandler(ElicitRequestSchema, answers.elicit);
client.setRequestHandler(CreateMessageRequestSchema, answers.sample);
client.setNotificationHandler(ToolListChangedNotificationSchema, () => arrivals.add('tools changed'));
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) =>
    arrivals.add(`updated ${params.uri}`)
);
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => arrivals.add(params.data));

const headers = { ...config.headers };
if (config.token) headers.authorization = `Bearer ${config.token}`;
const transport = new StreamableHTTPClientTransport(new URL(config.url), {
    authProvider: config.oauth && new ClientCredentialsProvider(config.oauth),
    requestInit: { headers }
});
try {
    await client.connect(transport);
} catch (error) {
    emit({ step: 'connect', error: { code: error.code ?? 0, message: String(error.message) } });
    process.exit(0);
}
await scenario({
    client,
    version: transport.protocolVersion,
    callTool: (params, options) => client.callTool(params, undefined, options),
    asks: config.asks,
    follows: config.follows,
    resumes: config.resumes,
    subscribe: async uri => (await client.subscribeResource({ uri }), 'subscribed'),
    close: async () => {
        await transport.terminateSession();
        await client.close();
    }
});
process.exit(0);
