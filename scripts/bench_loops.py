#!/usr/bin/env python3
"""What a warm call costs with each of the two loops: `lambda_runtime::run` as a ratio to `mcp_lambda::main`.

    python3 scripts/bench_loops.py [--runs N] [--calls N]

Calls a tool of functions/conformance without logs. Its second binary has a `main` with `lambda_runtime`, a layer and a route. Times
are medians of interleaved runs on one core; instructions and allocations are counted by Valgrind.
"""

import argparse
import pathlib
import sys
import tempfile

import bench_events
import bench_table
import conformance
import counting
import debian
import tools
from bench import COUNTS, QUIET, WARM
from driving import build, candidate, drive, spread, turns_of

BINARIES = {name: ("conformance", [], name) for name in (conformance.OWN_LOOP, conformance.LAMBDA_RUNTIME)}
NAMES = ("mcp_lambda::main", "lambda_runtime::run")
VARIABLES = {"MCP_STATE_KEY": "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=", **QUIET}
TOOL, ANSWER = "test_simple_text", "This is a simple text response"


def main():
    parser = argparse.ArgumentParser(description="Compares the two loops.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()

    tools.install_test()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folder = pathlib.Path(folder)
        driver, binaries = build("release", folder, BINARIES)
        rows = measure(driver, binaries, folder, arguments.runs, arguments.calls)
    bench_table.show(f"a call of {TOOL} (2026-07-28, a Function URL), no log", rows, NAMES)


def measure(driver, binaries, folder, runs, calls, counted_calls=(counting.FEW, counting.MANY)):
    file = bench_events.save(bench_events.event("tools/call", TOOL, {}), folder / "call.jsonl")
    own, other = (candidate(name, binary, file, ANSWER, **VARIABLES) for name, binary in binaries.items())
    turns = turns_of(drive(driver, [own, other], runs, calls))
    rows = bench_table.measured(turns[other["name"]], turns[own["name"]], {}, keys=WARM)
    try:
        valgrind = counting.Valgrind()
    except debian.Unavailable as reason:
        print(f"SKIPPED: instructions and allocations are not counted, since {reason}", file=sys.stderr)
        return rows
    base, counted = (valgrind.count(driver, binary, *counted_calls) for binary in (own, other))
    return rows + [
        bench_table.absolute(f"{key} per call", spread([counted[key]]), *COUNTS[key], base=spread([base[key]])) for key in counted
    ]


if __name__ == "__main__":
    main()
