"""event-logger knows its callers: official clients sign in at a real OpenID provider, behind a front that renames the
challenge as Function URLs do; and Cognito's tokens, as moto issues them."""

import contextlib
import http.client
import json
import re
import subprocess
import time
import urllib.parse

import anyio
import boto3
import dev as dev_script
import postgres
import processes
import psycopg
import pytest
import python_oauth
from conftest import Dev, emulated
from driving import BINARIES, GREETER, GUARDED, build_one
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthToken
from mcp.shared.exceptions import MCPError
from moto.server import ThreadedMotoServer
from oauth import (
    PATIENCE_SECONDS, RENAMED, Issuer, browser, challenge_of, fetch, follow, restoring_front,
)
from proxied import LOGGED, Logged

WELL_KNOWN = "/.well-known/oauth-protected-resource"
# Longer than any time for which a server leaves its issuer alone.
COOLDOWN_SECONDS = 180


@pytest.fixture(scope="module")
def database():
    with postgres.Postgres() as own:
        yield own.url()


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as own:
        yield own


@pytest.fixture(scope="module")
def event_logger(database):
    """Starts event-logger; its URL."""

    @contextlib.contextmanager
    def start(mode="buffered", environments=1, **variables):
        running = emulated("event-logger", mode, environments, **{"DATABASE_URL": database, **variables})
        try:
            yield running.url
        finally:
            running.stop()

    return start


@pytest.fixture(scope="module", params=["buffered", "stream"])
def function_url(request, event_logger, issuer):
    """What is public needs no token."""
    with event_logger(request.param, 3, OIDC_ISSUER=issuer.url) as url:
        yield url


@pytest.fixture(scope="module")
def closed(event_logger, issuer):
    """Every request needs a token."""
    with event_logger(OIDC_ISSUER=issuer.url, MCP_ANONYMOUS="deny") as url:
        yield url


@pytest.fixture(scope="module")
def restored(event_logger, issuer):
    """Behind a CDN that gives the challenge its own name back."""
    with restoring_front() as front:
        with event_logger(OIDC_ISSUER=issuer.url, MCP_PUBLIC_URL=front.origin) as front.target:
            yield f"{front.origin}/mcp"


CLIENTS = [(language, mode) for language in ("python", "typescript") for mode in ("auto", "legacy", "2026-07-28")]
CLIENTS.append(("typescript", "sdk"))


@pytest.fixture(params=CLIENTS, ids=["-".join(client) for client in CLIENTS])
def use(request, node):
    """Has an official client list the tools, call `get_latest_events`, and `log_event` twice; what it saw. With a
    token, which has the scope `events:read`, it is signed in already. Each part tells for what it `asked` the issuer."""
    language, mode = request.param

    def run(url, token=None):
        if language == "python":
            return anyio.run(python_client, url, mode, token)
        return json.loads(node("oauth_typescript.mjs", url, mode, *filter(None, [token])).stdout)

    run.is_first_generation = mode == "sdk"
    return run


async def python_client(url, mode, token):
    requests, answers = [], []

    async def redirect(request):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request).query))
        request_names = {"scope": "scope", "resource": "resource", "pkce": "code_challenge_method"}
        requests.append({name: query.get(parameter) for name, parameter in request_names.items()})
        answers.append(await anyio.to_thread.run_sync(follow, request))

    async def call(client, name, arguments):
        seen = len(requests)
        try:
            result = await client.call_tool(name, arguments)
        except MCPError as error:
            said = {"status": error.error.code, "message": f"{error.error.message} {json.dumps(error.error.data)}"}
            return {"error": "MCPError", **said, "asked": requests[seen:]}
        return {"text": result.content[0].text, "isError": result.is_error, "asked": requests[seen:]}

    tokens = token and OAuthToken(access_token=token, scope="events:read")
    auth = python_oauth.provider(url, redirect, answers.pop, tokens)
    async with create_mcp_http_client(auth=auth) as http_client:
        async with Client(streamable_http_client(url, http_client=http_client), mode=mode) as client:
            tools = (await client.list_tools()).tools
            saw = {"listed": {"tools": [tool.name for tool in tools], "asked": requests[:]}}
            saw["latest"] = await call(client, "get_latest_events", {"limit": 1})
            saw["logged"] = await call(client, "log_event", {"event_name": "login"})
            saw["again"] = await call(client, "log_event", {"event_name": "logout"})
    return saw


