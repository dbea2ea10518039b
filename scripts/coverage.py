#!/usr/bin/env python3
"""`make coverage`: how many of each crate's lines are run by the Rust tests and, as nearly all of `mcpl` is tested there, by
those interop tests that start it.

    python3 scripts/coverage.py
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys

import postgres
import tools

OF_MCPL = ["bridge", "browser", "call", "doctor", "install", "keychain", "proxy"]


def main():
    tools.install_test()
    tools.install_coverage()
    # What is built to be counted is of no other use.
    os.environ["CARGO_TARGET_DIR"] = str(tools.target_folder() / "coverage")
    shown = run("cargo", "llvm-cov", "show-env", stdout=subprocess.PIPE).stdout
    os.environ.update(re.findall(r"^(\w+)='?(.*?)'?$", shown, re.MULTILINE))
    run("cargo", "llvm-cov", "clean", "--profraw-only")
    with postgres.Supervised(fsync="off", max_connections=300) as server:
        variables = {"TEST_DATABASE_URL": server.url}
        run("cargo", "test", "--workspace", "--all-features", "--locked", "--quiet", variables=variables)
    tests = [tools.INTEROP / f"test_{name}.py" for name in OF_MCPL]
    run(tools.BIN / "python", "-m", "pytest", "--quiet", "-rs", "-p", "no:cacheprovider", *tests)
    report = run("cargo", "llvm-cov", "report", "--json", "--summary-only", stdout=subprocess.PIPE).stdout
    show(json.loads(report)["data"][0]["files"])


def run(*command, stdout=sys.stderr, variables=None):
    environment = {**tools.environment(), **(variables or {})}
    words = [str(word) for word in command]
    ran = subprocess.run(words, cwd=tools.PROJECT, env=environment, stdout=stdout, text=True)
    if ran.returncode:
        sys.exit(ran.returncode)
    return ran


def show(files):
    """Lines that were run, and lines that there are, of each crate."""
    lines = collections.defaultdict(lambda: [0, 0])
    for file in files:
        crate = "/".join(pathlib.Path(file["filename"]).relative_to(tools.PROJECT).parts[:2])
        for name in (crate, "all"):
            lines[name][0] += file["summary"]["lines"]["covered"]
            lines[name][1] += file["summary"]["lines"]["count"]
    for crate, (run, there) in sorted(lines.items(), key=lambda own: (own[0] == "all", own[0])):
        print(f"{run / there:6.1%} of {there:6,} lines  {crate}")


if __name__ == "__main__":
    main()
