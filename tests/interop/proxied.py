"""`mcpl proxy`, and a client of it that writes and reads messages one by one."""

import contextlib
import json
import re
import subprocess
import sys

import tools
from oauth import PATIENCE_SECONDS

BROWSER = f"{sys.executable} {tools.INTEROP / 'client_driver.py'} open"


class Logged:
    """Equals what `log_event` returns for an event, with any number."""

    def __init__(self, name="login", by=" by ada@example.com", end=""):
        self.pattern = re.escape(f"Event '{name}' logged{by}. Its number is ") + r"\d+\." + end

    def __eq__(self, text):
        return isinstance(text, str) and re.fullmatch(self.pattern, text) is not None

    def __repr__(self):
        return f"<text that matches {self.pattern!r}>"


LOGGED = Logged()
LOGGED_LINE = Logged(end="\n")
# What a client of 2025-11-25 says once, and one of 2026-07-28 with each request.
LEGACY_CLIENT = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "interop", "version": "1.0.0"},
}
META = {
    f"io.modelcontextprotocol/{key}": value
    for key, value in {
        "protocolVersion": "2026-07-28",
        "clientCapabilities": {"elicitation": {"form": {}}},
        "clientInfo": {"name": "interop", "version": "1.0.0"},
    }.items()
}


def words(mcpl, url, state, *options):
    browser = [] if "--no-browser" in options else ["--open", BROWSER]
    return [mcpl, "proxy", "test", url, "--state-dir", str(state), *browser, *options]


class Session:
    """Messages to and from a proxy, as a client of 2025-11-25 that is at hand."""

    def __init__(self, command, env=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.id = 0

    def send(self, method, params=None):
        self.id += 1
        self.write({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params or {}})
        return self.id

    def write(self, message):
        text = message if isinstance(message, str) else json.dumps(message)
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def read(self):
        line = self.process.stdout.readline()
        assert line, "the proxy has ended"
        return json.loads(line)

    def call(self, tool, **arguments):
        self.send("tools/call", {"name": tool, "arguments": arguments})
        return self.read()

    def text(self, tool, **arguments):
        answer = self.call(tool, **arguments)
        assert "result" in answer, answer
        return answer["result"]["content"][0]["text"]

    def close(self):
        self.process.stdin.close()
        return self.process.wait(timeout=PATIENCE_SECONDS)


@contextlib.contextmanager
def session(mcpl, url, state, *options):
    own = Session(words(mcpl, url, state, *options))
    try:
        yield own
    finally:
        assert own.close() == 0
