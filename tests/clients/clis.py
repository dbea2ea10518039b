"""Command lines that list and call tools for a person or a script, and bridges from stdio to HTTP: no model is involved."""

import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Callable

import programs
from agents import ALL, write

import tools


@dataclasses.dataclass(frozen=True)
class Cli:
    """`prepare` takes a server and a home, and returns the words of the command; `listing` and `calling` add theirs. What
    docs/clients.md says of it: the revision that it speaks, what it prints of a result, and its exit code after an error."""

    title: str
    package: str
    prepare: Callable
    listing: Callable
    calling: Callable
    revision: str
    shows: str
    error_code: int
    ignored: tuple = ()
    # Commands that have to be run first.
    before: Callable = lambda server: []


def node(*words):
    return [tools.node(), ALL.joinpath(*words)]


def mcporter(server, home):
    config = write(home / "mcporter.json", {"mcpServers": {server.name: {"baseUrl": server.url}}})
    return [*node("mcporter", "dist", "cli.js"), "--config", config]


MCPORTER = Cli(
    "mcporter", "mcporter", mcporter,
    lambda server: ["list", server.name, "--schema"],
    lambda server, tool, arguments: ["call", f"{server.name}.{tool}", "--args", json.dumps(arguments)],
    "2025-11-25", "structure", 1,
)


def mcpc(server, home):
    return node("@apify", "mcpc", "bin", "mcpc")


MCPC = Cli(
    "mcpc", "@apify/mcpc", mcpc,
    lambda server: ["@session", "tools-list", "--full"],
    lambda server, tool, arguments: ["@session", "tools-call", tool, json.dumps(arguments)],
    "2025-11-25", "text", 0, ignored=(r"^✗ Tool \S+ returned an error$",),
    before=lambda server: [["connect", server.url, "@session"]],
)


def inspector(server, home):
    program = node("@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
    return [*program, "--cli", server.url, "--transport", "http"]


INSPECTOR = Cli(
    "Inspector", "@modelcontextprotocol/inspector", inspector,
    lambda server: ["--method", "tools/list"],
    lambda server, tool, arguments: [
        "--method", "tools/call", "--tool-name", tool,
        *(word for key, value in arguments.items() for word in ("--tool-arg", f"{key}={value}")),
    ],
    "2025-11-25", "both", 5, ignored=("""^{"error":{"code":"tool_is_error",""",),
)


CLIS = {
    "mcporter": MCPORTER,
    "mcpc": MCPC,
    "inspector": INSPECTOR,
}


class Bridge:
    """A program that speaks stdio to its client and HTTP to a server."""

    def __init__(self, command, cwd, env):
        self.log = pathlib.Path(cwd) / "bridge.log"
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log.open("a"), text=True, start_new_session=True,
        )
        self.id = 0
        capabilities = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "clients", "version": "1"}}
        self.initialized = self.request("initialize", capabilities)
        self.write({"method": "notifications/initialized"})

    def write(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def request(self, method, params):
        self.id += 1
        self.write({"id": self.id, "method": method, "params": params})
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == self.id and "method" not in message:
                return message["result"]
        raise AssertionError(f"the bridge has ended:\n{self.log.read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        programs.end(self.process)


BRIDGES = {
    "mcp-remote": lambda url: [*node("mcp-remote", "dist", "proxy.js"), url, "--allow-http", "--transport", "http-only"],
    "supergateway": lambda url: [*node("supergateway", "dist", "index.js"), "--streamableHttp", url],
    "mcp-proxy": lambda url: [tools.CLIENTS_FOLDER / "mcp_proxy" / "bin" / "mcp-proxy", "--transport", "streamablehttp", url],
}
