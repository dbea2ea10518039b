#!/usr/bin/env python3
"""`make bench-proxies`: what a stdio proxy adds to a call of greeter, ours and other people's, in one run.

    python3 scripts/bench_proxies.py [--rounds N] [--calls N]

greeter stands behind the emulator. Each round makes the same calls, one after the other, directly (over one connection of
HTTP) and through each proxy (a line to its standard input, a line from its standard output), so that all see the same
machine.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.parse

import tools
from emulated import Emulated

VERSION = "2025-11-25"
HEADERS = {
    "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION,
}
DIRECT = "direct"
PACKAGES = ["greeter", "function-url-emulator", "mcp-cli"]


def main():
    parser = argparse.ArgumentParser(description="Measures what proxies add to a call.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=300)
    arguments = parser.parse_args()
    tools.install_proxies()
    built = build()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(Released("greeter", "buffered", 1))
        clients = {DIRECT: stack.enter_context(contextlib.closing(Direct(url)))}
        for name, command in commands(built, url).items():
            clients[name] = stack.enter_context(contextlib.closing(Proxied(command)))
        for client in clients.values():
            client.start()
        rounds = [
            {name: turn(client, arguments.calls) for name, client in clients.items()} for _ in range(arguments.rounds)
        ]
        show(rounds, {name: client.memory() for name, client in clients.items() if name != DIRECT})
    size = (built / "mcpl").stat().st_size
    print(f"\n{arguments.rounds} rounds of {arguments.calls} calls each; mcpl is a file of {size / 1e6:.1f} MB")


def build():
    # Each by itself, so that none carries another's features.
    for package in PACKAGES:
        finished = subprocess.run(
            ["cargo", "build", "--quiet", "--locked", "--release", "--package", package], cwd=tools.PROJECT
        )
        if finished.returncode:
            sys.exit(finished.returncode)
    return tools.target_folder() / "release"


class Released(Emulated):
    profile = "release"


def commands(built, url):
    folder = tools.PROXIES_FOLDER
    remote = folder / "npm" / "node_modules" / "mcp-remote"
    script = remote / json.loads((remote / "package.json").read_text())["bin"]["mcp-remote"]
    return {
        "mcpl proxy": [built / "mcpl", "proxy", "greeter", url],
        f"mcp-remote {version_of(remote)}": [tools.node(), script, url, "--transport", "http-only", "--allow-http"],
        f"mcp-proxy {pinned('mcp-proxy')}": [folder / "venv" / "bin" / "mcp-proxy", "--transport", "streamablehttp", url],
    }


def version_of(package):
    return json.loads((package / "package.json").read_text())["version"]


def pinned(name):
    lines = (tools.PROXIES / "requirements.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


class Client:
    """A client of greeter; `exchange` sends a message, and returns what comes back if it has an id."""

    def start(self):
        client = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.id = 0
        self.request("initialize", client)
        self.exchange({"jsonrpc": "2.0", "method": "notifications/initialized"})
        # What a proxy does once at start is not part of a call.
        for _ in range(20):
            self.call()

    def call(self):
        result = self.request("tools/call", {"name": "personalized_greeting", "arguments": {"name": "Ada"}})
        assert result["content"][0]["text"].startswith("Hello, Ada!"), result

    def request(self, method, params):
        self.id += 1
        answer = self.exchange({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params})
        assert answer.get("id") == self.id and "result" in answer, answer
        return answer["result"]


class Direct(Client):
    def __init__(self, url):
        self.url = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(self.url.netloc)

    def exchange(self, message):
        self.connection.request("POST", self.url.path, json.dumps(message), HEADERS)
        body = self.connection.getresponse().read()
        return json.loads(body) if "id" in message else None

    def close(self):
        self.connection.close()


class Proxied(Client):
    def __init__(self, command):
        words = [str(word) for word in command]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def exchange(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        while "id" in message:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"{self.process.args} ended with {self.process.wait()}")
            answer = json.loads(line)
            if answer.get("id") == message["id"] and "method" not in answer:
                return answer

    def memory(self):
        """The peak, in bytes; 0 where the system does not say it."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return 0
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024

    def close(self):
        self.process.terminate()
        self.process.wait()


def turn(client, calls):
    """The time of each call, in seconds."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        client.call()
        times.append(time.perf_counter() - began)
    return times


def show(rounds, memory):
    print(f"{'':20}{'median':>12}{'p99':>12}{'more than direct':>20}{'ratio':>10}{'peak memory':>16}")
    for name in rounds[0]:
        medians = [statistics.median(own[name]) for own in rounds]
        bases = [statistics.median(own[DIRECT]) for own in rounds]
        p99 = statistics.median(statistics.quantiles(own[name], n=100)[98] for own in rounds)
        line = f"{name:<20}{statistics.median(medians) * 1e6:>9.0f} µs{p99 * 1e6:>9.0f} µs"
        if name != DIRECT:
            pairs = list(zip(medians, bases, strict=True))
            more = statistics.median(median - base for median, base in pairs)
            ratio = statistics.median(median / base for median, base in pairs)
            line += f"{more * 1e6:>17.0f} µs{ratio:>9.2f}×{memory[name] / 2**20:>12.1f} MiB"
        print(line)


if __name__ == "__main__":
    main()
