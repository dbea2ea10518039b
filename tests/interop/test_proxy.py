"""`mcpl proxy` between official clients that speak stdio and functions behind the emulator, which renames the challenge as
Function URLs do."""

import contextlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import anyio
import postgres
import pytest
import tools
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import PROJECT, emulated
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from oauth import Issuer, fetch
from proxied import LEGACY_CLIENT, LOGGED, META, Session, session, words


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as own:
        yield own


@pytest.fixture(scope="module")
def event_logger(issuer):
    with postgres.Postgres() as server:
        running = emulated("event-logger", "buffered", 3, DATABASE_URL=server.url(), OIDC_ISSUER=issuer.url)
        try:
            yield running.url
        finally:
            running.stop()


CLIENTS = [("python", mode) for mode in ("auto", "legacy", "2026-07-28")]
CLIENTS += [("typescript", mode) for mode in ("auto", "legacy", "2026-07-28", "sdk")]


@pytest.mark.parametrize("language, mode", CLIENTS)
def test_an_official_client_lists_and_calls_and_is_signed_in(mcpl, event_logger, node, tmp_path, language, mode):
    command = words(mcpl, event_logger, tmp_path)
    if language == "python":
        saw = anyio.run(python_client, command, mode)
    else:
        saw = json.loads(node("proxy_typescript.mjs", mode, *command).stdout)

    assert saw["tools"] == ["log_event", "get_latest_events"]
    assert saw["latest"]["isError"] is False
    assert saw["logged"] == {"text": LOGGED, "isError": False}


async def python_client(command, mode):
    server = StdioServerParameters(command=command[0], args=command[1:])
    async with Client(stdio_client(server), mode=mode) as client:
        async def call(name, arguments):
            result = await client.call_tool(name, arguments)
            return {"text": result.content[0].text, "isError": result.is_error}

        listed = [tool.name for tool in (await client.list_tools()).tools]
        latest = await call("get_latest_events", {"limit": 1})
        return {"tools": listed, "latest": latest, "logged": await call("log_event", {"event_name": "login"})}


def kept(state):
    (file,) = pathlib.Path(state).glob("*.json")
    return file, json.loads(file.read_text())


def test_a_missing_scope_is_asked_for_though_the_challenge_is_renamed(mcpl, event_logger, issuer, tmp_path):
    with session(mcpl, event_logger, tmp_path, "--scope", "events:read") as proxy:
        # Any scope will do for a token; a bad one makes the server say so at once.
        assert proxy.text("log_event", event_name="login") == LOGGED
    file, before = kept(tmp_path)
    narrow = issuer.token(event_logger, "events:read")
    before["credentials"]["token_response"]["access_token"] = narrow
    before["credentials"]["granted_scopes"] = ["events:read"]
    file.write_text(json.dumps(before))

    with session(mcpl, event_logger, tmp_path) as proxy:
        text = proxy.text("log_event", event_name="login")

    assert text == LOGGED
    granted = set(kept(tmp_path)[1]["credentials"]["granted_scopes"])
    assert {"events:read", "events:write"} <= granted, "what was granted before is asked for again"


def test_what_is_kept_is_for_its_owner_and_serves_the_next_run(mcpl, event_logger, tmp_path):
    with session(mcpl, event_logger, tmp_path) as proxy:
        assert proxy.text("log_event", event_name="login") == LOGGED
    file, _ = kept(tmp_path)

    # No user would answer a sign-in page.
    with session(mcpl, event_logger, tmp_path, "--no-browser") as proxy:
        assert proxy.text("log_event", event_name="login") == LOGGED

    assert file.stat().st_mode & 0o777 == 0o600


def test_an_expired_token_is_refreshed_by_several_proxies_at_once(mcpl, event_logger, tmp_path):
    with session(mcpl, event_logger, tmp_path) as proxy:
        assert proxy.text("log_event", event_name="login") == LOGGED
    file, before = kept(tmp_path)
    before["credentials"]["token_received_at"] = 0
    before["credentials"]["token_response"]["access_token"] = "expired"
    file.write_text(json.dumps(before))

    proxies = [Session(words(mcpl, event_logger, tmp_path, "--no-browser")) for _ in range(4)]
    for proxy in proxies:
        proxy.send("tools/call", {"name": "log_event", "arguments": {"event_name": "login"}})
    answers = [proxy.read() for proxy in proxies]
    for proxy in proxies:
        proxy.close()

    assert [answer["result"]["content"][0]["text"] for answer in answers] == [LOGGED] * 4
    assert kept(tmp_path)[1]["credentials"]["token_received_at"] > 0


