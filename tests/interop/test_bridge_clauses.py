"""Clauses of the specification that `mcpl` keeps as a client, and as a bridge between the eras. Numbers are those of findings."""

import contextlib
import json
import signal
import subprocess
import threading

import pytest
from clauses import PATIENCE_SECONDS, Server
from proxied import LEGACY_CLIENT, META, Session, session, words

EMPTY = {"content": []}
FORM = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 18}}, "required": ["age"]}
ELICIT = {"message": "How old?", "requestedSchema": FORM}


@pytest.fixture
def run(mcpl, tmp_path):
    def own(*arguments, timeout=PATIENCE_SECONDS):
        command = [mcpl, *arguments, "--state-dir", str(tmp_path / "state"), "--no-browser"]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout)

    return own


@pytest.fixture
def connect(mcpl, tmp_path):
    """A session of the proxy with a server."""
    state = tmp_path / "proxy"
    state.mkdir(mode=0o700)

    @contextlib.contextmanager
    def own(server, *options):
        with session(mcpl, server.url, state, "--no-browser", *options) as proxy:
            # What never comes is an error.
            watchdog = threading.Timer(PATIENCE_SECONDS, proxy.process.kill)
            watchdog.start()
            try:
                yield proxy
            finally:
                watchdog.cancel()

    return own


def meta(capabilities=None, **members):
    own = META if capabilities is None else {**META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    return {"_meta": {**own, **members}}


def call(**arguments):
    return {"name": "t", "arguments": arguments}


def find_out(proxy, capabilities=None):
    """The first request of a modern client, by which the proxy finds out which era the server is of."""
    proxy.send("tools/list", meta(capabilities))
    assert "result" in proxy.read()


def begin(proxy, **members):
    """The handshake of a legacy client."""
    proxy.send("initialize", {**LEGACY_CLIENT, **members})
    welcome = proxy.read()
    proxy.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
    return welcome


def legacy_asks(method, params, then=EMPTY, id="q"):
    """A call in the middle of which a legacy server asks something. The result says what was answered."""

    def answer(request):
        request.begin().event({"id": id, "method": method, "params": params})
        reply = request.server.response(id)
        request.answer({**then, "structuredContent": {"reply": reply}})

    return answer


class Legacy(Server):
    def __init__(self, methods=(), **options):
        super().__init__("legacy", methods, **options)


class Modern(Server):
    def __init__(self, methods=(), **options):
        super().__init__("modern", methods, **options)


def input_required(state="s", **questions):
    return {"resultType": "input_required", "inputRequests": questions, "requestState": state}


# ------------------------------------------------------------------ transport


def test_h01_a_redirect_within_the_origin_is_followed(run):
    class Moved(Legacy):
        def take(self, request):
            if request.path == "/mcp":
                return request.send(308, Location="/mcp/")
            super().take(request)

    with Moved({"tools/call": EMPTY}) as server:
        called = run("call", server.url, "t")
    assert called.returncode == 0, called.stderr


def test_h01_a_redirect_to_another_origin_is_an_error_that_names_it(run):
    with Legacy({"tools/call": EMPTY}) as other, Modern({"server/discover": lambda own: own.send(307, Location=other.url)}) as server:
        server.methods["initialize"] = server.methods["server/discover"]
        called = run("call", server.url, "t")
        assert not other.got
    assert called.returncode == 1 and other.url in called.stderr, called.stderr


def test_h02_events_of_other_names_are_left_out(connect):
    def answer(request):
        request.begin().event("ping", event="ping")
        request.event("{}", event="heartbeat")
        request.event({"id": request.id, "result": EMPTY}, event="message")

    with Legacy({"tools/call": answer}) as server, connect(server) as proxy:
        begin(proxy)
        proxy.send("tools/call", call())
        assert proxy.read()["result"] == EMPTY


CHANGED = {"method": "notifications/tools/list_changed"}


def test_h03_what_is_no_message_does_not_end_the_standing_stream(connect):
    def get(request):
        request.begin()
        for event in [("ping", "ping"), ("{}", "ping"), ("{}", "message"), ("no JSON", "message")]:
            request.event(event[0], event=event[1])
        request.event(CHANGED)
        request.server.hold()

    with Legacy(get=get, session="s") as server, connect(server) as proxy:
        begin(proxy)
        assert proxy.read()["method"] == CHANGED["method"]


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404])
def test_h04_a_standing_stream_that_is_refused_is_tried_again(connect, status):
    def get(request):
        if len([own for own in request.server.got if own.http == "GET"]) == 1:
            return request.send(status, Retry_After="0")
        request.begin().event(CHANGED)
        request.server.hold()

    with Legacy(get=get) as server, connect(server) as proxy:
        begin(proxy)
        assert proxy.read()["method"] == CHANGED["method"]


