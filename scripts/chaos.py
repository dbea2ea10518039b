#!/usr/bin/env python3
"""Calls `log_event` while execution environments are killed and Postgres is restarted, and counts what was stored.

    python3 scripts/chaos.py [--calls N] [--clients N] [--environments N] [--database dsql]

Half of the calls have an idempotency key and are repeated until they are acknowledged; the others are made once. Every
event that was acknowledged must be there once, and none twice. With `--database dsql` the emulator of Aurora DSQL is between, with 20 %
conflicts and connections of two seconds.
"""

import argparse
import collections
import contextlib
import http.client
import importlib.util
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
import urllib.parse

import postgres
import processes
import tools
from emulated import Dsql, Emulated

RESTARTS = ["fast", "immediate", "kill"]
# Of the emulator of Aurora DSQL.
FAULTS = ["--conflict", "0.2", "--connection-age", "2"]
# A call that is not acknowledged after this time has failed for good.
PATIENCE_SECONDS = 120


def main():
    parser = argparse.ArgumentParser(description="Logs events while everything breaks.")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--environments", type=int, default=20)
    parser.add_argument(
        "--database", choices=["dsql"], default=os.environ.get("DATABASE") or None, help="with the emulator of Aurora DSQL; also DATABASE=dsql",
    )
    arguments = parser.parse_args()
    if arguments.database not in (None, "dsql"):
        parser.error(f"DATABASE is {arguments.database}, and not dsql")
    tools.install_test()
    python = tools.BIN / "python"
    if not importlib.util.find_spec("psycopg") and sys.executable != str(python):
        # The Python of the tool folder has the client of Postgres.
        os.execv(python, [str(python), *sys.argv])
    tools.build("event-logger", "function-url-emulator", *(["dsql-emulator"] if arguments.database else []))
    figures = run(arguments.calls, arguments.clients, arguments.environments, arguments.database)
    print(", ".join(f"{name} {value}" for name, value in figures.items()))


def run(calls, clients, environments, database=None):
    """Makes the calls; raises if an event is missing or there twice; returns figures."""
    with contextlib.ExitStack() as started:
        server = started.enter_context(postgres.Postgres(settings={"max_connections": 100}))
        cluster = started.enter_context(Dsql(server.url(), started.enter_context(tempfile.TemporaryDirectory()), *FAULTS)) if database else None
        if cluster:
            cluster.migrate("event-logger")
        variables = cluster.variables() if cluster else {"DATABASE_URL": server.url()}
        emulated = Emulated(
            "event-logger", "buffered", 4, "--reserved", environments, "--timeout", 10, MCP_AUTH="dangerously-off", **variables,
        )
        try:
            load = Load(emulated.url, calls, clients)
            breakage = Breakage([emulated.process.pid], server, load, seconds=(0.05, 0.5) if cluster else (0.02, 0.2))
            begin = time.monotonic()
            load.run(breakage)
            seconds = time.monotonic() - begin
        finally:
            emulated.stop()
        stored = count_events(server)
    twice = {name: number for name, number in stored.items() if number > 1}
    missing = [name for name in load.acknowledged if name not in stored]
    assert not twice, f"stored twice: {twice}"
    assert not missing, f"acknowledged and not stored: {missing[:10]}"
    keyed = [name for name in load.acknowledged if name.startswith("keyed")]
    assert len(keyed) == (calls + 1) // 2, f"only {len(keyed)} calls with a key were acknowledged"
    return {
        "calls": calls,
        "acknowledged": len(load.acknowledged),
        "stored": len(stored),
        "repeated": load.repeated,
        "environments killed": breakage.killed,
        "restarts of Postgres": len(breakage.restarted),
        "seconds": round(seconds),
    }


def count_events(server):
    import psycopg  # By the Python of the tool folder.

    with psycopg.connect(server.url()) as connection:
        rows = connection.execute("SELECT event_name, count(*) FROM events GROUP BY event_name").fetchall()
    return collections.Counter(dict(rows))


class Load:
    """Clients that call, each on a connection of its own."""

    def __init__(self, url, calls, clients):
        self.url = urllib.parse.urlsplit(url)
        self.calls = calls
        self.clients = clients
        self.numbers = itertools.count()
        self.acknowledged = []
        self.repeated = 0
        self.done = 0
        self.failures = []
        self.lock = threading.Lock()

    def run(self, breakage):
        threads = [threading.Thread(target=self.client) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        with breakage:
            for thread in threads:
                thread.join()
        assert not self.failures, self.failures[0]

    def client(self):
        while (number := next(self.numbers)) < self.calls:
            try:
                self.log(number)
            except Exception as failure:  # Reported by `run`, which waits for the thread.
                self.failures.append(failure)
                return
            self.done += 1

    def log(self, number):
        has_key = number % 2 == 0
        name = f"{'keyed' if has_key else 'single'}-{number}"
        arguments = {"event_name": name, **({"idempotency_key": name} if has_key else {})}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self.is_acknowledged(arguments):
                with self.lock:
                    self.acknowledged.append(name)
                return
            if not has_key:
                return
            assert time.monotonic() < deadline, f"{name} was not acknowledged within {PATIENCE_SECONDS} s"
            with self.lock:
                self.repeated += 1
            time.sleep(random.uniform(0.01, 0.1))

    def is_acknowledged(self, arguments):
        params = {"name": "log_event", "arguments": arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        connection = http.client.HTTPConnection(self.url.netloc, timeout=30)
        try:
            connection.request("POST", self.url.path, body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        result = answer.get("result")
        return bool(result) and not result.get("isError")


class Breakage:
    """Kills environments at random, and restarts Postgres in each way at a quarter, half and three quarters."""

    def __init__(self, emulators, server, load, seconds, spared=(), kills_until=1):
        # Between two kills. A cold start takes longer with TLS and a token.
        self.seconds = seconds
        self.emulators = emulators
        self.spared = spared
        # The part of the load after which none is killed.
        self.kills_until = kills_until
        self.server = server
        self.load = load
        self.killed = 0
        self.restarted = []
        self.failure = None
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.kill), threading.Thread(target=self.restart)]

    def kill(self):
        while not self.ended.wait(random.uniform(*self.seconds)):
            if self.load.done >= self.load.calls * self.kills_until:
                return
            if environments := self.environments():
                self.kill_one(random.choice(environments))

    def kill_all(self):
        for pid in self.environments():
            self.kill_one(pid)

    def environments(self):
        """Those that may be killed."""
        return sorted(pid for pid, parent, state in processes.listed() if parent in self.emulators and state != "Z" and pid not in self.spared)

    def kill_one(self, pid):
        try:
            os.kill(pid, 9)
            self.killed += 1
        except ProcessLookupError:
            pass

    def restart(self):
        for number, how in enumerate(RESTARTS, start=1):
            while self.load.done < self.load.calls * number / (len(RESTARTS) + 1):
                if self.ended.wait(0.01):
                    return
            try:
                self.server.stop(how).start()
            except Exception as failure:  # Reported by `__exit__`, in the thread that waits.
                self.failure = failure
                return
            self.restarted.append(how)

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        if self.failure:
            raise self.failure
        assert self.restarted == RESTARTS, f"Postgres was restarted {len(self.restarted)} times"


if __name__ == "__main__":
    main()
