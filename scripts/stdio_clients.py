"""Scripted clients of a proxy that speaks stdio: each starts its own, and calls greeter through it until it is stopped.
Every request must get one answer."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import statistics
import time

TOOL = "personalized_greeting"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
INFO = {"name": "soak", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": INFO,
}
# Of all requests, those that change nothing.
LISTS = 0.25
# For the end of a proxy whose input has ended.
END_SECONDS = 45


class Unanswered(Exception):
    """A request has no answer, or the proxy has ended."""


class Figures:
    """What a group of clients saw."""

    def __init__(self):
        self.calls = self.requests = self.duplicates = self.strange = self.starts = 0
        # Of each request, and of each call with the requests that repeat it, in seconds.
        self.request_times, self.call_times = [], []
        self.errors = collections.Counter()
        self.failures = []
        # RSS in KiB of each process that lived long enough: early, and at its end.
        self.memory = []

    def fail(self, text):
        self.failures.append(text)

    def show(self, name):
        calls, requests = sorted(self.call_times) or [0], sorted(self.request_times) or [0]
        print(f"\n{name}: {self.calls} calls answered, {self.requests} requests, {self.starts} starts of the program")
        print(
            f"  a request: median {statistics.median(requests) * 1000:.0f} ms, p99 {at(requests, 0.99):.2f} s, longest "
            f"{requests[-1]:.1f} s; a call with its repetitions: p99 {at(calls, 0.99):.2f} s, longest {calls[-1]:.1f} s"
        )
        print(f"  unanswered {len(self.failures)}, answered twice {self.duplicates}, without a request {self.strange}")
        if self.memory:
            early, late = ([own[index] / 1024 for own in self.memory] for index in (0, 1))
            ratios = spread([late / early for early, late in self.memory], 2)
            print(
                f"  RSS of {len(early)} processes (least/median/most): early {spread(early)} MiB, at the end {spread(late)} MiB, "
                f"ratio {ratios}"
            )
        print(f"  errors that were repeated: {sum(self.errors.values())}")
        for text, count in self.errors.most_common():
            print(f"    {count:6} {text}")


def at(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values, digits=1):
    return "/".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


class Client:
    """`bound` is the time within which each request must have an answer, and each call a result; `early` the age at which
    the memory of a process is first measured."""

    def __init__(self, name, command, environment, log, figures, bound, early, pause, is_modern=False):
        self.name, self.command, self.environment, self.log = name, command, environment, log
        self.figures, self.bound, self.early, self.pause, self.is_modern = figures, bound, early, pause, is_modern
        self.process = None
        self.id = self.number = 0
        self.pending = {}
        self.stopping = asyncio.Event()
        self.idle = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.memory = None

    async def start(self):
        with open(self.log, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=self.environment, limit=2**24,
            )
        self.figures.starts += 1
        self.began, self.memory = time.monotonic(), None
        self.reading = asyncio.create_task(self.read(self.process))
        if self.is_modern:
            await self.result("server/discover", lambda: {})
        else:
            hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
            await self.result("initialize", lambda: hello)
            self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def read(self, process):
        async for line in process.stdout:
            message = json.loads(line)
            if "id" not in message or "method" in message:
                continue
            waiting = self.pending.get(message["id"])
            if waiting is None:
                self.figures.strange += 1
                self.figures.fail(f"{self.name}: an answer to no request: {line[:300]}")
            elif waiting.done():
                self.figures.duplicates += 1
                self.figures.fail(f"{self.name}: a second answer: {line[:300]}")
            else:
                waiting.set_result(message)
        for waiting in self.pending.values():
            if not waiting.done():
                waiting.set_exception(Unanswered("the proxy has ended"))

    def write(self, message):
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def request(self, method, params):
        """The answer. Ids stay known, so that a second answer shows."""
        self.id += 1
        waiting = self.pending[self.id] = asyncio.get_running_loop().create_future()
        # One that was given up is looked at by nothing.
        waiting.add_done_callback(lambda own: own.cancelled() or own.exception())
        began = time.monotonic()
        self.figures.requests += 1
        if self.is_modern:
            params = {**params, "_meta": META}
        self.write({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params})
        try:
            answer = await asyncio.wait_for(asyncio.shield(waiting), self.bound)
        except asyncio.TimeoutError:
            raise Unanswered(f"{method} {json.dumps(params)[:200]} has no answer after {self.bound} s") from None
        self.figures.request_times.append(time.monotonic() - began)
        return answer

    async def result(self, method, params):
        """The result of a request that is repeated until it has one."""
        began = time.monotonic()
        while True:
            answer = await self.request(method, params())
            if "result" in answer and not answer["result"].get("isError"):
                self.figures.call_times.append(time.monotonic() - began)
                return answer["result"]
            self.figures.errors[common(answer.get("error", answer).get("message", json.dumps(answer)))] += 1
            if time.monotonic() - began > self.bound:
                raise Unanswered(f"{method} has no result after {self.bound} s, at last {json.dumps(answer)[:300]}")
            await asyncio.sleep(random.uniform(0.5, 1.5))

    async def call(self):
        if random.random() < LISTS:
            result = await self.result("tools/list", lambda: {})
            if [tool["name"] for tool in result["tools"]] != [TOOL]:
                self.figures.fail(f"{self.name}: another list of tools: {result}")
        else:
            result = await self.result("tools/call", self.greeting)
            text = result["content"][0]["text"]
            if not text.startswith(f"Hello, {self.name}-{self.number}!"):
                self.figures.fail(f"{self.name}: the answer to another call than {self.number}: {text[:200]}")
        self.figures.calls += 1

    def greeting(self):
        # Each time another, so that each of the server's answers is known.
        self.number += 1
        return {"name": TOOL, "arguments": {"name": f"{self.name}-{self.number}"}}

    async def run(self):
        """Calls until it is stopped, with a new process after a failure."""
        while not self.stopping.is_set():
            try:
                await self.start()
                await self.calls()
                await self.close()
            except Unanswered as failure:
                self.figures.fail(f"{self.name} ({self.process.pid}), {time.strftime('%H:%M:%S')}: {failure}")
                await self.kill()
            self.idle.set()
            await self.may_start.wait()
            self.idle.clear()

    async def calls(self):
        while not self.stopping.is_set() and self.may_start.is_set():
            await asyncio.sleep(random.uniform(*self.pause))
            await self.call()
            if self.memory is None and time.monotonic() - self.began > self.early:
                self.memory = self.rss()

    def rss(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    async def close(self):
        """Ends the input, as a program does that closes; the proxy must end by itself."""
        if self.memory:
            self.figures.memory.append((self.memory, self.rss()))
        self.process.stdin.close()
        try:
            code = await asyncio.wait_for(self.process.wait(), END_SECONDS)
        except asyncio.TimeoutError:
            raise Unanswered(f"it is still there {END_SECONDS} s after the end of its input") from None
        await self.reading
        if code:
            raise Unanswered(f"it ended with {code}")
        self.pending.clear()

    async def kill(self):
        self.signal(signal.SIGKILL)
        await self.process.wait()
        await self.reading
        self.pending.clear()

    def signal(self, number):
        if self.process and self.process.returncode is None:
            # Not by the process's own method, which may wait for it, as asyncio does.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def common(message):
    """A message without what differs from one to the next."""
    message = re.sub(r"https?://127\.0\.0\.1:\d+", "URL", message)
    return re.sub(r"\d{4,}", "N", message)[:300]
