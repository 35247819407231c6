"""Reads messages as a server or client in Python does, with json.loads of the bytes.

Event streams are read by lines as str.splitlines finds them, which knows more line ends
than the standard; httpx-sse does so up to 0.4.0.

The frames and the answers are those of integration/node/frames.mjs and reader.mjs.
"""

import json
import struct
import sys


def canonical(value):
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf") if value > 0 else float("-inf")
        return "#" + struct.pack(">d", number + 0.0).hex()
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return "{" + ",".join(sorted(canonical(n) + ":" + canonical(v) for n, v in value.items())) + "}"


def member(value, *path):
    """The value at a path of names, and whether there is one."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None, False
        value = value[name]
    return value, True


PATHS = {
    "method": ("method",),
    "id": ("id",),
    "name": ("params", "name"),
    "uri": ("params", "uri"),
    "cursor": ("params", "cursor"),
    "taskId": ("params", "taskId"),
    "protocolVersion": ("params", "protocolVersion"),
    "requestId": ("params", "requestId"),
    "refType": ("params", "ref", "type"),
    "refName": ("params", "ref", "name"),
    "refURI": ("params", "ref", "uri"),
    "arguments": ("params", "arguments"),
    "version": ("params", "_meta", "io.modelcontextprotocol/protocolVersion"),
}


def as_server(message):
    seen = {}
    for name, path in PATHS.items():
        value, found = member(message, *path)
        if found:
            seen[name] = canonical(value)
    if member(message, "params", "task")[1]:
        seen["task"] = "present"
    asked, found = member(message, "params", "notifications")
    if found:
        flags = ("toolsListChanged", "promptsListChanged", "resourcesListChanged")
        lists = ("resourceSubscriptions", "taskIds")
        seen["notifications"] = canonical(
            [member(asked, f)[0] is True for f in flags] + [member(asked, name)[0] or [] for name in lists]
        )
    if not member(message, "method")[1]:
        seen["kind"] = "response"
    else:
        seen["kind"] = "request" if member(message, "id")[1] else "notification"
    return seen


KEYS = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate", "contents": "uri"}


def as_client(message):
    lists = {}
    for name, key in KEYS.items():
        items, found = member(message, "result", name)
        if found and isinstance(items, list):
            lists[name] = [canonical(member(item, key)[0]) for item in items]
        elif found:
            lists[name] = [canonical(items)]
    method, found = member(message, "method")
    return {"lists": lists, "asks": [str(method)] if found else []}


def read(body, view):
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        return {"error": str(error)}
    batch = isinstance(parsed, list)
    return {"batch": batch, "messages": [view(m) for m in (parsed if batch else [parsed])]}


def read_stream(body):
    """Reads an event stream by lines as str.splitlines finds them, as HTTP clients do."""
    messages, data, event = [], [], "message"
    for line in body.decode("utf-8", "replace").splitlines() + [""]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and line:
            data.append(value)
        elif name == "event" and line:
            event = value
        elif not line:
            if data and event in ("message", ""):
                messages += read("\n".join(data).encode(), as_client).get("messages", [])
            data, event = [], "message"
    return {"messages": messages}


def main():
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while head := stdin.read(4):
        frame = stdin.read(int.from_bytes(head, "big"))
        line, body = frame.split(b"\n", 1)
        question = json.loads(line)
        if question.get("type") == "text/event-stream":
            view = read_stream(body)
        else:
            view = read(body, as_client if question.get("answer") else as_server)
        reply = json.dumps({"views": [view]}).encode()
        stdout.write(len(reply).to_bytes(4, "big") + reply)
        stdout.flush()


main()
