"""A server without a fault, and an issuer on the same origin, in which a test puts one fault at a time."""

import dataclasses
import email.utils
import http.server
import json
import ssl
import threading
import time

JSON = {"Content-Type": "application/json"}
MODERN, LEGACY = "2026-07-28", ("2025-11-25", "2025-06-18", "2025-03-26")
METADATA = "/.well-known/oauth-protected-resource"
ISSUER = "/.well-known/oauth-authorization-server"
TOOL = {
    "name": "greet", "title": "Greet", "description": "Greets a person.", "annotations": {"readOnlyHint": True},
    "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}


@dataclasses.dataclass
class Raw:
    """A response as it is."""

    status: int = 200
    body: str = "{}"
    headers: dict = dataclasses.field(default_factory=lambda: JSON)


class Faulty:
    """`rpc` are results by method of JSON-RPC, or functions of the message and the headers that make one, or a `Raw`; `paths` are
    responses by verb and path, or functions of the headers that make one, or `None` for the usual one; `headers` are added to each
    response. `member` and `issuer_member` are members of the server's and the issuer's metadata (`None` takes one out)."""

    def __init__(self, rpc=(), paths=(), headers=(), closed=False, has_metadata=None, member=(), issuer_member=(), ahead=0, tls=None):
        self.rpc, self.paths, self.headers, self.closed, self.ahead = dict(rpc), dict(paths), dict(headers), closed, ahead
        self.has_metadata = closed if has_metadata is None else has_metadata
        self.member, self.issuer_member = dict(member), dict(issuer_member)
        self.tokens = {"good"}
        self.asked = []
        faulty = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                faulty.send(self, faulty.answer(self.command, self.path, self.headers, body))

            do_GET = do_HEAD = do_POST = do_OPTIONS = do_DELETE = answer

            def date_time_string(self, timestamp=None):
                return email.utils.formatdate(time.time() + faulty.ahead, usegmt=True)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.origin}/mcp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def send(self, handler, raw):
        content = raw.body.encode()
        handler.send_response(raw.status)
        for name, value in {**raw.headers, **self.headers}.items():
            for one in value if isinstance(value, list) else [value]:
                handler.send_header(name, one)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def answer(self, verb, path, headers, body):
        own = self.paths.get((verb, path))
        own = own(headers) if callable(own) else own
        if own is not None:
            return own
        if path.rstrip("/") == "/mcp":
            return self.post(headers, body) if verb == "POST" else Raw(405)
        if verb in ("GET", "HEAD"):
            return self.document(path)
        return Raw(404)

    def document(self, path):
        if path.rstrip("/") in (METADATA, f"{METADATA}/mcp") and self.has_metadata:
            own = {"resource": self.url, "authorization_servers": [self.origin], "scopes_supported": ["read"]}
            return as_json({**own, **self.member})
        if path == ISSUER and self.has_metadata:
            lists = {
                "response_types_supported": ["code"], "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["none"],
                "scopes_supported": ["read"],
            }
            endpoints = {f"{name}_endpoint": f"{self.origin}/{name}" for name in ("authorization", "token", "registration")}
            return as_json({"issuer": self.origin, **lists, **endpoints, **self.issuer_member})
        return Raw(404)

    def post(self, headers, body):
        if "origin" in headers:
            return Raw(403)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if (token and token not in self.tokens) or (self.closed and not token):
            challenge = f'Bearer resource_metadata="{self.origin}{METADATA}/mcp", scope="read"'
            return Raw(401, "{}", {**JSON, "WWW-Authenticate": challenge})
        message = json.loads(body)
        self.asked.append(message["method"])
        if message["method"] in self.rpc:
            result = self.rpc[message["method"]]
            result = result(message, headers) if callable(result) else result
        elif "id" not in message:
            result = Raw(202, "", {})
        else:
            result = usual(message)
        if isinstance(result, Raw):
            return result
        if result is None:
            error = {"code": -32601, "message": "unknown method"}
            return as_json({"jsonrpc": "2.0", "id": message["id"], "error": error})
        return as_json({"jsonrpc": "2.0", "id": message["id"], "result": result})


def as_json(value):
    return Raw(200, json.dumps({name: own for name, own in value.items() if own is not None}))


def usual(message):
    """The result of a request; `None` for an unknown method."""
    described = {"capabilities": {"tools": {}}, "instructions": "Greets people."}
    params = message.get("params", {})
    match message["method"]:
        case "server/discover":
            return {"resultType": "complete", "supportedVersions": [MODERN, *LEGACY], **described}
        case "initialize":
            asked = params["protocolVersion"]
            version = asked if asked in LEGACY else LEGACY[0]
            return {"protocolVersion": version, "serverInfo": {"name": "faulty", "version": "1"}, **described}
        case "ping":
            return {}
        case "tools/list":
            return {"tools": [TOOL]}
        case "prompts/list":
            return {"prompts": []}
        case "resources/list":
            return {"resources": []}
        case "resources/templates/list":
            return {"resourceTemplates": []}
    return None


def error(message, code, status=200, text="no"):
    own = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": text}}
    return Raw(status, json.dumps(own))
