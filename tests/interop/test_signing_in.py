"""`mcpl` signs in: at issuers and behind gateways that are odd, slow or away. Names of tests end with the cases that they
are about."""

import contextlib
import http.server
import json
import os
import pty
import re
import select
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
from oauth import PATIENCE_SECONDS
from proxied import BROWSER, LEGACY_CLIENT, Session, words

RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
ISSUER_METADATA = "/.well-known/oauth-authorization-server"
ELSEWHERE = (302, "", ("Location", "https://docs.example.com/"))
# What mcpl does not wait after.
AWAY = (503, "away", ("Retry-After", "0"))


class Request:
    def __init__(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        self.method, self.path = handler.command, url.path
        self.query = dict(urllib.parse.parse_qsl(url.query))
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self.is_form = self.headers.get("content-type") == "application/x-www-form-urlencoded"
        self.form = dict(urllib.parse.parse_qsl(self.body)) if self.is_form else {}


class Site:
    """A server at /mcp, and the issuer of its tokens on the same origin. `answers` are functions by path, whose results
    are a status, a body and headers; after `None` comes the usual answer, and after `...` none at all."""

    def __init__(self, answers=(), challenge=None, issuer=None, more_metadata=(), registered=()):
        self.answers, self.more_metadata, self.registered = dict(answers), dict(more_metadata), dict(registered)
        self.requests, self.clients, self.refresh_tokens, self.valid = [], {}, set(), set()
        site, self.lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                request = Request(self)
                with site.lock:
                    site.requests.append(request)
                own = site.answers.get(request.path, lambda _: None)(request)
                if own is ...:
                    self.close_connection = True
                    return
                status, body, *headers = own or site.usual(request)
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                for name, value in [("Content-Type", "application/json"), ("Content-Length", len(content)), *headers]:
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.origin}/mcp"
        self.issuer = issuer or self
        self.challenge = challenge or f'Bearer resource_metadata="{self.origin}{RESOURCE_METADATA}/mcp"'

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def usual(self, request):
        match request.path:
            case "/mcp" if request.method == "POST":
                return self.message(request)
            case path if path == f"{RESOURCE_METADATA}/mcp":
                return 200, {"resource": self.url, "authorization_servers": [self.issuer.origin]}
            case path if path == ISSUER_METADATA:
                return 200, {**self.metadata(), **self.more_metadata}
            case "/register":
                with self.lock:
                    client = f"client-{len(self.clients)}"
                    self.clients[client] = json.loads(request.body)
                return 201, {**self.clients[client], "client_id": client, **self.registered}
            case "/authorize":
                back = urllib.parse.urlencode({"code": "code", "state": request.query["state"]})
                return 302, "", ("Location", f"{request.query['redirect_uri']}?{back}")
            case "/token":
                return self.token(request)
        return (405 if request.path == "/mcp" else 404), ""

    def message(self, request):
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.issuer.valid:
            return 401, {}, ("WWW-Authenticate", self.challenge)
        message = json.loads(request.body)
        results = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}},
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
        }
        if "id" not in message:
            return 202, ""
        if message["method"] not in results:
            return 200, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "unknown"}}
        return 200, {"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]}

    def metadata(self):
        endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "registration_endpoint": "register"}
        return {
            "issuer": self.origin, "code_challenge_methods_supported": ["S256"],
            **{name: f"{self.origin}/{path}" for name, path in endpoints.items()},
        }

    def token(self, request):
        if request.form["grant_type"] == "refresh_token" and request.form["refresh_token"] not in self.refresh_tokens:
            return 400, {"error": "invalid_grant"}
        with self.lock:
            number = len(self.valid)
            self.valid.add(f"t{number}")
            self.refresh_tokens.add(f"r{number}")
        return 200, {"access_token": f"t{number}", "token_type": "Bearer", "expires_in": 3600, "refresh_token": f"r{number}"}

    def count(self, path, method=None):
        return len([own for own in self.requests if own.path == path and method in (None, own.method)])

    def token_requests(self, grant):
        return [own for own in self.requests if own.path == "/token" and own.form["grant_type"] == grant]

    def pages(self):
        return self.count("/authorize")


