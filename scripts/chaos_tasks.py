#!/usr/bin/env python3
"""Runs tasks of five steps while execution environments are killed, wake-ups arrive twice and Postgres is restarted, and counts what
was stored.

    python3 scripts/chaos_tasks.py [--tasks N] [--environments N] [--open N] [--seed N] [--quiet]

Each task runs `functions/conformance/src/bin/conformance-steps.rs`: a step inserts a row with the idempotency key that it gets. A fifth
of the tasks sleeps, a fifth asks a question. Every task has to end, and every step has one row, with the value that the task's result
has. Meanwhile 200 tasks are requested by other callers. At three tenths of the tasks the state key is rotated, and all environments are
killed but one of each function, which has to open the rows of the new ones. With `--quiet` nothing breaks: for the cost of a task.
"""

import argparse
import base64
import collections
import contextlib
import heapq
import http.client
import http.server
import importlib.util
import itertools
import json
import os
import pathlib
import random
import re
import secrets
import sys
import tempfile
import threading
import time
import urllib.parse

import postgres
import processes
import tools
from chaos import PATIENCE_SECONDS, Breakage
from emulated import CREDENTIALS, Emulated

BINARY = "conformance-steps"
WORKER = "steps-tasks"
CALLERS = 50
FOREIGN_ATTEMPTS = 200
# Requests at the same time, and environments of the function with the URL.
THREADS = 12
# Of the tasks that wait while it is observed that no environment runs.
WAITING = 20
IDLE_SECONDS = 2
SCHEDULE_SECONDS = 10
# A task is lost if it has not ended after this time: a run that is killed is repeated after a minute, up to twice.
TASK_SECONDS = 600
# The lease of a run that is killed ends after 30 s.
RETRY_SECONDS = 31
DUPLICATE_EVERY = 7
# The part of the tasks that has ended then: none of three quarters, at which Postgres is restarted.
ROTATED_AT = 0.3
TABLE = "CREATE TABLE steps (key text PRIMARY KEY, task text NOT NULL, step integer NOT NULL, value uuid NOT NULL)"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:steps-AbCdEf"
EXTENSION = "io.modelcontextprotocol/tasks"
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "chaos", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "extensions": {EXTENSION: {}}},
}


