"""`mcpl proxy` between a client and a server of different eras; each side is an official SDK, or reads along."""

import contextlib
import http.server
import json
import os
import subprocess
import threading

import anyio
import pytest
import tools
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import ElicitResult
from proxied import LEGACY_CLIENT, META, session, words

ERAS = ["legacy", "modern"]
TOOLS = ["greet", "count", "grow", "forget"]


@contextlib.contextmanager
def server_of(era):
    script = tools.beside_packages(tools.INTEROP / "era_server.mjs")
    running = subprocess.Popen([tools.node(), script, era], stdout=subprocess.PIPE, text=True)
    try:
        yield running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()


@pytest.fixture(scope="module", params=ERAS)
def one_era(request):
    """The URL of a server of one era."""
    with server_of(request.param) as url:
        yield url


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28", "sdk"])
def test_a_typescript_client_of_any_era_uses_a_server_of_any(mcpl, one_era, node, tmp_path, mode):
    saw = json.loads(node("bridge_typescript.mjs", mode, *words(mcpl, one_era, tmp_path)).stdout)

    assert saw["server"]["name"] == "one-era" and saw["instructions"] == "Be kind."
    assert saw["tools"] == TOOLS
    assert (saw["asked"], saw["greeted"]) == (["Who is there?"], "Hello, Ada!")
    assert saw["news"], "news reach the client"
    # A session that the server has forgotten is begun again, and listened to.
    assert (saw["forgotten"], saw["again"], saw["newsAgain"]) == ("forgotten", "counted", True)


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
def test_a_python_client_of_any_era_uses_a_server_of_any(mcpl, one_era, tmp_path, mode):
    command = words(mcpl, one_era, tmp_path)

    async def on_elicitation(_, params):
        assert params.message == "Who is there?"
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def use():
        server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
        async with Client(stdio_client(server), mode=mode, elicitation_callback=on_elicitation) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
            greeted = await client.call_tool("greet", {})
            assert greeted.content[0].text == "Hello, Ada!"

    anyio.run(use)


@pytest.fixture(scope="module")
def legacy_server():
    with server_of("legacy") as url:
        yield url


@pytest.fixture(scope="module")
def modern_server():
    with server_of("modern") as url:
        yield url


def meta(**members):
    return {"_meta": {**META, **members}}


def test_a_legacy_client_hears_what_it_asked_for_and_nothing_else(mcpl, modern_server, tmp_path):
    with session(mcpl, modern_server, tmp_path) as proxy:
        proxy.send("initialize", LEGACY_CLIENT)
        welcome = proxy.read()["result"]
        assert welcome["protocolVersion"] == "2025-11-25" and welcome["serverInfo"]["name"] == "one-era"
        for method, params in [("ping", {}), ("logging/setLevel", {"level": "info"})]:
            asked = proxy.send(method, params)
            assert proxy.read() == {"jsonrpc": "2.0", "id": asked, "result": {}}

        called = proxy.send("tools/call", {"name": "count", "arguments": {}, "_meta": {"progressToken": "p"}})
        messages = [proxy.read() for _ in range(4)]
        assert [message["params"]["progress"] for message in messages[:3]] == [1, 2, 3]
        assert {message["params"]["progressToken"] for message in messages[:3]} == {"p"}
        assert messages[3]["id"] == called and messages[3]["result"]["content"][0]["text"] == "counted"

        called = proxy.send("tools/call", {"name": "greet", "arguments": {}})
        question = proxy.read()
        assert question["method"] == "elicitation/create" and question["params"]["message"] == "Who is there?"
        # It may do something else in between.
        listed = proxy.send("tools/list")
        assert proxy.read()["id"] == listed
        declined = {"code": -32603, "message": "no user present"}
        proxy.write({"jsonrpc": "2.0", "id": question["id"], "error": declined})
        refused = proxy.read()
        assert refused["id"] == called
        assert refused["error"]["message"] == "mcpl: the client could not answer `elicitation/create`: no user present"


def test_a_modern_client_is_asked_in_rounds(mcpl, legacy_server, tmp_path):
    with session(mcpl, legacy_server, tmp_path) as proxy:
        # Without a probe before it.
        proxy.send("tools/list", meta())
        listed = proxy.read()["result"]
        assert [tool["name"] for tool in listed["tools"]] == TOOLS
        assert (listed["resultType"], listed["ttlMs"], listed["cacheScope"]) == ("complete", 0, "private")

        proxy.send("tools/call", {"name": "count", "arguments": {}, **meta(progressToken=7)})
        messages = [proxy.read() for _ in range(4)]
        assert [message["params"] for message in messages[:3]] == [
            {"progressToken": 7, "progress": progress, "total": 3} for progress in (1, 2, 3)
        ]
        assert messages[3]["result"]["resultType"] == "complete"

        greet = {"name": "greet", "arguments": {}, **meta()}
        proxy.send("tools/call", greet)
        asked = proxy.read()["result"]
        assert asked["resultType"] == "input_required"
        # A user who leaves the question open is asked again.
        proxy.send("tools/call", {**greet, "requestState": asked["requestState"]})
        asked = proxy.read()["result"]
        ((key, question),) = asked["inputRequests"].items()
        assert question["method"] == "elicitation/create" and question["params"]["message"] == "Who is there?"
        answer = {"action": "accept", "content": {"name": "Ada"}}
        again = {**greet, "inputResponses": {key: answer}, "requestState": asked["requestState"]}
        answered = proxy.send("tools/call", again)
        greeted = proxy.read()
        assert greeted["id"] == answered and greeted["result"]["content"][0]["text"] == "Hello, Ada!"
        # What was asked once is answered once.
        proxy.send("tools/call", again)
        assert "call again without it" in proxy.read()["error"]["message"]


def test_a_modern_client_listens_until_it_has_heard_enough(mcpl, legacy_server, tmp_path):
    with session(mcpl, legacy_server, tmp_path) as proxy:
        proxy.send("server/discover", meta())
        assert proxy.read()["result"]["supportedVersions"] == ["2026-07-28"]
        listening = proxy.send("subscriptions/listen", {"notifications": {"toolsListChanged": True}, **meta()})
        acknowledged = proxy.read()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        subscription = {"io.modelcontextprotocol/subscriptionId": listening}
        assert acknowledged["params"]["_meta"] == subscription

        grown = proxy.send("tools/call", {"name": "grow", "arguments": {}, **meta()})
        messages = [proxy.read(), proxy.read()]
        (news,) = [message for message in messages if "method" in message]
        assert news["method"] == "notifications/tools/list_changed" and news["params"]["_meta"] == subscription

        proxy.write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": listening}})
        grown = proxy.send("tools/call", {"name": "grow", "arguments": {}, **meta()})
        assert proxy.read()["id"] == grown


class SilentPage(http.server.BaseHTTPRequestHandler):
    """A page in place of a server."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<h1>Not Found</h1>")

    def log_message(self, *_):
        """Says nothing."""


@pytest.mark.parametrize("era", ERAS)
def test_where_no_era_is_spoken_the_first_refusal_stands(mcpl, tmp_path, era):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SilentPage) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with session(mcpl, f"http://127.0.0.1:{page.server_port}/mcp", tmp_path) as proxy:
            proxy.send("initialize" if era == "legacy" else "server/discover", LEGACY_CLIENT if era == "legacy" else meta())
            error = proxy.read()["error"]
        page.shutdown()

    assert error["code"] == 404 and "404 Not Found" in error["message"]
