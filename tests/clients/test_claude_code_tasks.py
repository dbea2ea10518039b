"""Claude Code and tools whose calls become tasks. It declares the extension at a terminal, and not with `-p`."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from types import SimpleNamespace

import agents
import programs
import pytest
import task_function
from providers import MODEL, Call, Provider
from recorder import Recorder
from servers import DONE

import tools

EXTENSION = "io.modelcontextprotocol/tasks"
PROMPT = "Compute."
KEY = "sk-ant-api03-none"
DOWN, ENTER = "\x1b[B", "\r"


@pytest.fixture(scope="module")
def running():
    tools.build("conformance", "function-url-emulator")
    with task_function.running() as url:
        yield url


@pytest.fixture
def server(running):
    """A recorder in front of the function."""
    with Recorder(running) as recorder:
        # A program that ends closes connections as it likes.
        recorder._server.handle_error = lambda *_: None
        yield SimpleNamespace(name="conformance", url=recorder.url, record=recorder)


def sent(server, method):
    """The requests of a method, with their headers."""
    messages = [(headers, json.loads(body)) for headers, body, *_ in server.record.exchanges if body]
    return [(headers, message) for headers, message in messages if message["method"] == method]


def declared(message):
    return message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"].get("extensions")


class Terminal:
    """Claude Code with a person at its terminal."""

    def __init__(self, provider, server, home):
        project = home / "project"
        project.mkdir()
        agents.write(home / ".claude.json", {
            "hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
            "projects": {str(project): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}},
        })
        config = agents.write(home / "mcp.json", {"mcpServers": {server.name: {"type": "http", "url": server.url}}})
        command = [str(agents.CLAUDE_CODE), "--mcp-config", str(config), "--strict-mcp-config", "--model", MODEL]
        command += ["--allowedTools", f"mcp__{server.name},TaskStop"]
        env = programs.environment(home, provider.url, **agents.claude_code_variables(provider))
        self.provider, self.shown = provider, ""
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(project)
            os.execve(command[0], command, {**env, "TERM": "xterm-256color"})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.terminal)

    def until(self, condition, why):
        """Reads what it shows until a condition is met."""
        deadline = time.monotonic() + programs.PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{why}:\n{self.shown[-5000:]}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.shown += programs.without_colours(os.read(self.terminal, 65536).decode(errors="replace"))

    def type(self, text, effect):
        """Types, and waits until a text is shown."""
        before = len(self.shown)
        os.write(self.terminal, text.encode())
        self.until(lambda: effect in self.shown[before:], f"{text!r} does not show {effect!r}")

    def press(self, key, is_done):
        """Presses a key until a condition is met: one that is pressed before the screen is ready has no effect."""

        next_press = 0

        def pressed():
            nonlocal next_press
            if time.monotonic() > next_press:
                os.write(self.terminal, key.encode())
                next_press = time.monotonic() + 2
            return is_done()

        self.until(pressed, f"{key!r} has no effect")

    def ask(self):
        """Sends prompts until one reaches the model with the server's tools: they come after the first screen."""
        self.until(lambda: "❯" in self.shown, "there is no prompt")
        while not self.provider.results:
            before = len(self.provider.requests)
            self.type(PROMPT, PROMPT)
            os.write(self.terminal, ENTER.encode())
            self.until(lambda: len(self.provider.requests) > before, "no request reaches the provider")
            self.until(lambda: self.provider.results or not self.calls(), "the call has no result")

    def calls(self):
        """Whether the last request got a call of a tool."""
        return bool(self.provider.requests) and not isinstance(self.provider.turn(self.provider.requests[-1]), str)

    def notified(self, text):
        """Waits until the model gets a notification of a task with a text."""

        def is_there():
            texts = [json.dumps(request.body["messages"], ensure_ascii=False) for request in self.provider.requests]
            return any("<task-notification>" in own and text in own for own in texts)

        self.until(is_there, f"the model is not notified of {text!r}")


def test_a_task_at_a_terminal_runs_in_the_background_to_its_end(server, tmp_path):
    with Provider([Call("slow_compute", {"seconds": 3}), DONE]) as provider, Terminal(provider, server, tmp_path) as terminal:
        terminal.ask()
        assert "started server-side task" in provider.results[0].text
        terminal.notified("the computation took 3 s")

    [(_, called)] = sent(server, "tools/call")
    assert declared(called) == {EXTENSION: {}}
    polls = sent(server, "tasks/get")
    assert polls and all(headers["mcp-name"] == message["params"]["taskId"] for headers, message in polls)


def test_a_question_of_a_task_is_asked_at_the_terminal(server, tmp_path):
    script = [Call("confirm_delete", {"filename": "a.txt"}), DONE]
    with Provider(script) as provider, Terminal(provider, server, tmp_path) as terminal:
        terminal.ask()
        terminal.until(lambda: "a.txt?" in terminal.shown, "the question is not asked")
        terminal.type(" ", "☒")
        terminal.type(DOWN, "❯")
        terminal.press(ENTER, lambda: sent(server, "tasks/update"))
        terminal.notified("a.txt was deleted")

    [(headers, updated)] = sent(server, "tasks/update")
    assert headers["mcp-name"] == updated["params"]["taskId"]
    [answer] = updated["params"]["inputResponses"].values()
    assert answer == {"action": "accept", "content": {"confirm": True}}


def test_a_task_that_is_stopped_is_cancelled(server, tmp_path):
    def stop(request):
        return Call("TaskStop", {"task_id": re.search(r'TaskStop with task_id "(\w+)"', request.results[0].text)[1]})

    script = [Call("slow_compute", {"seconds": 3600}), stop, DONE]
    with Provider(script) as provider, Terminal(provider, server, tmp_path) as terminal:
        terminal.ask()
        terminal.until(lambda: sent(server, "tasks/cancel"), "the task is not cancelled")

    [(_, called)] = sent(server, "tools/call")
    assert declared(called) == {EXTENSION: {}}
    assert all(headers["mcp-name"] == message["params"]["taskId"] for headers, message in sent(server, "tasks/cancel"))


def test_without_a_terminal_it_declares_no_tasks_and_gets_a_handle(server, tmp_path):
    def result_or_end(request):
        task = re.search("task_id `([^`]+)`", request.results[0].text)[1]
        is_open = request.results[-1].is_error
        return Call("get_task_result", {"task_id": task}) if is_open else DONE

    with Provider([Call("count_later", {"seconds": 4}), result_or_end]) as provider:
        agents.claude_code(provider, [server], tmp_path)

    assert provider.results[0].is_error and "goes on in the background" in provider.results[0].text
    assert (provider.results[-1].is_error, provider.results[-1].text) == (False, "the computation took 4 s")
    assert {str(declared(message)) for _, message in sent(server, "tools/call")} == {"None"}
    assert not sent(server, "tasks/get")
