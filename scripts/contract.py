#!/usr/bin/env python3
"""`make contract`: writes the lock files of the contracts that functions have with their clients.

    python3 scripts/contract.py [FUNCTION...]                        writes contract.json with the function's test, then
                                                                     contract.lock.json if no change is breaking
    python3 scripts/contract.py FUNCTION... --accept NAME [NAME...]  accepts breaking changes by name
    python3 scripts/contract.py [FUNCTION...] --since REVISION       compares lock files with those of a Git revision: fails if a
                                                                     breaking change was not accepted by name

`make test` compares contract.json with the function, and `make check` compares it with the lock file.
docs/contracts.md lists the kinds of changes.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import tools

LOCK = "contract.lock.json"
CONTRACT = pathlib.Path("tests", "data", "contract.json")


def main(arguments):
    if "--since" in arguments[-2:-1]:
        folders = [tools.PROJECT / "functions" / name for name in arguments[:-2]] or functions()
        if found := list(unaccepted(folders, arguments[-1])):
            sys.exit("\n".join(found))
        return
    end = arguments.index("--accept") if "--accept" in arguments else len(arguments)
    names, accepted = arguments[:end], arguments[end + 1 :]
    folders = [tools.PROJECT / "functions" / name for name in names] if names else functions()
    if accepted and len(folders) != 1:
        sys.exit("ACCEPT needs FUNCTION: a name belongs to one function")
    failed = [folder.name for folder in folders if not write(folder, accepted)]
    if failed:
        sys.exit(f"not written: {', '.join(failed)}")


def functions():
    """Returns the folders of all functions that have a contract."""
    return sorted(path.parent for path in (tools.PROJECT / "functions").glob("*/Cargo.toml") if has_contract(path.parent))


def has_contract(folder):
    return folder.name != tools.AUTHORIZATION_SERVER


def write(folder, accepted):
    """Writes the contract with the function's test, then the lock file. Returns whether both succeeded."""
    if not (folder / "Cargo.toml").exists():
        sys.exit(f"there is no function {folder.name}")
    print(f"{folder.name}:", flush=True)
    rendered = subprocess.run(
        ["cargo", "test", "--quiet", "--locked", "--package", folder.name, "--test", "contract", "golden_file"],
        cwd=tools.PROJECT, env={**os.environ, "UPDATE_GOLDEN": "1"}, capture_output=True, text=True,
    )
    if rendered.returncode:
        print(rendered.stdout + rendered.stderr, file=sys.stderr)
        return False
    if command("update", folder, *accepted):
        return True
    print(
        f"  Breaking changes are accepted by name: make contract FUNCTION={folder.name} ACCEPT='NAME NAME'", file=sys.stderr
    )
    return False


def outdated(folders):
    """Yields a message for each function whose lock file is missing or out of date."""
    for folder in filter(has_contract, folders):
        if not (folder / LOCK).exists():
            yield f"functions/{folder.name} has no {LOCK}: run `make contract FUNCTION={folder.name}`"
        elif not command("check", folder):
            yield (
                f"functions/{folder.name}/{LOCK} is out of date: run `make contract FUNCTION={folder.name}`, with"
                " ACCEPT='NAME NAME' for breaking changes (docs/contracts.md)"
            )


def unaccepted(folders, revision):
    """Yields a message for each lock file with a breaking change since a Git revision that no line of `accepted` names. A function that
    the revision does not have has none."""
    if subprocess.run(["git", "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"], cwd=folders[0], capture_output=True).returncode:
        sys.exit(f"there is no revision {revision}")
    for folder in folders:
        earlier = subprocess.run(["git", "show", f"{revision}:./{LOCK}"], cwd=folder, capture_output=True)
        if earlier.returncode:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            file = pathlib.Path(temporary) / LOCK
            file.write_bytes(earlier.stdout)
            if not run("review", file, folder / LOCK):
                yield (
                    f"functions/{folder.name}/{LOCK} has breaking changes since {revision} that were not accepted: restore the file, and run "
                    f"`make contract FUNCTION={folder.name} ACCEPT='NAME NAME'` (docs/contracts.md)"
                )


def command(verb, folder, *names):
    return run(verb, folder / LOCK, folder / CONTRACT, *names)


def run(*arguments):
    words, environment = tools.of_framework("run", "--quiet", "--locked", "--package", "mcp-contract", "--", *arguments)
    return subprocess.run(words, cwd=tools.PROJECT, env=environment).returncode == 0


if __name__ == "__main__":
    main(sys.argv[1:])
