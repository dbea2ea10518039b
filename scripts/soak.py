#!/usr/bin/env python3
"""`make soak`: what takes longer than a test may. Run it once per larger change and report its figures.

    python3 scripts/soak.py [--fuzz-seconds N] [--calls N] [--tasks N] [--proxy-minutes N] [--mutate FILE... | --no-mutants]

Kills deployments after each of their calls and sends 10,000 pairs of a list and a call to two versions at once (`-m slow`), runs
the official conformance suites on ten frozen environments (`scripts/conformance.py`), calls the zips for arm64
(`scripts/arm64.py`), logs events while everything breaks, on Postgres and behind the emulator of Aurora DSQL (`scripts/chaos.py`), runs 10,000 tasks while everything breaks (`scripts/chaos_tasks.py`), connects 1,000 environments at once within
30 s, runs the tests with a database on other versions of Postgres (`scripts/postgres_versions.py`), runs a fleet of `mcpl proxy` for an
hour while servers, issuers and clocks change (`scripts/soak_proxies.py`), fuzzes documents, events, messages and tokens, and changes
the code that decides who gets in, bit by bit: a test must fail each time. Fuzzing needs a nightly compiler
(`rustup toolchain install nightly`), running the zips Debian or Ubuntu; without them they are skipped, loudly.
`--mutate` changes the files given and does nothing else; one of them takes some minutes, all of them hours.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import postgres
import tools

FUZZ = tools.PROJECT / "fuzz"
# The code that decides who gets in.
MUTATED = [
    "crates/mcp-server/src/policy.rs",
    "crates/mcp-auth/src/token.rs",
    "crates/mcp-auth/src/verifier.rs",
    "crates/mcp-server/src/interaction/cipher.rs",
    "crates/mcp-lambda/src/http.rs",
    "crates/mcp-lambda/src/http/*.rs",
]
# The tests that a change is put to, until some fail: those of who is let in, then all of them. One waits until requests time
# out, again and again.
SERVICE = ["--package=mcp-auth", "--package=mcp-lambda", "--test=it"]
SKIPPED = ["--skip", "a_hostile_key_server"]
STAGES = [(SERVICE, ["authorization", *SKIPPED]), ([*SERVICE, "--lib"], SKIPPED)]
# Hundreds of times the same, but for a line.
FAST_BUILDS = {"CARGO_INCREMENTAL": "1", "CARGO_PROFILE_DEV_DEBUG": "none", "CARGO_PROFILE_TEST_DEBUG": "none"}
TARGETS = sorted(target.stem for target in (FUZZ / "fuzz_targets").glob("*.rs") if target.stem != "common")


def main():
    parser = argparse.ArgumentParser(description="Runs what takes longer than a test may.")
    parser.add_argument("--fuzz-seconds", type=int, default=600, help="for each target")
    parser.add_argument("--calls", type=int, default=10_000, help="of log_event, while everything breaks")
    parser.add_argument("--tasks", type=int, default=10_000, help="of five steps, while everything breaks")
    parser.add_argument("--memory-seconds", type=int, default=60, help="of hostile bodies, for each function")
    parser.add_argument("--proxy-minutes", type=float, default=60, help="of `mcpl proxy` in a fleet of clients")
    parser.add_argument("--no-mutants", action="store_true", help="leave the code as it is")
    parser.add_argument("--mutate", nargs="+", metavar="FILE", help="change these files alone, and do nothing else")
    arguments = parser.parse_args()
    if arguments.mutate:
        return mutate(arguments.mutate)
    tools.install_test()
    slow_tests()
    run("conformance.py", "--environments", "10")
    run("arm64.py")
    run("chaos.py", "--calls", arguments.calls)
    run("chaos.py", "--calls", arguments.calls, "--database", "dsql")
    run("chaos_tasks.py", "--tasks", arguments.tasks)
    storm()
    run("postgres_versions.py")
    run("memory.py", "--seconds", arguments.memory_seconds)
    run("soak_proxies.py", "--minutes", arguments.proxy_minutes)
    fuzz(arguments.fuzz_seconds)
    if not arguments.no_mutants:
        mutate()


def slow_tests():
    """Deployments that are killed after each of their calls, at a first deployment and repaired by a rollback; pairs of a list and a
    call, answered by two versions; 1,000 concurrent refreshes of one grant."""
    command = [tools.BIN / "python", "-m", "pytest", "--quiet", "-rs", "-p", "no:cacheprovider", "-n", "2", "-m", "slow", tools.INTEROP]
    if subprocess.run([str(word) for word in command], cwd=tools.PROJECT, env=tools.environment()).returncode:
        sys.exit("failed: slow tests")


def storm():
    """Tests of mcp-postgres that depend on the speed of the machine, alone."""
    with postgres.Supervised(fsync="off", max_connections=300) as server:
        command = ["cargo", "test", "--package=mcp-postgres", "--test=dsql", "--locked", "--quiet", "--", "--ignored", "--nocapture"]
        variables = {**tools.environment(), "TEST_DATABASE_URL": server.url}
        if subprocess.run(command, cwd=tools.PROJECT, env=variables).returncode:
            sys.exit("failed: 1,000 environments that connect at once")


def run(script, *options):
    command = [tools.BIN / "python", tools.PROJECT / "scripts" / script, *options]
    ran = subprocess.run([str(word) for word in command])
    if ran.returncode:
        sys.exit(ran.returncode)


def fuzz(seconds):
    installed = subprocess.run(["rustup", "toolchain", "list"], capture_output=True, text=True).stdout
    if "nightly" not in installed:
        print("SKIPPED: fuzzing, since rustup has no nightly toolchain here", file=sys.stderr)
        return
    tools.install_fuzz()
    for target in TARGETS:
        # What is found on the way is kept apart from the seeds.
        with tempfile.TemporaryDirectory() as found:
            command = ["cargo", "+nightly", "fuzz", "run", target, found, str(FUZZ / "corpus" / target), "--"]
            command += [f"-max_total_time={seconds}", "-max_len=16384", "-timeout=10"]
            ran = subprocess.run(command, cwd=FUZZ, env=tools.environment(), stderr=subprocess.PIPE, text=True)
        if ran.returncode:
            print(ran.stderr[-4000:], file=sys.stderr)
            sys.exit(f"fuzzing {target} found a failure: the input is below {FUZZ / 'artifacts'}")
        runs = re.findall(r"^Done (\d+) runs in (\d+) second", ran.stderr, re.MULTILINE)[-1]
        print(f"fuzz {target}: {runs[0]} inputs in {runs[1]} s, no failure")


def mutate(files=MUTATED):
    tools.install_mutation()
    # In copies of the workspace, with a target folder of their own: what is built of mutants is of no use to anyone.
    target = tools.target_folder() / "mutants"
    variables = {"CARGO_TARGET_DIR": str(target), **FAST_BUILDS}
    try:
        missed = [mutant for file in files for mutant in mutate_file(file, {**tools.environment(), **variables})]
    finally:
        shutil.rmtree(target, ignore_errors=True)
    if missed:
        sys.exit("\n".join(["no test noticed:", *missed]))


def mutate_file(file, environment):
    """Changes one file, and returns the changes that were missed by all tests."""
    begin = time.monotonic()
    # The unit tests of this one alone do not need the rest of the workspace, and are at hand in a second.
    first = [(["--lib"], [])] if file.startswith("crates/mcp-server/") else []
    with tempfile.TemporaryDirectory() as folder:
        for targets, tests in [*first, *STAGES]:
            command = ["cargo", "mutants", "--file", file, "--output", folder, "--iterate", "--copy-vcs", "false"]
            command += [f"--cargo-arg={word}" for word in targets] + ["--", "--", *tests]
            ran = subprocess.run(command, cwd=tools.PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
            # 2 and 3: some were missed, some made a test hang.
            if ran.returncode not in (0, 2, 3):
                sys.exit(ran.stdout)
        found = {
            name: (pathlib.Path(folder) / "mutants.out" / f"{name}.txt").read_text().splitlines()
            for name in ("previously_caught", "caught", "unviable", "timeout", "missed")
        }
    if not any(found.values()):
        sys.exit(f"there is nothing to change in {file}")
    # Those before the last stage are in one list, whether a test failed or the compiler.
    failed = sum(len(found[name]) for name in ("previously_caught", "caught", "unviable"))
    counts = f"{failed} fail, {len(found['timeout'])} hang, {len(found['missed'])} missed"
    print(f"mutants of {file}: {counts}; {time.monotonic() - begin:.0f} s", flush=True)
    return found["missed"]


if __name__ == "__main__":
    main()
