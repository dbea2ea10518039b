#!/usr/bin/env python3
"""`make test`: every test. Nothing needs to be installed beforehand but Rust and Python 3."""

import subprocess
import sys

import clients
import postgres
import tools

WORKERS = 4


def main():
    tools.install_clients_fast()
    # One server for all Rust tests, each of which has a database of its own there.
    with postgres.Supervised(fsync="off", max_connections=300) as server:
        cargo = ["cargo", "test", "--workspace", "--all-features", "--locked", "--quiet"]
        run(cargo, {**tools.environment(), "TEST_DATABASE_URL": server.url})
    pytest = [tools.BIN / "python", "-m", "pytest", "--quiet", "-rs", "-p", "no:cacheprovider"]
    run([*pytest, tools.PROJECT / "tests" / "scripts"])
    # Most of its tests wait for processes: twice as many workers as a small machine has cores.
    run([*pytest, "-n", WORKERS, tools.INTEROP])
    run(clients.command("-m", "fast"))
    run([sys.executable, tools.PROJECT / "scripts" / "conformance.py"])
    run([sys.executable, tools.PROJECT / "scripts" / "budget.py"])


def run(command, environment=None):
    environment = environment or tools.environment()
    finished = subprocess.run([str(part) for part in command], cwd=tools.PROJECT, env=environment)
    if finished.returncode:
        sys.exit(finished.returncode)


if __name__ == "__main__":
    main()
