#!/usr/bin/env python3
"""`make bench-database`: what `log_event` costs beside a bare function that does the same insert, on one Postgres in one run.

    python3 scripts/bench_database.py [--runs N] [--calls N]

The Postgres is of its own and does not wait for the disk, which would hide everything else. It runs beside the core that
the functions share, as if it were another machine. Prints tables and writes bench/database.json in Cargo's target folder.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import tempfile

import bench
import bench_events
import bench_table
import postgres
import tools
from driving import build, candidate, drive, spread, turns_of, zip_size

FLOOR = "floor with a database"
OPEN = "event-logger, open"
CLOSED = "event-logger, with a token"
BINARIES = {FLOOR: ("bench-floor-database", []), OPEN: ("event-logger", [])}
NAMES = ("the insert alone", "event-logger")
ANSWER = " logged"
LIMITS = {"warm_p50_us": 1.3}


def main():
    parser = argparse.ArgumentParser(description="Measures event-logger against a bare function with the same insert.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3000)
    arguments = parser.parse_args()

    tools.install_test()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folder = pathlib.Path(folder)
        driver, binaries = build("release", folder, BINARIES)
        tables = measure(driver, binaries, folder, arguments.runs, arguments.calls)
    for title, rows in tables.items():
        bench_table.show(title, rows, NAMES)
    bench_table.show_verdict([row for rows in tables.values() for row in rows])
    results = {title: [dataclasses.asdict(row) for row in rows] for title, rows in tables.items()}
    file = bench.keep(results, "database.json")
    print(f"\n{arguments.runs} interleaved runs of {arguments.calls} warm calls on one core; also in {file}")


def measure(driver, binaries, folder, runs, calls):
    """A table for each way to run event-logger."""
    event = bench_events.event("tools/call", "log_event", {"event_name": "login"})
    file = bench_events.save(event, folder / "log-event.jsonl")
    with beside_the_driver():
        server = postgres.Supervised(fsync="off")
    with server, bench.tokens(folder, 1, file) as issuer:
        same = {"answer": ANSWER, "DATABASE_URL": server.url}
        # A caller with a token may do everything, as a caller without one may in the open function.
        granted = {"OIDC_ISSUER": issuer, "OIDC_GRANT_SCOPES": "events:write", "OIDC_ALLOWED_EMAILS": "ada@example.com"}
        candidates = [
            candidate(FLOOR, binaries[FLOOR], file, **same),
            candidate(OPEN, binaries[OPEN], file, MCP_AUTH="dangerously-off", **same),
            candidate(CLOSED, binaries[OPEN], folder / "RS256-seen.jsonl", **granted, **same),
        ]
        # Makes the table.
        drive(driver, candidates[1:2], 1, 1)
        turns = turns_of(drive(driver, candidates, runs, calls))
    tables = {name: bench_table.measured(turns[name], turns[FLOOR], LIMITS) for name in (OPEN, CLOSED)}
    sizes = [spread([zip_size(binaries[name])]) for name in (OPEN, FLOOR)]
    tables[OPEN].append(bench_table.absolute("zip", sizes[0], 1e6, "MB", base=sizes[1]))
    return tables


@contextlib.contextmanager
def beside_the_driver():
    """What is started meanwhile leaves the last core to the driver and the functions, if there is another."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed - {max(allowed)} or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    main()
