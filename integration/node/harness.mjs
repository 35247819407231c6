// What the scripts of this folder share: one JSON line per event on standard
// output, an end when standard input closes, and an HTTP server that reports
// every request it receives before it answers it.
import http from 'node:http';

/** Reports one event to the test that started this process. */
export function emit(event) {
    process.stdout.write(JSON.stringify(event) + '\n');
}

/** Ends the process when the test closes its standard input, or dies. */
export function endWithParent() {
    process.stdin.resume();
    process.stdin.on('end', () => process.exit(0));
    process.stdin.on('error', () => process.exit(0));
}

/** Serves on a free loopback port and reports the URL. The handler gets the body as text. */
export function listen(path, handler) {
    const server = http.createServer(async (req, res) => {
        const chunks = [];
        for await (const chunk of req) chunks.push(chunk);
        const body = Buffer.concat(chunks).toString('utf8');
        emit({ event: 'http', method: req.method, path: req.url, headers: req.headers, body });
        try {
            await handler(req, res, body);
        } catch (error) {
            emit({ event: 'fault', message: String(error?.stack ?? error) });
            if (!res.headersSent) res.writeHead(500);
            res.end();
        }
    });
    server.listen(0, '127.0.0.1', () => emit({ url: `http://127.0.0.1:${server.address().port}${path}` }));
    endWithParent();
    return server;
}

/**
 * Calls of the tool "slow" that wait for the tool "release". The connections are
 * those the calls came in on, so that "release" can break one under its stream.
 */
export class Gates {
    #waiting = new Map();
    #responses = new Map();

    /** Remembers the connection that a JSON-RPC request is being answered on. */
    opened(key, res) {
        this.#responses.set(key, res);
        res.on('close', () => this.#responses.get(key) === res && this.#responses.delete(key));
    }

    /** Waits for release(key), or fails when the signal fires. */
    async wait(key, signal) {
        await new Promise((resolve, reject) => {
            this.#waiting.set(key, resolve);
            signal.addEventListener('abort', () => reject(new Error('cancelled')), { once: true });
            if (signal.aborted) reject(new Error('cancelled'));
        });
    }

    /** Lets the call go on; with cut, its connection is broken first. */
    async release(key, cut) {
        if (cut) {
            const socket = this.#responses.get(key)?.socket;
            if (!socket) throw new Error(`no connection is open for ${key}`);
            await new Promise(resolve => {
                socket.once('close', resolve);
                socket.destroy();
            });
        }
        this.#waiting.get(key)?.();
        this.#waiting.delete(key);
    }
}

/** Keeps the events of each stream in order, for clients that come back with Last-Event-ID. */
export class Events {
    #events = [];

    async storeEvent(streamId, message) {
        const id = `${streamId}_${this.#events.length}`;
        this.#events.push({ id, streamId, message });
        return id;
    }

    async getStreamIdForEventId(id) {
        return this.#events.find(event => event.id === id)?.streamId;
    }

    async replayEventsAfter(lastId, { send }) {
        const last = this.#events.findIndex(event => event.id === lastId);
        if (last < 0) throw new Error('unknown event id');
        const { streamId } = this.#events[last];
        // Read the length anew in every round: events may arrive while one is sent.
        for (let i = last + 1; i < this.#events.length; i++) {
            const event = this.#events[i];
            if (event.streamId === streamId && event.message?.jsonrpc) await send(event.id, event.message);
        }
        return streamId;
    }
}