def main():
    parser = argparse.ArgumentParser(description="Runs tasks while everything breaks.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--environments", type=int, default=20, help="of the function that runs tasks")
    parser.add_argument("--open", type=int, default=100, help="tasks at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="without faults")
    arguments = parser.parse_args()
    tools.install_test()
    python = tools.BIN / "python"
    if not importlib.util.find_spec("psycopg") and sys.executable != str(python):
        # The Python of the tool folder has the client of Postgres.
        os.execv(python, [str(python), *sys.argv])
    tools.build(BINARY, "function-url-emulator")
    figures = run(arguments.tasks, arguments.environments, arguments.open, arguments.seed, breaks=not arguments.quiet)
    print(", ".join(f"{name} {value}" for name, value in figures.items()))


def run(tasks, environments, open_tasks, seed, breaks=True, kills_until=0.95):
    """Runs the tasks; raises if one did not end, or a step has no row or two; returns figures."""
    random.seed(seed)
    with contextlib.ExitStack() as started:
        server = started.enter_context(postgres.Postgres(settings={"max_connections": 200}))
        counted = CountedServer(server)
        key = started.enter_context(StateKey())
        port = postgres.free_port()
        variables = {
            **CREDENTIALS, **key.variables(), "DATABASE_URL": server.url(), "MCP_TASKS_FUNCTION": WORKER,
            "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}", "MCP_AUTH": "dangerously-off", "AWS_LAMBDA_LOG_LEVEL": "INFO",
        }
        log = started.enter_context(tempfile.TemporaryFile("w+"))
        options = ["--asynchronous", "--name", WORKER, "--port", port, "--retry-after", RETRY_SECONDS, "--timeout", 60]
        options += ["--duplicate-every", DUPLICATE_EVERY] if breaks else []
        query(server, TABLE)
        begin = time.monotonic()
        worker = Emulated(BINARY, "buffered", 1, "--reserved", environments, *options, stderr=log, MCP_ROLE="tasks", **variables)
        reports = {}
        try:
            front = Emulated(BINARY, "buffered", 1, "--reserved", THREADS, "--timeout", 30, stderr=log, **variables)
            try:
                pids = [emulated.process.pid for emulated in (worker, front)]
                spared = [pid for pid, parent, _ in processes.listed() if parent in pids]
                load = Load(front.url, f"http://127.0.0.1:{port}", tasks, open_tasks)
                load.begin_waiting(server, [worker.process.pid, front.process.pid])
                breakage = Breakage(pids, counted, load, seconds=(0.2, 1), spared=spared, kills_until=kills_until) if breaks else None
                if breaks:
                    load.rotate = lambda: (key.rotate(), breakage.kill_all())
                with breakage or contextlib.nullcontext():
                    load.run()
                load.end_unacknowledged(server)
                alive = {pid for pid, _, state in processes.listed() if state != "Z"}
                assert alive.issuperset(spared), "an environment from before the rotation has ended"
            finally:
                reports["front"] = front.stop()
        finally:
            reports["worker"] = worker.stop()
        seconds = time.monotonic() - begin
        log.seek(0)
        text = log.read()
        keep_log(text)
        loaded = text.count("the state key was loaded again")
        assert "is sealed with an unknown key" not in text, "a row could not be opened after the rotation of the state key"
        found = load.check(query(server, "SELECT task, step, count(*), min(value::text), max(value::text) FROM steps GROUP BY task, step"))
        writes = counted.total()
    invocations = {name: int(re.match(r"\d+", report)[0]) for name, report in reports.items()}
    asynchronous = re.search(r"asynchronous: (\d+) events, (\d+) delivered twice, (\d+) retries, (\d+) dropped", reports["worker"])
    events, duplicates, retries, dropped = map(int, asynchronous.groups())

    def per_task(number):
        return f"{number / tasks:.2f}"

    return {
        "tasks": tasks,
        "ended": load.ended,
        "lost": len(load.lost),
        **found,
        "calls without a response": load.unacknowledged,
        "attempts of other callers that were rejected": load.rejected,
        "environments killed": breakage.killed if breaks else 0,
        "restarts of Postgres": len(breakage.restarted) if breaks else 0,
        "environments that loaded the state key again": loaded,
        "wake-ups": events - load.schedules,
        "delivered twice": duplicates,
        "retries": retries,
        "dropped": dropped,
        "wake-ups per task": per_task(events - load.schedules),
        "invocations per task": f"{per_task(invocations['front'])} + {per_task(invocations['worker'])}",
        "writes of the store per task": per_task(writes),
        "polls per task": per_task(load.polls),
        "seconds": round(seconds),
    }


def keep_log(text):
    """Writes the log of the functions to the file that `CHAOS_LOG` names, if it is set."""
    if path := os.environ.get("CHAOS_LOG"):
        pathlib.Path(path).write_text(text)


def query(server, statement):
    """Executes a statement, again while the server is away; returns its rows."""
    import psycopg  # By the Python of the tool folder.

    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class CountedServer:
    """Counts writes to the tables of the store. Postgres loses its statistics when it is not stopped in order."""

    STATEMENT = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'mcp'"

    def __init__(self, server):
        self.server = server
        self.earlier = 0

    def stop(self, how):
        before = self.count()
        self.server.stop(how).start()
        if (after := self.count()) < before:
            self.earlier += before - after
        return self

    def start(self):
        return self

    def count(self):
        return query(self.server, self.STATEMENT)[0][0]

    def total(self):
        return self.earlier + self.count()


class StateKey:
    """Secrets Manager, with the state key and its previous version."""

    def __init__(self):
        self.versions = {"AWSCURRENT": new_key()}
        own = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                stage = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["VersionStage"]
                text = own.versions.get(stage)
                # A version seals once it is 15 minutes old.
                version = {"SecretString": text, "CreatedDate": time.time() - 3600}
                status, body = (200, version) if text else (400, {"__type": "ResourceNotFoundException"})
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                """The standard error output is for failures."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Environments are killed while they read.
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def variables(self):
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return {"MCP_STATE_KEY_SECRET_ARN": ARN, "AWS_ENDPOINT_URL_SECRETS_MANAGER": url}

    def rotate(self):
        self.versions = {"AWSCURRENT": new_key(), "AWSPREVIOUS": self.versions["AWSCURRENT"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def new_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Load:
    """Clients: a generator for each task yields the seconds until its next request, and threads run what is due."""

    def __init__(self, url, worker, tasks, open_tasks):
        self.url, self.worker = urllib.parse.urlsplit(url), urllib.parse.urlsplit(worker)
        self.calls, self.open_tasks = tasks, open_tasks
        self.numbers = itertools.count()
        self.queue, self.ties, self.live = [], itertools.count(), 0
        self.changed = threading.Condition()
        self.rotate, self.is_rotated = lambda: None, False
        self.done = self.ended = self.polls = self.unacknowledged = self.rejected = self.schedules = 0
        self.lost, self.failures, self.values = [], [], {}
        self.foreign = set(range(0, tasks, max(1, tasks // FOREIGN_ATTEMPTS))[:FOREIGN_ATTEMPTS])

    def begin_waiting(self, server, emulators):
        """Starts the first tasks, and observes that no environment runs while all of them wait: each is frozen, and takes no time."""
        waiting = [self.task(next(self.numbers), asks=number % 2 == 0, sleep_seconds=number % 2 * 10) for number in range(WAITING)]
        for task in waiting:
            # Until it is created.
            while next(task) != 1:
                time.sleep(0.1)
        wait_until("all tasks wait", lambda: query(server, """
            SELECT (SELECT count(DISTINCT task) FROM steps WHERE step = 2) >= %d
                AND NOT EXISTS (SELECT FROM mcp.state WHERE kind = 'task-lease' AND expires_at > now())
        """ % WAITING)[0][0])
        wait_until("all environments are frozen", lambda: all(state == "T" for state, _ in usage(emulators)))
        before = usage(emulators)
        time.sleep(IDLE_SECONDS)
        assert before and usage(emulators) == before, "an environment ran while all tasks waited"
        for task in waiting:
            self.schedule(task, 0)
        self.live = WAITING

    def schedule(self, task, seconds):
        with self.changed:
            heapq.heappush(self.queue, (time.monotonic() + seconds, next(self.ties), task))
            self.changed.notify()

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        next_schedule = time.monotonic() + SCHEDULE_SECONDS
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
            if self.done >= self.calls * ROTATED_AT and not self.is_rotated:
                self.is_rotated = True
                self.rotate()
            if time.monotonic() > next_schedule:
                self.wake_due()
                next_schedule = time.monotonic() + SCHEDULE_SECONDS
        assert not self.failures, self.failures[0]
        assert not self.lost, f"lost: {self.lost[:10]}"

    def work(self):
        try:
            while task := self.next_task():
                try:
                    self.schedule(task, next(task))
                except StopIteration:
                    with self.changed:
                        self.live -= 1
                        self.done += 1
                        self.changed.notify_all()
        except Exception as failure:  # Reported by `run`, which waits for the thread.
            self.failures.append(failure)

    def next_task(self):
        """Returns the task whose next request is due; `None` if all have ended."""
        with self.changed:
            while not self.failures:
                now = time.monotonic()
                if self.queue and self.queue[0][0] <= now:
                    return heapq.heappop(self.queue)[2]
                if self.live < self.open_tasks and (number := next(self.numbers)) < self.calls:
                    self.live += 1
                    return self.task(number, asks=number % 5 == 0, sleep_seconds=3 * (number % 5 == 1))
                if not self.live:
                    return None
                self.changed.wait(min(1, self.queue[0][0] - now) if self.queue else 1)
        return None

    def task(self, number, **arguments):
        """One task, from the call to its end: yields the seconds until the next request."""
        caller = f"caller-{number % CALLERS}"
        for attempt in itertools.count():
            name = f"{number}-{attempt}"
            answer = self.ask(caller, "tools/call", {"name": "run_steps", "arguments": {"name": name, **arguments}})
            if answer and answer.get("result", {}).get("resultType") == "task":
                break
            # The call may have been lost, or only its response.
            self.count("unacknowledged")
            yield random.uniform(0.1, 1.5)
        created = answer["result"]
        task_id, deadline = created["taskId"], time.monotonic() + TASK_SECONDS
        if number in self.foreign:
            yield from self.try_as_another(task_id, number)
        while True:
            yield created["pollIntervalMs"] / 1000
            self.count("polls")
            answer = self.ask(caller, "tasks/get", {"taskId": task_id})
            state = answer.get("result") if answer else None
            if answer and answer.get("error", {}).get("code") == -32602 or time.monotonic() > deadline:
                self.lost.append((name, task_id, answer))
                return
            if not state or state["status"] == "working":
                continue
            if state["status"] == "input_required":
                answers = {key: {"action": "accept", "content": {"confirm": True}} for key in state["inputRequests"]}
                self.ask(caller, "tasks/update", {"taskId": task_id, "inputResponses": answers})
                continue
            result = state.get("result", {}).get("structuredContent")
            if not result or result["is_confirmed"] != arguments["asks"]:
                self.lost.append((name, task_id, state))
                return
            with self.changed:
                self.values[name] = result["values"]
                self.ended += 1
            return

    def try_as_another(self, task_id, number):
        """Sends a request about the task as another caller, until it has a response: that of an unknown task."""
        method = ["tasks/get", "tasks/update", "tasks/cancel"][number % 3]
        while not (answer := self.ask("another caller", method, {"taskId": task_id, "inputResponses": {}})):
            yield 0.5
        expected = "unknown task: it does not exist, or has expired"
        assert answer.get("error", {}).get("code") == -32602 and expected in answer["error"]["message"], answer
        self.count("rejected")

    def count(self, name):
        with self.changed:
            setattr(self, name, getattr(self, name) + 1)

    def ask(self, caller, method, params):
        """Returns the response to a request; `None` if there was none, or a fault of the server."""
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION,
            "Mcp-Method": method, "Mcp-Name": params.get("taskId") or params["name"], "X-Example-Caller": caller,
        }
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}})
        try:
            status, content = post(self.url, body, headers)
            answer = json.loads(content)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        is_refusal = answer.get("error", {}).get("code") in (-32602, -32020, -32021, -32022, -32600, -32601)
        return answer if status == 200 and "result" in answer or is_refusal else None

    def wake_due(self):
        """Sends the event of the schedule."""
        headers = {"Authorization": "AWS4-HMAC-SHA256", "X-Amz-Invocation-Type": "Event"}
        path = self.worker._replace(path=f"/2015-03-31/functions/{WORKER}/invocations")
        status, _ = post(path, json.dumps({"mcpDueTasks": {}}), headers)
        assert status == 202, status
        self.count("schedules")

    def end_unacknowledged(self, server):
        """Waits for the tasks whose client knows no id, unless they wait for an answer."""

        def all_wait():
            self.wake_due()
            time.sleep(1)
            return not query(server, "SELECT count(*) FROM mcp.state WHERE kind = 'task' AND due_at IS NOT NULL")[0][0]

        wait_until("tasks without an id have ended", all_wait)

    def check(self, rows):
        """Compares the rows with the results of the tasks; returns counts."""
        twice = [row for row in rows if row[2] > 1 or row[3] != row[4]]
        assert not twice, f"steps with several rows: {twice[:10]}"
        stored = {(task, step): value for task, step, _, value, _ in rows}
        for name, values in self.values.items():
            own = [stored.get((name, step)) for step in range(1, 6)]
            assert own == values, f"{name} has {own} in its rows, and {values} in its result"
        assert self.ended == self.calls == len(self.values), f"{self.ended} of {self.calls} tasks ended"
        assert self.rejected == len(self.foreign)
        steps = collections.Counter(task for task, _ in stored)
        others = {name: number for name, number in steps.items() if name not in self.values}
        return {"steps stored": len(stored), "steps stored twice": len(twice), "tasks without a response": len(others)}


def post(url, body, headers):
    """Sends a request; returns the status and the body of the response."""
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request("POST", url.path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def usage(emulators):
    """State and processor time of each environment."""
    pids = [pid for pid, parent, _ in processes.listed() if parent in emulators]
    stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in sorted(pids)]
    return [(stat[0], stat[11:13]) for stat in stats]


def wait_until(what, condition):
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
