// The step-up of the TypeScript SDK 1.x client.
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { config } from './scenario.mjs';
import { application, reportingFetch, stepUp } from './stepup.mjs';

let client, transport;
await stepUp({
    connect: async () => {
        client = new Client({ name: 'ts1', version: '1.0.0' });
        transport = new StreamableHTTPClientTransport(new URL(config.url), {
            authProvider: application,
            fetch: reportingFetch,
            requestInit: { headers: config.headers }
        });
        await client.connect(transport);
        return transport.protocolVersion;
    },
    authorized: run =>
        application.authorized(
            run,
            error => error instanceof UnauthorizedError,
            answer => transport.finishAuth(answer.get('code'))
        ),
    callTool: params => client.callTool(params),
    complete: params => client.complete(params),
    close: async () => {
        await transport.terminateSession();
        await client.close();
    }
});
