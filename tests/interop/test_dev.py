"""`make dev`: what it prints works when pasted, and Ctrl-C ends all that it started."""

import json
import re
import shlex
import socket
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import dev as dev_script
import processes
import psycopg
import pytest
import tools
from conftest import Dev


def test_what_it_prints_works_and_ctrl_c_ends_everything():
    dev = Dev()
    try:
        if not shutil.which("curl"):
            pytest.skip("curl is not installed, so that what is printed cannot be pasted")
        lines = dict(line.split(None, 2)[0:3:2] for line in dev.output.splitlines() if line.startswith("  try"))
        answer = json.loads(subprocess.run(lines["try"], shell=True, capture_output=True, text=True).stdout)
        assert answer["result"]["tools"][0]["name"] == "personalized_greeting"

        url = dev.url("greeter")
        inspectors = [shlex.split(line)[3:] for line in dev.output.splitlines() if line.startswith("  Inspector")]
        assert ["--cli", url] in [words[:2] for words in inspectors]

        # A browser gets the URL that leads here.
        page = urllib.request.Request(url, headers={"Accept": "text/html"})
        with urllib.request.urlopen(page) as answer:
            assert f"claude mcp add --transport http greeter {url}" in answer.read().decode()
        assert "misspelt" not in dev.output

        started = dev_script.descendants(dev.process.pid)
        assert len(started) >= 2, "cargo-lambda and the function"
    finally:
        code = dev.stop()

    assert code == 0
    running = {pid for pid, _, state in processes.listed() if state != "Z"}
    assert running.isdisjoint(started)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urllib.parse.urlsplit(url).port)) != 0


def test_event_logger_runs_on_the_emulator_of_aurora_dsql():
    dev = Dev("--database", "dsql")
    try:
        result = call(dev.url("event-logger"), "log_event", event_name="of the emulator")
        (database,) = re.findall(r"^Postgres is running at (\S+);", dev.output, re.MULTILINE)
        with psycopg.connect(f"{database.rpartition('/')[0]}/event-logger-dsql") as connection:
            stored = connection.execute("SELECT event_name FROM events").fetchall()
        started = dev_script.descendants(dev.process.pid)
    finally:
        code = dev.stop()

    assert code == 0 and not result.get("isError") and stored == [("of the emulator",)]
    assert re.search(r"^The emulator of Aurora DSQL is running at localhost:\d+", dev.output, re.MULTILINE)
    assert {pid for pid, _, state in processes.listed() if state != "Z"}.isdisjoint(started)


def call(url, tool, **arguments):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["result"]


def test_tasks_run_in_a_second_function_as_a_command_of_the_documentation_says():
    text = (tools.FRAMEWORK / "docs" / "state.md").read_text()
    (command,) = re.findall(r"^make dev (.*TASKS=.*)$", text, re.MULTILINE)
    dev = Dev("--tasks", *re.findall(r"^TASKS=(\S+)$", command))
    try:
        url = dev.url("event-logger")
        call(url, "log_event", event_name="exported")
        created = request(url, "tools/call", "export_events", {"name": "export_events", "arguments": {"days": 3}})
        task = created["taskId"]
        deadline = time.monotonic() + 60
        while (state := request(url, "tasks/get", task, {"taskId": task}))["status"] == "working":
            assert time.monotonic() < deadline, state
            time.sleep(0.1)
        with psycopg.connect(re.search(r"^Postgres is running at (\S+);", dev.output, re.MULTILINE)[1].rpartition("/")[0] + "/event-logger") as connection:
            (rows,) = connection.execute("SELECT count(*) FROM mcp.state WHERE kind = 'task'").fetchone()
        started = dev_script.descendants(dev.process.pid)
    finally:
        code = dev.stop()

    assert (code, state["status"], rows) == (0, "completed", 1)
    assert state["result"]["structuredContent"]["total"] == 1
    assert re.search(r"^event-logger-tasks runs tasks;", dev.output, re.MULTILINE)
    assert {pid for pid, _, state in processes.listed() if state != "Z"}.isdisjoint(started)


def request(url, method, item, params):
    """A request of a client with the extension for tasks."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {
        "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method, "Mcp-Name": item,
    }
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as response:
        return json.load(response)["result"]


def test_functions_without_the_feature_have_no_tasks():
    ended = subprocess.run([sys.executable, dev_script.__file__, "--tasks", "greeter"], capture_output=True, text=True)
    assert ended.returncode == 1 and "greeter has no feature tasks" in ended.stderr


def test_a_cluster_is_for_one_function():
    ended = subprocess.run(
        [sys.executable, dev_script.__file__, "--database", "dsql", "--functions", "greeter,event-logger"], capture_output=True, text=True,
    )
    assert ended.returncode == 1 and "choose one of greeter, event-logger" in ended.stderr


def test_only_the_named_functions_run():
    dev = Dev("--functions", "greeter,api-docs")
    try:
        running = re.findall(r"^(\S+) is running at", dev.output, re.MULTILINE)
    finally:
        code = dev.stop()

    assert (code, running) == (0, ["Postgres", "greeter", "api-docs"])
