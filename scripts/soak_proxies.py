#!/usr/bin/env python3
"""Part of `make soak`: `mcpl proxy` in a fleet of clients, while servers, issuers, clocks and laptops do what they do.

    python3 scripts/soak_proxies.py [--minutes N] [--proxies N] [--remotes N] [--seed N] [--built FOLDER]

Many `mcpl proxy` share a home, one half behind clients of 2025-11-25 and the other of 2026-07-28, and mcp-remote runs beside them
with fewer instances and as many calls. All call greeter (with `auth`) behind the emulator, with tokens of 60 s from a
certified issuer. From a seed comes what happens meanwhile: see `Events`. The grant is forgotten twice on purpose.

It fails unless every request has one answer, every call a result, and no call is carried out twice; unless there is one
sign-in page at first and one for each grant that is forgotten; unless memory is flat and every process ends; unless
docs/mcpl-troubleshooting.md explains every error. What mcp-remote does is reported, and decides nothing.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import debian
import documentation
import processes
import tools
from bench_proxies import version_of
from driving import build_one
from emulated import Emulated
from issuer import Issuer
from relay import BUSY_MODE, PASS, STALL, Relay
from stdio_clients import Client, Figures, spread

TOKEN_SECONDS = 60
# The issuer gives none without any; mcp-remote asks for those of OpenID by itself.
SCOPE = "events:read"
# Longer than a token's life, and than any other outage.
SLEEP_SECONDS = (65, 90)
# For an answer, and for the result of a call that is repeated: more than the longest outage, which is an issuer that answers
# nothing for 110 s. An issuer that answers nothing for longer than mcpl waits (120 s) may end the grant.
BOUND_SECONDS = 180
# Between two events, of which each lasts up to the longest outage.
PAUSE_SECONDS = (20, 45)
# Nothing happens in the end.
QUIET_SECONDS = 45
CALL_SECONDS = (1, 2)
# What clocks are wrong by, in seconds.
CLOCKS = (7200, 0, -3600)
# Memory at the end, of what it was after a tenth of the time.
MEMORY_RATIO, MEMORY_KIB = 1.3, 4096
RESTARTED = 10
# When the grant is forgotten, by parts of the whole; the second time with the clients, and ten proxies start.
FORGOTTEN = (0.4, 0.7)
PACKAGES = {"greeter": ("greeter", ["auth"]), "function-url-emulator": ("function-url-emulator", []), "mcpl": ("mcp-cli", [], "mcpl")}
# All that is started has it in its environment.
MARK = "SOAK_PROXIES"
REMOTE_FOLDER = "MCP_REMOTE_CONFIG_DIR"


def main():
    parser = argparse.ArgumentParser(description="Runs many proxies while everything breaks.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--proxies", type=int, default=20)
    parser.add_argument("--remotes", type=int, default=4, help="instances of mcp-remote; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path, help="a new one, which is kept: logs, pages, tokens")
    parser.add_argument("--built", type=pathlib.Path, help="where the binaries are; greeter must have `auth`")
    arguments = parser.parse_args()
    if not pathlib.Path("/proc/self/environ").exists():
        return print("SKIPPED: proxies, since this machine has no /proc to find processes in", file=sys.stderr)
    tools.install_proxies()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
        folder = pathlib.Path(folder)
        built = build(folder / "built", arguments.built)
        os.environ[MARK] = uuid.uuid4().hex
        soak = Soak(arguments, folder, built)
        try:
            asyncio.run(soak.run())
        finally:
            left = kill_what_is_left(os.environ[MARK])
        failures = soak.report(left)
    if failures:
        sys.exit("\n".join(["", "FAILED:", *failures]))


def build(folder, built):
    folder.mkdir(parents=True)
    for name, own in PACKAGES.items():
        if built:
            shutil.copy(built / name, folder / name)
        else:
            build_one("release", folder, name, *own)
    return folder


def kill_what_is_left(mark):
    """Ends the processes that have the mark in their environment; returns what those of ours are."""
    left = []
    for pid, _, state in processes.listed():
        with contextlib.suppress(OSError):
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if state == "Z" or f"{MARK}={mark}".encode() not in environment:
                continue
            # What mcp-remote leaves is its own.
            if not any(own.startswith(REMOTE_FOLDER.encode()) for own in environment):
                left.append(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
            os.kill(pid, signal.SIGKILL)
    return left


class Soak:
    def __init__(self, arguments, folder, built):
        self.arguments, self.folder, self.built = arguments, folder, built
        self.seconds = arguments.minutes * 60
        self.random = random.Random(arguments.seed)
        self.relay = Relay(rb"Hello, ([\w-]+)!")
        self.ours, self.remotes = Figures(), Figures()
        self.emulated = self.issuer = self.issuer_url = None
        self.data, self.clock = folder / "issuer.json", folder / "clock"
        self.events = []
        self.planned = 1

    async def run(self):
        await self.relay.listen()
        self.url = f"http://127.0.0.1:{self.relay.port}/mcp"
        try:
            await self.start_issuer()
            await self.start_server()
            self.set_clock(0)
            self.clients = [*self.proxies(), *self.mcp_remotes()]
            self.began = time.monotonic()
            running = [asyncio.create_task(client.run()) for client in self.clients]
            watching = asyncio.create_task(self.watch())
            try:
                await Events(self).run()
            finally:
                watching.cancel()
                if self.issuer:
                    self.issuer.process.send_signal(signal.SIGCONT)
                for client in self.clients:
                    client.signal(signal.SIGCONT)
                    client.stopping.set()
                    client.may_start.set()
                await asyncio.gather(*running, return_exceptions=False)
        finally:
            await self.stop_server(signal.SIGTERM)
            await self.stop_issuer()
            await self.relay.close()

    # What is soaked.

    def proxies(self):
        home = self.folder / "home"
        home.mkdir()
        environment = self.environment(home, "ours")
        command = [self.built / "mcpl", "proxy", "greeter", self.url, "--scope", SCOPE]
        return [
            self.client(f"p{number}", command, environment, self.ours, CALL_SECONDS, is_modern=number % 2 == 1)
            for number in range(self.arguments.proxies)
        ]

    def mcp_remotes(self):
        home = self.folder / "remote"
        home.mkdir()
        environment = {**self.environment(home, "remotes"), REMOTE_FOLDER: str(home)}
        package = tools.PROXIES_FOLDER / "npm" / "node_modules" / "mcp-remote"
        script = package / json.loads((package / "package.json").read_text())["bin"]["mcp-remote"]
        self.remote_name = f"mcp-remote {version_of(package)}"
        command = [tools.node(), script, self.url, "--transport", "http-only", "--allow-http"]
        # As many calls, by fewer.
        pause = [seconds * self.arguments.remotes / self.arguments.proxies for seconds in CALL_SECONDS]
        return [
            self.client(f"r{number}", command, environment, self.remotes, pause)
            for number in range(self.arguments.remotes)
        ]

    def client(self, name, command, environment, figures, pause, **more):
        words, log = [str(word) for word in command], self.folder / f"{name}.log"
        return Client(name, words, environment, log, figures, BOUND_SECONDS, self.seconds / 10, pause, **more)

    def environment(self, home, group):
        """A home of its own, a browser that counts, and a clock that can be set."""
        browser = self.folder / f"browser-{group}"
        script = tools.PROJECT / "scripts" / "browser.py"
        browser.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec "{sys.executable}" "{script}" "{self.folder / group}.pages" "$1"\n')
        browser.chmod(0o755)
        own = {"HOME": str(home), "BROWSER": str(browser), "PATH": os.environ["PATH"], MARK: os.environ[MARK]}
        try:
            library = next(debian.unpacked("faketime", ["libfaketime"]).rglob("libfaketimeMT.so.1"))
        except (debian.Unavailable, StopIteration) as reason:
            print(f"SKIPPED: clocks that jump, since there is no libfaketime: {reason}", file=sys.stderr)
            return own
        return {
            **own, "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def pages(self, group):
        path = self.folder / f"{group}.pages"
        return path.read_text().splitlines() if path.exists() else []

    # What they need.

    async def start_issuer(self):
        options = {"port": self.issuer_url.rpartition(":")[2]} if self.issuer_url else {}
        with open(self.folder / "issuer.log", "ab") as log:
            self.issuer = await asyncio.to_thread(
                Issuer, "ada", log, register_only=True, data=self.data, access_token_seconds=TOKEN_SECONDS, **options
            )
        self.issuer_url = self.issuer.url

    async def stop_issuer(self):
        if self.issuer:
            # It may hang.
            self.issuer.process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(self.issuer.stop)
        self.issuer = None

    async def start_server(self):
        with open(self.folder / "server.log", "ab") as log:
            self.emulated = await asyncio.to_thread(
                Emulated, self.built / "greeter", "buffered", 2, "--reserved", 40, OIDC_ISSUER=self.issuer_url,
                MCP_PUBLIC_URL=self.url, RUST_LOG="off", emulator=self.built / "function-url-emulator", stderr=log,
            )
        self.relay.target = int(self.emulated.url.rpartition(":")[2].partition("/")[0])

    async def stop_server(self, how):
        if not self.emulated:
            return
        process, self.emulated = self.emulated.process, None
        environments = [pid for pid, parent, _ in processes.listed() if parent == process.pid]
        process.send_signal(how)
        await asyncio.to_thread(process.communicate, timeout=30)
        for pid in environments:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def set_clock(self, seconds):
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+}s\n")
        new.rename(self.clock)

    def forget(self, *kinds):
        """What the issuer has kept of these kinds is gone, or its keys. It must not be running."""
        data = json.loads(self.data.read_text())
        if "keys" in kinds:
            del data["keys"]
        data["entries"] = {key: own for key, own in data["entries"].items() if key.partition(":")[0] not in kinds}
        self.data.write_text(json.dumps(data))

    # What is seen.

    def elapsed(self):
        return time.monotonic() - self.began

    def say(self, text):
        self.events.append(text)
        print(f"{time.strftime('%H:%M:%S')} {self.elapsed() / 60:5.1f} min: {text}", flush=True)

    async def watch(self):
        while True:
            await asyncio.sleep(60)
            sizes = [client.rss() / 1024 for client in self.clients if client.figures is self.ours and client.process.returncode is None]
            print(
                f"{time.strftime('%H:%M:%S')} {self.elapsed() / 60:5.1f} min: calls {self.ours.calls} and {self.remotes.calls}, "
                f"errors {sum(self.ours.errors.values())} and {sum(self.remotes.errors.values())}, "
                f"failures {len(self.ours.failures)} and {len(self.remotes.failures)}, "
                f"pages {len(self.pages('ours'))} and {len(self.pages('remotes'))}, RSS {spread(sizes)} MiB", flush=True,
            )

    def report(self, left):
        """Prints the figures; returns what is wrong."""
        print(f"\n{self.seconds / 60:.0f} minutes, seed {self.arguments.seed}; {len(self.events)} events, {self.relay.cut} answers broken off")
        self.ours.show(f"{self.arguments.proxies} mcpl proxy")
        print(f"  sign-in pages {len(self.pages('ours'))}, of which {self.planned} are meant to be")
        if self.arguments.remotes:
            self.remotes.show(f"{self.arguments.remotes} {self.remote_name}")
            print(f"  sign-in pages {len(self.pages('remotes'))}")
            print("".join(f"    {text}\n" for text in self.remotes.failures[:10]), end="")
        twice = {name: count for name, count in self.relay.answered.items() if count > 1}
        print(f"calls that the server carried out twice: {len(twice)}")
        failures = [*self.ours.failures]
        failures += [f"carried out {count} times: {name}" for name, count in twice.items() if name.startswith("p")]
        if len(self.pages("ours")) != self.planned:
            failures.append(f"{len(self.pages('ours'))} sign-in pages, in place of {self.planned}:")
            failures += [own.partition("?")[0] for own in self.pages("ours")]
        failures += [
            f"RSS grew from {early} to {late} KiB"
            for early, late in self.ours.memory if late > MEMORY_RATIO * early + MEMORY_KIB
        ]
        page = (tools.PROJECT / "docs" / "mcpl-troubleshooting.md").read_text()
        failures += [
            f"docs/mcpl-troubleshooting.md explains no part of the error: {text}"
            for text in self.ours.errors if not documentation.explains(page, text)
        ]
        failures += [f"left running: {words}" for words in left]
        return failures


class Events:
    """What happens, one thing after another; each kind as often as the others. Two at once where it says so."""

    def __init__(self, soak):
        self.soak, self.random, self.relay = soak, soak.random, soak.relay
        self.ours = [client for client in soak.clients if client.figures is soak.ours]
        self.kinds = [
            self.deploy, self.deploy_busy, self.stall, self.broken_answers, self.lost_connections, self.issuer_restarts,
            self.issuer_has_new_keys, self.issuer_forgets_sessions, self.issuer_hangs, self.issuer_hangs_long, self.both_restart, self.laptop_sleeps,
            self.some_proxies_stop, self.clock_jumps, self.proxies_restart,
        ]
        self.bag, self.clock = [], 0
        # Less of all in a short trial.
        self.part = min(1, soak.seconds / 1800)

    async def run(self):
        soak, forgotten = self.soak, list(FORGOTTEN)
        soak.say(f"{len(soak.clients)} proxies start at once, without a token")
        while True:
            await asyncio.sleep(self.random.uniform(*PAUSE_SECONDS) * self.part)
            if forgotten and soak.elapsed() > forgotten[0] * soak.seconds:
                await (self.grant_is_forgotten if len(forgotten) == 2 else self.everything_is_forgotten)()
                forgotten.pop(0)
                continue
            if soak.elapsed() > soak.seconds - QUIET_SECONDS * self.part - SLEEP_SECONDS[1] and not forgotten:
                break
            if not self.bag:
                self.bag = self.random.sample(self.kinds, len(self.kinds))
            await self.bag.pop()()
        self.soak.set_clock(0)
        await asyncio.sleep(max(0, soak.seconds - soak.elapsed()))
        soak.say("the end of the clients' input")

    async def wait(self, least, most):
        await asyncio.sleep(self.random.uniform(least, most))

    # The server.

    async def deploy(self):
        self.soak.say("the server is killed, and refuses connections until the next one runs")
        await self.relay.refuse()
        await self.soak.stop_server(signal.SIGKILL)
        await self.wait(2, 15)
        await self.soak.start_server()
        await self.relay.listen()

    async def deploy_busy(self):
        self.soak.say("the server ends, and answers 503 until the next one runs")
        self.relay.mode = BUSY_MODE
        self.relay.drop()
        await self.soak.stop_server(signal.SIGTERM)
        await self.wait(2, 15)
        await self.soak.start_server()
        self.relay.mode = PASS

    async def stall(self):
        self.soak.say("the server answers nothing for a while, and then breaks off")
        self.relay.mode = STALL
        self.relay.drop()
        await self.wait(5, 20)
        self.relay.mode = PASS
        self.relay.drop()

    async def broken_answers(self):
        count = self.random.randint(5, 20)
        self.soak.say(f"{count} answers break off in the middle")
        self.relay.cuts += count

    async def lost_connections(self):
        self.soak.say("all connections are lost")
        self.relay.drop()

    # The issuer.

    async def issuer_restarts(self, *forgotten):
        if not forgotten:
            self.soak.say("the issuer restarts")
        await self.soak.stop_issuer()
        await self.wait(1, 20)
        self.soak.forget(*forgotten)
        await self.soak.start_issuer()

    async def issuer_has_new_keys(self):
        self.soak.say("the issuer restarts with other keys")
        await self.issuer_restarts("keys")

    async def issuer_forgets_sessions(self):
        self.soak.say("the issuer restarts without the sessions of browsers, and without what it knew of access tokens")
        await self.issuer_restarts("Session", "AccessToken", "Interaction")

    async def issuer_hangs(self, *seconds):
        self.soak.say(f"the issuer answers nothing for {'minutes' if seconds else 'a while'}")
        self.soak.issuer.process.send_signal(signal.SIGSTOP)
        await self.wait(*(seconds or (5, 25)))
        self.soak.issuer.process.send_signal(signal.SIGCONT)

    async def issuer_hangs_long(self):
        await self.issuer_hangs(95, 110)

    async def both_restart(self):
        self.soak.say("the server and the issuer restart together")
        await asyncio.gather(self.deploy(), self.issuer_restarts())

    async def grant_is_forgotten(self):
        self.soak.say("PLANNED SIGN-IN: the issuer has forgotten its grants, and knows its clients")
        self.soak.planned += 1
        await self.issuer_restarts("Session", "AccessToken", "RefreshToken", "Grant", "Interaction")

    async def everything_is_forgotten(self):
        self.soak.say(f"PLANNED SIGN-IN: the issuer has forgotten everything, and {RESTARTED} proxies start at once")
        self.soak.planned += 1
        kinds = "Session", "AccessToken", "RefreshToken", "Grant", "Interaction", "Client", "keys"
        await asyncio.gather(self.issuer_restarts(*kinds), self.restart(self.ours[:RESTARTED]))

    # Laptops.

    async def laptop_sleeps(self):
        await self.stop(self.soak.clients, "all proxies are stopped, as when a laptop sleeps")

    async def some_proxies_stop(self):
        await self.stop(self.random.sample(self.soak.clients, len(self.soak.clients) // 4), "a quarter of the proxies is stopped")

    async def stop(self, clients, text):
        seconds = self.random.uniform(*SLEEP_SECONDS)
        self.soak.say(f"{text}, for {seconds:.0f} s")
        for client in clients:
            client.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for client in clients:
            client.signal(signal.SIGCONT)

    async def clock_jumps(self):
        self.clock = self.random.choice([seconds for seconds in CLOCKS if seconds != self.clock])
        self.soak.say(f"the clocks of the proxies are set to {self.clock:+} s")
        self.soak.set_clock(self.clock)

    async def proxies_restart(self):
        self.soak.say(f"{RESTARTED} proxies end, and start at once")
        await self.restart(self.ours[:RESTARTED])

    async def restart(self, clients):
        for client in clients:
            client.may_start.clear()
        await asyncio.gather(*(client.idle.wait() for client in clients))
        for client in clients:
            client.may_start.set()


if __name__ == "__main__":
    main()
