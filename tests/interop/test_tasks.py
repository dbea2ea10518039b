"""Clients of tools whose calls become tasks: with and without the extension, directly and through `mcpl`."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from typing import Literal

import anyio
import mcp_types
import pytest
import task_function
import tools
from conftest import build
from hostile import Hostile
from mcp import Client
from mcp.client import ClientExtension
from mcp.client.extension import ResultClaim
from proxied import META, session
from recorder import Recorder

EXTENSION = "io.modelcontextprotocol/tasks"
PATIENCE_SECONDS = 60
HANDLE = re.compile(
    r"The call has not ended yet and goes on in the background\. Call the tool `get_task_result` with the task_id `([^`]+)` to get "
    r"its result, after 1 seconds or more\. Do not repeat this call\."
)
NOT_ENDED = "The task has not ended yet: wait some seconds, and call again."
COMPUTED = {0.1: "the computation took 0.1 s", 4: "the computation took 4 s"}


@pytest.fixture(scope="module")
def running():
    """The URL of a function with tools whose calls become tasks."""
    build()
    with task_function.running() as url:
        yield url


def check_handle(tool, quick, handle, result):
    """What a client without the extension got, as (is_error, text, structured)."""
    structured = {0.1: {"seconds": 0.1}} if tool == "count_later" else {}
    assert quick == (False, COMPUTED[0.1], structured.get(0.1))
    assert handle[0] and HANDLE.fullmatch(handle[1]) and handle[2] is None, handle
    assert result == (False, COMPUTED[4], None)


@pytest.mark.parametrize("tool", ["compute_later", "count_later"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_python_sdk_without_the_extension_gets_a_handle(running, mode, tool):
    async def use():
        async with Client(running, mode=mode) as client:
            # From here on it checks results against output schemas.
            await client.list_tools()

            async def call(name, **arguments):
                result = await client.call_tool(name, arguments)
                return result.is_error, result.content[0].text, result.structured_content

            quick = await call(tool, seconds=0.1)
            handle = await call(tool, seconds=4)
            task_id = HANDLE.fullmatch(handle[1])[1]
            with anyio.fail_after(PATIENCE_SECONDS):
                while (result := await call("get_task_result", task_id=task_id))[0]:
                    assert result == (True, NOT_ENDED, None)
                    await anyio.sleep(0.5)
            check_handle(tool, quick, handle, result)
            unknown = await call("get_task_result", task_id="x" * 22)
            assert unknown[0] and "unknown task" in unknown[1]

    anyio.run(use)


@pytest.mark.parametrize("tool", ["compute_later", "count_later"])
def test_the_first_python_sdk_gets_a_handle(running, tool):
    installed = sorted((tools.FOLDER / "clients").glob("*/lib/python3*/site-packages/mcp-1.*.dist-info"))
    if not installed:
        pytest.skip("no client with the first Python SDK is installed: `make test` installs some")
    python = installed[0].parents[3] / "bin" / "python"
    command = [python, tools.INTEROP / "python_tasks.py", running, tool]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    assert ran.returncode == 0, ran.stderr
    check_handle(tool, *(tuple(own) for own in json.loads(ran.stdout)))


@pytest.mark.parametrize("tool", ["compute_later", "count_later"])
@pytest.mark.parametrize("generation", ["first", "auto", "legacy"])
def test_the_typescript_sdks_without_the_extension_get_a_handle(running, node, generation, tool):
    saw = json.loads(node("typescript_tasks.mjs", running, generation, tool).stdout)

    def values(result):
        return result["isError"], result["text"], result.get("structured")

    check_handle(tool, values(saw["quick"]), values(saw["handle"]), values(saw["result"]))
    assert set(saw["states"]) <= {NOT_ENDED}


def test_the_typescript_package_for_tasks_runs_them_to_their_ends(running, node):
    saw = json.loads(node("typescript_tasks.mjs", running, "tasks").stdout)

    assert saw["quick"] == {"kind": "immediate", "states": [], "status": "completed", "text": "Hello, Ada!"}
    assert (saw["slow"]["kind"], saw["slow"]["status"], saw["slow"]["text"]) == ("task", "completed", "the computation took 2 s")
    assert "working" in saw["slow"]["states"]
    assert saw["structured"]["text"] == "the computation took 2 s"
    assert (saw["failing"]["status"], saw["failing"]["text"]) == ("completed", "This job always fails.")
    assert saw["broken"]["status"] == "failed"
    assert saw["confirmed"]["text"] == "a.txt was deleted"
    assert saw["twice"]["text"] in ("name 2 and name 3", "name 3 and name 2")
    assert saw["asked"][0] == "Delete a.txt?"
    assert sorted(saw["asked"][1:]) == ["What is the first name?", "What is the second name?"]
    assert saw["cancelled"] == "cancelled"
    assert saw["sent"] == ["tasks/cancel", "tasks/get", "tasks/update", "tools/call"]


class CreatedTask(mcp_types.Result):
    """`CreateTaskResult`."""

    result_type: Literal["task"]
    task_id: str
    poll_interval_ms: int


class TaskState(mcp_types.Result):
    """The result of `tasks/get`."""

    status: str
    input_requests: dict | None = None
    result: dict | None = None


class GetTask(mcp_types.Request[dict, Literal["tasks/get"]]):
    name_param = "taskId"
    method: Literal["tasks/get"] = "tasks/get"


class UpdateTask(mcp_types.Request[dict, Literal["tasks/update"]]):
    name_param = "taskId"
    method: Literal["tasks/update"] = "tasks/update"


class Tasks(ClientExtension):
    """The extension, as a program adds it to the Python SDK, which has no code for tasks."""

    identifier = EXTENSION

    def __init__(self):
        self.states = []

    def claims(self):
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self.resolve)]

    async def resolve(self, task, context):
        params = {"taskId": task.task_id}
        while True:
            state = await context.session.send_request(GetTask(params=params), TaskState)
            self.states.append(state.status)
            if state.status == "completed":
                return mcp_types.CallToolResult.model_validate(state.result)
            for key in state.input_requests or {}:
                answer = {key: {"action": "accept", "content": {"confirm": True}}}
                await context.session.send_request(UpdateTask(params={**params, "inputResponses": answer}), mcp_types.EmptyResult)
            await anyio.sleep(task.poll_interval_ms / 1000)


def test_the_python_sdk_with_the_extension_runs_a_task_to_its_end(running):
    async def use():
        own = Tasks()

        async def on_elicitation(*_):
            raise AssertionError("the questions of a task are answered by `tasks/update`")

        async with Client(running, extensions=[own], elicitation_callback=on_elicitation) as client:
            await client.list_tools()
            with anyio.fail_after(PATIENCE_SECONDS):
                counted = await client.call_tool("count_later", {"seconds": 2})
                confirmed = await client.call_tool("confirm_delete", {"filename": "a.txt"})
            assert (counted.structured_content, counted.content[0].text) == ({"seconds": 2}, "the computation took 2 s")
            assert confirmed.content[0].text == "a.txt was deleted"
            assert {"working", "input_required", "completed"} == set(own.states)

    anyio.run(use)


@pytest.fixture
def run(mcpl, tmp_path):
    """Runs a command without a terminal."""

    def own(*words):
        command = [str(word) for word in [mcpl, *words, "--state-dir", tmp_path]]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)

    own.words = lambda *words: [str(word) for word in [mcpl, *words, "--state-dir", tmp_path]]
    return own


def test_mcpl_waits_for_the_result_of_a_task(run, running):
    slow = run("call", running, "count_later", "seconds=2", "label=it")
    as_json = run("call", running, "count_later", "seconds=2", "--json")
    failing = run("call", running, "failing_job")
    broken = run("call", running, "protocol_error_job", "--json")
    unanswerable = run("call", running, "confirm_delete", "filename=a.txt")

    assert (slow.returncode, slow.stdout) == (0, "it took 2 s\n"), slow.stderr
    assert re.match(r"the call goes on as task \S+: Ctrl-C cancels it\ntask: working\n", slow.stderr), slow.stderr
    assert slow.stderr.endswith("task: completed\n")
    assert json.loads(as_json.stdout)["structuredContent"] == {"seconds": 2}
    assert (failing.returncode, failing.stdout) == (1, "This job always fails.\n")
    assert broken.returncode == 1 and json.loads(broken.stdout)["source"] == "server"
    assert "the task failed: " in broken.stderr
    # It declares no elicitation without a terminal: the tool cannot ask.
    assert unanswerable.returncode == 1 and "the task failed: the client did not declare a capability" in unanswerable.stderr


def test_mcpl_continues_a_detached_task_by_its_id(run, running):
    detached = run("call", running, "slow_compute", "seconds=3", "--detach")
    [id] = detached.stdout.split()
    working = run("task", "get", running, id)
    waited = run("task", "wait", running, id)
    ended = run("task", "get", running, id, "--json")
    again = run("task", "wait", running, id, "--json")
    as_json = run("call", running, "slow_compute", "seconds=3600", "--detach", "--json")
    other = json.loads(as_json.stdout)
    cancelled = run("task", "cancel", running, other["taskId"])
    state = run("task", "get", running, other["taskId"])
    late = run("task", "wait", running, other["taskId"])
    quick = run("call", running, "greet", "name=Ada", "--detach")

    assert detached.returncode == 0 and f"`mcpl task wait {running} {id}` continues it" in detached.stderr
    assert (working.returncode, working.stdout) == (0, "working\n"), working.stderr
    assert (waited.returncode, waited.stdout) == (0, "the computation took 3 s\n"), waited.stderr
    assert (json.loads(ended.stdout)["taskId"], json.loads(ended.stdout)["status"]) == (id, "completed")
    assert json.loads(again.stdout) == json.loads(ended.stdout)["result"]
    assert other["resultType"] == "task" and cancelled.returncode == 0
    assert (state.returncode, state.stdout) == (0, "cancelled\n")
    assert late.returncode == 1 and "the task was cancelled" in late.stderr
    assert (quick.returncode, quick.stdout) == (0, "Hello, Ada!\n") and "there is no task" in quick.stderr


def test_mcpl_reports_ids_that_cannot_be_used(run, running):
    gone = "is of another server, account or client: unknown task: it does not exist, or has expired"

    for command in ("get", "wait", "cancel"):
        unknown = run("task", command, running, "x" * 22)
        assert unknown.returncode == 1 and gone in unknown.stderr, unknown
        assert "the task goes on" not in unknown.stderr
        empty = run("task", command, running, "")
        long = run("task", command, running, "x" * 1025)
        assert empty.returncode == long.returncode == 2 and "the id of a task has 1 to 1024 printable characters" in long.stderr
    unknown = run("task", "get", running, "x" * 22, "--json")
    assert json.loads(unknown.stdout)["error"]["code"] == -32602
    with modern() as server:
        without = run("task", "get", server.url, "x")
    assert without.returncode == 1 and "the server has no tasks" in without.stderr, without
    with Hostile() as server:
        legacy = run("task", "get", server.url, "x")
    assert legacy.returncode == 1 and "it speaks a revision before 2026-07-28" in legacy.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_mcpl_call_cancels_its_task(run, running, number):
    process = subprocess.Popen(
        run.words("call", running, "slow_compute", "seconds=3600"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )
    id = re.search(r"as task (\S+):", process.stderr.readline())[1]
    assert process.stderr.readline() == "task: working\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 128 + number and errors.endswith("the task is cancelled\n"), errors
    assert run("task", "get", running, id).stdout == "cancelled\n"


def test_an_interrupted_mcpl_task_wait_leaves_the_task(run, running):
    id = run("call", running, "slow_compute", "seconds=3600", "--detach").stdout.strip()
    process = subprocess.Popen(
        run.words("task", "wait", running, id), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    assert process.stderr.readline() == "task: working\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 130
    assert run("task", "get", running, id).stdout == "working\n"
    assert run("task", "cancel", running, id).returncode == 0


def at_terminal(command, answers):
    """Runs a command with a terminal and types the answer to each text that it shows; returns all that it showed, and the code."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(command[0], command, os.environ)
    killer = threading.Timer(PATIENCE_SECONDS, os.kill, (process, signal.SIGKILL))
    killer.start()
    shown, seen = "", 0
    try:
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 65536):
                shown += part.decode()
                while answers and (found := shown.find(answers[0][0], seen)) >= 0:
                    text, typed = answers.pop(0)
                    seen = found + len(text)
                    os.write(terminal, typed.encode())
    finally:
        killer.cancel()
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        os.close(terminal)
    assert not answers, (answers, shown)
    return shown, code


