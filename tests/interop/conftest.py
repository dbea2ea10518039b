"""Runs the functions as `make dev` does, with a recorder in front that keeps every message for a check."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "scripts"))

import dev  # noqa: E402
import tools  # noqa: E402
from recorder import Recorder  # noqa: E402


class Dev:
    """`scripts/dev.py`, running."""

    def __init__(self, **variables):
        self.process = subprocess.Popen(
            [sys.executable, str(PROJECT / "scripts" / "dev.py"), "--no-reload", "--port", str(dev.free_port())],
            env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
            # A group of its own, so that a signal to it is not one to the tests.
            start_new_session=True,
        )
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Ctrl-C"):
                break
        else:
            raise AssertionError(f"dev.py ended with {self.process.wait()}:\n{self.output}")
        # Whatever the functions log from now on is read, so that they never wait for a full pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def url(self, function):
        return re.search(rf"^{function} is running at (\S+)$", self.output, re.MULTILINE)[1]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="session", params=["buffered", "stream"])
def greeter(request):
    """The URL of greeter, in both invoke modes. At the end every message is checked against its schema."""
    running = Dev(MCP_INVOKE_MODE=request.param)
    try:
        with Recorder(running.url("greeter")) as recorder:
            yield recorder.url
        recorder.check()
    finally:
        running.stop()


@pytest.fixture(scope="session")
def node():
    """Runs a script of this folder, or a file of an installed package, on Node; returns what it prints."""

    def run(*words, check=True):
        script = pathlib.Path(words[0])
        if not script.is_absolute():
            # Packages are looked up from where a script lies.
            target = tools.NODE_MODULES.parent / script.name
            target.write_bytes((tools.INTEROP / script).read_bytes())
            script = target
        command = [str(tools.node()), str(script), *words[1:]]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        if check:
            assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished

    return run
