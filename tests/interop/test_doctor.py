"""`mcpl doctor`: what it says of servers that are well, and of those that are not."""

import contextlib
import http.server
import json
import subprocess
import threading

import postgres
import pytest
from conftest import emulated
from faulty import TOOL, Faulty
from oauth import Issuer


@pytest.fixture(scope="module")
def doctor(mcpl):
    """Runs the command: its code, and its findings."""
    def run(url):
        command = [mcpl, "doctor", url]
        shown = subprocess.run([*command], capture_output=True, text=True)
        as_json = subprocess.run([*command, "--json"], capture_output=True, text=True)
        findings = json.loads(as_json.stdout)
        assert shown.returncode == as_json.returncode
        assert len([line for line in shown.stdout.splitlines() if not line.startswith(" ")]) == len(findings)
        return shown.returncode, findings

    return run


def told(findings, check):
    return [finding for finding in findings if finding["check"] == check]


@contextlib.contextmanager
def answering(answers):
    """A server that answers each request by its method and path: status, headers, body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = answers.get((self.command, self.path), (404, {}, "{}"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_OPTIONS = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("mode", ["buffered", "stream"])
def test_an_open_server_is_well(doctor, mode):
    with emulated("greeter", mode, 1) as url:
        code, findings = doctor(url)

    assert code == 0 and not [finding for finding in findings if finding["level"] == "problem"]
    assert "2026-07-28" in told(findings, "protocol")[0]["found"] and "2025-11-25" in told(findings, "protocol")[0]["found"]
    assert ("streamed" if mode == "stream" else "buffered") in told(findings, "invoke mode")[0]["found"]
    assert told(findings, "authorization")[0]["found"].startswith("none")
    assert "Cursor can connect" in [finding["found"] for finding in told(findings, "client")]


def test_a_server_that_knows_its_callers_is_well_and_its_issuer_too(doctor):
    with postgres.Postgres() as server, Issuer() as issuer:
        for more in ({}, {"MCP_ANONYMOUS": "deny"}):
            variables = {"DATABASE_URL": server.url(), "OIDC_ISSUER": issuer.url, **more}
            with emulated("event-logger", "buffered", 1, **variables) as url:
                code, findings = doctor(url)

            assert code == 0, findings
            assert told(findings, "metadata")[0]["found"] == f"it names {url}"
            assert told(findings, "issuer")[0]["found"].startswith(issuer.url)


def test_an_issuer_that_is_away_or_another_is_a_problem(doctor):
    with postgres.Postgres() as server:
        for issuer in ("http://127.0.0.1:1", "https://issuer.invalid"):
            variables = {"DATABASE_URL": server.url(), "OIDC_ISSUER": issuer}
            with emulated("event-logger", "buffered", 1, **variables) as url:
                code, findings = doctor(url)

            assert code == 1
            assert told(findings, "issuer")[0]["level"] == "problem" and issuer in told(findings, "issuer")[0]["found"]


def test_a_name_that_is_not_the_clients_is_a_problem(doctor):
    with postgres.Postgres() as server, Issuer() as issuer:
        variables = {
            "DATABASE_URL": server.url(), "OIDC_ISSUER": issuer.url, "MCP_PUBLIC_URL": "https://mcp.example.com",
        }
        with emulated("event-logger", "buffered", 1, **variables) as url:
            code, findings = doctor(url)

    assert code == 1
    (finding,) = [own for own in told(findings, "metadata") if own["level"] == "problem"]
    assert "https://mcp.example.com/mcp" in finding["found"] and "MCP_PUBLIC_URL" in finding["fix"]


def test_what_stands_in_front_of_a_function_is_told_apart(doctor):
    refused = (403, {"x-amzn-ErrorType": "AccessDeniedException"}, '{"Message":"Forbidden. For troubleshooting ..."}')
    for answer, expected in [
        (refused, "lambda:InvokeFunction with InvokedViaFunctionUrl"),
        ((502, {}, "Internal Server Error"), "its log says why"),
        ((429, {}, "{}"), "reserved concurrency"),
        ((404, {}, "<html>"), "no MCP endpoint is at this path: compare the URL"),
        ((301, {"Location": "https://elsewhere.example"}, ""), "use https://elsewhere.example/"),
        ((200, {}, "<html>"), "MCP server"),
    ]:
        with answering({("POST", "/mcp"): answer}) as origin:
            code, findings = doctor(f"{origin}/mcp")

        assert code == 1
        assert expected in [own for own in findings if own["level"] == "problem"][0]["fix"], findings


def test_a_closed_server_without_metadata_and_doubled_cors_are_problems(doctor):
    body = '{"jsonrpc":"2.0","error":{"code":401,"message":"token"}}'
    with answering({("POST", "/mcp"): (401, {}, body)}) as origin:
        code, findings = doctor(f"{origin}/mcp")
    unreachable = doctor("http://127.0.0.1:1/mcp")

    assert code == 1 and told(findings, "metadata")[0]["level"] == "problem"
    assert unreachable[0] == 1 and told(unreachable[1], "reach")[0]["level"] == "problem"


def test_metadata_may_be_where_the_challenge_says_alone(doctor):
    answers = {}
    with Issuer() as issuer, answering(answers) as origin:
        challenge = f'Bearer resource_metadata="{origin}/own/metadata"'
        document = json.dumps({"resource": f"{origin}/mcp", "authorization_servers": [issuer.url]})
        answers[("POST", "/mcp")] = (401, {"WWW-Authenticate": challenge}, "{}")
        answers[("GET", "/own/metadata")] = (200, {"Content-Type": "application/json"}, document)
        code, findings = doctor(f"{origin}/mcp")

    assert code == 0, findings
    assert "/own/metadata, where the challenge says" in told(findings, "metadata")[0]["found"]
    assert told(findings, "issuer")[0]["found"].startswith(issuer.url)


def test_a_server_with_closed_tools_is_not_open(doctor):
    tools = [
        {**TOOL, "name": name, "_meta": {"securitySchemes": [{"type": kind}]}}
        for name, kind in (("read", "noauth"), ("write", "oauth2"))
    ]
    with Faulty({"tools/list": {"tools": tools}}) as server:
        code, findings = doctor(server.url)

    assert code == 0 and not told(findings, "authorization")
    assert told(findings, "metadata")[0]["found"].startswith("write takes a token")