def test_h04_a_standing_stream_that_is_not_there_is_not_asked_for_again(connect):
    with Legacy({"tools/call": EMPTY}) as server, connect(server) as proxy:
        begin(proxy)
        server.wait(lambda: any(own.http == "GET" for own in server.got))
        for _ in range(20):
            proxy.send("tools/call", call())
            proxy.read()
        assert len([own for own in server.got if own.http == "GET"]) == 1


def test_h05_short_standing_streams_are_no_failures(connect):
    def get(request):
        count = len([own for own in request.server.got if own.http == "GET"])
        request.begin().handler.wfile.write(b"retry: 1\n: hello\n\n")
        if count == 12:
            request.event(CHANGED)
            request.server.hold()

    with Legacy(get=get) as server, connect(server) as proxy:
        begin(proxy)
        assert proxy.read()["method"] == CHANGED["method"]


def test_h06_a_ping_in_a_call_is_answered_and_other_requests_are_refused(run):
    def answer(request):
        request.begin().event({"id": "p", "method": "ping"})
        request.event({"id": "r", "method": "roots/list"})
        replies = [request.server.response(id) for id in ("p", "r")]
        request.answer({"content": [{"type": "text", "text": json.dumps(replies)}]})

    with Legacy({"tools/call": answer}) as server:
        called = run("call", server.url, "t", "--json")
    pong, refused = json.loads(json.loads(called.stdout)["content"][0]["text"])
    assert pong["result"] == {} and refused["error"]["code"] == -32601


@pytest.mark.parametrize("era", [Legacy, Modern])
def test_h10_a_connection_that_broke_off_is_not_one_that_was_never_there(run, era):
    with era({"tools/call": lambda request: request.break_off()}) as server:
        broken = run("call", server.url, "t")
        assert len(server.all("tools/call")) == 1
    away = run("tools", server.url)
    assert "not known whether `tools/call` was carried out" in broken.stderr and "could not reach" not in broken.stderr, broken.stderr
    assert "could not reach" in away.stderr, away.stderr


def test_answers_are_asked_for_uncompressed(run):
    with Legacy() as server:
        assert run("tools", server.url).returncode == 0
        assert {request.headers["accept-encoding"] for request in server.got} == {"identity"}
        server.methods["tools/list"] = lambda request: request.send(200, b"\x1f\x8b", Content_Encoding="gzip")
        listed = run("tools", server.url)
    assert listed.returncode == 1 and "Accept-Encoding: identity" in listed.stderr, listed.stderr


def test_a_session_that_400_calls_lost_is_begun_anew(connect):
    def answer(request):
        if len(request.server.all("tools/call")) == 1:
            return request.send(400, b"Bad Request: No valid session ID provided", "text/plain")
        request.result(EMPTY)

    with Legacy({"tools/call": answer}, session="s") as server, connect(server) as proxy:
        begin(proxy)
        proxy.send("tools/call", call())
        assert proxy.read()["result"] == EMPTY
        assert len(server.all("initialize")) == 2


