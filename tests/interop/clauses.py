"""A server of either era that answers each request as a test says, and keeps what it got: for the clauses of the specification
about messages. It has no issuer."""

import http.server
import json
import threading

PATIENCE_SECONDS = 20
VERSION = "io.modelcontextprotocol/protocolVersion"


class Request:
    """A request as it came."""

    def __init__(self, server, handler):
        self.server, self.handler, self.http = server, handler, handler.command
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        self.message = json.loads(body) if body else {}
        self.method, self.id = self.message.get("method"), self.message.get("id")
        self.params = self.message.get("params", {})
        self.path = handler.path

    @property
    def is_modern(self):
        return VERSION in self.params.get("_meta", {})

    def send(self, status, body=b"", content_type="application/json", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", content_type)
        self.handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(content)

    def result(self, result, **headers):
        self.send(200, {"jsonrpc": "2.0", "id": self.id, "result": result}, **headers)

    def error(self, code, status=200, **members):
        self.send(status, {"jsonrpc": "2.0", "id": self.id, "error": {"code": code, "message": "no", **members}})

    def begin(self):
        """A stream, which ends with its connection."""
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "text/event-stream")
        self.handler.send_header("Connection", "close")
        self.handler.end_headers()
        self.handler.close_connection = True
        return self

    def event(self, message, **fields):
        lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
        data = message if isinstance(message, str) else json.dumps({"jsonrpc": "2.0", **message})
        self.handler.wfile.write(f"{lines}data: {data}\n\n".encode())
        self.handler.wfile.flush()

    def answer(self, result):
        """The response, as the last event."""
        self.event({"id": self.id, "result": result})

    def break_off(self):
        self.handler.close_connection = True
        self.handler.connection.shutdown(2)


class Server:
    """Answers by `methods`: results by the method's name, or functions of the `Request` that answer it themselves. A modern one
    knows `server/discover` and refuses `initialize`, a legacy one the other way round. `get` is a function for GET."""

    def __init__(self, era, methods=(), capabilities=None, get=None, session=None, welcome=()):
        self.era, self.get, self.session = era, get, session
        self.capabilities = {"tools": {}} if capabilities is None else capabilities
        self.welcome = dict(welcome)
        own = {"initialize": self.initialize} if era == "legacy" else {"server/discover": self.discovered()}
        self.methods = {**own, "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}, **dict(methods)}
        self.got, self.came, self.is_over = [], threading.Condition(), False
        # Responses of the client to requests of the server, by their ids.
        self.responses = {}
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def any(self):
                server.take(Request(server, self))

            do_POST = do_GET = do_DELETE = any

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.http.server_port}/mcp"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.came:
            self.is_over = True
            self.came.notify_all()
        self.http.shutdown()
        self.http.server_close()

    def discovered(self):
        return {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": self.capabilities, "ttlMs": 0,
                "cacheScope": "private"}

    def initialize(self, request):
        welcome = {"protocolVersion": "2025-11-25", "capabilities": self.capabilities, "serverInfo": {"name": "s", "version": "1"}}
        request.result({**welcome, **self.welcome}, **({"Mcp_Session_Id": self.session} if self.session else {}))

    def take(self, request):
        with self.came:
            self.got.append(request)
            if request.method is None and request.id is not None:
                self.responses[request.id] = request.message
            self.came.notify_all()
        if request.http == "GET" and self.get:
            return self.get(request)
        if request.http != "POST":
            return request.send(405)
        if request.id is None or request.method is None:
            return request.send(202)
        if self.era == "legacy" and request.is_modern and "server/discover" not in self.methods:
            return request.error(-32600, status=400)
        answer = self.methods.get(request.method)
        if answer is None:
            return request.error(-32601)
        return answer(request) if callable(answer) else request.result(answer)

    def response(self, to):
        """The client's response to a request of the server, once it is there."""
        return self.wait(lambda: self.responses.get(to))

    def wait(self, value):
        with self.came:
            assert self.came.wait_for(lambda: self.is_over or value(), timeout=PATIENCE_SECONDS), "it did not come"
            return value()

    def hold(self):
        """Keeps a stream open until the test is over."""
        self.wait(lambda: False)

    def all(self, method):
        return [request for request in self.got if request.method == method]
