"""Runs a command on the current commit in a folder that is kept between runs, so that Cargo compiles only what has changed.

    python3 scripts/checkout.py FOLDER COMMAND...

Cargo compiles a crate again if its files are newer than what was built from them, as those of a new clone always are. In FOLDER,
Git writes only the files that differ from the last run. FOLDER/target is Cargo's target folder. Only this program may build into it:
Cargo takes what another checkout has built there for its own.
"""

import os
import pathlib
import subprocess
import sys

import tools

# What Git does not remove from the folder.
TARGET = "target"


def main(folder, *command):
    folder = pathlib.Path(folder).resolve()
    with tools.locked(folder.with_suffix(".lock")):
        try:
            update(folder, tools.PROJECT)
        except subprocess.CalledProcessError as failure:
            print(f"the kept checkout could not be updated ({failure}): everything is built again", file=sys.stderr)
            folder = tools.PROJECT
        environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / TARGET)}
        return subprocess.run(command, cwd=folder, env=environment).returncode


def update(folder, source):
    """Checks out the commit of another repository."""
    if not (folder / ".git").exists():
        git(folder.parent, "init", "--quiet", folder)
    # A run that was killed leaves them; no other one is at work here.
    for lock in (folder / ".git").glob("*.lock"):
        lock.unlink()
    git(folder, "fetch", "--quiet", "--no-tags", "--update-shallow", source, "HEAD")
    if git(folder, "rev-parse", "--quiet", "--verify", "HEAD", check=False):
        changed = names(git(folder, "diff", "--name-only", "--no-renames", "-z", "HEAD", "FETCH_HEAD"))
        # Before HEAD moves: a run that is killed here is repeated.
        touch(folder, {package for name in changed if (package := package_of(folder, name))})
    git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    git(folder, "clean", "--quiet", "-ffdx", "--exclude", f"/{TARGET}")


def touch(folder, packages):
    """Makes every file of these packages new. Cargo does not know all that a macro reads, such as the names of migrations."""
    for name in names(git(folder, "ls-files", "-z")):
        if package_of(folder, name) in packages and (folder / name).exists():
            os.utime(folder / name)


def package_of(folder, name):
    """The folder of the package that has a file; None for the workspace's own files."""
    parents = list(pathlib.PurePath(name).parents)[:-1]
    return next((parent for parent in parents if (folder / parent / "Cargo.toml").exists()), None)


def names(text):
    return [name for name in text.split("\0") if name]


def git(folder, *words, check=True):
    return subprocess.run(["git", *map(str, words)], cwd=folder, stdout=subprocess.PIPE, text=True, check=check).stdout


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