def test_mcpl_asks_the_questions_of_a_task_at_the_terminal(run, running):
    one = [("Delete a.txt?", ""), ("> ", "yes\n"), ("Send?", "\n")]
    shown, code = at_terminal(run.words("call", running, "confirm_delete", "filename=a.txt"), one)
    assert code == 0 and "a.txt was deleted" in shown, shown

    two = [("What is the ", ""), ("> ", "Ada\n"), ("Send?", "\n"), ("What is the ", ""), ("> ", "Bob\n"), ("Send?", "\n")]
    shown, code = at_terminal(run.words("call", running, "multi_input"), two)
    assert code == 0 and re.search("Ada and Bob|Bob and Ada", shown), shown
    assert shown.count("What is the first name?") == shown.count("What is the second name?") == 1, "each is asked once"

    # A question before the first step comes by a multi round-trip request, and the call becomes a task after it.
    first = [("What is your name?", ""), ("> ", "Ada\n"), ("Send?", "\n")]
    shown, code = at_terminal(run.words("call", running, "test_tool_with_task"), first)
    assert code == 0 and "Hello, Ada!" in shown, shown

    # Another client has asked for it, at a terminal, and has left.
    detached, code = at_terminal(run.words("call", running, "confirm_delete", "filename=b.txt", "--detach"), [])
    id = re.search(r"task wait \S+ (\S+)`", detached)[1]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while run("task", "get", running, id).stdout != "input_required\n":
        assert time.monotonic() < deadline
    away = run("task", "wait", running, id)
    assert away.returncode == 1 and "standard input is no terminal" in away.stderr, away
    assert f"`mcpl task wait {running} {id}` continues it" in away.stderr
    shown, code = at_terminal(run.words("task", "wait", running, id), [("Delete b.txt?", ""), ("> ", "no\n"), ("Send?", "\n")])
    assert code == 0 and "nothing was deleted" in shown, shown


