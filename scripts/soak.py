#!/usr/bin/env python3
"""`make soak`: what takes longer than a test may. Run it once per larger change and report its figures.

    python3 scripts/soak.py [--fuzz-seconds N] [--calls N]

Calls the zips for arm64 (`scripts/arm64.py`), logs events while everything breaks (`scripts/chaos.py`), and fuzzes events
and messages. Fuzzing needs a nightly compiler (`rustup toolchain install nightly`), running the zips Debian or Ubuntu;
without them they are skipped, loudly.
"""

import argparse
import re
import subprocess
import sys
import tempfile

import tools

FUZZ = tools.PROJECT / "fuzz"
TARGETS = sorted(target.stem for target in (FUZZ / "fuzz_targets").glob("*.rs") if target.stem != "common")


def main():
    parser = argparse.ArgumentParser(description="Runs what takes longer than a test may.")
    parser.add_argument("--fuzz-seconds", type=int, default=600, help="for each target")
    parser.add_argument("--calls", type=int, default=10_000, help="of log_event, while everything breaks")
    arguments = parser.parse_args()
    tools.install_test()
    run("arm64.py")
    run("chaos.py", "--calls", arguments.calls)
    fuzz(arguments.fuzz_seconds)


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


if __name__ == "__main__":
    main()
