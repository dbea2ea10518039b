"""How `mcpl` reaches a server, and what it says when it does not: proxies, certificates, AWS credentials, pages of others."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import postgres
import pytest
from hostile import Endless, Hostile

HANG_SECONDS = 120
ELSEWHERE = "https://mcp.example.com/mcp"
# Neither proxies nor credentials of this machine.
VARIABLES = {
    name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("AWS_")
}


@pytest.fixture
def run(mcpl, tmp_path):
    """Runs a command in a home of its own."""

    def own(*words, **variables):
        command = [str(word) for word in [mcpl, *words, "--state-dir", tmp_path / "state", "--no-browser"]]
        environment = {**VARIABLES, "HOME": str(tmp_path), **variables}
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=HANG_SECONDS, env=environment
        )

    own.mcpl, own.variables = mcpl, {**VARIABLES, "HOME": str(tmp_path)}
    return own


class Socks:
    """A proxy of SOCKS 5 (RFC 1928) that connects to one port, for any host name."""

    def __init__(self, port):
        self.port, self.asked = port, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=(self.server.accept()[0],), daemon=True).start()

    def serve(self, client):
        with client, contextlib.suppress(OSError):
            stream = client.makefile("rwb", buffering=0)
            _, count = stream.read(2)
            stream.read(count)
            stream.write(b"\x05\x00")
            kind = stream.read(4)[3]
            size = {1: 4, 4: 16}.get(kind) or stream.read(1)[0]
            name = stream.read(size)
            self.asked.append(name.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, name))
            stream.read(2)
            stream.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                threading.Thread(target=copy, args=(server, client), daemon=True).start()
                copy(client, server)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()


def copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "http_proxy"])
def test_requests_go_through_a_socks_proxy(run, variable):
    with Hostile({"tools/list": {"tools": []}}) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        with Socks(port) as proxy:
            # The proxy alone leads from this port to the server.
            url = f"http://127.0.0.1:{postgres.free_port()}/mcp"
            listed = run("tools", url, "--json", **{variable: f"socks5h://{proxy.address}"})

    assert listed.returncode == 0 and json.loads(listed.stdout) == [], listed.stderr
    assert proxy.asked and set(proxy.asked) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("variable", "scheme"), [("HTTPS_PROXY", "http"), ("https_proxy", "http"), ("ALL_PROXY", "socks5h"), ("ALL_PROXY", "http")]
)
def test_a_proxy_that_is_away_is_named_without_its_password(run, variable, scheme):
    address = f"127.0.0.1:{postgres.free_port()}"

    away = run("tools", ELSEWHERE, **{variable: f"{scheme}://me:hunter2@{address}"})

    assert away.returncode == 1
    assert f"could not reach {ELSEWHERE}: through the proxy of {variable}, {scheme}://{address}: " in away.stderr, away.stderr
    assert "hunter2" not in away.stderr and away.stderr.count(ELSEWHERE) == 1


def test_a_server_that_is_away_is_named_once(run):
    url = f"http://127.0.0.1:{postgres.free_port()}/mcp"

    away = run("tools", url)
    as_json = run("tools", url, "--json")

    assert away.stderr.count(url) == 1 and "Connection refused" in away.stderr, away.stderr
    assert json.loads(as_json.stdout)["source"] == "mcpl"


def test_variables_without_an_effect_are_reported(run, tmp_path):
    url = f"http://127.0.0.1:{postgres.free_port()}/mcp"
    for variables, expected in [
        ({"HTTP_PROXY": "ftp://me:hunter2@proxy"}, "HTTP_PROXY names no proxy (`proxy`), and is ignored"),
        ({"SSL_CERT_FILE": str(tmp_path / "none.pem")}, "SSL_CERT_FILE names"),
    ]:
        ended = run("tools", url, **variables)
        assert expected in ended.stderr and "hunter2" not in ended.stderr, ended.stderr


@pytest.mark.parametrize("command", ["tools", "proxy"])
def test_missing_aws_credentials_are_named(run, command):
    url = f"http://127.0.0.1:{postgres.free_port()}/mcp"
    began = time.monotonic()

    if command == "tools":
        told = run("tools", url, "--sigv4", "--region", "eu-west-1", AWS_PROFILE="none").stderr
        assert "could not reach" not in told
    else:
        told = json.dumps(proxied(run, url, "--sigv4", "--region", "eu-west-1", AWS_PROFILE="none"))
        assert "mcpl: no AWS credentials were found" in told and "could not reach" not in told, told

    assert "no AWS credentials were found in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile `none`" in told, told
    # The instance metadata service is not asked, which would take seconds.
    assert "IMDS" not in told and time.monotonic() - began < 10


def proxied(run, url, *options, **variables):
    """The answer to a `ping` through `mcpl proxy`."""
    command = [str(word) for word in ["/usr/bin/env", *(f"{name}={value}" for name, value in variables.items()), run.mcpl]]
    command += ["proxy", "x", url, *options]
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}) + "\n"
    ended = subprocess.run(command, input=ping, capture_output=True, text=True, timeout=HANG_SECONDS, env=run.variables)
    return json.loads(ended.stdout)


class Fixed(Endless):
    """One response to a request of any kind."""

    def __init__(self, status, body, content_type):
        self.status, self.body, self.content_type = status, body.encode(), content_type

    def write(self, handler):
        handler.send_response(self.status)
        handler.send_header("Content-Type", self.content_type)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)


def test_a_page_in_place_of_a_message_is_shown(run):
    page = "<html>\x1b[2J<title>Sign in</title>" + "x" * 5000

    own = Fixed(200, page, "text/html; charset=utf-8")
    with Hostile({"server/discover": own, "initialize": own}) as server:
        shown = run("tools", server.url)

    assert "something that is no message (content type text/html; charset=utf-8): <html>" in shown.stderr, shown.stderr
    assert "Sign in" in shown.stderr and "\x1b" not in shown.stderr and len(shown.stderr) < 600


def test_a_function_url_with_iam_leads_to_sigv4(run):
    own = Fixed(403, json.dumps({"Message": "Forbidden"}), "application/json")
    with Hostile({"server/discover": own, "initialize": own, "ping": own}) as server:
        rejected = run("tools", server.url)
        answer = proxied(run, server.url)

    for told in (rejected.stderr, answer["error"]["message"]):
        assert "AWS rejected the request before the function ran" in told and "`--sigv4`" in told, told
