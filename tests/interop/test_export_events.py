"""Tasks of event-logger in two functions, as a stack with Tasks=on has them: the one with the URL, and the one that runs tasks."""

import base64
import contextlib
import datetime
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request

import postgres
import processes
import psycopg
import pytest
import tools
from conftest import build, once
from dev import descendants
from emulated import CREDENTIALS, Emulated
from oauth import Issuer

FOLDER = tools.target_folder() / "tasks"
WORKER = "event-logger-tasks"
REVISION = "2026-07-28"
KEY = "dGFza3Mgb2YgdGhlIGludGVyb3AgdGVzdHMgb25seSE="
# Of the function with the URL.
TIMEOUT_SECONDS = 3
# The lease of a run that was lost ends after half a minute.
PATIENCE_SECONDS = 240
DAYS = 5


@once
def build_tasks():
    """Builds event-logger with tasks. The binary in Cargo's own folder keeps its features."""
    command = ["cargo", "build", "--quiet", "--locked", "--bin", "event-logger", "--features", "event-logger/tasks"]
    subprocess.run(command, cwd=tools.PROJECT, check=True, env=tools.building_into(FOLDER))


class Functions:
    """Both functions, and their database."""

    token = None

    def __init__(self, server, started, **own):
        binary, port = FOLDER / "debug" / "event-logger", postgres.free_port()
        variables = {
            **CREDENTIALS, "MCP_STATE_KEY": KEY, "DATABASE_URL": server.url("events"), "MCP_AUTH": "dangerously-off",
            "MCP_TASKS_FUNCTION": WORKER, "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}", **own,
        }
        self.invocations = f"http://127.0.0.1:{port}/2015-03-31/functions/{WORKER}/invocations"
        options = ["--asynchronous", "--name", WORKER, "--port", port, "--retry-after", 1, "--timeout", 60]
        self.worker = Emulated(binary, "buffered", 0, *options, MCP_ROLE="tasks", **variables)
        started.callback(self.worker.stop)
        self.url = started.enter_context(Emulated(binary, "buffered", 2, "--timeout", TIMEOUT_SECONDS, **variables))

    def request(self, method, item, **params):
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
            "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": REVISION,
            "Mcp-Method": method, "Mcp-Name": item, **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
        }
        with urllib.request.urlopen(urllib.request.Request(self.url, json.dumps(body).encode(), headers)) as response:
            return json.load(response)["result"]

    def invoke(self, event):
        """Invokes the function that runs tasks asynchronously."""
        headers = {"Authorization": "AWS4-HMAC-SHA256", "X-Amz-Invocation-Type": "Event"}
        urllib.request.urlopen(urllib.request.Request(self.invocations, json.dumps(event).encode(), headers)).close()

    def state(self, task):
        return self.request("tasks/get", task, taskId=task)

    def environments(self):
        """The processes of the function that runs tasks."""
        return [pid for pid in descendants(self.worker.process.pid) if pid in running()]


def running():
    return {pid for pid, _, state in processes.listed() if not state.startswith("Z")}


@pytest.fixture
def started():
    build()
    build_tasks()
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def server(started):
    return started.enter_context(contextlib.closing(postgres.Postgres(databases=["events"])))


@pytest.fixture
def functions(started, server):
    return Functions(server, started)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s"
        time.sleep(0.1)
    return found


def waiting_for_lock(connection):
    count = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
    return connection.execute(count).fetchone()[0]


def test_an_export_outlives_its_request_and_an_environment_that_ends(functions, server):
    def connect(**options):
        return psycopg.connect(server.url("events"), **options)

    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connect() as logging, connect() as first, connect() as second, connect(autocommit=True) as observer:
        for age in range(DAYS):
            at = today - datetime.timedelta(days=age)
            logging.cursor().executemany('INSERT INTO events (event_name, "timestamp") VALUES (%s, %s)', [("e", at)] * (age + 1))
        logging.commit()
        lock = "LOCK TABLE events IN ACCESS EXCLUSIVE MODE"
        first.execute(lock)
        called = time.monotonic()

        created = functions.request("tools/call", "export_events", name="export_events", arguments={"days": DAYS})

        task = created["taskId"]
        assert created["resultType"] == "task" and functions.state(task)["status"] == "working"
        until(lambda: waiting_for_lock(observer) == 1, "the step of the first day")
        # The second lock is behind that step, and before the next one.
        locking = threading.Thread(target=lambda: second.execute(lock))
        locking.start()
        until(lambda: waiting_for_lock(observer) == 2, "the second lock")
        first.commit()
        locking.join(PATIENCE_SECONDS)
        until(lambda: waiting_for_lock(observer) == 1, "the step of the second day")

        (environment,) = functions.environments()
        os.kill(environment, signal.SIGKILL)
        until(lambda: environment not in running(), "the end of the environment")
        # The function with the URL would have been ended by now.
        until(lambda: time.monotonic() - called > TIMEOUT_SECONDS, "the timeout")
        assert functions.state(task)["status"] == "working"
        second.commit()

        ended = until(lambda: (own := functions.state(task))["status"] != "working" and own, "the export")

    assert ended["status"] == "completed", ended
    export = ended["result"]["structuredContent"]
    assert [day["count"] for day in export["days"]][-DAYS:] == list(range(DAYS, 0, -1))
    assert export["total"] == sum(range(1, DAYS + 1))
    # Of two environments, one was killed.
    assert environment not in functions.environments()


def test_the_rows_of_a_person_are_deleted_by_an_event(started, server):
    with Issuer() as issuer:
        functions = Functions(server, started, OIDC_ISSUER=issuer.url, MCP_AUTH="required")
        functions.token = issuer.token(functions.url, "events:read")
        payload = functions.token.split(".")[1]
        person = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        created = functions.request("tools/call", "export_events", name="export_events", arguments={"days": 1})
        task = created["taskId"]
        until(lambda: functions.state(task)["status"] == "completed", "the export")
        event = {"issuer": issuer.url, "subject": person["sub"]}
        with psycopg.connect(server.url("events"), autocommit=True) as database:
            def rows():
                return database.execute("SELECT count(*) FROM mcp.state WHERE subject IS NOT NULL").fetchone()[0]

            assert rows() > 0
            functions.invoke({"mcpDeleteSubject": {**event, "subject": "eve"}})
            functions.invoke({"mcpDeleteSubject": event})
            until(lambda: rows() == 0, "the deletion")
        with pytest.raises(KeyError):
            functions.state(task)
