#!/usr/bin/env python3
"""`make bench`: what a function costs, as a ratio to a bare one on the same runtime in the same run; and what a token does.

    python3 scripts/bench.py [--runs N] [--calls N]

Prints a table and writes bench/results.json in Cargo's target folder.
"""

import argparse
import contextlib
import io
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile

import tools

FLOOR = "floor"
GREETER = "greeter"
GUARDED = "greeter, closed"
# The binaries: package and features. Each is built by itself, so that none carries another's features.
BINARIES = {FLOOR: ("bench-floor", []), GREETER: ("greeter", []), GUARDED: ("greeter", ["auth"])}
EVENT = tools.PROJECT / "bench" / "event.json"
# With a token of each algorithm, seen before by the environment or not.
TOKENS = [(algorithm, age) for algorithm in ("RS256", "ES256") for age in ("seen", "new")]

# What is measured: its name in the driver's output, how it is shown, and what it is divided by.
MEASURES = [
    ("start_us", "start to first /next", 1000, "ms"),
    ("start_cpu_us", "processor time of that", 1000, "ms"),
    ("first_call_us", "first call", 1000, "ms"),
    ("warm_p50_us", "warm call, median", 1, "µs"),
    ("warm_p99_us", "warm call, p99", 1, "µs"),
    ("cpu_per_call_us", "processor time per call", 1, "µs"),
    ("peak_memory_kib", "peak memory", 1024, "MiB"),
]


def main():
    parser = argparse.ArgumentParser(description="Measures the functions against a bare one.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3000)
    arguments = parser.parse_args()

    tools.install_test()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folder = pathlib.Path(folder)
        driver, binaries = build("release", folder)
        events = folder / "event.jsonl"
        events.write_text(json.dumps(json.loads(EVENT.read_text())))
        candidates = [candidate(name, binaries[name], events) for name in BINARIES]
        with tokens(folder, arguments.calls + 1) as issuer:
            for algorithm, age in TOKENS:
                own = folder / f"{algorithm}-{age}.jsonl"
                candidates.append(candidate(f"{algorithm}, {age}", binaries[GUARDED], own, OIDC_ISSUER=issuer))
            turns = drive(driver, candidates, arguments.runs, arguments.calls)
        by_name = {own["name"]: [turn for turn in turns if turn["name"] == own["name"]] for own in candidates}
        results = {name: summary(own, by_name[FLOOR]) for name, own in by_name.items()}
        for name, binary in binaries.items():
            results[name]["zip_bytes"] = single(zip_size(binary), results, "zip_bytes")
        count_instructions(driver, candidates[:2], results)
    show(results)
    show_tokens(by_name)
    file = tools.target_folder() / "bench" / "results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{arguments.runs} interleaved runs of {arguments.calls} warm calls on one core; also in {file}")


def build(profile, folder):
    """The driver, and a copy of each binary."""
    built = tools.target_folder() / ("debug" if profile == "dev" else profile)
    copies = {}
    for name, (package, features) in {"driver": ("bench-driver", []), **BINARIES}.items():
        command = ["cargo", "build", "--quiet", "--locked", "--profile", profile, "--package", package]
        finished = subprocess.run([*command, "--features", ",".join(features)], cwd=tools.PROJECT)
        if finished.returncode:
            sys.exit(finished.returncode)
        copies[name] = pathlib.Path(shutil.copy(built / package, folder / name.replace(", ", "-")))
    return copies.pop("driver"), copies


def candidate(name, binary, events, **variables):
    return {"name": name, "binary": str(binary), "events": str(events), "variables": variables}


@contextlib.contextmanager
def tokens(folder, count):
    """Writes events with tokens, and yields their issuer while it is there."""
    command = [tools.BIN / "python", pathlib.Path(__file__).with_name("bench_tokens.py"), EVENT, folder, count]
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


def drive(driver, candidates, runs, calls, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
        json.dump(candidates, plan)
        plan.flush()
        command = [driver, plan.name, "--runs", str(runs), "--calls", str(calls), *options]
        driven = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if driven.returncode:
        sys.exit(driven.returncode)
    return json.loads(driven.stdout)


def summary(turns, floor):
    """Each measure, and its ratio to the floor's turn of the same run."""
    return {
        key: {
            **spread([turn[key] for turn in turns]),
            "ratio": spread([turn[key] / base[key] for turn, base in zip(turns, floor, strict=True)]),
        }
        for key, *_ in MEASURES
    }


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def single(value, results, key):
    """A measure that is the same in every run. The floor comes first."""
    base = results[FLOOR].get(key, {"median": value})
    return {**spread([value]), "ratio": spread([value / base["median"]])}


def zip_size(binary):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("bootstrap", binary.read_bytes())
    return len(buffer.getvalue())


def count_instructions(driver, candidates, results):
    """Instructions of one warm call, by callgrind: the difference between many calls and few."""
    if not shutil.which("valgrind"):
        print("SKIPPED: instructions are not counted, since valgrind is not installed", file=sys.stderr)
        return
    few, many = 100, 600
    for own in candidates:
        counts = {}
        for calls in (few, many):
            with tempfile.TemporaryDirectory() as folder:
                out = pathlib.Path(folder) / "callgrind.out"
                drive(driver, [own], 1, calls, "--under", f"valgrind --tool=callgrind --callgrind-out-file={out}")
                counts[calls] = int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])
        per_call = (counts[many] - counts[few]) / (many - few)
        results[own["name"]]["instructions_per_call"] = single(per_call, results, "instructions_per_call")


def show(results):
    rows = [*MEASURES, ("instructions_per_call", "instructions per call", 1000, "thousand"), ("zip_bytes", "zip", 1e6, "MB")]
    names = [GREETER, GUARDED]
    print(f"{'':26}{FLOOR:>28}" + "".join(f"{name:>28}{'ratio':>20}" for name in names))
    for key, title, unit, label in rows:
        if key not in results[FLOOR]:
            continue
        floor = results[FLOOR][key]
        line = f"{title:<26}{cell(floor, unit, label):>28}"
        for name in names:
            own = results[name].get(key)
            if own:
                line += f"{cell(own, unit, label):>28}{cell(own['ratio'], 1, '×'):>20}"
        print(line)


def show_tokens(by_name):
    """What a token costs: against the same binary without an issuer, in the same run."""
    open_turns = by_name[GUARDED]
    print(f"\n{'with a token':<26}{'warm call, median':>28}{'ratio to open':>24}{'more than open':>26}{'first call':>28}")
    for algorithm, age in TOKENS:
        turns = by_name[f"{algorithm}, {age}"]
        pairs = list(zip(turns, open_turns, strict=True))
        ratio = spread([turn["warm_p50_us"] / base["warm_p50_us"] for turn, base in pairs])
        more = spread([turn["warm_p50_us"] - base["warm_p50_us"] for turn, base in pairs])
        warm, first = (spread([turn[key] for turn in turns]) for key in ("warm_p50_us", "first_call_us"))
        label = f"{algorithm}, {'seen before' if age == 'seen' else 'first seen'}"
        print(
            f"{label:<26}{cell(warm, 1, 'µs'):>28}{cell(ratio, 1, '×'):>24}{cell(more, 1, 'µs'):>26}"
            f"{cell(first, 1000, 'ms'):>28}"
        )


def cell(value, unit, label):
    text = f"{value['median'] / unit:.2f} {label}"
    if value["min"] != value["max"]:
        text += f" ({value['min'] / unit:.2f}–{value['max'] / unit:.2f})"
    return text


if __name__ == "__main__":
    main()
