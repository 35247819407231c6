// A user, their browser, and an application that they let into an MCP server with the
// OAuth client of either TypeScript SDK.

/** Follows the provider's redirects until one leads back to the application. */
class Browser {
    #cookies = new Map();

    async open(url, back) {
        for (let next = url; ; ) {
            if (next.href.startsWith(back)) return next.searchParams;
            const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
            const response = await fetch(next, { redirect: 'manual', headers: cookie ? { cookie } : {} });
            await response.body?.cancel();
            for (const line of response.headers.getSetCookie()) {
                const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
                if (value) this.#cookies.set(name, value);
                else this.#cookies.delete(name);
            }
            const location = response.headers.get('location');
            if (!location) throw new Error(`the provider answers ${response.status} and does not redirect`);
            next = new URL(location, next);
        }
    }
}

/** An OAuthClientProvider that keeps everything in memory, for a client that is registered already. */
export class Application {
    #browser = new Browser();
    #user;
    #client;
    #tokens;
    #verifier;
    #discovery;
    #answer;

    constructor({ user, client, redirect }) {
        this.#user = user;
        this.#client = client;
        this.redirectUrl = redirect;
        this.clientMetadata = { client_name: 'app', redirect_uris: [redirect] };
    }

    clientInformation() {
        return { client_id: this.#client.clientId, client_secret: this.#client.clientSecret, issuer: this.#client.expectedIssuer };
    }

    tokens() {
        return this.#tokens;
    }

    saveTokens(tokens) {
        this.#tokens = tokens;
    }

    codeVerifier() {
        return this.#verifier;
    }

    saveCodeVerifier(verifier) {
        this.#verifier = verifier;
    }

    discoveryState() {
        return this.#discovery;
    }

    saveDiscoveryState(state) {
        this.#discovery = state;
    }

    /** The SDK has come to where the user has to log in or to consent. */
    async redirectToAuthorization(url) {
        url.searchParams.set('login_hint', this.#user);
        this.#answer = await this.#browser.open(url, this.redirectUrl);
        if (this.#answer.has('error')) throw new Error(this.#answer.get('error_description'));
    }

    /**
     * Runs something as both SDKs want it from an application: what fails because the
     * user had to be asked is finished with their answer, and tried once more.
     */
    async authorized(run, needsUser, finish) {
        try {
            return await run();
        } catch (error) {
            if (!needsUser(error)) throw error;
            await finish(this.#answer);
            return run();
        }
    }
}