def modern(**methods):
    """A server of 2026-07-28 that answers as a test says."""
    discovered = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    return Hostile({"server/discover": discovered, **methods})


TASK = {"resultType": "task", "taskId": "t-1", "status": "working", "pollIntervalMs": 0, "ttlMs": 600_000}


def test_mcpl_bounds_what_a_server_sends_of_a_task(run):
    def states(*later):
        """`tasks/get` has these states, one after another."""
        left = list(later)
        return lambda _: {**TASK, "resultType": "complete", **(left.pop(0) if len(left) > 1 else left[0])}

    done = {"status": "completed", "result": {"content": [{"type": "text", "text": "ok"}]}}
    evil = "\x1b[2J" + "x" * 100_000
    question = {"method": "sampling/createMessage", "params": {}}
    many = {f"q{own}": question for own in range(101)}
    for created, polled, code, expected in [
        (TASK, states({"statusMessage": evil}, done), 0, "task: working: \\u{1b}[2Jx"),
        ({**TASK, "pollIntervalMs": 1e300, **done}, {}, 0, "task: completed"),
        ({**TASK, "taskId": "x" * 2000}, {}, 1, "the server's task cannot be used"),
        ({**TASK, "status": "paused"}, {}, 1, 'unknown status "paused"'),
        (TASK, states({"taskId": "t-2"}), 1, "another task than `t-1`"),
        (TASK, states({"status": "completed"}), 1, "ended without a result"),
        (TASK, states({"status": "input_required", "inputRequests": many}), 1, "more than 100 questions"),
        (TASK, states({"status": "input_required", "inputRequests": {"q": question}}), 1, "asks for `sampling/createMessage`"),
    ]:
        with modern(**{"tools/call": created, "tasks/get": polled}) as server:
            called = run("call", server.url, "t")
        assert called.returncode == code and expected in called.stderr, (created, called)
        assert "\x1b" not in called.stderr and len(called.stderr) < 5000
    # Of no other request.
    with modern(**{"resources/read": TASK}) as server:
        read = run("read", server.url, "a:b")
    assert read.returncode == 1 and "of a type that is not known: `task`" in read.stderr