def test_a_byte_order_mark_before_the_first_message_is_skipped(connect):
    with Legacy() as server, connect(server) as proxy:
        proxy.write("\ufeff" + json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": LEGACY_CLIENT}))
        assert proxy.read()["result"]["serverInfo"]["name"] == "s"


def test_a_reader_that_is_gone_ends_the_proxy_and_its_session(mcpl, tmp_path):
    with Legacy(session="s") as server:
        proxy = Session(words(mcpl, server.url, tmp_path, "--no-browser"))
        begin(proxy)
        proxy.process.stdout.close()
        proxy.send("tools/list")
        # Its standard input stays open.
        assert proxy.process.wait(timeout=20) == 1
        proxy.process.stdin.close()
        assert [own.headers["mcp-session-id"] for own in server.got if own.http == "DELETE"] == ["s"]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_session_in_order(mcpl, tmp_path, number, code):
    with Legacy({"tools/call": lambda request: request.server.hold()}, session="s") as server:
        proxy = Session(words(mcpl, server.url, tmp_path, "--no-browser"))
        begin(proxy)
        proxy.send("tools/call", call())
        server.wait(lambda: server.all("tools/call"))
        proxy.process.send_signal(number)
        assert proxy.process.wait(timeout=20) == code
        proxy.process.stdin.close()
        assert [own.headers["mcp-session-id"] for own in server.got if own.http == "DELETE"] == ["s"]


# ------------------------------------------------------------------ requests of its own

MIRRORING = {"name": "t", "inputSchema": {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "R"}}}}


def test_c3_c4_its_own_list_may_come_as_a_stream_and_has_an_id_of_its_own(connect):
    def listed(request):
        request.begin().event({"method": "notifications/message", "params": {}})
        cursor = request.params.get("cursor")
        request.answer({"tools": [MIRRORING], "resultType": "complete", **({} if cursor else {"nextCursor": "2"})})

    with Modern({"tools/list": listed, "tools/call": EMPTY}) as server, connect(server) as proxy:
        proxy.send("tools/call", {**call(r="eu"), **meta()})
        assert proxy.read()["result"] == EMPTY
        (called,) = server.all("tools/call")
        ids = [request.id for request in server.all("tools/list")]
    assert called.headers["mcp-param-r"] == "eu"
    assert len(set(ids)) == len(ids) == 2


@pytest.mark.parametrize("era", [Legacy, Modern])
def test_c5_a_request_that_is_sent_again_has_another_id(connect, era):
    def listed(request):
        if len(request.server.all("tools/list")) < 3:
            return request.send(503, Retry_After="0")
        request.result({"tools": []})

    with era({"tools/list": listed}) as server, connect(server) as proxy:
        if era is Legacy:
            begin(proxy)
        asked = proxy.send("tools/list", {} if era is Legacy else meta())
        answer = proxy.read()
        ids = [request.id for request in server.all("tools/list")]
    assert answer == {"jsonrpc": "2.0", "id": asked, "result": {"tools": []}}
    assert len(set(ids)) == 3, ids


def test_c5_a_cancellation_names_the_id_that_the_server_knows(connect):
    def listed(request):
        if len(request.server.all("tools/list")) < 3:
            return request.send(503, Retry_After="0")
        request.server.wait(lambda: request.server.all("notifications/cancelled"))
        request.result({"tools": []})

    with Legacy({"tools/list": listed}) as server, connect(server) as proxy:
        begin(proxy)
        asked = proxy.send("tools/list")
        server.wait(lambda: len(server.all("tools/list")) == 3)
        proxy.write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": asked}})
        proxy.read()
        (cancelled,) = server.all("notifications/cancelled")
        assert cancelled.params["requestId"] == server.all("tools/list")[2].id != asked


def test_c6_a_result_of_an_unknown_type_is_an_error(connect, run):
    unknown = {"resultType": "voucher", "voucherId": "1"}
    with Modern({"tools/call": unknown}) as server:
        called = run("call", server.url, "t")
        with connect(server) as proxy:
            begin(proxy)
            proxy.send("tools/call", call())
            answer = proxy.read()
    assert called.returncode == 1 and "unknown type" in called.stderr, called.stdout + called.stderr
    assert "unknown type" in answer["error"]["message"], answer


