#!/usr/bin/env python3
"""`make build`: the functions as zips for Lambda, for both architectures.

They are written to lambda/<architecture>/<function>/bootstrap.zip in Cargo's target folder.
"""

import subprocess
import sys

import tools

ARCHITECTURES = {"arm64": "--arm64", "x86-64": "--x86-64"}


def main():
    tools.install_lambda()
    tools.install_arm64()
    for architecture, flag in ARCHITECTURES.items():
        folder = tools.target_folder() / "lambda" / architecture
        # Each by itself: built together, one would carry the features that another needs of what they share.
        for function in tools.FUNCTIONS:
            command = ["cargo", "lambda", "build", "--release", "--locked", "--output-format", "zip", flag]
            command += ["--package", function, "--lambda-dir", folder]
            built = subprocess.run(command, cwd=tools.PROJECT, env=tools.environment())
            if built.returncode:
                sys.exit(built.returncode)
        for archive in sorted(folder.glob("*/bootstrap.zip")):
            print(f"{archive.stat().st_size / 1e6:6.2f} MB  {archive}")


if __name__ == "__main__":
    main()
