// What the readers of this folder share. A reader is asked with frames on standard input
// and answers each with a frame on standard output: a length of four bytes, big-endian, and
// that many bytes. A question is a line of JSON and then the body to read; an answer is JSON.

/** Answers every frame with what the function makes of it, in their order, until the end. */
export async function serve(answer) {
    let rest = Buffer.alloc(0);
    for await (const chunk of process.stdin) {
        rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
        const replies = [];
        while (rest.length >= 4 && rest.length - 4 >= rest.readUInt32BE()) {
            const end = 4 + rest.readUInt32BE();
            const line = rest.indexOf(0x0a, 4);
            const question = JSON.parse(rest.toString('utf8', 4, line));
            const reply = Buffer.from(JSON.stringify(await answer(question, rest.subarray(line + 1, end))));
            const length = Buffer.alloc(4);
            length.writeUInt32BE(reply.length);
            replies.push(length, reply);
            rest = rest.subarray(end);
        }
        if (replies.length) process.stdout.write(Buffer.concat(replies));
    }
}

const bits = new DataView(new ArrayBuffer(8));

/**
 * A value as text that is the same for the same value in every language: ASCII, members
 * sorted, and a number as the bits of its nearest double. An object has the members that
 * code sees which asks for them, so also those of a prototype that was slipped in.
 */
export function canonical(value) {
    if (typeof value === 'string') return ascii(value);
    if (typeof value === 'number') {
        bits.setFloat64(0, value + 0); // there is no other zero
        return '#' + bits.getBigUint64(0).toString(16).padStart(16, '0');
    }
    if (value === null || typeof value !== 'object') return String(value);
    if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
    const members = [];
    for (const name in value) members.push(`${ascii(name)}:${canonical(value[name])}`);
    return `{${members.sort().join()}}`;
}

function ascii(text) {
    return JSON.stringify(text).replace(/[\u007f-\uffff]/g, c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
}

/** The members of a message that decide, as far as it has them. */
export function view(message, id = message?.id) {
    const params = message?.params;
    const all = {
        method: message?.method,
        id,
        name: params?.name,
        uri: params?.uri,
        cursor: params?.cursor,
        taskId: params?.taskId,
        protocolVersion: params?.protocolVersion,
        requestId: params?.requestId,
        refType: params?.ref?.type,
        refName: params?.ref?.name,
        refURI: params?.ref?.uri,
        arguments: params?.arguments,
        version: params?._meta?.['io.modelcontextprotocol/protocolVersion']
    };
    const seen = {};
    for (const [name, value] of Object.entries(all)) if (value !== undefined) seen[name] = canonical(value);
    if (params?.task !== undefined) seen.task = 'present';
    const asked = params?.notifications;
    if (asked !== undefined) {
        seen.notifications = canonical([
            asked?.toolsListChanged === true,
            asked?.promptsListChanged === true,
            asked?.resourcesListChanged === true,
            asked?.resourceSubscriptions ?? [],
            asked?.taskIds ?? []
        ]);
    }
    return seen;
}

/** By which member the items of each list of a result are known. */
export const keys = {
    tools: 'name',
    prompts: 'name',
    resources: 'uri',
    resourceTemplates: 'uriTemplate',
    contents: 'uri'
};

/** The keys of all lists of a result. */
export function lists(result) {
    const found = {};
    for (const [list, key] of Object.entries(keys)) {
        const items = result?.[list];
        if (Array.isArray(items)) found[list] = items.map(item => canonical(item?.[key]));
        else if (items !== undefined) found[list] = [canonical(items)];
    }
    return found;
}
