#!/usr/bin/env python3
"""`make test`: every test. Nothing needs to be installed beforehand but Rust and Python 3."""

import subprocess
import sys
import time

import clients
import postgres
import tools

WORKERS = 4


def main():
    tools.install_clients_fast()
    # One server for all Rust tests, each of which has a database of its own there.
    with postgres.Supervised(fsync="off", max_connections=300) as server:
        cargo = ["cargo", "test", "--workspace", "--all-features", "--locked", "--quiet"]
        run("Rust", cargo, {**tools.environment(), "TEST_DATABASE_URL": server.url})
    # Without features, which the whole workspace never is: a missing one is named by the compiler.
    run("features", ["cargo", "test", "--package", "mcp-server", "--test", "ui", "--locked", "--quiet"])
    pytest = [tools.BIN / "python", "-m", "pytest", "--quiet", "-rs", "-p", "no:cacheprovider"]
    run("scripts", [*pytest, tools.PROJECT / "tests" / "scripts"])
    # Most of its tests wait for processes: twice as many workers as a small machine has cores.
    run("interop", [*pytest, "-n", WORKERS, "-m", "not slow", tools.INTEROP])
    run("clients", clients.command("-m", "fast"))
    run("conformance", [sys.executable, tools.PROJECT / "scripts" / "conformance.py"])
    run("budget", [sys.executable, tools.PROJECT / "scripts" / "budget.py"])


def run(part, command, environment=None):
    """Runs one part, and says how long it took."""
    started = time.monotonic()
    environment = environment or tools.environment()
    finished = subprocess.run([str(word) for word in command], cwd=tools.PROJECT, env=environment)
    print(f"test: {part} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if finished.returncode:
        sys.exit(f"failed: {part}")


if __name__ == "__main__":
    main()
