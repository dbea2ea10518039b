#!/usr/bin/env python3
"""`make build`: the functions as zips for Lambda, for both architectures.

They are written to lambda/<architecture>/<function>/bootstrap.zip in Cargo's target folder.
"""

import subprocess
import sys

import tools

ARCHITECTURES = {"arm64": "--arm64", "x86-64": "--x86-64"}


def main():
    prepare()
    for architecture in ARCHITECTURES:
        for function in tools.FUNCTIONS:
            archive = build(architecture, function)
            print(f"{archive.stat().st_size / 1e6:6.2f} MB  {archive}")


def prepare():
    tools.install_lambda()
    tools.install_arm64()


def build(architecture, function, features=()):
    """Builds one function for one architecture; returns its zip."""
    folder = tools.target_folder() / "lambda" / architecture
    command = ["cargo", "lambda", "build", "--release", "--locked", "--output-format", "zip", ARCHITECTURES[architecture]]
    # By itself: built together, one would carry the features that another needs of what they share.
    command += ["--package", function, "--lambda-dir", folder]
    command += [word for feature in features for word in ("--features", feature)]
    built = subprocess.run(command, cwd=tools.PROJECT, env=tools.environment())
    if built.returncode:
        sys.exit(built.returncode)
    return folder / function / "bootstrap.zip"


if __name__ == "__main__":
    main()
