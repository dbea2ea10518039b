"""docs/mcpl.md and the pages beside it, compared with what `mcpl` prints: its options, its commands, and the reasons of its HTTP and
TLS libraries. The messages of `mcpl` itself are compared with its code by `make check`."""

import datetime
import functools
import http.server
import os
import re
import ssl
import subprocess
import threading

import postgres
import pytest
from conftest import PROJECT
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PAGES = ["mcpl.md", "mcpl-reference.md", "mcpl-troubleshooting.md"]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
# Of other programs, in commands that the pages show.
OTHERS = {"--locked", "--path", "--private-window"}


@functools.cache
def pages():
    return "\n".join((PROJECT / "docs" / page).read_text() for page in PAGES)


@functools.cache
def helps(mcpl):
    """The help of each command, by its name; that of mcpl itself is without one."""
    run = lambda *words: subprocess.run([mcpl, *words, "--help"], capture_output=True, text=True, check=True).stdout  # noqa: E731
    own = run()
    commands = re.findall(r"^  (\w+) ", own.partition("Commands:")[2].partition("Options:")[0], re.MULTILINE)
    return {"": own, **{command: run(command) for command in commands if command != "help"}}


def test_every_command_and_option_is_on_a_page(mcpl):
    printed = {option for text in helps(mcpl).values() for option in re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.MULTILINE)}
    printed |= {option for text in helps(mcpl).values() for option in re.findall(r"\[alias(?:es)?: (--[\w-]+)\]", text)}
    written = set(OPTION.findall(pages()))

    assert {"--client-id", "--verbose", "--via-proxy", "--mode"} <= printed
    assert printed - written == set()
    assert written - printed - OTHERS == set()
    assert [command for command in helps(mcpl) if f"mcpl {command}" not in pages()] == []


def test_every_variable_is_on_a_page(mcpl):
    variables = {name for text in helps(mcpl).values() for name in re.findall(r"\[env: (\w+)", text)}

    assert {"MCPL_CLIENT_ID", "MCPL_CLIENT_SECRET", "MCPL_STATE_DIR"} <= variables
    assert [name for name in sorted(variables) if name not in pages()] == []


@pytest.fixture
def serve(tmp_path):
    """Starts servers with a certificate of an own authority, or without TLS; their ports."""
    servers = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_error(407)

        def log_message(self, *_):
            pass

    def own(certificate=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            # A handshake that fails is what is tested.
            server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield own
    for server in servers:
        server.shutdown()


def certificate(folder, first, last):
    """The file of a certificate for localhost which its own key signs, with the key. It is valid between two days, counted from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + datetime.timedelta(days=first)).not_valid_after(now + datetime.timedelta(days=last))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text = builder.sign(key, hashes.SHA256()).public_bytes(encoding)
    file = folder / f"{first}-{last}.pem"
    file.write_bytes(text + key.private_bytes(encoding, private, serialization.NoEncryption()))
    return str(file)


def test_the_reasons_of_libraries_are_those_on_the_page(mcpl, tmp_path, serve):
    """Each reason below `could not reach` that can be had on one machine."""
    rows = (PROJECT / "docs" / "mcpl-troubleshooting.md").read_text().partition("| Reason |")[2].partition("\n\n")[0]
    first = re.findall(r"^\| (.+?) \|", rows, re.MULTILINE)
    listed = {reason for cell in first for reason in re.findall(r"`(.+?)`", cell.partition(" (")[0])}
    valid, expired, early = certificate(tmp_path, -9, 9), certificate(tmp_path, -9, -1), certificate(tmp_path, 1, 9)
    closed, plain = postgres.free_port(), serve()
    proxy = lambda address: {"HTTPS_PROXY": address, "NO_PROXY": ""}  # noqa: E731
    elsewhere = "https://mcp.example.com/mcp"
    provoked = {
        "Connection refused": (f"http://127.0.0.1:{closed}/mcp", {}),
        "dns error": ("https://mcp.invalid/mcp", {}),
        "tunnel error": (elsewhere, proxy(f"http://127.0.0.1:{closed}")),
        "proxy authorization required": (elsewhere, proxy(f"http://127.0.0.1:{plain}")),
        "error connecting to socks proxy": (elsewhere, proxy(f"socks5h://127.0.0.1:{closed}")),
        "error resolving for socks proxy": (elsewhere, proxy(f"socks5://127.0.0.1:{closed}")),
        "invalid peer certificate: UnknownIssuer": (f"https://localhost:{serve(valid)}/mcp", {}),
        "certificate expired": (f"https://localhost:{serve(expired)}/mcp", {"SSL_CERT_FILE": expired}),
        "certificate not valid yet": (f"https://localhost:{serve(early)}/mcp", {"SSL_CERT_FILE": early}),
        "certificate not valid for name": (f"https://127.0.0.1:{serve(valid)}/mcp", {"SSL_CERT_FILE": valid}),
        "received corrupt message of type InvalidContentType": (f"https://localhost:{plain}/mcp", {}),
    }
    variables = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}

    # A timeout takes an address that does not answer.
    assert listed == {*provoked, "operation timed out"}
    for reason, (url, own) in provoked.items():
        command = [mcpl, "tools", url, "--state-dir", tmp_path / "state"]
        ended = subprocess.run(command, capture_output=True, text=True, env={**variables, **own})
        assert ended.returncode == 1 and f"could not reach {url}" in ended.stderr and reason in ended.stderr, ended.stderr
