#!/usr/bin/env python3
"""`make new FUNCTION=weather`: a new function from templates/function, which builds, runs and deploys as it is.

    python3 scripts/new.py NAME     writes functions/NAME, with its stack

For a function outside this workspace, `cargo lambda new` takes the same template (CONTRIBUTING.md).
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import contract
import tools

TEMPLATE = tools.PROJECT / "templates" / "function"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40


def main(arguments):
    if len(arguments) != 1 or not arguments[0]:
        sys.exit("usage: make new FUNCTION=NAME")
    name = arguments[0]
    crate = tools.PROJECT / "functions" / name
    if fault := fault_of(name, [crate]):
        sys.exit(f"{name} cannot be the name of a function: {fault}")
    tools.install_lambda()
    with tempfile.TemporaryDirectory() as folder:
        shutil.move(render(name, folder), crate)
    (crate / "stack.yaml").write_text(stack_of(name))
    # Writes Cargo.lock, too: the template needs nothing that is not in there.
    run(["cargo", "metadata", "--offline", "--format-version", "1"], stdout=subprocess.DEVNULL)
    # How long a name is decides where rustfmt breaks a line.
    run(["cargo", "fmt", "--package", name])
    if not contract.command("update", crate):
        sys.exit(f"could not write functions/{name}/{contract.LOCK}")
    print(
        f"functions/{name} is the function, stack.yaml in it its stack.\n\n"
        f"  make test FUNCTION={name}      passes, as does make check\n"
        f"  make dev FUNCTION={name}       runs it\n"
        f"  make build FUNCTION={name}     makes its zips\n"
        f"  make deploy STACK={name}       puts it behind a URL\n\n"
        "Its first tool is in src/count_words.rs; src/lib.rs says which there are."
    )


def fault_of(name, paths):
    """Why a name cannot be one, or None."""
    if not NAME.fullmatch(name):
        return "it must be of lower-case letters, digits and single hyphens, and begin with a letter"
    if not 2 <= len(name) <= LONGEST:
        return f"it must have 2 to {LONGEST} characters, the most that infra/function.yaml takes"
    for path in paths:
        if path.exists():
            return f"{path.relative_to(tools.PROJECT)} exists"
    metadata = run(["cargo", "metadata", "--format-version", "1"], capture_output=True).stdout
    taken = {package["name"].replace("_", "-") for package in json.loads(metadata)["packages"]}
    if name in taken:
        return "a crate that is used here has it"
    # Cargo refuses keywords and what its own folders are called; it warns of names that the standard library or Windows
    # has.
    with tempfile.TemporaryDirectory() as folder:
        asked = subprocess.run(
            ["cargo", "new", "--vcs", "none", "--name", name, pathlib.Path(folder) / "crate"],
            cwd=folder, capture_output=True, text=True,
        )
    complaint = re.search(r"^(?:error|warning): (.+)$", asked.stderr, re.MULTILINE)
    return complaint[1] if complaint else None


def render(name, folder):
    command = ["cargo", "lambda", "new", "--no-interactive", "--template", TEMPLATE, name]
    run(command, cwd=folder, env=tools.environment(), stdin=subprocess.DEVNULL, capture_output=True)
    return pathlib.Path(folder) / name


def stack_of(name):
    """A stack for a function without state: greeter's, by another name."""
    greeter = (tools.PROJECT / "functions" / "greeter" / "stack.yaml").read_text()
    return greeter.replace("MCP server that greets people by name", f"MCP server {name}").replace("greeter", name)


def run(command, **options):
    finished = subprocess.run(command, **{"cwd": tools.PROJECT, "text": True, **options})
    if finished.returncode:
        sys.exit(f"failed: {' '.join(str(word) for word in command)}\n{finished.stderr or ''}")
    return finished


if __name__ == "__main__":
    main(sys.argv[1:])