def test_a_token_that_ends_in_the_middle_of_a_session_is_refreshed(mcpl, event_logger, tmp_path):
    with session(mcpl, event_logger, tmp_path) as proxy:
        assert proxy.text("log_event", event_name="login") == LOGGED
        file, before = kept(tmp_path)
        # Its lifetime is not over, and the server refuses it all the same: clocks differ, issuers revoke.
        before["credentials"]["token_response"]["access_token"] = "refused"
        file.write_text(json.dumps(before))
        again = proxy.text("log_event", event_name="login")

    assert again == LOGGED
    after = kept(tmp_path)[1]["credentials"]["token_response"]
    assert after["access_token"] != "refused"
    assert before["credentials"]["token_response"]["refresh_token"], "there is something to refresh with"


@pytest.mark.parametrize("meta", [{}, META], ids=["legacy", "modern"])
def test_a_server_killed_in_the_middle_of_an_answer_is_an_error(mcpl, tmp_path, meta):
    running = emulated("examples/countdown", "stream", 1)
    with session(mcpl, running.url, tmp_path) as proxy:
        params = {"name": "countdown", "arguments": {"from": 1000}, "_meta": {**meta, "progressToken": "p"}}
        asked = proxy.send("tools/call", params)
        assert proxy.read()["method"] == "notifications/progress"
        running.process.kill()
        running.process.wait()
        message = proxy.read()
        while "id" not in message:
            message = proxy.read()

    assert (message["id"], message["error"]["code"]) == (asked, -32603)
    assert message["error"]["message"].startswith("mcpl: "), message


def test_a_server_that_goes_away_is_an_error_that_says_so(mcpl, tmp_path):
    running = emulated("greeter", "buffered", 1)
    with session(mcpl, running.url, tmp_path) as proxy:
        assert "Hello, Ada" in proxy.text("personalized_greeting", name="Ada")
        running.stop()
        call = proxy.call("personalized_greeting", name="Ada")
        # It changes nothing, so that it is tried again before it is an error.
        proxy.send("tools/list")
        listed = proxy.read()

    for answer in (call, listed):
        assert answer["error"]["code"] == -32603
        assert "could not reach" in answer["error"]["message"] and running.url in answer["error"]["message"]


def test_nothing_of_a_message_changes_on_its_way(mcpl, tmp_path):
    running = emulated("greeter", "buffered", 1)
    with running as url, session(mcpl, url, tmp_path) as proxy:
        for own_id in ("1e2", '"1"', "9007199254740993", "-0"):
            proxy.write(f'{{"jsonrpc":"2.0","id":{own_id},"method":"ping"}}')
            line = proxy.process.stdout.readline()
            assert f'"id":{own_id}' in line, line
        proxy.write("this is no message")
        assert proxy.read()["error"]["code"] == -32700
        name = "é" * 100
        assert name in proxy.text("personalized_greeting", name=name)
        # Longer than any buffer on the way.
        answer = proxy.call("personalized_greeting", name="x" * 3_000_000)
        assert answer["result"]["isError"] is True


@pytest.mark.parametrize("mode", ["buffered", "stream"])
@pytest.mark.parametrize("meta", [{}, META], ids=["legacy", "modern"])
def test_progress_comes_before_the_answer(mcpl, tmp_path, mode, meta):
    with emulated("examples/countdown", mode, 1) as url, session(mcpl, url, tmp_path) as proxy:
        if not meta:
            proxy.send("initialize", LEGACY_CLIENT)
            assert proxy.read()["result"]["protocolVersion"] == "2025-11-25"
            proxy.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        proxy.send("tools/call", {"name": "countdown", "arguments": {"from": 2}, "_meta": {**meta, "progressToken": "p"}})
        messages = [proxy.read() for _ in range(3)]

    assert [message.get("method") for message in messages] == ["notifications/progress"] * 2 + [None]
    assert messages[2]["result"]["content"][0]["text"] == "Lift-off!"


def test_questions_are_passed_on_with_their_state(mcpl, tmp_path):
    running = emulated("conformance", "buffered", 3, MCP_STATE_KEY="aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE=")
    with running as url, session(mcpl, url, tmp_path) as proxy:
        params = {"name": "test_input_required_result_elicitation", "arguments": {}, "_meta": META}
        proxy.send("tools/call", params)
        asked = proxy.read()["result"]
        assert asked["resultType"] == "input_required"
        (key,) = asked["inputRequests"]
        params["inputResponses"] = {key: {"action": "accept", "content": {"name": "Ada"}}}
        params["requestState"] = asked["requestState"]
        proxy.send("tools/call", params)
        assert proxy.read()["result"]["content"][0]["text"] == "Hello, Ada!"


