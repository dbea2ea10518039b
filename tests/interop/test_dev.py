"""`make dev`: what it prints works when pasted, and Ctrl-C ends all that it started."""

import json
import re
import shlex
import socket
import shutil
import subprocess
import urllib.parse
import urllib.request

import dev as dev_script
import processes
import pytest
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


def test_only_the_named_functions_run():
    dev = Dev("--functions", "greeter,api-docs")
    try:
        running = re.findall(r"^(\S+) is running at", dev.output, re.MULTILINE)
    finally:
        code = dev.stop()

    assert (code, running) == (0, ["Postgres", "greeter", "api-docs"])
