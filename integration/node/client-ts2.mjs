// The TypeScript SDK 2.x client: 2026-07-28, or the earlier versions when asked
// to, or when the server speaks no other.
import { Client, ClientCredentialsProvider, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { emit } from './harness.mjs';
import { answers, arrivals, config, scenario } from './scenario.mjs';

const client = new Client(
    { name: 'ts2', version: '1.0.0' },
    {
        capabilities: { elicitation: { form: {} }, sampling: {} },
        versionNegotiation: { mode: config.legacy ? 'legacy' : 'auto' }
    }
);
client.setRequestHandler('elicitation/create', answers.elicit);
client.setRequestHandler('sampling/createMessage', answers.sample);
client.setNotificationHandler('notifications/tools/list_changed', () => arrivals.add('tools changed'));
client.setNotificationHandler('notifications/resources/updated', ({ params }) => arrivals.add(`updated ${params.uri}`));
client.setNotificationHandler('notifications/message', ({ params }) => arrivals.add(params.data));

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

const subscriptions = [];
async function subscribe(uri) {
    if (client.getProtocolEra() === 'legacy') {
        await client.subscribeResource({ uri });
        return 'subscribed';
    }
    const subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] });
    subscriptions.push(subscription);
    return subscription.honoredFilter.resourceSubscriptions?.includes(uri) ? 'subscribed' : 'not honored';
}

await scenario({
    client,
    version: client.getNegotiatedProtocolVersion(),
    callTool: (params, options) => client.callTool(params, options),
    asks: config.asks,
    follows: config.follows,
    resumes: config.resumes,
    subscribe,
    close: async () => {
        for (const subscription of subscriptions) await subscription.close();
        if (client.getProtocolEra() === 'legacy') await transport.terminateSession();
        await client.close();
    }
});
process.exit(0);
