#!/usr/bin/env python3
"""`make bench PEERS=1`: the same tool in other people's libraries, beside greeter and the floor, in one run.

    python3 scripts/bench_peers.py [--runs N] [--calls N]

`bench/peers/README.md` says what each is. One that cannot be built or does not answer is shown as such. Prints a table and
writes bench/peers.json in Cargo's target folder.
"""

import argparse
import io
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile

import bench
import bench_events
import tools
from bench_table import MEASURES
from driving import BINARIES, FLOOR, GREETER, build, candidate, drive, spread, turns_of, zip_size

MODERN, LEGACY = "2026-07-28", "2024-11-05"
OURS = {name: BINARIES[name] for name in (FLOOR, GREETER)}
# Each with the newest revision that it speaks. pmcp's router serves at the root.
RUST = {"rmcp": (MODERN, "/mcp"), "turul": (MODERN, "/mcp"), "pmcp": (MODERN, "/")}
SCRIPTS = {"typescript": MODERN, "awslabs": LEGACY, "mcpengine": LEGACY}
COLUMNS = [row for row in MEASURES if row[0] != "warm_p99_us"]


def main():
    parser = argparse.ArgumentParser(description="Measures other people's libraries beside greeter.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()

    tools.install_peers()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folder = pathlib.Path(folder)
        driver, binaries = build("release", folder, OURS)
        revisions = {name: MODERN for name in OURS} | {name: revision for name, (revision, _) in RUST.items()} | SCRIPTS
        zips = {name: zip_size(binary) for name, binary in binaries.items()}
        event = write_event(folder, MODERN, "/mcp")
        candidates = {name: candidate(name, binary, event) for name, binary in binaries.items()}
        failures = {}
        for name, (revision, path) in RUST.items():
            binary = build_peer(name)
            if binary:
                zips[name] = zip_size(binary)
                candidates[name] = candidate(name, binary, write_event(folder, revision, path))
            else:
                failures[name] = "COULD NOT BE BUILT"
        for name, revision in SCRIPTS.items():
            function = unpack(name, folder)
            zips[name] = folder_zip_size(function)
            candidates[name] = candidate(
                name, bootstrap(name, function), write_event(folder, revision, "/mcp"), LAMBDA_TASK_ROOT=str(function)
            )
        for name in list(candidates):
            if not answers(driver, candidates[name]):
                failures[name] = "DOES NOT ANSWER"
                del candidates[name]
        turns = turns_of(drive(driver, list(candidates.values()), arguments.runs, arguments.calls))
    results = {name: bench.summary(own, turns[FLOOR]) for name, own in turns.items()}
    for name in results:
        results[name]["zip_bytes"] = {**spread([zips[name]]), "ratio": spread([zips[name] / zips[FLOOR]])}
    show(results, revisions, failures)
    file = bench.keep(results, "peers.json")
    print(f"\n{arguments.runs} interleaved runs of {arguments.calls} warm calls on one core; medians, and their ratio to")
    print(f"the floor of the same run; also in {file}")
    if failures:
        sys.exit(f"not measured: {', '.join(failures)}")


def write_event(folder, revision, path):
    """The event of the other benchmark, as a client of a revision sends it to a path."""
    event = bench_events.template()
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    if revision == LEGACY:
        for name in ("mcp-method", "mcp-name", "mcp-protocol-version"):
            del event["headers"][name]
        call = json.loads(event["body"])
        del call["params"]["_meta"]
        event["body"] = json.dumps(call)
    return bench_events.save(event, folder / f"{revision}{path.replace('/', '-')}.jsonl")


def build_peer(name):
    """The binary of a peer in Rust; none if it cannot be built."""
    target = tools.target_folder() / "peers"
    command = ["cargo", "build", "--quiet", "--locked", "--release", "--package", f"peer-{name}"]
    built = subprocess.run([*command, "--target-dir", target], cwd=tools.PEERS)
    return None if built.returncode else target / "release" / f"peer-{name}"


def unpack(name, folder):
    """A function's folder, as Lambda has it."""
    function = folder / name
    shutil.copytree(tools.PEERS_FOLDER / name, function, symlinks=True)
    for file in (tools.PEERS / name).glob("function.*"):
        shutil.copy(file, function)
    return function


def bootstrap(name, function):
    """What starts it. Lambda's managed runtimes have this and what it starts, so that it is not in the zip."""
    if name == "typescript":
        command = [tools.node(), shutil.copy(tools.PEERS / name / "runtime.mjs", function)]
    else:
        command = ["env", f"PYTHONPATH={tools.PEERS_FOLDER / 'python'}", sys.executable, "-m", "awslambdaric", "function.handler"]
    script = function.with_name(f"{name}-bootstrap")
    script.write_text(f"#!/bin/sh\ncd {shlex.quote(str(function))} && exec {shlex.join(str(word) for word in command)}\n")
    script.chmod(0o755)
    return script


def folder_zip_size(function):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(function.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(function))
    return len(buffer.getvalue())


def answers(driver, peer):
    """Whether it can be measured at all. The driver says why not."""
    try:
        drive(driver, [peer], 1, 1)
    except SystemExit:
        return False
    return True


def show(results, revisions, failures):
    rows = [*COLUMNS, ("zip_bytes", "zip", 1e6, "MB")]
    print(f"{'':14}{'revision':12}" + "".join(f"{title:>30}" for _, title, *_ in rows))
    for name in revisions:
        line = f"{name:14}{revisions[name]:12}"
        if name in failures:
            print(f"{line}  {failures[name]}")
            continue
        for key, _, unit, label in rows:
            own = results[name][key]
            line += f"{own['median'] / unit:18.2f} {label:3} {own['ratio']['median']:6.1f}×"
        print(line)


if __name__ == "__main__":
    main()