def test_c9_requests_on_a_modern_stream_do_not_reach_the_client(connect):
    def answer(request):
        request.begin().event({"id": "x", "method": "elicitation/create", "params": ELICIT})
        request.answer({**EMPTY, "resultType": "complete"})

    with Modern({"tools/call": answer}) as server, connect(server) as proxy:
        asked = proxy.send("tools/call", {**call(), **meta()})
        assert proxy.read()["id"] == asked


def test_c13_a_listing_that_repeats_a_cursor_is_an_error(run):
    with Legacy({"tools/list": lambda request: request.result({"tools": [], "nextCursor": "same"})}) as server:
        listed = run("tools", server.url)
        assert listed.returncode == 1 and "leads back" in listed.stderr, listed.stderr
        assert len(server.all("tools/list")) == 2


def test_c20_after_a_header_that_is_missed_the_tools_are_listed_again(connect):
    lists = [{"name": "t", "inputSchema": {"type": "object"}}, MIRRORING]

    def listed(request):
        request.result({"tools": [lists[min(len(server.all("tools/list")), 2) - 1]], "resultType": "complete", "ttlMs": 60000})

    def called(request):
        return request.result(EMPTY) if request.headers.get("mcp-param-r") == "eu" else request.error(-32020, status=400)

    with Modern({"tools/list": listed, "tools/call": called}) as server, connect(server) as proxy:
        proxy.send("tools/list", meta())
        proxy.read()
        proxy.send("tools/call", {**call(r="eu"), **meta()})
        assert proxy.read().get("result") == EMPTY
        # Once is enough.
        proxy.send("tools/call", {**call(r="us"), **meta()})
        assert proxy.read()["error"]["code"] == -32020
        assert (len(server.all("tools/list")), len(server.all("tools/call"))) == (3, 4)


def test_c20_a_list_that_changed_is_asked_for_again(connect):
    def called(request):
        request.begin().event(CHANGED)
        request.answer(EMPTY)

    with Modern({"tools/call": called}) as server, connect(server) as proxy:
        for _ in range(2):
            proxy.send("tools/call", {**call(), **meta()})
            assert "method" in proxy.read() and "result" in proxy.read()
        assert len(server.all("tools/list")) == 2


def refuse_version(request):
    request.error(-32022, status=400, data={"supported": ["2025-11-25"], "requested": "2026-07-28"})


@pytest.mark.parametrize("discovered", [refuse_version, {"supportedVersions": ["2025-11-25"], "capabilities": {}}, {"capabilities": {}}])
def test_c21_commands_fall_back_to_a_revision_that_the_server_has(run, discovered):
    def legacy_alone(result):
        return lambda request: refuse_version(request) if request.is_modern else request.result(result)

    methods = {"server/discover": discovered, "tools/call": legacy_alone(EMPTY)}
    with Legacy({**methods, "tools/list": legacy_alone({"tools": [{"name": "t", "inputSchema": {}}]})}) as server:
        listed, called = run("tools", server.url), run("call", server.url, "t")
    assert (listed.returncode, called.returncode) == (0, 0), listed.stderr + called.stderr
    assert listed.stdout.startswith("t(")


def test_c23_a_call_that_times_out_is_cancelled(connect, run):
    def answer(request):
        request.server.wait(lambda: request.server.all("notifications/cancelled"))
        request.break_off()

    def stream(request):
        request.begin()
        answer(request)

    for handler in (answer, stream):
        with Legacy({"tools/call": handler}) as server:
            called = run("call", server.url, "t", "--timeout", "2")
            (cancelled,) = server.all("notifications/cancelled")
            assert cancelled.params["requestId"] == server.all("tools/call")[0].id
            assert called.returncode == 1 and "took longer than 2s" in called.stderr, called.stderr


