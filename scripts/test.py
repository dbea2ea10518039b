#!/usr/bin/env python3
"""`make test`: every test. Nothing needs to be installed beforehand but Rust and Python 3."""

import subprocess
import sys

import tools


def main():
    tools.install_test()
    run(["cargo", "test", "--workspace", "--all-features", "--locked", "--quiet"])
    run([tools.BIN / "python", "-m", "pytest", "--quiet", "-p", "no:cacheprovider", tools.INTEROP])
    run([sys.executable, tools.PROJECT / "scripts" / "conformance.py"])


def run(command):
    finished = subprocess.run([str(part) for part in command], cwd=tools.PROJECT, env=tools.environment())
    if finished.returncode:
        sys.exit(finished.returncode)


if __name__ == "__main__":
    main()
