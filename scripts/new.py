#!/usr/bin/env python3
"""`make new NAME=weather`: a new function from a template, which builds, runs and deploys as it is.

    python3 scripts/new.py NAME [--kind stateless|stateful]     writes functions/NAME, with its stack

A stateless function is made from templates/function, a stateful one, with Aurora DSQL, from templates/stateful. For a function
outside this workspace, `cargo lambda new` takes templates/function (CONTRIBUTING.md).
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import contract
import templates
import tools

# By kind: the template, the stack that it has by another name, the purpose in that stack, and the first tool.
KINDS = {
    "stateless": ("function", "greeter", "MCP server that greets people by name", "count_words"),
    "stateful": ("stateful", "event-logger-dsql", "MCP server that logs events in Aurora DSQL, and lists them", "save_note"),
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40


def main(arguments):
    parser = argparse.ArgumentParser(description="Makes a function from a template.")
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--kind", choices=KINDS, default="stateless")
    options = parser.parse_args(arguments)
    name = options.name
    if not name:
        sys.exit("usage: make new NAME=… [KIND=stateful]")
    crate = tools.PROJECT / "functions" / name
    if fault := fault_of(name, [crate]):
        sys.exit(f"{name} cannot be the name of a function: {fault}")
    tools.install_lambda()
    with tempfile.TemporaryDirectory() as folder:
        crate.parent.mkdir(exist_ok=True)
        shutil.move(render(name, options.kind, folder), crate)
    (crate / "stack.yaml").write_text(stack_of(name, options.kind))
    # Writes Cargo.lock, too: the templates need nothing that is not in there.
    offline = ["--offline"] if tools.PROJECT == tools.FRAMEWORK else []
    run(["cargo", "metadata", *offline, "--format-version", "1"], stdout=subprocess.DEVNULL)
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
        f"Its first tool is in src/{KINDS[options.kind][-1]}.rs; src/lib.rs lists its tools, README.md is its page."
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
    # The framework's crates are those of each workspace, also of one without a function yet, of which Cargo reads nothing.
    metadata = run(["cargo", "metadata", "--format-version", "1"], cwd=tools.FRAMEWORK, capture_output=True).stdout
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


def render(name, kind, folder):
    template = tools.FRAMEWORK / "templates" / KINDS[kind][0]
    command = ["cargo", "lambda", "new", "--no-interactive", "--template", template, name]
    run(command, cwd=folder, env=tools.environment(), stdin=subprocess.DEVNULL, capture_output=True)
    return pathlib.Path(folder) / name


def stack_of(name, kind):
    """The stack of the framework's function of this kind, by another name."""
    _, stack, purpose, _ = KINDS[kind]
    path = templates.of_functions(tools.FRAMEWORK)[stack]
    text = path.read_text().replace(purpose, f"MCP server {name}")
    # The scopes of the template.
    text = text.replace("events", "notes").replace("eventos", "notas")
    return text.replace(stack, name).replace(path.parent.name, name)


def run(command, **options):
    finished = subprocess.run(command, **{"cwd": tools.PROJECT, "text": True, **options})
    if finished.returncode:
        sys.exit(f"failed: {' '.join(str(word) for word in command)}\n{finished.stderr or ''}")
    return finished


if __name__ == "__main__":
    main(sys.argv[1:])
