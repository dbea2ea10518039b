#!/usr/bin/env python3
"""`make budget`: what can be counted of the functions' cost, against bench/budget.json; no time.

    python3 scripts/budget.py [--accept]          a call of greeter's: instructions, allocations; its zip. Part of `make test`
    python3 scripts/budget.py --zips [--accept]   the zips of the framework's functions that `make build` has made, and the start of
                                                  the authorization server in its zip; a product function has its maximum in its
                                                  Cargo.toml, which `make build` compares

A figure that is above the budget by more than its tolerance fails the run: 2 % for allocations and zips, 10 % for instructions. Any
difference of more than 2 % is reported. `--accept` makes what is measured the budget. greeter's zip for arm64 has a fixed maximum, too.
"""

import argparse
import base64
import json
import pathlib
import platform
import sys
import tempfile
import zipfile

import bench_events
import build
import counting
import debian
import tools
from deploying import signing_keys
from driving import BINARIES, DRIVER, GREETER, build_one, candidate, zip_size

FILE = tools.PROJECT / "bench" / "budget.json"
QUIET = {"RUST_LOG": "off"}
# Instructions follow every change of the code, and of the compiler: a small difference is for the reviewer to judge.
INSTRUCTIONS = ": instructions"
# The part that `make build` decides; the others are named by the machine that they were counted on.
ZIPS = "zips"
# What README promises of the smallest zip. It holds for accepted figures, too.
MAXIMA = {"arm64/greeter": 980_000}
HOW_TO_ACCEPT = {False: "make budget ACCEPT=1", True: "python3 scripts/budget.py --zips --accept"}


def main():
    parser = argparse.ArgumentParser(description="Compares what the functions cost with their budget.")
    parser.add_argument("--zips", action="store_true", help="compare the zips that `make build` has made")
    parser.add_argument("--accept", action="store_true", help="make what is measured the budget")
    arguments = parser.parse_args()
    part = ZIPS if arguments.zips else platform.machine()
    if part not in read() and not arguments.accept:
        skip(f"nothing is compared with bench/budget.json, which has no figures for {part}")
        return
    try:
        valgrind = counting.Valgrind()
    except debian.Unavailable as reason:
        if arguments.accept:
            sys.exit(f"there is no Valgrind to count with: {reason}")
        skip(f"instructions and allocations are not compared with bench/budget.json, since {reason}")
        valgrind = None
    measured = zips() | start(valgrind) if arguments.zips else measure(valgrind)
    settle(part, measured, arguments.accept, is_whole=valgrind is not None)


def skip(what):
    print(f"SKIPPED: {what}", file=sys.stderr)


def read():
    return json.loads(FILE.read_text())


def measure(valgrind):
    """Each figure by its name."""
    with tempfile.TemporaryDirectory(prefix="budget-") as folder:
        folder = pathlib.Path(folder)
        # What drives is not measured.
        driver = build_one("dev", folder, "driver", *DRIVER)
        binary = build_one("release", folder, GREETER, *BINARIES[GREETER])
        figures = {"bytes of greeter's zip": zip_size(binary)}
        if not valgrind:
            return figures
        files = bench_events.write(folder)
        greeters = {name: candidate(name, binary, files[name], answer) for name, answer in bench_events.REQUESTS.items()}
        call = greeters[bench_events.CALL]
        counted = {name: valgrind.count(driver, own) for name, own in greeters.items()}
        counted[f"{bench_events.CALL}, no log"] = valgrind.count(driver, {**call, "variables": QUIET})
        return figures | {
            f"{name}: {key}": round(value) for name, counts in counted.items() for key, value in counts.items()
        }


def zips():
    folder = tools.target_folder() / "lambda"
    # Beside these, cargo-lambda leaves a folder of its own.
    archives = sorted(archive for architecture in build.ARCHITECTURES for archive in folder.glob(f"{architecture}/*/bootstrap.zip"))
    archives = [archive for archive in archives if archive.parent.name.partition(".")[0] in tools.SHIPPED]
    return {f"{archive.parent.parent.name}/{archive.parent.name}": archive.stat().st_size for archive in archives}