def assert_asks(asked, url, *scopes):
    """That the issuer was asked once, for a token for this server with at least these scopes."""
    (request,) = asked
    assert (request["resource"], request["pkce"]) == (url, "S256")
    assert set(scopes) <= set(request["scope"].split()), request


def test_the_first_tool_that_needs_it_leads_to_the_issuer(function_url, use):
    saw = use(function_url)

    assert saw["listed"] == {"tools": ["log_event", "get_latest_events"], "asked": []}
    assert saw["latest"]["isError"] is False and saw["latest"]["asked"] == []
    assert saw["logged"]["text"] == LOGGED
    # Clients do not read the renamed challenge: they find the scopes at the well-known URI.
    assert_asks(saw["logged"]["asked"], function_url, "events:write")
    assert saw["again"] == {"text": Logged("logout"), "isError": False, "asked": []}


def test_where_every_request_needs_a_token_connecting_leads_to_the_issuer(closed, use):
    saw = use(closed)

    assert_asks(saw["listed"]["asked"], closed, "events:write")
    assert saw["listed"]["tools"] == ["log_event", "get_latest_events"]
    assert saw["latest"]["isError"] is False and saw["latest"]["asked"] == []
    assert saw["logged"] == {"text": LOGGED, "isError": False, "asked": []}


def test_a_challenge_that_keeps_its_name_is_followed(restored, use):
    saw = use(restored)

    assert saw["listed"]["asked"] == saw["latest"]["asked"] == []
    assert saw["logged"]["text"] == LOGGED
    assert_asks(saw["logged"]["asked"], restored, "events:write")
    assert saw["again"]["asked"] == []


def test_a_refused_token_leads_to_the_issuer(function_url, use):
    saw = use(function_url, token="not.a.token")

    assert_asks(saw["listed"]["asked"], function_url, "events:write")
    assert saw["logged"]["text"] == LOGGED


def test_a_missing_scope_is_an_error_that_names_it(function_url, issuer, use):
    saw = use(function_url, token=issuer.token(function_url, "events:read"))

    assert saw["latest"]["isError"] is False
    for answer in (saw["logged"], saw["again"]):
        assert answer["status"] == 403
        assert "insufficient_scope" in answer["message"] and "events:write" in answer["message"]
        # Neither mcp 2.3.0 nor @modelcontextprotocol/client 2.4.0 nor @modelcontextprotocol/sdk 1.32.2 steps up: by
        # `WWW-Authenticate` alone they know that a scope is missing, and here it is renamed. Where it keeps its name
        # they do: see `test_a_missing_scope_is_asked_for`.
        assert answer["asked"] == []


def test_a_missing_scope_is_asked_for(restored, issuer, use):
    saw = use(restored, token=issuer.token(restored, "events:read"))

    assert saw["listed"]["asked"] == saw["latest"]["asked"] == []
    assert saw["logged"]["text"] == LOGGED
    # @modelcontextprotocol/sdk 1.32.2 asks for what the challenge says and forgets what it had. With a refresh token,
    # which this one lacks, it would refresh in vain and fail with "Server returned 403 after trying upscoping".
    before = [] if use.is_first_generation else ["events:read"]
    assert_asks(saw["logged"]["asked"], restored, "events:write", *before)
    assert saw["again"]["asked"] == []


def post(url, method, params=None, token=None):
    """Status, headers and JSON of an answer."""
    target = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=PATIENCE_SECONDS)
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}})
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("POST", target.path, body, headers)
    response = connection.getresponse()
    answer = json.load(response)
    connection.close()
    return response.status, response.headers, answer


def call(url, tool, token=None):
    arguments = {"event_name": "login"} if tool == "log_event" else {}
    return post(url, "tools/call", {"name": tool, "arguments": arguments}, token)


def refused(answer):
    """Status and challenge of an answer that refuses a call, which says the same wherever it says it."""
    status, headers, message = answer
    assert message["id"] == 7 and message["error"]["code"] == status, message
    assert message["error"]["data"]["mcp/www_authenticate"] == headers.get_all(RENAMED)
    assert "www-authenticate" not in headers
    return status, challenge_of(message["error"]["data"]["mcp/www_authenticate"][0])


def origin_of(url):
    return f"http://{urllib.parse.urlsplit(url).netloc}"


