"""What `make bench` and `make budget` share: built functions, the driver that calls them, and what it measured."""

import io
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile

import tools

FLOOR = "floor"
CONCURRENT_FLOOR = "floor, concurrent"
GREETER = "greeter"
GUARDED = "greeter, closed"
SUBJECT = "subject"
GREETING = "Hello, Ada!"
# The binaries: package, features, and its name unless it is the package's. Each is built by itself, so that none carries
# another's features.
DRIVER = ("bench-driver", [])
BINARIES = {
    FLOOR: ("bench-floor", []),
    CONCURRENT_FLOOR: ("bench-floor", [], "bench-floor-concurrent"),
    GREETER: ("greeter", []),
    GUARDED: ("greeter", ["auth"]),
    SUBJECT: ("bench-subject", []),
}


def build(profile, folder, binaries=BINARIES):
    """The driver, and each binary."""
    built = {name: build_one(profile, folder, name, *binary) for name, binary in binaries.items()}
    return build_one(profile, folder, "driver", *DRIVER), built


def build_one(profile, folder, name, package, features, binary=None):
    """The binary, by a name of its own: one with other features has the same file name."""
    command = ["cargo", "build", "--quiet", "--locked", "--profile", profile, "--package", package]
    command += ["--features", ",".join(features)]
    finished = subprocess.run(command, cwd=tools.PROJECT, env=tools.building_into(folder / "built"))
    if finished.returncode:
        sys.exit(finished.returncode)
    built = folder / "built" / ("debug" if profile == "dev" else profile) / (binary or package)
    return pathlib.Path(shutil.move(built, folder / name.replace(", ", "-")))


def candidate(name, binary, events, answer=GREETING, at_once=1, cores=1, **variables):
    """A function, how it is called, and what each answer holds."""
    called = {"events": str(events), "answer": answer, "at_once": at_once, "cores": cores}
    return {"name": name, "binary": str(binary), "variables": variables, **called}


def drive(driver, candidates, runs, calls, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
        json.dump(candidates, plan)
        plan.flush()
        command = [driver, plan.name, "--runs", str(runs), "--calls", str(calls), *options]
        driven = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if driven.returncode:
        sys.exit(driven.returncode)
    return json.loads(driven.stdout)


def turns_of(turns):
    """The turns of each candidate, by its name."""
    names = dict.fromkeys(turn["name"] for turn in turns)
    return {name: [turn for turn in turns if turn["name"] == name] for name in names}


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def zip_size(binary):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("bootstrap", binary.read_bytes())
    return len(buffer.getvalue())