def start(valgrind):
    """What the authorization server of the zip costs from its start to the second response for metadata, without an identity provider
    and a database, which it does not ask for them. Nothing on a machine that does not run the zip."""
    architecture = "x86-64"
    archive = build.archive_in(tools.target_folder() / "lambda" / architecture, tools.AUTHORIZATION_SERVER, [])
    if not valgrind or platform.machine() != "x86_64" or not archive.exists():
        return {}
    with tempfile.TemporaryDirectory(prefix="budget-") as folder:
        folder = pathlib.Path(folder)
        with zipfile.ZipFile(archive) as packed:
            packed.extract("bootstrap", folder)
        binary = folder / "bootstrap"
        binary.chmod(0o755)
        metadata = bench_events.save(bench_events.get("/.well-known/oauth-authorization-server"), folder / "metadata.jsonl")
        own = candidate(tools.AUTHORIZATION_SERVER, binary, metadata, "token_endpoint", **QUIET, **authorization_server_variables())
        counts = valgrind.totals(build_one("dev", folder, "driver", *DRIVER), own, calls=1)
    return {f"{architecture}/{tools.AUTHORIZATION_SERVER}, start and two responses: {key}": count for key, count in counts.items()}


def authorization_server_variables():
    return {
        "MCP_STATE_KEY": base64.b64encode(bytes(range(32))).decode(), "DATABASE_URL": "postgres://user:password@127.0.0.1:9/none", "DB_WARM": "off",
        "AUTHORIZATION_UPSTREAM_ISSUER": "https://id.example.com", "AUTHORIZATION_UPSTREAM_CLIENT_ID": "id",
        "AUTHORIZATION_UPSTREAM_CLIENT_SECRET": "secret", "AUTHORIZATION_RESOURCES": "[]",
        "AUTHORIZATION_SIGNING_KEYS": json.dumps({"keys": [{"private_key": signing_keys.private_key(), "signs_from": 0}]}),
    }


def settle(part, measured, accept, is_whole=True):
    """Compares what was measured with that part of the budget, or makes it the budget."""
    over = [f"{name}: {measured[name]:,}; the maximum is {maximum:,}" for name, maximum in MAXIMA.items() if measured.get(name, 0) > maximum]
    if over:
        sys.exit("\n".join(["zips are over their maximum in scripts/budget.py, which `--accept` does not change:", *over]))
    budget = read()
    if accept:
        budget[part] = measured
        FILE.write_text(json.dumps(budget, indent=2) + "\n")
        print(f"{FILE.relative_to(tools.PROJECT)} has new figures; its diff is part of the review")
        return
    accepted = budget[part]
    if not is_whole:
        accepted = {name: figure for name, figure in accepted.items() if name in measured}
    broken, moved = compare(accepted, measured, budget)
    for line in moved:
        print(f"budget: {line}; `{HOW_TO_ACCEPT[part == ZIPS]}` accepts it")
    if broken:
        lines = ["bench/budget.json is broken:", *(f"  {line}" for line in broken)]
        lines += [f"If this is meant, run `{HOW_TO_ACCEPT[part == ZIPS]}`, and say in the commit what is worth it."]
        sys.exit("\n".join(lines))
    print(f"budget: {len(measured)} figures are within the tolerances of bench/budget.json")


def compare(accepted, measured, tolerances):
    """The figures that are over the budget or not in it, and those that differ without breaking it."""
    reported = tolerances["tolerance_percent"]
    broken = [f"{name}: {measured[name]:,}, for which there is no figure" for name in measured if name not in accepted]
    broken += [f"{name}: no longer measured" for name in accepted if name not in measured]
    moved = []
    for name in accepted.keys() & measured.keys():
        was, is_now = accepted[name], measured[name]
        change = f"{name}: {was:,} is now {is_now:,} ({(is_now / was - 1) * 100:+.1f} %)"
        decisive = tolerances["instructions_tolerance_percent"] if name.endswith(INSTRUCTIONS) else reported
        if is_now > was * (100 + decisive) / 100:
            broken.append(change)
        elif abs(is_now - was) > was * reported / 100:
            moved.append(change)
    return sorted(broken), sorted(moved)


if __name__ == "__main__":
    main()
