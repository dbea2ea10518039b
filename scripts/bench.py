#!/usr/bin/env python3
"""`make bench`: what a function costs, as a ratio to a bare one on the same runtime in the same run.

    python3 scripts/bench.py [--runs N] [--calls N]

Prints a table and writes bench/results.json in Cargo's target folder.
"""

import argparse
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
FUNCTIONS = {FLOOR: "bench-floor", "greeter": "greeter"}
EVENT = tools.PROJECT / "bench" / "event.json"

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

    release = build()
    turns = drive(release, arguments.runs, arguments.calls)
    by_name = {name: [turn for turn in turns if turn["name"] == name] for name in FUNCTIONS}
    results = {name: summary(own, by_name[FLOOR]) for name, own in by_name.items()}
    for name, binary in FUNCTIONS.items():
        results[name]["zip_bytes"] = single(zip_size(release / binary), results, "zip_bytes")
    count_instructions(release, results)
    show(results)
    file = release.parent / "bench" / "results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{arguments.runs} interleaved runs of {arguments.calls} warm calls on one core; also in {file}")


def build():
    packages = [part for binary in ("bench-driver", *FUNCTIONS.values()) for part in ("--package", binary)]
    built = subprocess.run(["cargo", "build", "--release", "--locked", *packages], cwd=tools.PROJECT)
    if built.returncode:
        sys.exit(built.returncode)
    return tools.target_folder() / "release"


def drive(release, runs, calls, *options, names=FUNCTIONS):
    command = [release / "bench-driver", "--event", EVENT, "--runs", str(runs), "--calls", str(calls), *options]
    command += [f"{name}={release / FUNCTIONS[name]}" for name in names]
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


def count_instructions(release, results):
    """Instructions of one warm call, by callgrind: the difference between many calls and few."""
    if not shutil.which("valgrind"):
        print("SKIPPED: instructions are not counted, since valgrind is not installed", file=sys.stderr)
        return
    few, many = 100, 600
    for name in FUNCTIONS:
        counts = {}
        for calls in (few, many):
            with tempfile.TemporaryDirectory() as folder:
                out = pathlib.Path(folder) / "callgrind.out"
                drive(release, 1, calls, "--under", f"valgrind --tool=callgrind --callgrind-out-file={out}", names=[name])
                counts[calls] = int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])
        per_call = (counts[many] - counts[few]) / (many - few)
        results[name]["instructions_per_call"] = single(per_call, results, "instructions_per_call")


def show(results):
    rows = [*MEASURES, ("instructions_per_call", "instructions per call", 1000, "thousand"), ("zip_bytes", "zip", 1e6, "MB")]
    names = [name for name in FUNCTIONS if name != FLOOR]
    print(f"{'':26}{FLOOR:>28}" + "".join(f"{name:>28}{'ratio':>20}" for name in names))
    for key, title, unit, label in rows:
        if key not in results[FLOOR]:
            continue
        floor = results[FLOOR][key]
        line = f"{title:<26}{cell(floor, unit, label):>28}"
        for name in names:
            own = results[name][key]
            line += f"{cell(own, unit, label):>28}{cell(own['ratio'], 1, '×'):>20}"
        print(line)


def cell(value, unit, label):
    text = f"{value['median'] / unit:.2f} {label}"
    if value["min"] != value["max"]:
        text += f" ({value['min'] / unit:.2f}–{value['max'] / unit:.2f})"
    return text


if __name__ == "__main__":
    main()
