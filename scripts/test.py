#!/usr/bin/env python3
"""`make test`: every test. Nothing needs to be installed beforehand but Rust and Python 3.

    test.py [--functions NAME,NAME]     the Rust tests and the interop tests of these functions alone
"""

import argparse
import concurrent.futures
import subprocess
import sys
import time

import clients
import postgres
import tools

WORKERS = 4
CARGO = ["cargo", "test", "--locked", "--quiet"]
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
    with database() as server:
        packages = [word for name in functions for word in ("--package", name)]
        run("Rust", [*CARGO, *packages, "--all-features"], with_database(server))
    folder = tools.PROJECT / "tests" / "interop"
    files = [path for name in functions if (path := folder / f"test_{name.replace('-', '_')}.py").exists()]
    if files:
        tools.install_test()
        run("interop", [*PYTEST, *files])


def database():
    """One server for all tests, each of which has a database of its own there."""
    return postgres.Supervised(fsync="off", max_connections=300)


def with_database(server):
    return {**tools.environment(), "TEST_DATABASE_URL": server.url}


def test_everything():
    tools.install_clients_fast()
    cargo = [*CARGO, "--workspace", "--all-features"]
    unit, integration = [*cargo, "--lib", "--bins", "--examples"], [*cargo, "--test", "*"]
    run("Rust, compiling unit tests", [*unit, "--no-run"])
    run("Rust, compiling integration tests", [*integration, "--no-run"])
    # All at once, since many tests wait: for processes in interop, for their database in Rust, where Cargo runs one binary after another.
    interop = ("interop", [*PYTEST, "-n", WORKERS, "-m", "not slow", tools.INTEROP])
    others = [
        ("scripts", [*PYTEST, tools.PROJECT / "tests" / "scripts"]),
        ("clients", clients.command("-m", "fast")),
        ("conformance", [sys.executable, tools.PROJECT / "scripts" / "conformance.py"]),
        ("budget", [sys.executable, tools.PROJECT / "scripts" / "budget.py"]),
    ]
    with database() as server:
        variables = with_database(server)
        rust = [
            ("Rust, integration tests", integration, variables),
            ("Rust, unit tests", unit, variables),
            ("Rust, documentation", [*cargo, "--doc"], variables),
            # Without features, which the whole workspace never is: a missing one is named by the compiler.
            ("features", [*CARGO, "--package", "mcp-server", "--test", "ui"]),
        ]
        side_by_side([interop], rust, others)


def side_by_side(*sequences):
    """Runs sequences of parts at the same time, each to its end or to its first failure. A part prints its output when it ends."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ended = [pool.submit(run_all, parts) for parts in sequences]
    if failed := [part for own in ended if (part := own.result())]:
        sys.exit(f"failed: {', '.join(failed)}")


def run_all(parts):
    """Runs parts one after another; the first that fails. A part is its name, its command and, if it has its own, its environment."""
    for part, command, *environment in parts:
        print(f"test: {part} starts", file=sys.stderr, flush=True)
        if execute(part, command, *environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"):
            return part
    return None


def run(part, command, environment=None):
    """Runs one part, which must succeed."""
    if execute(part, command, environment):
        sys.exit(f"failed: {part}")


def execute(part, command, environment=None, **options):
    """Runs one part, and says how long it took; its exit code."""
    started = time.monotonic()
    finished = subprocess.run([str(word) for word in command], cwd=tools.PROJECT, env=environment or tools.environment(), **options)
    took = f"test: {part} took {time.monotonic() - started:.0f} s"
    print((finished.stdout or "") + took, file=sys.stderr, flush=True)
    return finished.returncode


if __name__ == "__main__":
    main()
