#!/usr/bin/env python3
"""`make test`: every test. Nothing needs to be installed beforehand but Rust and Python 3.

    test.py [--functions NAME,NAME]     the Rust tests and the interop tests of these functions alone
"""

import argparse
import subprocess
import sys
import time

import clients
import postgres
import tools

WORKERS = 4


PYTEST = [tools.BIN / "python", "-m", "pytest", "--quiet", "-rs", "-p", "no:cacheprovider"]


def main():
    parser = argparse.ArgumentParser(description="Runs the tests.")
    parser.add_argument("--functions", default="", metavar="NAMES", help="some functions, separated by commas; all tests unless named")
    names = parser.parse_args().functions
    if names or tools.PROJECT != tools.FRAMEWORK:
        test(tools.chosen(names))
    else:
        test_everything()


def test(functions):
    """The tests of some functions: those of their crates, and tests/interop/test_NAME.py."""
    rust([word for name in functions for word in ("--package", name)])
    folder = tools.PROJECT / "tests" / "interop"
    files = [path for name in functions if (path := folder / f"test_{name.replace('-', '_')}.py").exists()]
    if files:
        tools.install_test()
        run("interop", [*PYTEST, *files])


def rust(packages):
    # One server for all tests, each of which has a database of its own there.
    with postgres.Supervised(fsync="off", max_connections=300) as server:
        cargo = ["cargo", "test", *packages, "--all-features", "--locked", "--quiet"]
        run("Rust", cargo, {**tools.environment(), "TEST_DATABASE_URL": server.url})


def test_everything():
    tools.install_clients_fast()
    rust(["--workspace"])
    # Without features, which the whole workspace never is: a missing one is named by the compiler.
    run("features", ["cargo", "test", "--package", "mcp-server", "--test", "ui", "--locked", "--quiet"])
    run("scripts", [*PYTEST, tools.PROJECT / "tests" / "scripts"])
    # Most of its tests wait for processes: twice as many workers as a small machine has cores.
    run("interop", [*PYTEST, "-n", WORKERS, "-m", "not slow", tools.INTEROP])
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
