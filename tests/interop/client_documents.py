"""The client ID metadata documents of MCP clients, served over HTTPS under their real names, with a private authority.

`ClientDocuments.variables` has what a function needs to fetch them: see `MCP_FOREIGN_HOSTS` in docs/configuration.md. The documents have
the members that their publishers served in September and October 2026.
"""

import datetime
import http.server
import json
import pathlib
import ssl
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Claude Code names no port, although it listens on one: the port of a loopback redirect URI is not compared (RFC 8252).
CLAUDE_CODE = "https://claude.ai/oauth/claude-code-client-metadata"
# Claude's web and desktop applications.
CLAUDE = "https://claude.ai/oauth/mcp-oauth-client-metadata"
# ChatGPT prefers `private_key_jwt`, and takes `none`.
CHATGPT = "https://chatgpt.com/oauth/client.json"
# Codex uses this document with an authorization server that sends `iss` in its responses (RFC 9207), else one for each server.
CODEX = "https://chatgpt.com/oauth/codex/client.json"
CODEX_CALLBACK = "https://chatgpt.com/oauth/codex/0123abcd/client.json"
VS_CODE = "https://vscode.dev/oauth/client-metadata.json"

PUBLIC = {"grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none"}
DOCUMENTS = {
    CLAUDE_CODE: {
        "client_name": "Claude Code", "client_uri": "https://claude.ai",
        "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"], **PUBLIC,
    },
    CLAUDE: {
        "client_name": "Claude", "client_uri": "https://claude.ai", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], **PUBLIC,
    },
    CHATGPT: {
        **PUBLIC, "client_name": "ChatGPT", "client_uri": "https://chatgpt.com/",
        "logo_uri": "https://persistent.oaistatic.com/logo.png",
        "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"],
        "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        "token_endpoint_auth_signing_alg": "RS256", "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
    },
    CODEX: {
        "client_name": "Codex", "client_uri": "https://chatgpt.com/codex", "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/callback", "http://localhost/callback"],
        "token_endpoint_auth_methods_supported": ["none"], **PUBLIC,
    },
    CODEX_CALLBACK: {
        "client_name": "Codex", "client_uri": "https://chatgpt.com/codex", "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/callback/0123abcd", "http://localhost/callback/0123abcd"],
        "token_endpoint_auth_methods_supported": ["none"], **PUBLIC,
    },
    VS_CODE: {
        **PUBLIC, "client_name": "Visual Studio Code", "client_uri": "https://vscode.dev/product", "application_type": "native",
        "logo_uri": "https://code.visualstudio.com/assets/branding/code-stable.png",
        "grant_types": [*PUBLIC["grant_types"], "urn:ietf:params:oauth:grant-type:device_code"],
        "redirect_uris": ["http://127.0.0.1:33418/", "https://vscode.dev/redirect"],
    },
}


class ClientDocuments:
    """A server for all these names, and for those of `add`. `got` has the URLs that were requested."""

    def __init__(self):
        self.answers, self.got, self.contexts = {}, [], {}
        self.folder = tempfile.TemporaryDirectory(prefix="client-documents-")
        self.authority = Authority("A private authority")
        self.authority_file = pathlib.Path(self.folder.name) / "authority.pem"
        self.authority_file.write_bytes(self.authority.pem)
        for url, members in DOCUMENTS.items():
            self.add(url, {"client_id": url, **members})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        # A client that does not trust the authority ends the handshake.
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_port
        context = self.contexts["claude.ai"]
        context.sni_callback = self.choose
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, url, body, status=200, content_type="application/json", **headers):
        """Serves a body at an https URL without a port: bytes, or JSON. It replaces what is there."""
        name, _, path = url.removeprefix("https://").partition("/")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        standard = {"Content-Type": content_type, "Cache-Control": "public, max-age=300", "Content-Length": str(len(content))}
        self.answers[name, f"/{path}"] = (status, {**standard, **{key.replace("_", "-"): value for key, value in headers.items()}}, content)
        if name not in self.contexts:
            self.contexts[name] = self.authority.context(name, self.folder.name)

    @property
    def variables(self):
        """The variables by which a function fetches from this server. Take them after `add`."""
        hosts = ",".join(f"{name}=127.0.0.1:{self.port}" for name in sorted(self.contexts))
        return {"MCP_FOREIGN_HOSTS": hosts, "MCP_FOREIGN_AUTHORITY_FILE": str(self.authority_file)}

    def choose(self, socket, name, _):
        # A name without a certificate gets that of another one, which the client rejects.
        socket.context = self.contexts.get(name, self.contexts["claude.ai"])

    def handler(self):
        documents = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents.got.append(f"https://{self.headers['host']}{self.path}")
                status, headers, content = documents.answers.get((self.headers["host"], self.path), (404, {"Content-Length": "0"}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        return Handler

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()


class Authority:
    """A certificate authority of its own."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.pem = self.certificate(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0))

    def certificate(self, subject, key, *extensions):
        now, span = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number(), now - span, now + span)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def context(self, name, folder):
        """The TLS context of a server with this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self.certificate(
            subject, key, x509.SubjectAlternativeName([x509.DNSName(name)]), x509.BasicConstraints(ca=False, path_length=None),
        )
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file = pathlib.Path(folder) / f"{name}.pem"
        file.write_bytes(certificate + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context
