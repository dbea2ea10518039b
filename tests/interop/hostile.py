"""A server, and an issuer of tokens on the same origin, that answer as a test says."""

import contextlib
import http.server
import json
import threading
import urllib.parse

# What an endless answer ends with all the same, should nothing break it off.
ENDLESS_BYTES = 256 * 1024 * 1024
EVENT_STREAM = "text/event-stream"


class Endless:
    """A body that goes on for as long as it is read."""

    def __init__(self, begin, part="x", content_type="application/json"):
        self.begin, self.content_type = begin.encode(), content_type
        self.part = part.encode() * (65536 // len(part))
        self.sent = 0

    def write(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Type", self.content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        part = self.begin
        with contextlib.suppress(OSError):
            while self.sent < ENDLESS_BYTES:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.sent += len(part)
                part = self.part
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True


class Hostile:
    """Of 2025-11-25. `methods` are results by method, or functions of the request that make one: text is a whole body, and
    bytes are a whole stream. `metadata` is sent in place of every document, `more_metadata` at the end of the issuer's, and `more_token` in its tokens."""

    def __init__(self, methods=(), is_closed=False, metadata=None, more_metadata="", more_token=()):
        self.methods = {"initialize": self.welcome, "tools/list": {"tools": [{"name": "t", "inputSchema": {}}]}, **dict(methods)}
        self.is_closed, self.metadata, self.more_metadata = is_closed, metadata, more_metadata
        self.more_token, self.endpoints = dict(more_token), {}
        self.asked, self.pages, self.tokens = [], 0, 0
        hostile = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                hostile.post(self, body)

            def do_GET(self):
                hostile.get(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.origin}/mcp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def welcome(_):
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "h", "version": "1"}}

    def post(self, handler, body):
        path = urllib.parse.urlsplit(handler.path).path
        if path == "/register":
            return send(handler, 201, {**json.loads(body), "client_id": "c"})
        if path == "/token":
            self.tokens += 1
            token = {"access_token": f"t{self.tokens}", "token_type": "Bearer", "expires_in": 3600}
            return send(handler, 200, {**token, **self.more_token})
        message = json.loads(body)
        method = message.get("method")
        self.asked.append(method)
        if "id" not in message:
            return send(handler, 202, "")
        if self.is_closed and "authorization" not in handler.headers:
            where = f'Bearer resource_metadata="{self.origin}/.well-known/oauth-protected-resource/mcp"'
            return send(handler, 401, {}, ("WWW-Authenticate", where))
        if method not in self.methods:
            error = {"code": -32601, "message": "unknown"}
            return send(handler, 200, {"jsonrpc": "2.0", "id": message["id"], "error": error})
        answer = self.methods[method]
        if callable(answer):
            answer = answer(message)
        match answer:
            case Endless():
                return answer.write(handler)
            case Busy():
                error = {"code": 429, "message": answer.message}
                response = {"jsonrpc": "2.0", "id": message["id"], "error": error}
                return send(handler, 429, response, ("Retry-After", str(answer.seconds)))
            case Refusal():
                return send(handler, 403, {}, ("WWW-Authenticate", answer.challenge))
            case bytes():
                return send(handler, 200, answer.decode(), ("Content-Type", EVENT_STREAM))
            case str():
                return send(handler, 200, answer)
        send(handler, 200, {"jsonrpc": "2.0", "id": message["id"], "result": answer})

    def get(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if self.metadata and url.path.startswith("/.well-known/"):
            return self.metadata.write(handler)
        if url.path == "/authorize":
            self.pages += 1
            back = urllib.parse.urlencode({"code": "c", "state": query["state"]})
            return send(handler, 302, "", ("Location", f"{query['redirect_uri']}?{back}"))
        if url.path == "/.well-known/oauth-protected-resource/mcp":
            return send(handler, 200, {"resource": self.url, "authorization_servers": [self.origin]})
        if url.path == "/.well-known/oauth-authorization-server":
            own = {**{name: f"{self.origin}/{path}" for name, path in ENDPOINTS.items()}, **self.endpoints}
            document = json.dumps({"issuer": self.origin, "code_challenge_methods_supported": ["S256"], **own})
            return send(handler, 200, document[:-1] + self.more_metadata + "}")
        send(handler, 404 if url.path != "/mcp" else 405, "")

    def count(self, method):
        return self.asked.count(method)


ENDPOINTS = {"authorization_endpoint": "authorize", "token_endpoint": "token", "registration_endpoint": "register"}


class Refusal:
    """403, for a scope that is missing."""

    def __init__(self, scope):
        self.challenge = f'Bearer error="insufficient_scope", scope="{scope}"'


class Busy:
    """429, as a function answers an anonymous caller over a rate limit."""

    def __init__(self, message, seconds):
        self.message, self.seconds = message, seconds


def send(handler, status, body, *headers):
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    handler.send_response(status)
    names = {name for name, _ in headers}
    for name, value in [*headers, *([] if "Content-Type" in names else [("Content-Type", "application/json")])]:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
