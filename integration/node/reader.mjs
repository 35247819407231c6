// Reads messages as a server or client in plain JavaScript does: JSON.parse of what Node
// makes of the bytes.
import { lists, serve, view } from './frames.mjs';

const decoder = new TextDecoder();

function read(text, of) {
    let parsed;
    try {
        parsed = JSON.parse(text);
    } catch (error) {
        return { error: String(error.message) };
    }
    const batch = Array.isArray(parsed);
    return { batch, messages: (batch ? parsed : [parsed]).map(of) };
}

function asServer(message) {
    let kind = 'response';
    if (message?.method !== undefined) kind = message.id === undefined ? 'notification' : 'request';
    return { kind, ...view(message) };
}

function asClient(message) {
    return { lists: lists(message?.result), asks: message?.method === undefined ? [] : [String(message.method)] };
}

await serve(({ answer }, body) => {
    const texts = new Set([decoder.decode(body), body.toString('utf8')]);
    return { views: [...texts].map(text => read(text, answer ? asClient : asServer)) };
});
