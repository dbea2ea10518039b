#!/usr/bin/env python3
"""`make build`: the functions as zips for Lambda.

    build.py [FUNCTION[,FUNCTION]...] [--architecture arm64|x86-64] [--features NAMES]

builds all functions, for both architectures, unless some are named. A function that has the feature `auth` is built without
it and with it. In Cargo's target folder each zip is lambda/<architecture>/<function>/bootstrap.zip, or
lambda/<architecture>/<function>.<features>/bootstrap.zip if it was built with features, such as greeter.auth. Beside it
features.json records what it was built with, and its SHA-256, by which `make deploy` knows that the record is the zip's own.

The templates are written to templates/ in the target folder, completed: plain CloudFormation for other tools than `make deploy`.

A function's Cargo.toml can limit the size of its zips: `package.metadata.budget` has the maximum in bytes by features. A build
fails that made a larger one.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys

import templates
import tools

ARCHITECTURES = {"arm64": "--arm64", "x86-64": "--x86-64"}
# The one that a function needs as soon as it has an issuer of tokens.
AUTH = "auth"
ARCHIVE = "bootstrap.zip"
RECORD = "features.json"
NO_FEATURES = "none"


def main():
    parser = argparse.ArgumentParser(description="Builds the functions as zips for Lambda.")
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help=f"{', '.join(tools.FUNCTIONS)}, also separated by commas; all unless named")
    parser.add_argument("--architecture", choices=ARCHITECTURES, help="both unless named")
    parser.add_argument("--features", type=feature_list, metavar="NAMES", help="features of Cargo.toml, separated by commas")
    arguments = parser.parse_args()
    functions = tools.chosen(",".join(arguments.functions))
    prepare()
    limits, faults = budgets(), []
    for architecture in [arguments.architecture] if arguments.architecture else ARCHITECTURES:
        for function in functions:
            for features in variants(function, arguments.features or []):
                archive = build(architecture, function, features)
                size = archive.stat().st_size
                print(f"{size / 1e6:6.2f} MB  {archive}")
                if fault := over_budget(function, features, size, limits):
                    faults.append(fault)
    templates.write(tools.target_folder() / templates.FOLDER)
    if faults:
        sys.exit("\n".join(faults))


def budgets():
    """The maximum sizes of the zips of each function that has some, by features."""
    packages = tools.metadata()["packages"]
    return {own["name"]: budget for own in packages if (budget := (own["metadata"] or {}).get("budget"))}


def over_budget(function, features, size, limits):
    """What to do about a zip that is larger than its function's maximum, or None."""
    key = ".".join(sorted(features)) or NO_FEATURES
    maximum = limits.get(function, {}).get(key)
    if maximum is None or size <= maximum:
        return None
    return (
        f"the zip of {function} has {size:,} bytes, more than the maximum of {maximum:,}: remove what makes it large, or raise "
        f"`{key}` under [package.metadata.budget] in functions/{function}/Cargo.toml"
    )


def feature_list(text):
    """The names of features in a text, in their order; `none` for none of them. None if the text is empty."""
    names = sorted(set(re.findall(r"[^,\s]+", text)))
    if wrong := [name for name in names if not re.fullmatch(r"[\w-]+", name)]:
        raise argparse.ArgumentTypeError(f"{wrong[0]} is not the name of a feature")
    if NO_FEATURES in names and len(names) > 1:
        raise argparse.ArgumentTypeError(f"{NO_FEATURES} excludes every feature: name it alone")
    return None if not names else [] if names == [NO_FEATURES] else names


def variants(function, features):
    """What a function is built with: the named features, and `auth` beside them where it has it."""
    with_auth = sorted({AUTH, *features} & {*tools.features(function), *features})
    return [features] if with_auth == features else [features, with_auth]


def prepare():
    tools.install_lambda()
    tools.install_arm64()


def build(architecture, function, features=()):
    """Builds one function for one architecture; returns its zip, beside which its record is."""
    folder = tools.target_folder() / "lambda"
    command = ["cargo", "lambda", "build", "--release", "--locked", "--output-format", "zip", ARCHITECTURES[architecture]]
    # By itself: built together, one would carry the features that another needs of what they share. In a folder apart: there it
    # has the same name with all features.
    command += ["--package", function, "--lambda-dir", folder / "build"]
    command += [word for feature in features for word in ("--features", feature)]
    built = subprocess.run(command, cwd=tools.PROJECT, env=tools.environment())
    if built.returncode:
        sys.exit(built.returncode)
    archive = archive_in(folder / architecture, function, features)
    archive.parent.mkdir(parents=True, exist_ok=True)
    (folder / "build" / function / ARCHIVE).replace(archive)
    record(archive, architecture, function, features)
    return archive


def archive_in(folder, function, features):
    """Where the zip of a function is, among those of its architecture."""
    return folder / ".".join([function, *features]) / ARCHIVE


def record(archive, architecture, function, features):
    """Records beside a zip what it was built with."""
    path = archive.with_name(RECORD)
    path.write_text(json.dumps(members(archive.read_bytes(), architecture, function, features), indent=2) + "\n")


def members(content, architecture, function, features):
    return {
        "function": function, "architecture": architecture, "features": sorted(features),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def recorded(folder, architecture, function, features):
    """The content of a function's zip in a folder, and what is wrong with it: why its record does not say that it was built so,
    or None. The content is read once: a zip that is replaced afterwards is not what was compared."""
    archive = archive_in(folder, function, features)
    try:
        content = archive.read_bytes()
    except FileNotFoundError:
        return None, f"{archive} does not exist"
    path = archive.with_name(RECORD)
    if not path.exists():
        return None, f"{archive} has no {RECORD} beside it, so that its features are unknown"
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
        differences = [
            name for name, value in members(content, architecture, function, features).items() if found.get(name) != value
        ]
    except (ValueError, AttributeError, RecursionError):
        return None, f"{path} is not a record of `make build`"
    if "sha256" in differences:
        return None, f"{path} is not the record of {archive}, whose SHA-256 is another"
    if differences:
        said = "; ".join(f"{name} {json.dumps(found.get(name))}" for name in differences)
        return None, f"{path} records another build: {said}"
    return content, None


def unique(pairs):
    """An object of JSON, which has each member once."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("duplicate member")
    return dict(pairs)


if __name__ == "__main__":
    main()