@pytest.mark.parametrize("version", ["2027-01-01", "2026-07-28", "", None])
def test_c27_an_unknown_revision_in_the_handshake_is_an_error(connect, run, version):
    with Legacy(welcome={"protocolVersion": version}, session="s") as server:
        listed = run("tools", server.url)
        with connect(server) as proxy:
            proxy.send("tools/list", meta())
            answer = proxy.read()
        assert [own.http for own in server.got].count("DELETE") == 2
        assert not server.all("notifications/initialized")
    assert listed.returncode == 1 and "unknown revision" in listed.stderr, listed.stderr
    assert "unknown revision" in answer["error"]["message"], answer


# ------------------------------------------------------------------ a modern client, a legacy server


@pytest.mark.parametrize(
    "capabilities, method, params, code",
    [
        ({}, "elicitation/create", ELICIT, -32601),
        ({"elicitation": {}}, "elicitation/create", {"mode": "url", "message": "m", "url": "https://a.example", "elicitationId": "1"}, -32602),
        ({"elicitation": {"url": {}}}, "elicitation/create", ELICIT, -32602),
        ({"elicitation": {}}, "sampling/createMessage", {}, -32601),
        ({"elicitation": {}}, "roots/list", {}, -32601),
        ({"elicitation": {}}, "tools/list", {}, -32601),
    ],
)
def test_c7_a_request_is_asked_only_what_its_own_client_declared(connect, capabilities, method, params, code):
    with Legacy({"tools/call": legacy_asks(method, params)}) as server, connect(server) as proxy:
        # The request that the session begins with has declared everything.
        find_out(proxy, {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}})
        proxy.send("tools/call", {**call(), **meta(capabilities)})
        reply = proxy.read()["result"]["structuredContent"]["reply"]
    assert reply["error"]["code"] == code


def test_c7_the_state_of_a_request_is_of_no_use_to_another(connect):
    with Legacy({"tools/call": legacy_asks("elicitation/create", ELICIT)}) as server, connect(server) as proxy:
        proxy.send("tools/call", {**call(a=1, b=[2]), **meta()})
        state = proxy.read()["result"]["requestState"]
        round = {"inputResponses": {"question": {"action": "accept", "content": {"age": 20}}}, "requestState": state}
        for method, other in [("tools/call", call(a=1)), ("tools/call", {"name": "u", "arguments": {"a": 1, "b": [2]}}), ("prompts/get", call(a=1, b=[2]))]:
            proxy.send(method, {**other, **round, **meta()})
            assert proxy.read()["error"]["code"] == -32602
        # As another client library writes it.
        proxy.send("tools/call", {"arguments": {"b": [2], "a": 1}, "name": "t", **round, **meta()})
        assert proxy.read()["result"]["structuredContent"]["reply"]["result"]["content"] == {"age": 20}


def test_c8_a_resource_that_is_not_there_has_the_code_of_the_revision(connect):
    missing = lambda request: request.error(-32002, data={"uri": "docs://x"})
    with Legacy({"resources/read": missing}) as server, connect(server) as proxy:
        proxy.send("resources/read", {"uri": "docs://x", **meta()})
        assert proxy.read()["error"] == {"code": -32602, "message": "no", "data": {"uri": "docs://x"}}


PAGE = {"mode": "url", "elicitationId": "e1", "url": "https://a.example/connect", "message": "Sign in."}


def test_c8_pages_to_visit_first_are_questions(connect):
    def answer(request):
        if len(request.server.all("tools/call")) == 1:
            return request.error(-32042, data={"elicitations": [PAGE, {**PAGE, "elicitationId": "e2"}]})
        request.result(EMPTY)

    with Legacy({"tools/call": answer}) as server, connect(server) as proxy:
        find_out(proxy)
        able = meta({"elicitation": {"url": {}}})
        proxy.send("tools/call", {**call(a=1), **able})
        asked = proxy.read()["result"]
        assert asked["resultType"] == "input_required" and len(asked["inputRequests"]) == 2
        page = {name: value for name, value in PAGE.items() if name != "elicitationId"}
        assert all(own == {"method": "elicitation/create", "params": page} for own in asked["inputRequests"].values())
        responses = {key: {"action": "accept"} for key in asked["inputRequests"]}
        proxy.send("tools/call", {**call(a=1), **able, "inputResponses": responses, "requestState": asked["requestState"]})
        assert proxy.read()["result"]["content"] == []
        assert server.all("tools/call")[1].params["arguments"] == {"a": 1} and "inputResponses" not in server.all("tools/call")[1].params


