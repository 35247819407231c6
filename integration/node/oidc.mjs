// An OpenID provider on loopback. It gives JWT access tokens (RFC 9068) for one
// resource at a time: to services by client_credentials, and to users by the
// authorization code flow, in which login_hint names who logs in, without a
// password. The groups of both are claims of the token. It reports what it is asked
// for, and the tokens that it gives. If they are to be opaque, it tells the gateway, and
// nobody else, what they are (RFC 7662), and takes them back (RFC 7009).
import http from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';
import { emit, endWithParent } from './harness.mjs';

const { resources, redirect, users = {}, opaque = false } = JSON.parse(process.env.OIDC_CONFIG);
const scopes = ['mcp:read', 'mcp:write', 'mcp:prompt', 'mcp:complete'];
const groups = {
    'full-service': ['full'],
    'restricted-service': ['restricted'],
    'no-group-service': [],
    alice: ['full'],
    bob: ['restricted'],
    ...Object.fromEntries(Object.entries(users).map(([id, user]) => [id, user.groups]))
};

const jwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const service = id => ({
    client_id: id,
    client_secret: `${id}-secret`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: []
});
const app = {
    client_id: 'app',
    client_secret: 'app-secret',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [redirect],
    response_types: ['code']
};

function resourceServer(resource) {
    if (!resources.includes(resource)) throw new errors.InvalidTarget();
    return {
        scope: scopes.join(' '),
        audience: resource,
        accessTokenFormat: opaque ? 'opaque' : 'jwt',
        accessTokenTTL: 300,
        jwt: { sign: { alg: 'RS256' } }
    };
}

// The gateway can ask, and gets no tokens itself.
const gateway = {
    client_id: 'gateway',
    client_secret: 'gateway secret: 100%',
    grant_types: [],
    redirect_uris: [],
    response_types: []
};

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
    const issuer = `http://127.0.0.1:${server.address().port}`;
    const provider = new Provider(issuer, {
        clients: [...Object.keys(groups).filter(id => id.endsWith('service')).map(service), app, gateway],
        jwks: { keys: [{ ...jwk, use: 'sig', alg: 'RS256', kid: 'first' }] },
        scopes: ['openid', 'offline_access', ...scopes],
        cookies: { keys: ['loopback only'] },
        pkce: { required: () => true },
        findAccount: (_, id) => (id in groups ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
        // A service is its own subject. In a JWT that is so by itself.
        extraTokenClaims: (_, token) => ({
            groups: groups[token.accountId ?? token.clientId],
            ...(opaque && !token.accountId && { sub: token.clientId })
        }),
        interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
        features: {
            devInteractions: { enabled: false },
            clientCredentials: { enabled: true },
            introspection: { enabled: opaque, allowedPolicy: (_, client) => client.clientId === 'gateway' },
            revocation: { enabled: opaque },
            resourceIndicators: {
                enabled: true,
                // The Go SDK's client_credentials handler names no resource.
                defaultResource: (_, client, oneOf) => oneOf ?? resources[0],
                useGrantedResource: () => true,
                getResourceServerInfo: (_, resource) => resourceServer(resource)
            }
        }
    });
    provider.on('grant.success', ({ oidc }) => {
        const { accountId, scope } = oidc.entities.AccessToken ?? {};
        if (accountId) emit({ event: 'token', user: accountId, grant: oidc.params.grant_type, scope });
    });
    const fallback = provider.callback();
    server.on('request', async (req, res) => {
        const { pathname, searchParams } = new URL(req.url, issuer);
        if (pathname === '/auth') {
            emit({ event: 'authorize', user: searchParams.get('login_hint'), scope: searchParams.get('scope') });
        }
        if (!req.url.startsWith('/interaction/')) return fallback(req, res);
        const { params, prompt, session } = await provider.interactionDetails(req, res);
        const result = {};
        if (prompt.name === 'login') {
            result.login = { accountId: params.login_hint };
        } else {
            const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
            grant.addOIDCScope(params.scope);
            // A user may consent to less than what is asked for.
            const consents = scope => users[session.accountId]?.consents?.includes(scope) ?? true;
            const asked = params.scope?.split(' ') ?? [];
            for (const resource of [params.resource].flat()) {
                grant.addResourceScope(resource, asked.filter(consents).join(' '));
                grant.rejectResourceScope(resource, asked.filter(scope => !consents(scope)).join(' '));
            }
            result.consent = { grantId: await grant.save() };
        }
        await provider.interactionFinished(req, res, result);
    });
    emit({ url: issuer });
});
endWithParent();
