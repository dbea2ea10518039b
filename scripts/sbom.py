#!/usr/bin/env python3
"""`make sbom`: what is linked into each program, as CycloneDX: one file for each function and for mcpl.

    python3 scripts/sbom.py [FOLDER]     writes them to FOLDER, or to sbom in Cargo's target folder

cargo-cyclonedx resolves the workspace as a whole, where one function's features are everyone's. `cargo tree` resolves each
program as it is built, and says what stays.
"""

import json
import pathlib
import subprocess
import sys

import tools

LAMBDA = ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"]
DESKTOP = [*LAMBDA, "aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-pc-windows-msvc"]
PROGRAMS = {**dict.fromkeys(tools.FUNCTIONS, LAMBDA), "mcp-cli": DESKTOP}


def main(arguments):
    tools.install_sbom()
    folder = pathlib.Path(arguments[0]) if arguments else tools.target_folder() / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    for program, described in describe().items():
        path = folder / f"{program}.cdx.json"
        path.write_text(json.dumps(only(described, linked(program)), indent=2) + "\n")
        print(f"{len(json.loads(path.read_text())['components']):4} components  {path}")


def describe():
    """What cargo-cyclonedx says of each program, with the dependencies of every platform."""
    command = ["cargo", "cyclonedx", "-q", "--format", "json", "--spec-version", "1.5", "--target", "all", "--no-build-deps"]
    try:
        run(command)
        found = {path.name.removesuffix(".cdx.json"): path.read_text() for path in written()}
    finally:
        # It writes beside each manifest.
        for path in written():
            path.unlink()
    # The path of the workspace does not belong in a published document.
    here = tools.PROJECT.as_uri() + "/"
    return {program: json.loads(found[program].replace(here, "file:///")) for program in PROGRAMS}


def written():
    return [path for folder in ("bench", "crates", "functions") for path in (tools.PROJECT / folder).glob("*/*.cdx.json")]


def linked(program):
    """Name and version of everything that is linked into a program on one of its platforms."""
    found = set()
    for target in PROGRAMS[program]:
        command = ["cargo", "tree", "--locked", "--package", program, "--edges", "normal,no-proc-macro"]
        command += ["--target", target, "--prefix", "none", "--format", "{p}"]
        # `serde v1.0.229`, or `mcp-server v0.1.0 (/where/it/is)`.
        packages = [line.split()[:2] for line in run(command).splitlines() if line]
        found |= {(name, version.removeprefix("v")) for name, version in packages}
    return found


def only(described, wanted):
    """What was described, without what is not linked."""
    program = described["metadata"]["component"]
    components = [part for part in described["components"] if (part["name"], part["version"]) in wanted]
    unknown = wanted - {(part["name"], part["version"]) for part in [program, *components]}
    if unknown:
        sys.exit(f"cargo-cyclonedx does not know {unknown}, which {program['name']} is linked with")
    kept = {part["bom-ref"] for part in [program, *components]}
    dependencies = [
        {**entry, "dependsOn": [ref for ref in entry.get("dependsOn", []) if ref in kept]}
        for entry in described["dependencies"]
        if entry["ref"] in kept
    ]
    return {**described, "components": components, "dependencies": dependencies}


def run(command):
    ran = subprocess.run(command, cwd=tools.PROJECT, env=tools.environment(), capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{ran.stderr}")
    return ran.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