def test_mcpl_goes_on_when_a_server_is_busy_for_a_while(run):
    polls = []

    def get(message):
        polls.append(message["params"])
        if len(polls) == 1:
            return json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": {"code": 429, "message": "rate limit reached"}})
        return {**TASK, "resultType": "complete", "status": "completed", "result": {"content": []}}

    with modern(**{"tools/call": TASK, "tasks/get": get}) as server:
        called = run("call", server.url, "t")

    assert called.returncode == 0 and "trying again: rate limit reached" in called.stderr, called
    declared = polls[0]["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    assert declared == {"extensions": {EXTENSION: {}}}


@contextlib.contextmanager
def behind_proxy(mcpl, url, state):
    """A recorder, and a proxy in front of it."""
    with Recorder(url) as recorder, session(mcpl, recorder.url, state) as proxy:
        yield recorder, proxy


def test_the_proxy_passes_tasks_through(mcpl, running, tmp_path):
    capabilities = {"elicitation": {"form": {}}, "extensions": {EXTENSION: {}}}
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    with behind_proxy(mcpl, running, tmp_path) as (recorder, proxy):

        def ask(method, **params):
            proxy.send(method, {**params, "_meta": meta})
            answer = proxy.read()
            assert answer["id"] == proxy.id and "result" in answer, answer
            return answer["result"]

        def until(id, status):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (state := ask("tasks/get", taskId=id))["status"] != status:
                assert time.monotonic() < deadline, state
                time.sleep(0.2)
            return state

        assert EXTENSION in ask("server/discover")["capabilities"]["extensions"]
        created = ask("tools/call", name="confirm_delete", arguments={"filename": "a.txt"})
        id = created["taskId"]
        assert created["resultType"] == "task"
        [key] = until(id, "input_required")["inputRequests"]
        answer = {key: {"action": "accept", "content": {"confirm": True}}}
        assert ask("tasks/update", taskId=id, inputResponses=answer)["resultType"] == "complete"
        assert until(id, "completed")["result"]["content"][0]["text"] == "a.txt was deleted"
        other = ask("tools/call", name="slow_compute", arguments={"seconds": 3600})["taskId"]
        ask("tasks/cancel", taskId=other)
        until(other, "cancelled")

    sent = [(headers, json.loads(body)) for headers, body, *_ in recorder.exchanges if body]
    of_tasks = [(headers, message) for headers, message in sent if message["method"].startswith("tasks/")]
    assert {message["method"] for _, message in of_tasks} == {"tasks/get", "tasks/update", "tasks/cancel"}
    for headers, message in of_tasks:
        assert headers["mcp-name"] == message["params"]["taskId"] and message["params"]["taskId"] in (id, other)
        assert headers["mcp-method"] == message["method"]
        assert message["params"]["_meta"] == meta
    [updated] = [message for _, message in of_tasks if message["method"] == "tasks/update"]
    assert updated["params"]["inputResponses"] == answer


@pytest.mark.parametrize("declared", [{}, {"extensions": {EXTENSION: {}}}])
@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25"])
def test_an_older_client_behind_the_proxy_gets_a_handle(mcpl, running, tmp_path, revision, declared):
    with session(mcpl, running, tmp_path) as proxy:
        client = {"name": "interop", "version": "1.0.0"}
        proxy.send("initialize", {"protocolVersion": revision, "capabilities": declared, "clientInfo": client})
        welcome = proxy.read()["result"]
        assert welcome["protocolVersion"] == revision and "extensions" not in welcome["capabilities"]
        proxy.write({"jsonrpc": "2.0", "method": "notifications/initialized"})

        def call(name, **arguments):
            result = proxy.call(name, **arguments)["result"]
            assert "resultType" not in result
            return result.get("isError", False), result["content"][0]["text"], result.get("structuredContent")

        quick = call("count_later", seconds=0.1)
        handle = call("count_later", seconds=4)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (result := call("get_task_result", task_id=HANDLE.fullmatch(handle[1])[1]))[0]:
            assert time.monotonic() < deadline
            time.sleep(0.5)

    check_handle("count_later", quick, handle, result)