def test_c8_a_client_that_visits_no_pages_learns_what_it_lacks(connect):
    with Legacy({"tools/call": lambda request: request.error(-32042, data={"elicitations": [PAGE]})}) as server, connect(server) as proxy:
        proxy.send("tools/call", {**call(), **meta()})
        error = proxy.read()["error"]
    assert error["code"] == -32021 and error["data"] == {"requiredCapabilities": {"elicitation": {"url": {}}}}


def test_c18_requests_on_the_standing_stream_are_answered(connect):
    def get(request):
        request.begin().event({"id": "p", "method": "ping"})
        request.event({"id": "e", "method": "elicitation/create", "params": ELICIT})
        request.server.hold()

    with Legacy(get=get) as server, connect(server) as proxy:
        find_out(proxy)
        assert server.response("p")["result"] == {}
        assert server.response("e")["error"]["code"] == -32601


def test_c18_a_question_on_the_standing_stream_is_of_the_only_open_call(connect):
    def answer(request):
        request.begin()
        with server.came:
            server.open = True
            server.came.notify_all()
        reply = server.response("e")
        request.answer({**EMPTY, "structuredContent": reply["result"]["content"]})

    def get(request):
        request.begin()
        server.wait(lambda: server.open)
        request.event({"id": "e", "method": "elicitation/create", "params": ELICIT})
        server.hold()

    with Legacy({"tools/call": answer}, get=get) as server, connect(server) as proxy:
        server.open = False
        proxy.send("tools/call", {**call(), **meta()})
        asked = proxy.read()["result"]
        responses = {key: {"action": "accept", "content": {"age": 20}} for key in asked["inputRequests"]}
        proxy.send("tools/call", {**call(), **meta(), "inputResponses": responses, "requestState": asked["requestState"]})
        assert proxy.read()["result"]["structuredContent"] == {"age": 20}


def test_c22_only_what_the_server_has_is_acknowledged(connect):
    capabilities = {"tools": {"listChanged": True}, "prompts": {}, "resources": {"subscribe": True}}

    def subscribe(request):
        return request.result({}) if request.params["uri"] == "docs://a" else request.error(-32602)

    wanted = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True, "resourceSubscriptions": ["docs://a", "docs://b"]}
    with Legacy({"resources/subscribe": subscribe}, capabilities=capabilities) as server, connect(server) as proxy:
        asked = proxy.send("subscriptions/listen", {"notifications": wanted, **meta()})
        acknowledged = proxy.read()["params"]["notifications"]
        proxy.write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": asked}})
    assert acknowledged == {"toolsListChanged": True, "resourceSubscriptions": ["docs://a"]}


def test_c26_an_unknown_log_level_is_rejected_and_not_kept(connect):
    capabilities = {"tools": {}, "logging": {}}
    level = "io.modelcontextprotocol/logLevel"
    with Legacy({"tools/call": EMPTY, "logging/setLevel": {}}, capabilities=capabilities) as server, connect(server) as proxy:
        find_out(proxy)
        for bad in ("loud", 5):
            proxy.send("tools/call", {**call(), **meta(**{level: bad})})
            assert proxy.read()["error"]["code"] == -32602
        assert not server.all("logging/setLevel") and not server.all("tools/call")
        proxy.send("tools/call", {**call(), **meta(**{level: "warning"})})
        assert proxy.read()["result"]["content"] == []
        assert [request.params["level"] for request in server.all("logging/setLevel")] == ["warning"]


