"""A proxy on loopback that records what passes, and checks each message of the server against its revision's schema."""

import functools
import http.client
import http.server
import json
import pathlib
import threading
import urllib.parse

import jsonschema

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "crates" / "mcp-testing" / "schema"
RESULTS = {
    "initialize": "InitializeResult",
    "ping": "EmptyResult",
    "logging/setLevel": "EmptyResult",
    "server/discover": "DiscoverResult",
    "completion/complete": "CompleteResult",
    "prompts/get": "GetPromptResult",
    "prompts/list": "ListPromptsResult",
    "resources/list": "ListResourcesResult",
    "resources/read": "ReadResourceResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "tools/call": "CallToolResult",
    "tools/list": "ListToolsResult",
}
NOTIFICATIONS = {"notifications/progress": "ProgressNotification", "notifications/message": "LoggingMessageNotification"}
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class Recorder:
    """Serves on `url` what the target serves."""

    def __init__(self, target):
        self.exchanges = []
        self._target = self.parsed(target)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._target.path}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    parsed = staticmethod(urllib.parse.urlsplit)

    def target_of(self, body):
        """The target of a request."""
        return self._target

    def _handler(recorder):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # The body is a write of its own: it does not wait until the client has acknowledged the headers.
            disable_nagle_algorithm = True

            def forward(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                upstream = http.client.HTTPConnection(recorder.target_of(body).netloc, timeout=60)
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                content = response.read()
                recorder.exchanges.append((self.headers, body, response.headers, content))
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = do_OPTIONS = forward

            def log_message(self, *_):
                pass

        return Handler

    def check(self, least):
        """Fails if a message of the server does not fit the schema of its request's revision, or if fewer passed."""
        checked = 0
        for request_headers, request, response_headers, content in self.exchanges:
            if not request or not content:
                continue
            request = json.loads(request)
            revision = revision_of(request, request_headers)
            for message in messages(response_headers.get("content-type", ""), content.decode()):
                check_message(revision, request.get("method"), message)
                checked += 1
        assert checked >= least, f"only {checked} messages were recorded"


def revision_of(request, headers):
    params = request.get("params") or {}
    if request.get("method") == "initialize":
        return params["protocolVersion"]
    return headers.get("mcp-protocol-version", "2025-03-26")


def messages(content_type, content):
    if content_type == "application/json":
        parsed = json.loads(content)
        return parsed if isinstance(parsed, list) else [parsed]
    assert content_type == "text/event-stream", content_type
    return [json.loads(line[6:]) for line in content.splitlines() if line.startswith("data: ")]


def check_message(revision, method, message):
    if "error" in message:
        validate(revision if "id" in message else "2026-07-28", ("JSONRPCErrorResponse", "JSONRPCError"), message)
    elif "method" in message:
        validate(revision, (NOTIFICATIONS[message["method"]],), message)
    else:
        validate(revision, ("JSONRPCResultResponse", "JSONRPCResponse"), message)
        asks = message["result"].get("resultType") == "input_required"
        validate(revision, ("InputRequiredResult" if asks else RESULTS[method],), message["result"])


def validate(revision, names, value):
    validator(revision, names).validate(value)


@functools.cache
def validator(revision, names):
    schema = json.loads((SCHEMAS / f"{revision}.json").read_text())
    key = "$defs" if "$defs" in schema else "definitions"
    name = next(name for name in names if name in schema[key])
    kind = jsonschema.validators.validator_for(schema)
    return kind({**schema, "$ref": f"#/{key}/{name}"})
