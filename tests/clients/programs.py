"""Starts programs of others in a home of their own, without internet; ends them with everything that they started."""

import contextlib
import os
import pathlib
import pty
import re
import select
import signal
import subprocess

PATIENCE_SECONDS = 120

# Against telemetry, checks for updates and colours, in the words of those who read such variables.
QUIET = {
    "CI": "1", "DO_NOT_TRACK": "1", "NO_COLOR": "1", "NO_UPDATE_NOTIFIER": "1", "TERM": "dumb", "LANG": "C.UTF-8",
    "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", "NODE_NO_WARNINGS": "1",
}


def environment(home, nowhere, **variables):
    """The variables of a program whose home is `home`. What does not go to loopback ends at `nowhere`, a proxy that refuses."""
    home = pathlib.Path(home)
    own = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
    own |= {"HOME": str(home), "USER": "tester", "SHELL": "/bin/sh"}
    for name, folder in {"CONFIG": ".config", "DATA": ".local/share", "STATE": ".local/state", "CACHE": ".cache"}.items():
        own[f"XDG_{name}_HOME"] = str(home / folder)
        (home / folder).mkdir(parents=True, exist_ok=True)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        own[name] = own[name.lower()] = nowhere
    own["NO_PROXY"] = own["no_proxy"] = "127.0.0.1,localhost,::1"
    return {**own, **QUIET, **variables}


@contextlib.contextmanager
def started(command, cwd, env, output, stdin=subprocess.DEVNULL):
    """A process in a group of its own, which writes to the file `output`; the group is ended."""
    with open(output, "ab") as file:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=cwd, env=env, stdin=stdin, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process):
    """Ends a group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def daemons_ended(home):
    """Ends at last what has left its group: known by its home, which no other process has."""
    try:
        yield
    finally:
        for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"HOME={home}".encode() in file.read_bytes().split(b"\0"):
                    os.kill(int(file.parent.name), signal.SIGKILL)


def run(command, cwd, env, patience=PATIENCE_SECONDS):
    """Runs a program to its end; returns its exit code and what it printed."""
    output = pathlib.Path(cwd) / "output.txt"
    before = output.stat().st_size if output.exists() else 0
    with started(command, cwd, env, output) as process:
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
    text = without_colours(output.read_bytes()[before:].decode(errors="replace"))
    assert code is not None, f"{command[0]} does not end within {patience} s:\n{text}"
    return code, text


def run_in_terminal(command, cwd, env, patience=PATIENCE_SECONDS, typed=b""):
    """The same for a program that asks only a person at a terminal, who has typed something before it asks."""
    own, its = pty.openpty()
    os.write(own, typed)
    process = subprocess.Popen(
        [str(word) for word in command], cwd=cwd, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True,
    )
    os.close(its)
    output = b""
    try:
        # Reading fails once the program has closed the terminal.
        with contextlib.suppress(OSError):
            while select.select([own], [], [], patience)[0] and (part := os.read(own, 4096)):
                output += part
        code = process.poll() if process.poll() is not None else process.wait(5)
    finally:
        os.close(own)
        end(process)
    return code, without_colours(output.decode(errors="replace"))


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