def test_a_replaced_state_key_ends_an_open_question_and_nothing_else(mcpl, tmp_path):
    """A2: as when a deployment replaces the secret of a stack."""
    keys = ("aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE=", "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDI=")
    params = {"name": "test_input_required_result_elicitation", "arguments": {}, "_meta": META}
    with emulated("conformance", "buffered", 1, MCP_STATE_KEY=keys[0]) as url, session(mcpl, url, tmp_path) as proxy:
        proxy.send("tools/call", params)
        asked = proxy.read()["result"]
    (key,) = asked["inputRequests"]
    answer = {key: {"action": "accept", "content": {"name": "Ada"}}}

    with emulated("conformance", "buffered", 1, MCP_STATE_KEY=keys[1]) as url, session(mcpl, url, tmp_path) as proxy:
        proxy.send("tools/call", {**params, "inputResponses": answer, "requestState": asked["requestState"]})
        assert "requestState" in proxy.read()["error"]["message"]
        proxy.send("tools/call", params)
        asked = proxy.read()["result"]
        proxy.send("tools/call", {**params, "inputResponses": answer, "requestState": asked["requestState"]})
        assert proxy.read()["result"]["content"][0]["text"] == "Hello, Ada!"


def test_an_id_token_is_sent_and_refreshed_where_the_server_can_verify_no_other(mcpl, issuer, tmp_path):
    # As with Google: the client is registered by hand, tokens carry no scopes of ours, and a list says who has them.
    metadata = fetch(f"{issuer.url}/.well-known/openid-configuration")
    registration = {
        "redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none", "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
    }
    client = fetch(metadata["registration_endpoint"], json.dumps(registration), "application/json")["client_id"]
    believed = {
        "issuer": issuer.url, "audience": client, "id_tokens": True, "grant_scopes": ["events:write"],
        "allowed_emails": ["ada@example.com"],
    }
    options = ["--client-id", client, "--token-type", "id_token"]
    with postgres.Postgres() as server:
        variables = {"DATABASE_URL": server.url(), "OIDC_ISSUERS": json.dumps([believed])}
        with emulated("event-logger", "buffered", 1, **variables) as url:
            with session(mcpl, url, tmp_path, *options) as proxy:
                first = proxy.text("log_event", event_name="login")
            file, before = kept(tmp_path)
            before["credentials"]["token_received_at"] = 0
            before["credentials"]["token_response"]["id_token"] = "expired"
            file.write_text(json.dumps(before))
            with session(mcpl, url, tmp_path, "--no-browser", *options) as proxy:
                second = proxy.text("log_event", event_name="login")

    assert (first, second) == (LOGGED, LOGGED)


def test_a_token_may_come_from_a_command_or_a_header(mcpl, event_logger, issuer, tmp_path):
    token = issuer.token(event_logger, "events:write")
    file = tmp_path / "token"
    file.write_text(token)

    with session(mcpl, event_logger, tmp_path, "--token-command", f"cat {file}") as proxy:
        assert proxy.text("log_event", event_name="login") == LOGGED
    with session(mcpl, event_logger, tmp_path, "--header", f"Authorization: Bearer {token}") as proxy:
        assert proxy.text("log_event", event_name="login") == LOGGED
    with session(mcpl, event_logger, tmp_path, "--header", "Authorization: Bearer garbage") as proxy:
        assert "requires a token" in proxy.call("log_event", event_name="login")["error"]["message"]


def test_requests_are_signed_as_botocore_signs_them(mcpl, tmp_path):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((dict(self.headers), body))
            answer = json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": {}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/mcp"
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session"}
    command = words(mcpl, url, tmp_path, "--sigv4", "--region", "eu-west-1")
    proxy = Session(command, env={**os.environ, **keys})
    try:
        proxy.send("ping")
        assert proxy.read()["result"] == {}
    finally:
        proxy.close()
        server.shutdown()
        server.server_close()

    (headers, body), = seen
    headers = {name.lower(): value for name, value in headers.items()}
    signed = dict(part.strip().split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(","))
    own = {name: headers[name] for name in signed["SignedHeaders"].split(";")}
    assert {"host", "content-type", "x-amz-date", "x-amz-security-token"} <= set(own)
    request = AWSRequest("POST", url, own, body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "session"), "lambda", "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert signer.signature(text, request) == signed["Signature"]
    assert signed["Credential"].endswith("/eu-west-1/lambda/aws4_request")


def test_what_cannot_be_meant_is_refused_with_what_to_use(mcpl, tmp_path):
    for options, expected in [(["--mode", "sse"], "leave `--mode` out"), (["--header", "x"], "NAME: VALUE")]:
        ended = subprocess.run(
            words(mcpl, "http://127.0.0.1:1/mcp", tmp_path, *options), capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert ended.returncode == 2
        assert expected in ended.stderr
