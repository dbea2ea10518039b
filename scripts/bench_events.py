"""The events that the benchmark sends: each is a line of a file."""

import json

import tools
from driving import GREETING

# A `tools/call` of 2026-07-28 as a Function URL hands it on; the others are made of it.
EVENT = tools.PROJECT / "bench" / "event.json"
ENVELOPES = tools.PROJECT / "crates" / "mcp-lambda" / "tests" / "data"

TOOL = "personalized_greeting"
LEGACY = "2025-11-25"

CALL = "tools/call"
LIST = "tools/list"
DISCOVER = "server/discover"
LEGACY_CALL = f"tools/call of {LEGACY}"
REST_CALL = "tools/call by a REST API"
LOAD_BALANCER_CALL = "tools/call by a load balancer"
# What greeter is asked, and what its answer holds.
REQUESTS = {
    CALL: GREETING,
    LIST: TOOL,
    DISCOVER: LEGACY,
    LEGACY_CALL: GREETING,
    REST_CALL: GREETING,
    LOAD_BALANCER_CALL: GREETING,
}


def write(folder):
    """A file for each request."""
    call = template()
    events = {
        CALL: call,
        LIST: event(LIST),
        DISCOVER: event(DISCOVER),
        LEGACY_CALL: legacy_call(),
        REST_CALL: carried(call, "rest-api.json"),
        LOAD_BALANCER_CALL: carried(call, "load-balancer.json"),
    }
    return {name: save(own, folder / f"{number}.jsonl") for number, (name, own) in enumerate(events.items())}


def template():
    return json.loads(EVENT.read_text())


def save(own, path):
    path.write_text(json.dumps(own))
    return path


def event(method, name=None, arguments=None, **meta):
    """A request of 2026-07-28."""
    base = template()
    params = {"_meta": {**json.loads(base["body"])["params"]["_meta"], **meta}}
    headers = {**base["headers"], "mcp-method": method}
    del headers["mcp-name"]
    if name:
        params = {"name": name, "arguments": arguments, **params}
        headers["mcp-name"] = name
    return with_message(base, headers, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def get(path):
    """A request of a browser, or of a client that looks for metadata."""
    base = template()
    headers = {name: base["headers"][name] for name in ("accept", "host", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto")}
    context = {**base["requestContext"], "http": {**base["requestContext"]["http"], "method": "GET", "path": path}}
    return {**{name: value for name, value in base.items() if name != "body"}, "rawPath": path, "headers": headers, "requestContext": context}


def legacy_call():
    base = template()
    headers = {name: value for name, value in base["headers"].items() if name not in ("mcp-method", "mcp-name")}
    message = json.loads(base["body"])
    del message["params"]["_meta"]
    return with_message(base, {**headers, "mcp-protocol-version": LEGACY}, message)


def with_message(base, headers, message):
    body = json.dumps(message, separators=(",", ":"))
    return {**base, "headers": {**headers, "content-length": str(len(body))}, "body": body}


def carried(base, envelope):
    """The same request, as another front door hands it on."""
    own = json.loads((ENVELOPES / envelope).read_text())
    headers = {name.title() if "multiValueHeaders" in own else name: value for name, value in base["headers"].items()}
    own |= {"headers": headers, "body": base["body"]}
    if "multiValueHeaders" in own:
        own["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    return own