def test_without_a_token_the_challenge_has_no_error_code(function_url):
    status, challenge = refused(call(function_url, "log_event"))

    assert status == 401
    # RFC 6750, section 3.1: who sent nothing did nothing wrong.
    assert "error" not in challenge
    assert challenge["resource_metadata"] == f"{origin_of(function_url)}{WELL_KNOWN}/mcp"
    assert "events:write" in challenge["scope"].split()
    # RFC 9728, section 5.1, and `basic/authorization` of 2026-07-28, "Refresh Tokens".
    assert "offline_access" not in challenge["scope"].split()


def test_without_a_token_a_closed_server_tells_nothing(closed):
    for method in ("initialize", "ping", "server/discover", "tools/list", "resources/list", "no/such/method"):
        status, challenge = refused(post(closed, method))
        assert status == 401 and "error" not in challenge, method
    assert refused(call(closed, "get_latest_events"))[0] == 401


def test_metadata_is_at_both_well_known_uris(function_url, issuer):
    origin = origin_of(function_url)

    of_endpoint = fetch(f"{origin}{WELL_KNOWN}/mcp")
    of_origin = fetch(f"{origin}{WELL_KNOWN}")

    assert (of_endpoint["resource"], of_origin["resource"]) == (f"{origin}/mcp", origin)
    for document in (of_endpoint, of_origin):
        assert document["authorization_servers"] == [issuer.url]
        # All that tools need: a client that cannot read the challenge asks for these.
        assert "events:write" in document["scopes_supported"]
        assert "offline_access" not in document["scopes_supported"]
        assert document["bearer_methods_supported"] == ["header"]


def test_metadata_needs_no_token(closed, issuer):
    for path in (WELL_KNOWN, f"{WELL_KNOWN}/mcp"):
        assert fetch(f"{origin_of(closed)}{path}")["authorization_servers"] == [issuer.url]


def test_a_token_without_the_scope_is_told_which(function_url, issuer):
    token = issuer.token(function_url, "events:read")

    status, challenge = refused(call(function_url, "log_event", token))

    assert (status, challenge["error"]) == (403, "insufficient_scope")
    assert "events:write" in challenge["scope"].split()
    assert challenge["resource_metadata"] == f"{origin_of(function_url)}{WELL_KNOWN}/mcp"
    assert call(function_url, "get_latest_events", token)[0] == 200


def test_a_token_is_accepted_for_the_endpoint_or_its_origin_and_for_nothing_else(function_url, issuer):
    origin = origin_of(function_url)
    accepted = [function_url, origin]
    elsewhere = [origin.replace("127.0.0.1", "localhost"), "http://127.0.0.1:1/mcp"]

    def log_with_token_for(resource):
        return call(function_url, "log_event", issuer.token(resource, "events:write"))

    for resource in accepted:
        status, _, answer = log_with_token_for(resource)
        assert status == 200 and answer["result"]["content"][0]["text"] == LOGGED, resource
    for resource in [f"{origin}/other", f"{function_url}/more", *elsewhere]:
        status, challenge = refused(log_with_token_for(resource))
        assert (status, challenge["error"]) == (401, "invalid_token"), resource


def test_a_refused_token_is_refused_for_public_tools_and_lists_as_well(function_url):
    bad = "not.a.token"

    for answer in (call(function_url, "get_latest_events", bad), post(function_url, "tools/list", token=bad)):
        status, challenge = refused(answer)
        assert (status, challenge["error"]) == (401, "invalid_token")


def test_an_id_token_is_no_access_token(function_url, issuer):
    tokens = issuer.tokens(function_url, "openid", "email", "events:write")

    assert call(function_url, "log_event", tokens["access_token"])[0] == 200
    status, challenge = refused(call(function_url, "log_event", tokens["id_token"]))
    assert (status, challenge["error"]) == (401, "invalid_token")


def test_another_issuer_is_not_trusted(function_url):
    with Issuer() as other:
        status, challenge = refused(call(function_url, "log_event", other.token(function_url, "events:write")))

    assert (status, challenge["error"]) == (401, "invalid_token")


def test_elliptic_curves_are_known(event_logger):
    with Issuer(algorithm="ES256") as own:
        with event_logger(OIDC_ISSUER=own.url) as url:
            status, _, answer = call(url, "log_event", own.token(url, "events:write"))

    assert status == 200
    assert answer["result"]["content"][0]["text"] == LOGGED


