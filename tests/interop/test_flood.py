"""A flood of rejected requests: what one environment logs of it, and what its metrics count."""

import contextlib
import http.client
import json
import subprocess
import threading
import urllib.parse

import pytest
from conftest import emulated

MAX_BYTES_OF_10_000 = 1_000_000
VARIABLES = {
    "OIDC_ISSUER": "https://id.example.com", "MCP_PUBLIC_URL": "https://mcp.example.com/mcp", "DB_WARM": "off",
    "DATABASE_URL": "postgres://app@127.0.0.1:1/events",
}
META = {"protocolVersion": "2026-07-28", "clientCapabilities": {}, "clientInfo": {"name": "flood", "version": "1"}}
CALL = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
    "name": "log_event", "arguments": {"event_name": "login"},
    "_meta": {f"io.modelcontextprotocol/{name}": value for name, value in META.items()},
}})
HEADERS = {
    "content-type": "application/json", "accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call", "mcp-name": "log_event",
}
UNKNOWN = CALL.replace("tools/call", "tools/unknown")
# The status of each request, and its counters. A body that is too large (413) does not reach the function.
REJECTIONS = [
    ("/mcp", CALL, HEADERS, 401, {"refused_calls", "token_refusals"}),
    ("/mcp", CALL, {**HEADERS, "authorization": "Bearer none"}, 401, {"refused_calls", "token_refusals"}),
    ("/mcp", "{", HEADERS, 400, {"invalid_calls"}),
    ("/mcp", CALL, {**HEADERS, "content-type": "text/plain"}, 415, {"invalid_calls"}),
    ("/mcp", UNKNOWN, {**HEADERS, "mcp-method": "tools/unknown"}, 404, {"invalid_calls"}),
    # No log event.
    ("/elsewhere", CALL, HEADERS, 404, set()),
]


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_flood_writes_at_most_a_hundred_bytes_a_request_and_metrics_count_all(count):
    with flooded() as (connection, lines):
        for number in range(count):
            path, body, headers, status, _ = REJECTIONS[number % len(REJECTIONS)]
            assert post(connection, path, body, headers) == status

    assert sum(len(line.encode()) for line in lines) <= MAX_BYTES_OF_10_000 * count // 10_000
    events = [json.loads(line) for line in lines]
    for counter in ("refused_calls", "token_refusals", "invalid_calls"):
        sent = sum(counter in REJECTIONS[number % len(REJECTIONS)][-1] for number in range(count))
        assert sum(event.get(counter, 0) for event in events) == sent
    assert max(len(event["duration_ms"]) for event in events if isinstance(event.get("duration_ms"), list)) <= 100


@contextlib.contextmanager
def flooded():
    """A connection to one execution environment, and the lines that it has logged at its end, which begins with SIGTERM."""
    running = emulated("event-logger", "buffered", 1, "--reserved", "1", stderr=subprocess.PIPE, **VARIABLES)
    read, lines = [], []
    reader = threading.Thread(target=lambda: read.extend(running.process.stderr))
    reader.start()
    try:
        yield http.client.HTTPConnection(urllib.parse.urlsplit(running.url).netloc, timeout=60), lines
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)
        reader.join()
    # Without the id of the environment, which the emulator writes before each line.
    lines += [line.partition("] ")[2] for line in read]


def post(connection, path, body, headers):
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    response.read()
    return response.status