def test_c28_a_form_is_checked_for_a_legacy_server(connect):
    with Legacy({"tools/call": legacy_asks("elicitation/create", ELICIT)}) as server, connect(server) as proxy:
        proxy.send("tools/call", {**call(), **meta()})
        state = proxy.read()["result"]["requestState"]
        for content in ({"age": 17}, {}, {"age": "x"}):
            answer = {"question": {"action": "accept", "content": content}}
            proxy.send("tools/call", {**call(), **meta(), "inputResponses": answer, "requestState": state})
            error = proxy.read()["error"]
            assert error["code"] == -32602 and "does not fit" in error["message"], error
        answer = {"question": {"action": "accept", "content": {"age": 20}}}
        proxy.send("tools/call", {**call(), **meta(), "inputResponses": answer, "requestState": state})
        assert proxy.read()["result"]["structuredContent"]["reply"]["result"]["content"] == {"age": 20}


TYPED = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "properties": {"n": {"type": "number"}}}}


@pytest.mark.parametrize("era", [Legacy, Modern])
def test_c28_a_structured_result_is_checked_in_the_bridge(connect, era):
    def answer(request):
        request.result({"content": [], "structuredContent": {"n": request.params["arguments"]["n"]}, "resultType": "complete"})

    with era({"tools/list": {"tools": [TYPED], "resultType": "complete"}, "tools/call": answer}) as server, connect(server) as proxy:
        own = meta() if era is Legacy else {}
        if not own:
            begin(proxy)
        proxy.send("tools/list", own)
        proxy.read()
        proxy.send("tools/call", {**call(n=5), **own})
        assert proxy.read()["result"]["structuredContent"] == {"n": 5}
        proxy.send("tools/call", {**call(n="x"), **own})
        assert "output schema" in proxy.read()["error"]["message"]


# ------------------------------------------------------------------ a legacy client, a modern server


@pytest.mark.parametrize(
    "version, capabilities, question",
    [
        ("2025-11-25", {}, {"method": "elicitation/create", "params": ELICIT}),
        ("2025-11-25", {"elicitation": {}}, {"method": "elicitation/create", "params": {"mode": "url", "url": "https://a.example", "message": "m"}}),
        ("2025-06-18", {"elicitation": {"url": {}}}, {"method": "elicitation/create", "params": {"mode": "url", "url": "https://a.example", "message": "m"}}),
        ("2025-11-25", {"elicitation": {}}, {"method": "elicitation/create", "params": {"mode": "voice", "message": "m"}}),
        ("2025-11-25", {"elicitation": {}}, {"method": "sampling/createMessage", "params": {}}),
        ("2025-11-25", {"elicitation": {}}, {"method": "roots/list"}),
        ("2025-11-25", {"elicitation": {}}, {"method": "tools/list"}),
    ],
)
def test_c12_a_legacy_client_is_asked_only_what_it_declared(connect, version, capabilities, question):
    asked = input_required(good={"method": "elicitation/create", "params": ELICIT}, q=question)
    with Modern({"tools/call": asked}) as server, connect(server) as proxy:
        begin(proxy, protocolVersion=version, capabilities=capabilities)
        called = proxy.send("tools/call", call())
        answer = proxy.read()
    assert answer["id"] == called and "has not declared a capability" in answer["error"]["message"], answer


def test_c12_a_page_to_visit_has_an_id_of_its_own_each_time(connect):
    page = {"method": "elicitation/create", "params": {"mode": "url", "url": "https://a.example", "message": "m"}}

    def answer(request):
        request.result(EMPTY if "inputResponses" in request.params else input_required(a=page, b=page))

    ids = []
    with Modern({"tools/call": answer}) as server, connect(server) as proxy:
        begin(proxy, capabilities={"elicitation": {"url": {}}})
        for _ in range(2):
            proxy.send("tools/call", call())
            for question in [proxy.read(), proxy.read()]:
                ids.append(question["params"]["elicitationId"])
                proxy.write({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}})
            assert proxy.read()["result"] == EMPTY
    assert len(set(ids)) == 4, ids