def test_a_developer_signs_in_by_any_name(event_logger):
    with Issuer(sign_in=None) as own:
        with event_logger(OIDC_ISSUER=own.url) as url:
            texts = []
            for name in ("grace", "edsger"):
                tokens = own.tokens(url, "events:write", name=name)
                texts.append(call(url, "log_event", tokens["access_token"])[2]["result"]["content"][0]["text"])
            with pytest.raises(AssertionError, match="A name has letters"):
                own.tokens(url, "events:write", name="<b>")

    assert texts == [Logged(by=" by grace@example.com"), Logged(by=" by edsger@example.com")]


def test_make_dev_with_authorization_signs_a_client_in_through_the_authorization_server(mcpl, tmp_path):
    state = ["--state-dir", tmp_path / "state"]
    dev = Dev("--auth", "event-logger")
    try:
        url = dev.url("event-logger")
        status, headers, _ = call(url, "log_event")
        metadata = fetch(challenge_of(headers["www-authenticate"])["resource_metadata"])
        # Without a client id.
        signed_in = run(mcpl, "login", url, "--open", browser(tmp_path / "browser", "grace"), *state)
        logged = run(mcpl, "call", url, "log_event", "event_name=signed in", "--no-browser", *state)
        (database,) = re.findall(r"^Postgres is running at (\S+);", dev.output, re.MULTILINE)
        with psycopg.connect(f"{database.rpartition('/')[0]}/event-logger") as connection:
            stored = connection.execute("SELECT issuer, subject, event_name FROM events").fetchall()
        started = dev_script.descendants(dev.process.pid)
    finally:
        code = dev.stop()

    assert status == 401 and metadata["resource"] == url
    assert signed_in.returncode == 0 and logged.returncode == 0, signed_in.stderr + logged.stderr
    (issuer,) = metadata["authorization_servers"]
    [(issued_by, subject, name)] = stored
    assert (issued_by, name) == (issuer, "signed in") and subject.startswith("http://127.0.0.1:") and subject.endswith("#grace")
    assert re.search(rf"^The authorization server is running at {re.escape(issuer)}; .*signs in anyone", dev.output, re.MULTILINE)
    assert f"mcpl tools {url}" in dev.output and f"claude mcp add --transport http event-logger {url}" in dev.output
    assert code == 0
    assert {pid for pid, _, state in processes.listed() if state != "Z"}.isdisjoint(started)


def run(*words):
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS)


