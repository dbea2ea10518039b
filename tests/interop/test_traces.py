"""Functions that send spans: what a collector gets of a call, and what a call is like without one."""

import contextlib
import http.client
import itertools
import json
import secrets
import socket
import urllib.parse
import uuid

import postgres
import pytest
from collector import Collector
from conftest import ALL_FEATURES, build_traced, emulated
from oauth import Issuer

SERVER, CLIENT = 2, 3
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def event_logger():
    build_traced()
    return ALL_FEATURES / "debug" / "event-logger"


@pytest.fixture(scope="module")
def countdown():
    build_traced()
    return ALL_FEATURES / "debug" / "examples" / "countdown"


@pytest.fixture(scope="module")
def database():
    with postgres.Postgres() as own:
        yield own


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as own:
        yield own


@pytest.fixture
def collector():
    with Collector() as own:
        yield own


@contextlib.contextmanager
def running(binary, mode, **variables):
    own = emulated(binary, mode, 1, **variables)
    try:
        yield own.url
    finally:
        own.stop()


class Called:
    """A call with a trace of its own, unless it is `untraced`, and its answer."""

    def __init__(self, url, tool, arguments, token=None, untraced=False, **meta):
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        if not untraced:
            meta |= {"traceparent": f"00-{self.trace}-{self.span}-01", "tracestate": "vendor=own"}
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        target = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(target.netloc, timeout=PATIENCE_SECONDS)
        message = {"jsonrpc": "2.0", "id": "seven", "method": "tools/call", "params": params}
        connection.request("POST", target.path, json.dumps(message), headers)
        response = connection.getresponse()
        *self.before, answer = [json.loads(line.removeprefix(b"data: ")) for line in response if line.strip()]
        connection.close()
        self.status, self.result, self.error = response.status, answer.get("result"), answer.get("error")
        root, parent, _ = response.headers["x-amzn-trace-id"].split(";")
        self.xray = (root.removeprefix("Root=1-").replace("-", ""), parent.removeprefix("Parent="))


@pytest.mark.parametrize("mode", ["buffered", "stream"])
def test_a_call_is_one_trace_from_the_client_to_the_database(mode, event_logger, database, issuer, collector):
    variables = {"DATABASE_URL": database.url(), "OIDC_ISSUER": issuer.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with running(event_logger, mode, **variables) as url:
        token = issuer.token(url, "events:write")
        secret = {"event_name": "an event of the test", "idempotency_key": secrets.token_hex(8)}
        calls = [Called(url, "log_event", secret, token), Called(url, "log_event", secret, token)]
        traces = [collector.trace_of(own.span) for own in calls]

    for own, spans, has_fetched in zip(calls, traces, [True, False], strict=True):
        assert not own.result.get("isError") and secret["event_name"] in own.result["content"][0]["text"]
        call, verification = spans.pop("tools/call log_event"), spans.pop("verify token")
        work, statement = spans.pop("execute_tool log_event"), spans.pop("postgresql")
        fetch = spans.pop("fetch keys", None)
        assert not spans and (fetch is not None) == has_fetched
        assert (call.trace_id, call.parent, call.kind, call.trace_state) == (own.trace, own.span, SERVER, "vendor=own")
        assert [(link.trace_id.hex(), link.span_id.hex()) for link in call.links] == [own.xray]
        assert verification.parent == work.parent == call.id
        assert statement.parent == work.id
        assert statement.kind == CLIENT and statement.attributes == {"db.system.name": "postgresql"}
        if fetch:
            assert fetch.parent == verification.id and fetch.attributes == {"issuer": issuer.url}
        assert call.end >= max(verification.end, work.end, statement.end)
        request_id = call.attributes.pop("faas.invocation_id")
        assert str(uuid.UUID(request_id)) == request_id
        assert call.attributes == {
            "mcp.method.name": "tools/call", "gen_ai.tool.name": "log_event", "gen_ai.operation.name": "execute_tool",
            "mcp.protocol.version": "2025-03-26", "jsonrpc.request.id": "seven", "faas.coldstart": has_fetched,
        }
        assert call.resource["service.name"] == call.resource["faas.name"] == "event-logger"
    everything = b"".join(collector.bodies)
    for private in (token, *secret.values(), database.password, "INSERT"):
        assert private.encode() not in everything


def test_a_stream_s_span_ends_with_the_stream(countdown, collector):
    with running(countdown, "stream", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as url:
        own = Called(url, "countdown", {"from": 3}, progressToken=1)
        spans = collector.trace_of(own.span)

    assert len(own.before) == 3
    call, work = spans["tools/call countdown"], spans["execute_tool countdown"]
    assert work.parent == call.id and call.end >= work.end
    assert not call.has_failed


def test_what_fails_is_seen_and_what_is_made_up_is_not(countdown, collector):
    with running(countdown, "buffered", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as url:
        invalid = Called(url, "countdown", {"from": "nowhere"})
        unknown = Called(url, "lift_off", {})
        wrong, missing = collector.trace_of(invalid.span), collector.trace_of(unknown.span)

    assert invalid.result["isError"] and unknown.error["code"] == -32602
    call = wrong["tools/call countdown"]
    assert call.has_failed and call.attributes["error.type"] == "tool_error"
    call = missing["tools/call unknown"]
    assert call.has_failed and call.attributes["error.type"] == call.attributes["rpc.response.status_code"] == "-32602"
    for private in (b"lift_off", b"nowhere"):
        assert private not in b"".join(collector.bodies)


@pytest.mark.parametrize("variables", [{}, {"OTEL_TRACES_SAMPLER": "always_on"}])
def test_without_a_client_s_trace_x_ray_decides(variables, countdown, collector):
    with running(countdown, "buffered", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **variables) as url:
        # The emulator's front samples nothing.
        untraced = Called(url, "countdown", {"from": 1}, untraced=True)
        traced = Called(url, "countdown", {"from": 1})
        collector.trace_of(traced.span)
    traces = {span.trace_id for span in collector.spans}

    if variables:
        assert traces == {traced.trace, untraced.xray[0]}
        assert {span.name for span in collector.trace_of(untraced.xray[1]).values()} > {"tools/call countdown"}
    else:
        assert traces == {traced.trace}


@pytest.mark.parametrize("mode", ["buffered", "stream"])
@pytest.mark.parametrize("listens", [False, True], ids=["away", "silent"])
def test_calls_are_answered_without_a_collector(mode, listens, countdown, capfd):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if not listens:
            listener.close()
        with running(countdown, mode, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as url:
            calls = [Called(url, "countdown", {"from": 1}) for _ in range(3)]
        # It is left alone for a while then.
        assert not listens or connections(listener) == 1

    assert all(own.result["content"][0]["text"] == "Lift-off!" for own in calls)
    output, errors = capfd.readouterr()
    assert (output + errors).count("spans could not be exported") == 1
    assert "misspelt" not in output + errors


def connections(listener):
    """How many were made to it."""
    listener.setblocking(False)
    for number in itertools.count():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return number


def test_it_can_be_switched_off(countdown, collector):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SDK_DISABLED": "true"}
    with running(countdown, "buffered", **variables) as url:
        assert Called(url, "countdown", {"from": 1}).result and Called(url, "countdown", {"from": 1}).result

    assert not collector.bodies