class Mcpl:
    def __init__(self, program, state):
        self.program, self.state = program, state

    def tools(self, site, *options, **run):
        """Lists the tools. It is the whole way, up to an answer that takes a token."""
        browser = [] if "--no-browser" in options else ["--open", BROWSER]
        command = [self.program, "tools", site.url, "--state-dir", self.state, *browser, *options]
        return subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS, **run,
        )

    def signed_in(self, site, *options):
        ended = self.tools(site, *options)
        assert ended.returncode == 0, ended.stderr

    def edit(self, **credentials):
        """Changes what is kept."""
        (file,) = self.state.glob("*.json")
        kept = json.loads(file.read_text())
        kept["credentials"].update(credentials)
        file.write_text(json.dumps(kept))
        return kept

    def expire(self, site):
        site.valid.clear()
        self.edit(token_received_at=0)


@pytest.fixture
def own(mcpl, tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return Mcpl(mcpl, state)


def test_a_registration_that_is_lost_is_made_anew_o01(own):
    def token(request):
        unknown = request.form.get("client_id") not in site.clients
        return (401, {"error": "invalid_client"}) if unknown else None

    with Site({"/token": token}) as site:
        own.signed_in(site)
        own.expire(site)
        lost = site.clients.pop("client-0")
        site.clients["another"] = lost
        own.signed_in(site)

        assert (site.count("/register"), site.pages()) == (2, 2)
        assert len(site.token_requests("refresh_token")) == 1


def test_a_registration_that_is_lost_shows_at_the_code_too_o01(own):
    refused = {"client-0"}

    def token(request):
        is_code = request.form["grant_type"] == "authorization_code"
        return (401, {"error": "invalid_client"}) if is_code and request.form["client_id"] in refused else None

    with Site() as site:
        own.signed_in(site)
        site.answers["/token"] = token
        site.valid.clear()
        own.edit(token_response={"access_token": "void", "token_type": "Bearer"})
        own.signed_in(site)
        assert (site.count("/register"), site.pages()) == (2, 3)

        # Once: an issuer that forgets at once is an error.
        refused.update(["client-1", "client-2", "client-3"])
        site.valid.clear()
        own.edit(token_response={"access_token": "void", "token_type": "Bearer"})
        ended = own.tools(site)

        assert ended.returncode == 1 and "invalid_client" in ended.stderr, ended.stderr
        assert (site.count("/register"), site.pages()) == (3, 5)


def test_a_registration_that_is_lost_opens_no_page_that_does_not_end_o01(own):
    def token(request):
        return None if request.form["client_id"] in site.clients else (401, {"error": "invalid_client"})

    def authorize(request):
        return None if request.query["client_id"] in site.clients else (400, "unknown client")

    with Site({"/token": token, "/authorize": authorize}) as site:
        own.signed_in(site)
        site.clients["another"] = site.clients.pop("client-0")
        site.valid.clear()
        own.edit(token_response={"access_token": "void", "token_type": "Bearer"})
        own.signed_in(site)

        assert (site.count("/register"), site.pages()) == (2, 2)


def test_a_client_that_was_given_is_not_replaced_o01(own):
    with Site({"/token": lambda _: (401, {"error": "invalid_client"})}) as site:
        ended = own.tools(site, "--client-id", "mine")

        assert ended.returncode == 1 and "invalid_client" in ended.stderr, ended.stderr
        assert (site.count("/register"), site.pages()) == (0, 1)


def test_the_registration_travels_with_the_tokens_o01(own):
    with Site(registered={"client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}) as site:
        own.signed_in(site)
        own.expire(site)
        (file,) = own.state.glob("*.json")
        kept = json.loads(file.read_text())
        kept["registration"].update(client_id="another", client_secret="other")
        file.write_text(json.dumps(kept))
        own.signed_in(site)

        (refresh,) = site.token_requests("refresh_token")
        assert (refresh.form["client_id"], refresh.form["client_secret"]) == ("client-0", "s")
        assert refresh.form["resource"] == site.url and site.pages() == 1


@pytest.mark.parametrize(
    "registered, form, is_basic",
    [
        ({"client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}, {"client_id": "client-0", "client_secret": "s"}, False),
        ({"client_secret": "s", "token_endpoint_auth_method": "client_secret_basic"}, {}, True),
        ({"client_secret": "s", "token_endpoint_auth_method": "none"}, {"client_id": "client-0"}, False),
        ({"client_secret": ""}, {"client_id": "client-0"}, False),
    ],
    ids=["post", "basic", "none", "empty"],
)
def test_the_registration_decides_how_the_client_authenticates_o01(own, registered, form, is_basic):
    methods = ["client_secret_basic", "client_secret_post", "none"]
    with Site(registered=registered, more_metadata={"token_endpoint_auth_methods_supported": methods}) as site:
        own.signed_in(site)
        (request,) = site.token_requests("authorization_code")

    assert {name: value for name, value in request.form.items() if name.startswith("client_")} == form
    assert request.headers.get("authorization", "").startswith("Basic ") == is_basic


@pytest.mark.parametrize(
    "failure, is_right",
    [(AWAY, True), (..., True), ((400, {"error": "temporarily_unavailable"}, ("Retry-After", "0")), True), ((429, "", ("Retry-After", "0")), True)],
    ids=["503", "reset", "temporarily_unavailable", "429"],
)
def test_a_refresh_is_retried_o02(own, failure, is_right):
    failures = [failure]
    with Site() as site:
        own.signed_in(site)
        own.expire(site)
        site.answers["/token"] = lambda _: failures.pop() if failures else None
        own.signed_in(site)

        assert site.pages() == 1 and len(site.token_requests("refresh_token")) == 2


@pytest.mark.parametrize(
    "failure, tries", [(AWAY, 4), ((400, {"error": "invalid_request"}), 1), ((403, "<html>blocked"), 1)], ids=["503", "400", "403"]
)
@pytest.mark.parametrize("is_over", [True, False], ids=["expired", "rejected"])
def test_a_refresh_that_fails_is_an_error_and_no_page_o02(own, failure, tries, is_over):
    with Site() as site:
        own.signed_in(site)
        site.valid.clear()
        if is_over:
            own.expire(site)
        site.answers["/token"] = lambda _: failure
        ended = own.tools(site)

        assert ended.returncode == 1 and "could not refresh the token" in ended.stderr, ended.stderr
        assert site.pages() == 1 and len(site.token_requests("refresh_token")) == tries


@pytest.mark.parametrize("status", [400, 200])
def test_a_void_refresh_token_leads_to_a_page_o02(own, status):
    with Site() as site:
        own.signed_in(site)
        own.expire(site)
        site.answers["/token"] = lambda own: (status, {"error": "invalid_grant"}) if own.form["grant_type"] == "refresh_token" else None
        own.signed_in(site)

        refreshes = [own for own in site.token_requests("refresh_token") if own.form["refresh_token"] == "r0"]
        assert site.pages() == 2 and len(refreshes) == 1


@pytest.mark.parametrize("challenge", [None, 'Bearer error="invalid_token"'], ids=["pointer", "no-pointer"])
def test_the_endpoint_is_not_requested_for_metadata_o03_o05(own, challenge):
    with Site({"/mcp": lambda request: ELSEWHERE if request.method == "GET" else None}, challenge) as site:
        own.signed_in(site)

        assert site.count("/mcp", "GET") == 0


def test_a_refresh_needs_no_discovery_o04(own):
    with Site() as site:
        own.signed_in(site)
        own.expire(site)
        for path in (f"{RESOURCE_METADATA}/mcp", RESOURCE_METADATA, ISSUER_METADATA, "/.well-known/openid-configuration"):
            site.answers[path] = lambda _: (500, "")
        before = len(site.requests)
        own.signed_in(site)

        assert site.pages() == 1
        assert {request.path for request in site.requests[before:]} == {"/token", "/mcp"}


FAILURES = [ELSEWHERE, (500, ""), (502, ""), AWAY, (404, ""), (200, "<html>"), (200, "{}"), (200, {"resource": "https://evil.example/"})]


@pytest.mark.parametrize("failure", FAILURES, ids=["redirect", "500", "502", "503", "404", "page", "empty", "another"])
def test_a_place_without_the_document_leads_to_the_next_o05_o06(own, failure):
    def elsewhere(_):
        return 200, {"resource": site.url, "authorization_servers": [site.origin]}

    answers = {f"{RESOURCE_METADATA}/mcp": lambda _: failure, RESOURCE_METADATA: elsewhere}
    with Site(answers, "Bearer") as site:
        own.signed_in(site)


@pytest.mark.parametrize("failure", FAILURES[:-1], ids=["redirect", "500", "502", "503", "404", "page", "empty"])
def test_an_issuer_s_place_without_the_document_leads_to_the_next_o05_o06(own, failure):
    answers = {ISSUER_METADATA: lambda _: failure, "/.well-known/openid-configuration": lambda _: (200, site.metadata())}
    with Site(answers) as site:
        own.signed_in(site)


@pytest.mark.parametrize("path", [f"{RESOURCE_METADATA}/mcp", ISSUER_METADATA])
def test_unavailable_metadata_is_requested_once_more_o06(own, path):
    failures = [(503, "")]
    with Site({path: lambda _: failures.pop() if failures else None}) as site:
        own.signed_in(site)
        assert site.count(path) == 2

    with Site({path: lambda _: (503, "")}) as site:
        ended = own.tools(site)

        assert ended.returncode == 1 and path in ended.stderr and "503" in ended.stderr, ended.stderr
        assert (site.count(path), site.pages()) == (2, 0)


def test_metadata_that_the_server_names_must_be_its_own(own):
    with Site({f"{RESOURCE_METADATA}/mcp": lambda _: (200, {"resource": "https://evil.example/mcp"})}) as site:
        ended = own.tools(site)

    assert ended.returncode == 1 and "evil.example" in ended.stderr and site.pages() == 0, ended.stderr


def test_the_resource_of_the_metadata_is_sent_in_its_normal_form(own):
    with Site() as site:
        resource = site.url.replace("http://", "HTTP://").replace("/mcp", "/./mcp")
        metadata = {"resource": resource, "authorization_servers": [site.origin]}
        site.answers[f"{RESOURCE_METADATA}/mcp"] = lambda _: (200, metadata)
        own.signed_in(site)
        own.expire(site)
        own.signed_in(site)
        sent = [request.query or request.form for request in site.requests if request.path in ("/authorize", "/token")]

    assert [one["resource"] for one in sent] == [site.url] * 3


@pytest.mark.parametrize(
    "written, reason",
    [("{}#x", "which has a fragment"), (" {}", "which is no absolute URI"), ("{}\n", "which is no absolute URI"), ("{}?a=b", "which is not the server's URL")],
)
def test_a_resource_that_is_not_the_server_is_rejected(own, written, reason):
    with Site() as site:
        metadata = {"resource": written.format(site.url), "authorization_servers": [site.origin]}
        site.answers[f"{RESOURCE_METADATA}/mcp"] = lambda _: (200, metadata)
        ended = own.tools(site)

    assert ended.returncode == 1 and reason in ended.stderr and site.pages() == 0, ended.stderr


def test_all_requests_have_the_same_user_agent_o07(own):
    with Site() as site:
        own.signed_in(site)
        own.expire(site)
        own.signed_in(site)
        agents = {request.path: request.headers.get("user-agent") for request in site.requests if request.path != "/authorize"}

    assert {"/mcp", "/register", "/token", ISSUER_METADATA, f"{RESOURCE_METADATA}/mcp"} == set(agents)
    assert len(set(agents.values())) == 1 and re.fullmatch(r"mcpl/\d.*", agents["/token"]), agents


@pytest.mark.parametrize("option", ["--header", "--header-env", "--header-file"])
def test_configured_headers_go_to_the_server_s_origin_alone_o08(own, tmp_path, option):
    secret = tmp_path / "secret"
    secret.write_text("k1\n")
    value = {"--header": "X-Gateway-Key: k1", "--header-env": "X-Gateway-Key=KEY", "--header-file": f"X-Gateway-Key={secret}"}[option]
    variables = {"env": {**os.environ, "KEY": "k1"}}
    with Site() as same, Site() as issuer, Site(issuer=issuer) as server:
        for site in (same, server):
            ended = own.tools(site, option, value, **variables)
            assert ended.returncode == 0, ended.stderr
        sent = [request.headers.get("x-gateway-key") for request in [*same.requests, *server.requests] if request.path != "/authorize"]
        elsewhere = [request.headers.get("x-gateway-key") for request in issuer.requests]

    assert len(sent) > 8 and set(sent) == {"k1"}
    assert len(elsewhere) >= 4 and set(elsewhere) == {None}


def test_a_header_without_a_value_is_an_error(own):
    with Site() as site:
        for option, value, code in [("--header-env", "X=UNSET_VARIABLE", 1), ("--header-file", "X=/none", 1), ("--header-env", "X", 2)]:
            ended = own.tools(site, option, value)
            assert ended.returncode == code and site.requests == [], ended.stderr


@pytest.mark.parametrize("lifetime", ["3600", "soon", None, -1])
def test_numbers_may_be_text_o09(own, lifetime):
    def token(request):
        status, token = site.token(request)
        return status, {**token, "expires_in": lifetime}

    with Site({"/token": token}) as site:
        own.signed_in(site)


def test_several_instances_open_one_page_o11_o12(own):
    everyone_waits = threading.Event()

    def message(request):
        if "authorization" not in request.headers and site.count("/mcp", "POST") == 3:
            everyone_waits.set()

    def authorize(_):
        assert everyone_waits.wait(PATIENCE_SECONDS)

    with Site({"/mcp": message, "/authorize": authorize}) as site:
        proxies = [Session(words(own.program, site.url, own.state)) for _ in range(3)]
        for proxy in proxies:
            proxy.send("initialize", LEGACY_CLIENT)
        answers = [proxy.read() for proxy in proxies]
        for proxy in proxies:
            proxy.close()

        assert all("result" in answer for answer in answers), answers
        assert (site.pages(), site.count("/register"), site.count("/token")) == (1, 1, 1)


def test_tokens_are_refreshed_while_a_page_is_open_o12(own):
    """A step-up in one process, and a token that ends in another."""
    is_open, is_refreshed = threading.Event(), threading.Event()

    def authorize(_):
        is_open.set()
        assert is_refreshed.wait(PATIENCE_SECONDS)

    def message(request):
        if json.loads(request.body)["method"] == "step/up" and not is_open.is_set():
            return 403, {}, ("WWW-Authenticate", 'Bearer error="insufficient_scope", scope="more"')

    with Site() as site:
        own.signed_in(site)
        site.answers.update({"/authorize": authorize, "/mcp": message})
        with contextlib.closing(Session(words(own.program, site.url, own.state))) as proxy:
            proxy.send("step/up")
            assert is_open.wait(PATIENCE_SECONDS)
            own.expire(site)
            own.signed_in(site)
            assert len(site.token_requests("refresh_token")) == 1
            is_refreshed.set()
            assert proxy.read()["error"]["code"] == -32601


def test_a_fixed_port_is_waited_for_o14(own):
    both_are_there = threading.Event()

    def found(_):
        if one.count(ISSUER_METADATA) and other.count(ISSUER_METADATA):
            both_are_there.set()

    def authorize(_):
        assert both_are_there.wait(PATIENCE_SECONDS)

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as taken:
        port = str(taken.server_port)
    answers = {ISSUER_METADATA: found, "/authorize": authorize}
    with Site(answers) as one, Site(answers) as other:
        proxies = [Session(words(own.program, site.url, own.state, "--callback-port", port)) for site in (one, other)]
        for proxy in proxies:
            proxy.send("initialize", LEGACY_CLIENT)
        answers = [proxy.read() for proxy in proxies]
        for proxy in proxies:
            proxy.close()

        assert all("result" in answer for answer in answers), answers
        assert (one.pages(), other.pages()) == (1, 1)


@pytest.mark.parametrize("written", ['Basic realm="x", Bearer resource_metadata="{}"', 'Bearer resource_metadata = "{}"'])
def test_a_challenge_is_found_behind_another_c14_o16(own, written):
    def elsewhere(_):
        return 200, {"resource": site.url, "authorization_servers": [site.origin]}

    with Site({"/metadata": elsewhere, f"{RESOURCE_METADATA}/mcp": lambda _: (404, ""), ISSUER_METADATA: lambda _: None}) as site:
        site.challenge = written.format(f"{site.origin}/metadata")
        own.signed_in(site)

        assert site.count("/metadata") == 1


def test_a_server_that_requires_an_api_key_is_recognized_o17(own):
    def key(request):
        if request.headers.get("x-api-key") != "k":
            return 401, {"message": "send x-api-key"}

    with Site() as site:
        site.answers = dict.fromkeys([f"{RESOURCE_METADATA}/mcp", ISSUER_METADATA], lambda _: (404, ""))
        site.answers["/mcp"] = key
        ended = own.tools(site)

        assert ended.returncode == 1 and '--header "NAME: VALUE"' in ended.stderr, ended.stderr
        assert len(ended.stderr.splitlines()) == 1 and site.pages() == site.count("/register") == 0, ended.stderr


def test_over_ssh_an_address_is_pasted_o18(own):
    with Site() as site:
        process, terminal = pty.fork()
        if process == 0:
            command = [own.program, "tools", site.url, "--state-dir", str(own.state), "--no-browser"]
            os.execv(own.program, command)
        shown = b""
        has_pasted = False
        with contextlib.suppress(OSError):
            while select.select([terminal], [], [], PATIENCE_SECONDS)[0]:
                shown += os.read(terminal, 65536)
                page = re.search(rb"sign in at (\S+)\r?\n", shown)
                if b"paste" in shown and page and not has_pasted:
                    has_pasted = True
                    os.write(terminal, b"\nhttp://127.0.0.1:1/callback?code=x&state=wrong\n")
                    os.write(terminal, end_of(page[1].decode()).encode() + b"\n")
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    shown = shown.decode()
    port = re.search(r"redirect_uri=http%3A%2F%2F127\.0\.0\.1%3A(\d+)", shown)[1]
    assert f"ssh -L {port}:127.0.0.1:{port} HOST" in shown and "paste" in shown, shown
    assert code == 0 and "not the address" in shown, shown


def end_of(url):
    """Where a page leads that the browser cannot reach."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(url, timeout=PATIENCE_SECONDS)
    except urllib.error.HTTPError as error:
        return error.headers["location"]


def test_what_is_forgotten_is_said_c09(own):
    def forget(url):
        command = [own.program, "forget", url, "--state-dir", str(own.state)]
        ended = subprocess.run(command, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    with Site() as site:
        own.signed_in(site)
        code, text = forget(f"{site.url}x")
        assert code == 1 and f"nothing is kept for {site.url}x" in text and site.url in text.replace(f"{site.url}x", ""), text
        code, text = forget(site.url)
        assert code == 0 and f"forgot the tokens of {site.origin} and the client client-0, for {site.url}" in text, text
        code, text = forget(site.url)
        assert code == 1 and f"nothing is kept for {site.url}" in text, text
        own.signed_in(site)
        code, text = forget(f"{site.url}/")
        assert code == 0 and "forgot the tokens" in text, f"another spelling: {text}"
        own.signed_in(site)

        assert (site.pages(), site.count("/register")) == (3, 3)


def refuse(request):
    query = urllib.parse.urlencode({"error": "access_denied", "error_description": "no", "state": request.query["state"]})
    return 302, "", ("Location", f"{request.query['redirect_uri']}?{query}")


def test_an_error_is_reported_once_c15(own):
    with Site({"/authorize": refuse}) as site:
        ended = own.tools(site)

    assert ended.returncode == 1 and ended.stderr.count("access_denied") == 1, ended.stderr


def test_an_issuer_without_pkce_is_rejected_unless_an_option_says_so_c1(own):
    with Site(more_metadata={"code_challenge_methods_supported": None}) as site:
        ended = own.tools(site)
        assert ended.returncode == 1 and "--assume-pkce" in ended.stderr and site.pages() == 0, ended.stderr
        own.signed_in(site, "--assume-pkce")
    with Site(more_metadata={"code_challenge_methods_supported": ["plain"]}) as site:
        ended = own.tools(site, "--assume-pkce")
        assert ended.returncode == 1 and "S256" in ended.stderr and site.pages() == 0, ended.stderr


def test_an_error_without_the_advertised_issuer_is_ignored_c2(own):
    shown = []

    def authorize(request):
        redirect_uri, state = request.query["redirect_uri"], request.query["state"]
        for issuer in ({}, {"iss": "https://evil.example"}):
            query = urllib.parse.urlencode({"error": "access_denied", "error_description": "EVIL", "state": state, **issuer})
            try:
                urllib.request.urlopen(f"{redirect_uri}?{query}", timeout=PATIENCE_SECONDS)
            except urllib.error.HTTPError as error:
                shown.append(error.read().decode())
        back = urllib.parse.urlencode({"code": "code", "state": state, "iss": site.origin})
        return 302, "", ("Location", f"{redirect_uri}?{back}")

    with Site({"/authorize": authorize}, more_metadata={"authorization_response_iss_parameter_supported": True}) as site:
        own.signed_in(site)

    assert len(shown) == 2 and not any("EVIL" in page for page in shown), shown


@pytest.mark.parametrize("issuer", [None, "https://evil.example", "/"], ids=["missing", "another", "slash"])
def test_a_code_without_the_advertised_issuer_is_not_used(own, issuer):
    def authorize(request):
        named = {} if issuer is None else {"iss": site.origin + "/" if issuer == "/" else issuer}
        back = urllib.parse.urlencode({"code": "code", "state": request.query["state"], **named})
        return 302, "", ("Location", f"{request.query['redirect_uri']}?{back}")

    with Site({"/authorize": authorize}, more_metadata={"authorization_response_iss_parameter_supported": True}) as site:
        ended = own.tools(site)

        assert ended.returncode == 1 and site.count("/token") == 0, ended.stderr


@pytest.mark.parametrize(
    "options, resource",
    [([], ...), (["--resource", "urn:other"], "urn:other"), (["--no-resource"], None)],
    ids=["server", "other", "left-out"],
)
def test_the_resource_may_be_another_or_left_out(own, options, resource):
    with Site() as site:
        own.signed_in(site, *options)
        own.expire(site)
        own.signed_in(site, *options)
        (page,) = [request.query for request in site.requests if request.path == "/authorize"]
        forms = [request.form for request in site.requests if request.path == "/token"]

    expected = site.url if resource is ... else resource
    assert len(forms) == 2 and [sent.get("resource") for sent in [page, *forms]] == [expected] * 3


def test_the_redirect_may_name_localhost(own):
    with Site() as site:
        own.signed_in(site, "--callback-host", "localhost")
        (page,) = [request.query for request in site.requests if request.path == "/authorize"]
        (code,) = site.token_requests("authorization_code")

    assert re.fullmatch(r"http://localhost:\d+/callback", page["redirect_uri"]), page
    assert code.form["redirect_uri"] == page["redirect_uri"] == site.clients["client-0"]["redirect_uris"][0]


def test_an_entry_keeps_the_options(own, tmp_path):
    kept = ["--header-env", "X-Key=KEY", "--header-file", f"X-Other={tmp_path / 'key'}", "--resource", "urn:x", "--assume-pkce"]
    kept += ["--callback-host", "localhost"]
    command = [own.program, "install", "s", "https://mcp.example.com/mcp", "--claude", *kept]
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    subprocess.run(command, env=home, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    (file,) = tmp_path.rglob("claude_desktop_config.json")
    arguments = json.loads(file.read_text())["mcpServers"]["s"]["args"]

    pairs = [*zip(arguments, arguments[1:])]
    assert all(pair in pairs for pair in zip(kept[:6:2], kept[1:6:2])), arguments
    assert {"--assume-pkce", "--callback-host", "localhost"} <= set(arguments)