def test_c12_a_form_has_no_mode_before_there_were_modes(connect):
    form = {"method": "elicitation/create", "params": {**ELICIT, "mode": "form"}}
    with Modern({"tools/call": input_required(a=form)}) as server, connect(server) as proxy:
        begin(proxy, protocolVersion="2025-06-18")
        proxy.send("tools/call", call())
        question = proxy.read()
        proxy.write({"jsonrpc": "2.0", "id": question["id"], "error": {"code": 1, "message": "enough"}})
        proxy.read()
    assert question["params"] == ELICIT


@pytest.mark.parametrize("version, output", [("2025-11-25", True), ("2025-06-18", True), ("2025-03-26", False)])
def test_c19_modern_shapes_are_reduced_for_a_legacy_client(connect, version, output):
    listed = {"resultType": "complete", "ttlMs": 5, "cacheScope": "private", "tools": [TYPED, {**TYPED, "name": "u", "outputSchema": {"type": "array"}}]}

    def answer(request):
        request.result({"content": [], "structuredContent": {"n": 1} if request.params["name"] == "t" else [1], "resultType": "complete"})

    with Modern({"tools/list": listed, "tools/call": answer}, capabilities={"tools": {}, "extensions": {"a/b": {}}}) as server, connect(server) as proxy:
        welcome = begin(proxy, protocolVersion=version)["result"]
        assert (welcome["protocolVersion"], welcome["capabilities"]) == (version, {"tools": {}})
        proxy.send("tools/list")
        got = proxy.read()["result"]
        assert set(got) == {"tools"}
        assert ["outputSchema" in tool for tool in got["tools"]] == [output, False]
        proxy.send("tools/call", call())
        assert proxy.read()["result"] == {"content": [], **({"structuredContent": {"n": 1}} if output else {})}
        proxy.send("tools/call", {"name": "u", "arguments": {}})
        assert proxy.read()["result"] == {"content": []}


def test_a_handshake_that_agrees_on_a_modern_revision_is_none(connect):
    """A legacy client knows no such revision: what follows is translated."""
    agreed = {"protocolVersion": "2026-07-28", "capabilities": {"tools": {}}, "serverInfo": {"name": "m", "version": "1"}}
    with Modern({"initialize": agreed, "tools/call": EMPTY}) as server, connect(server) as proxy:
        assert begin(proxy)["result"]["protocolVersion"] == LEGACY_CLIENT["protocolVersion"]
        proxy.send("tools/call", call())
        assert proxy.read()["result"] == EMPTY
        (called,) = server.all("tools/call")
        assert called.is_modern and called.headers["mcp-method"] == "tools/call"


def test_a_handshake_is_what_the_server_says_if_it_knows_no_discovery(connect):
    agreed = {"protocolVersion": "2026-07-28", "capabilities": {}, "serverInfo": {"name": "m", "version": "1"}}
    with Legacy({"initialize": agreed}) as server, connect(server) as proxy:
        assert begin(proxy)["result"] == agreed


def test_c26_an_unknown_log_level_of_a_legacy_client_is_rejected(connect):
    with Modern({"tools/call": EMPTY}) as server, connect(server) as proxy:
        begin(proxy)
        for bad in ({"level": "loud"}, {"level": None}, {}):
            proxy.send("logging/setLevel", bad)
            assert proxy.read()["error"]["code"] == -32602
        proxy.send("tools/call", call())
        proxy.read()
        assert "io.modelcontextprotocol/logLevel" not in server.all("tools/call")[0].params["_meta"]


def test_c28_a_form_is_checked_for_a_modern_server(connect):
    form = {"method": "elicitation/create", "params": ELICIT}

    def answer(request):
        request.result(EMPTY if "inputResponses" in request.params else input_required(a=form))

    with Modern({"tools/call": answer}) as server, connect(server) as proxy:
        begin(proxy)
        for age, is_good in ((17, False), (18, True)):
            proxy.send("tools/call", call())
            question = proxy.read()
            proxy.write({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"age": age}}})
            assert ("result" in proxy.read()) is is_good
        assert len([own for own in server.all("tools/call") if "inputResponses" in own.params]) == 1