def test_greeter_is_closed_by_its_feature_and_an_issuer(tmp_path, issuer):
    greeter, guarded = (build_one("dev", tmp_path, name, *BINARIES[name]) for name in (GREETER, GUARDED))
    with emulated(greeter, "buffered", 1) as url:
        assert post(url, "tools/list")[0] == 200
    with emulated(guarded, "buffered", 1) as url:
        assert post(url, "tools/list")[0] == 200
    with emulated(guarded, "buffered", 1, OIDC_ISSUER=issuer.url) as url:
        assert refused(post(url, "tools/list"))[0] == 401
        assert post(url, "tools/list", token=issuer.token(url, "openid"))[0] == 200

    # It would be open to everyone, while the operator who set the variable believes it closed.
    variables = {"OIDC_ISSUER": issuer.url, "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}
    started = subprocess.run([greeter], env=variables, capture_output=True, text=True, timeout=60)
    assert started.returncode == 1
    assert "OIDC_ISSUER" in started.stdout and "--features auth" in started.stdout


def test_the_database_is_opened_once_and_not_for_each_request(event_logger, issuer):
    with postgres.Postgres() as server, psycopg.connect(server.url(), autocommit=True) as admin:
        with event_logger(OIDC_ISSUER=issuer.url, DATABASE_URL=server.url()) as url:
            token = issuer.token(url, "events:write")
            statuses = [call(url, "log_event", bearer)[0] for bearer in [token, None, "not.a.token", token, token]]
            query = (
                "SELECT array_agg(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            opened = admin.execute(query).fetchone()[0]
            statuses.append(call(url, "log_event", token)[0])
            assert admin.execute(query).fetchone()[0] == opened, "the same connection serves the next request"

    assert statuses == [200, 401, 401, 200, 200, 200]
    assert len(opened) == 1


def test_keys_that_change_are_found(event_logger):
    port = postgres.free_port()
    with contextlib.ExitStack() as stack:
        with Issuer(port=port) as before:
            url = stack.enter_context(event_logger(OIDC_ISSUER=before.url))
            old = before.token(url, "events:write")
            assert call(url, "log_event", old)[0] == 200
        # What is known needs no issuer.
        assert call(url, "log_event", old)[0] == 200

        with Issuer(port=port) as after:
            assert after.url == before.url
            new = after.token(url, "events:write")
            wait_until(lambda: call(url, "log_event", new)[0] == 200)


def test_no_token_is_called_invalid_while_the_issuer_is_unavailable(event_logger):
    port = postgres.free_port()
    with contextlib.ExitStack() as stack:
        with Issuer(port=port) as away:
            url = stack.enter_context(event_logger(OIDC_ISSUER=away.url))
            token = away.token(url, "events:write")
        status, headers, _ = call(url, "log_event", token)
        anonymous = call(url, "get_latest_events")[0]
        metadata = fetch(f"{origin_of(url)}{WELL_KNOWN}/mcp")
        with Issuer(port=port) as back:
            token = back.token(url, "events:write")
            wait_until(lambda: call(url, "log_event", token)[0] == 200)

    assert status == 503 and int(headers["retry-after"]) > 0
    assert anonymous == 200
    assert metadata["authorization_servers"] == [away.url]


def wait_until(condition):
    """Until the issuer may be asked again."""
    deadline = time.monotonic() + COOLDOWN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cognito():
    """A user pool: the endpoint, the pool, two of its clients, and what a user gets who signs in with each."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "cognito-idp", endpoint_url=endpoint, region_name="eu-west-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )
        pool = client.create_user_pool(PoolName="people")["UserPool"]["Id"]
        user = {"UserPoolId": pool, "Username": "ada"}
        attributes = [{"Name": "email", "Value": "ada@example.com"}, {"Name": "email_verified", "Value": "true"}]
        client.admin_create_user(**user, UserAttributes=attributes)
        client.admin_set_user_password(**user, Password="P4ss-word", Permanent=True)

        def signed_in(name):
            flows = ["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
            made = client.create_user_pool_client(UserPoolId=pool, ClientName=name, ExplicitAuthFlows=flows)
            client_id = made["UserPoolClient"]["ClientId"]
            parameters = {"USERNAME": "ada", "PASSWORD": "P4ss-word"}
            answer = client.admin_initiate_auth(
                UserPoolId=pool, ClientId=client_id, AuthFlow="ADMIN_USER_PASSWORD_AUTH", AuthParameters=parameters
            )
            return client_id, answer["AuthenticationResult"]

        yield endpoint, pool, signed_in("mcp"), signed_in("other")
    finally:
        moto.stop()


def test_tokens_of_a_cognito_user_pool_are_those_of_the_clients_that_are_named(event_logger, cognito):
    endpoint, pool, (client_id, own), (_, others) = cognito
    own_kinds = [own["AccessToken"], own["IdToken"]]
    # moto's tokens name the host that AWS has.
    issuers = [{
        "preset": "cognito", "user_pool_id": pool, "client_ids": [client_id],
        "jwks_uri": f"{endpoint}/{pool}/.well-known/jwks.json",
    }]
    with event_logger(OIDC_ISSUERS=json.dumps(issuers)) as url:
        read = [call(url, "get_latest_events", token) for token in own_kinds]
        written = [refused(call(url, "log_event", token)) for token in own_kinds]
        foreign = [refused(call(url, "get_latest_events", others[kind])) for kind in ("AccessToken", "IdToken")]
        authorization_servers = fetch(f"{origin_of(url)}{WELL_KNOWN}/mcp")["authorization_servers"]

    assert [status for status, *_ in read] == [200, 200]
    for status, challenge in written:
        # Its access token has the scope `aws.cognito.signin.user.admin`, its ID token has none.
        assert (status, challenge["error"]) == (403, "insufficient_scope")
        assert "events:write" in challenge["scope"].split()
    for status, challenge in foreign:
        assert (status, challenge["error"]) == (401, "invalid_token")
    assert authorization_servers == [f"https://cognito-idp.eu-west-1.amazonaws.com/{pool}"]
