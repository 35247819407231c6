// The step-up of the TypeScript SDK 2.x client.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { config } from './scenario.mjs';
import { application, reportingFetch, stepUp } from './stepup.mjs';

let client, transport;
await stepUp({
    connect: async () => {
        const versionNegotiation = { mode: config.legacy ? 'legacy' : 'auto' };
        client = new Client({ name: 'ts2', version: '1.0.0' }, { versionNegotiation });
        transport = new StreamableHTTPClientTransport(new URL(config.url), {
            authProvider: application,
            fetch: reportingFetch,
            requestInit: { headers: config.headers }
        });
        await client.connect(transport);
        return client.getNegotiatedProtocolVersion();
    },
    authorized: run =>
        application.authorized(
            run,
            error => error instanceof UnauthorizedError,
            answer => transport.finishAuth(answer)
        ),
    callTool: params => client.callTool(params),
    complete: params => client.complete(params),
    close: async () => {
        if (client.getProtocolEra() === 'legacy') await transport.terminateSession();
        await client.close();
    }
});
