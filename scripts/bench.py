#!/usr/bin/env python3
"""`make bench`: what a function costs, as a ratio to a bare one on the same runtime in the same run.

    python3 scripts/bench.py [--runs N] [--calls N]

Prints tables with the limit beside each figure that has one, and writes bench/results.json in Cargo's target folder. A
limit that is broken is marked, and fails nothing: a time depends on the machine. What may fail is `make budget`.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import bench_events
import bench_limits
import bench_scaling
import bench_table
import counting
import debian
import tools
from bench_events import EVENT
from bench_table import MEASURES, absolute, cell, compared, measured
from driving import FLOOR, GREETER, GUARDED, build, candidate, drive, spread, turns_of, zip_size

# With a token of each algorithm, seen before by the environment or not.
TOKENS = [(algorithm, age) for algorithm in ("RS256", "ES256") for age in ("seen", "new")]
# How greeter logs: by default, and not at all.
QUIET = {"RUST_LOG": "off"}

COUNTS = {"instructions": (1000, "thousand"), "allocations": (1, ""), "allocated bytes": (1000, "kB")}

# The measures of a warm call.
WARM = ["warm_p50_us", "cpu_per_call_us"]

# The most that greeter may cost, as a ratio to the bare function; where it differs by the lines that are logged, both.
LIMITS = {"start_us": 1.3, "first_call_us": 2.5, "warm_p50_us": 2.0, "warm_p99_us": 2.5, "cpu_per_call_us": 2.0, "peak_memory_kib": 1.6}
QUIET_LIMITS = {"warm_p50_us": 1.6, "warm_p99_us": 2.5, "cpu_per_call_us": 1.6}
# Answers that were rendered at the start.
RENDERED_LIMIT = 1.4
# Other ways to make the same call, as a ratio to it.
OTHER_WAYS_LIMIT = 1.1
GUARDED_START_LIMIT = 1.6
SEEN_TOKEN_LIMIT = 1.15
NEW_TOKEN_LIMIT_US = 80
ZIP_LIMITS = {GREETER: 1.2e6, GUARDED: 3.2e6}


def main():
    parser = argparse.ArgumentParser(description="Measures the functions against a bare one.")
    # Many short turns: what disturbs one is over before the next of the same function.
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()

    tools.install_test()
    print("Builds what has changed, which can take minutes, and then measures for about three.", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folder = pathlib.Path(folder)
        driver, binaries = build("release", folder)
        rows = greeter(driver, binaries, folder, arguments.runs, arguments.calls)
        rows += bench_scaling.all(driver, binaries, folder)
        rows += bench_limits.rows(driver, folder)
    bench_table.show_verdict(rows)
    file = keep([dataclasses.asdict(row) for row in rows], "results.json")
    print(f"\n{arguments.runs} interleaved runs of {arguments.calls} warm calls on one core; also in {file}")


def greeter(driver, binaries, folder, runs, calls):
    """What greeter costs: each request, with and without lines in the log, and with tokens."""
    files = bench_events.write(folder)
    candidates = [candidate(FLOOR, binaries[FLOOR], files[bench_events.CALL])]
    for name, answer in bench_events.REQUESTS.items():
        candidates.append(candidate(name, binaries[GREETER], files[name], answer))
        candidates.append(candidate(quiet(name), binaries[GREETER], files[name], answer, **QUIET))
    candidates.append(candidate(GUARDED, binaries[GUARDED], files[bench_events.CALL]))
    with tokens(folder, calls + 1) as issuer:
        for algorithm, age in TOKENS:
            own = folder / f"{algorithm}-{age}.jsonl"
            candidates.append(candidate(f"{algorithm}, {age}", binaries[GUARDED], own, OIDC_ISSUER=issuer))
        turns = turns_of(drive(driver, candidates, runs, calls))
    rows = call_rows(driver, binaries, files, turns)
    bench_table.show("a call of greeter's tool (2026-07-28, a Function URL)", rows)
    for title, own in {
        "other requests": request_rows(turns),
        "greeter with the feature `auth`, and a token (against the same call without an issuer)": token_rows(binaries, turns),
    }.items():
        bench_table.show(title, own, ("compared with", "greeter"))
        rows += own
    return rows


def quiet(name):
    return f"{name}, no log"


def call_rows(driver, binaries, files, turns):
    floor, own, silent = (turns[name] for name in (FLOOR, bench_events.CALL, quiet(bench_events.CALL)))
    rows = measured(own, floor, LIMITS) + measured(silent, floor, QUIET_LIMITS, "{}, no log", QUIET_LIMITS)
    rows += count_rows(driver, binaries, files[bench_events.CALL])
    sizes = {name: spread([zip_size(binaries[name])]) for name in (FLOOR, GREETER)}
    return [*rows, absolute("zip", sizes[GREETER], 1e6, "MB", ZIP_LIMITS[GREETER], sizes[FLOOR])]


def count_rows(driver, binaries, events):
    try:
        valgrind = counting.Valgrind()
    except debian.Unavailable as reason:
        print(f"SKIPPED: instructions and allocations are not counted, since {reason}", file=sys.stderr)
        return []
    floor = valgrind.count(driver, candidate(FLOOR, binaries[FLOOR], events))
    rows = []
    for name, variables in {"": {}, ", no log": QUIET}.items():
        own = valgrind.count(driver, candidate(GREETER, binaries[GREETER], events, **variables))
        rows += [
            absolute(f"{key} per call{name}", spread([own[key]]), *COUNTS[key], base=spread([floor[key]])) for key in own
        ]
    return rows


def request_rows(turns):
    rows = []
    for name in [name for name in bench_events.REQUESTS if name != bench_events.CALL]:
        is_rendered = name in (bench_events.LIST, bench_events.DISCOVER)
        for way in (str, quiet):
            base = turns[FLOOR if is_rendered else way(bench_events.CALL)]
            limit = RENDERED_LIMIT if is_rendered else OTHER_WAYS_LIMIT
            rows += measured(turns[way(name)], base, dict.fromkeys(WARM, limit), f"{way(name)}: {{}}", WARM)
    return rows


def token_rows(binaries, turns):
    open_turns = turns[GUARDED]
    start, _, first_call, warm, *_ = MEASURES
    rows = [
        absolute("zip", spread([zip_size(binaries[GUARDED])]), 1e6, "MB", ZIP_LIMITS[GUARDED]),
        compared("start, against the bare function", start[0], turns["RS256, seen"], turns[FLOOR], *start[2:], GUARDED_START_LIMIT),
    ]
    for algorithm, age in TOKENS:
        own = turns[f"{algorithm}, {age}"]
        name = f"{algorithm}, {'seen before' if age == 'seen' else 'first seen'}"
        row = compared(f"{name}: warm call, median", warm[0], own, open_turns, *warm[2:])
        if age == "seen":
            row = dataclasses.replace(row, at_most=SEEN_TOKEN_LIMIT)
        else:
            more = spread([turn[warm[0]] - base[warm[0]] for turn, base in zip(own, open_turns, strict=True)])
            row = dataclasses.replace(row, judged=more, at_most=NEW_TOKEN_LIMIT_US, limit_label="µs more")
        rows += [row, compared(f"{name}: first call", first_call[0], own, open_turns, *first_call[2:])]
    return rows


def keep(results, name):
    file = tools.target_folder() / "bench" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
    return file


@contextlib.contextmanager
def tokens(folder, count, event=EVENT):
    """Writes events with tokens, and yields their issuer while it is there."""
    command = [tools.BIN / "python", pathlib.Path(__file__).with_name("bench_tokens.py"), event, folder, count]
    issuer = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        url = issuer.stdout.readline().strip()
        if not url:
            sys.exit(f"the issuer ended with {issuer.wait()}")
        yield url
    finally:
        issuer.communicate()


def summary(turns, floor):
    """Each measure, and its ratio to the floor's turn of the same run."""
    return {
        key: {
            **spread([turn[key] for turn in turns]),
            "ratio": spread([turn[key] / base[key] for turn, base in zip(turns, floor, strict=True)]),
        }
        for key, *_ in MEASURES
    }


if __name__ == "__main__":
    main()
