#!/usr/bin/env python3
"""`make new-workspace FOLDER=…`: a repository of one's own, whose functions use the framework's crates by a Git revision.

    python3 scripts/new_workspace.py FOLDER [--git-url URL]

The URL is that of the remote `origin` unless given, and the revision the one that is checked out here. The repository has a
Cargo.toml, the compiler and the configuration of this workspace, and a Makefile. That Makefile fetches the framework at the revision in
Cargo.toml into .framework, which Git ignores, and runs the framework's commands from there: new, dev, test, check, build, deploy.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

import tools

TEMPLATE = tools.FRAMEWORK / "templates" / "workspace"
COPIED = ["Cargo.lock", "clippy.toml", "rust-toolchain.toml", "rustfmt.toml", ".cargo/config.toml"]
URL = re.compile(r"(?:https|ssh|file)://[^\s\"'`$\\#]+")
# What `git remote` shows for SSH, and Cargo does not take: user@host:path.
SCP = re.compile(r"([\w.-]+@[\w.-]+):(?!/)(\S+)")
# As members of a workspace they are compiled small (Cargo.toml), and as dependencies of another one as fast as any other.
SMALL = ["mcp-lambda", "mcp-page", "mcp-protocol", "mcp-server"]
# Not in the templates, and wanted soon.
FURTHER = {"time", "tracing"}


def main(arguments):
    parser = argparse.ArgumentParser(description="Makes a repository for functions that use these crates by a Git revision.")
    parser.add_argument("folder", nargs="?", default="")
    parser.add_argument("--git-url", metavar="URL", help="where the crates are fetched from; the remote `origin` unless given")
    options = parser.parse_args(arguments)
    if not options.folder:
        sys.exit("usage: make new-workspace FOLDER=… [GIT_URL=…]")
    folder = pathlib.Path(options.folder).resolve()
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty")
    if folder == tools.FRAMEWORK or tools.FRAMEWORK in folder.parents:
        sys.exit(f"{folder} is inside of the framework's repository: choose a folder outside")
    url = url_of(options.git_url or git("remote", "get-url", "origin", otherwise="there is no remote `origin`: set GIT_URL=…"))
    revision = git("rev-parse", "HEAD", otherwise="the framework is no Git repository: clone it, and run this command there")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"Changes that are not committed are not part of the revision {revision}.", file=sys.stderr)
    is_made = not folder.exists()
    try:
        write(folder, url, revision)
        # Shows that the revision is at the URL.
        fetch = subprocess.run(["make", "--silent", "-C", folder, "framework"], stdin=subprocess.DEVNULL)
    except BaseException:
        undo(folder, is_made)
        raise
    if fetch.returncode:
        undo(folder, is_made)
        sys.exit(f"could not fetch the revision {revision} from {url}: push it, or set GIT_URL=…")
    print(
        f"{folder} is a repository for functions on {url} at {revision[:12]}.\n\n"
        f"  cd {folder}\n"
        "  make new NAME=weather                 a function; with KIND=stateful one with a database\n"
        "  make test FUNCTION=weather            passes, as does make check\n\n"
        "README.md there lists the other commands."
    )


def undo(folder, is_made):
    """Removes what was written; a folder that was there before is empty again."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if is_made:
        folder.rmdir()


def git(*words, otherwise=None):
    ran = subprocess.run(["git", *words], cwd=tools.FRAMEWORK, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(otherwise or f"failed: git {' '.join(words)}\n{ran.stderr}")
    return ran.stdout.strip()


def url_of(text):
    """A URL as Cargo takes it; one with a password is not written into a file."""
    if scp := SCP.fullmatch(text):
        text = f"ssh://{scp[1]}/{scp[2]}"
    if not URL.fullmatch(text):
        sys.exit(f"{text} is not a URL that begins with https://, ssh:// or file://: set GIT_URL=…")
    user, at, _ = text.partition("://")[2].partition("/")[0].rpartition("@")
    if at and (":" in user or text.startswith("https:")):
        sys.exit("the URL has a user name or a password, which would be in the repository: set GIT_URL=… without them")
    return text


def write(folder, url, revision):
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tools.FRAMEWORK / name, target)
    for source in TEMPLATE.iterdir():
        # Git would take .gitignore for the template's own.
        shutil.copyfile(source, folder / source.name.replace("dot-", "."))
    (folder / "Cargo.toml").write_text(manifest((tools.FRAMEWORK / "Cargo.toml").read_text(), url, revision))
    if subprocess.run(["git", "rev-parse", "--git-dir"], cwd=folder, capture_output=True).returncode:
        subprocess.run(["git", "init", "--quiet", folder], check=True)


def manifest(framework, url, revision):
    """The Cargo.toml: dependencies, lints and profiles of the framework's."""
    source = f'git = "{url}", rev = "{revision}"'
    rust_version = re.search(r'^rust-version = "[^"]+"$', framework, re.MULTILINE)[0]
    third_party = sorted(dependencies() | FURTHER)
    lints = "".join(section(framework, name) for name in ("workspace.lints.rust", "workspace.lints.rustdoc", "workspace.lints.clippy"))
    release = section(framework, "profile.release")
    packages = re.sub(r"^mcp-.*\n", "", section(framework, "profile.release.package"), flags=re.MULTILINE).rstrip("\n")
    return f'''[workspace]
resolver = "3"
members = ["functions/*"]

[workspace.package]
edition = "2024"
{rust_version}
publish = false

[workspace.dependencies]
# The framework. `make` fetches its commands at the same revision: change both lines for another one.
mcp-lambda = {{ {source} }}
mcp-testing = {{ {source} }}

# As the framework has them.
{"".join(f"{line}{chr(10)}" for name in third_party for line in [dependency(framework, name)])}
{lints}{section(framework, "profile.dev")}{release}{packages}
{"".join(f'{name} = {{ opt-level = "s" }}{chr(10)}' for name in SMALL)}'''


def dependencies():
    """What the templates of functions take from the workspace."""
    texts = [path.read_text() for path in (tools.FRAMEWORK / "templates").glob("*/Cargo*.toml")]
    inherited = {name for text in texts for name in re.findall(r"^([\w-]+)(?:\.workspace = true| = \{ workspace = true)", text, re.MULTILINE)}
    return {name for name in inherited if not name.startswith("mcp-")} - {"edition", "publish", "rust-version"}


def dependency(framework, name):
    return re.search(rf"^{re.escape(name)} = .*$", section(framework, "workspace.dependencies"), re.MULTILINE)[0]


def section(framework, name):
    """A table of the manifest, with the empty line below it."""
    return re.search(rf"^\[{re.escape(name)}\]\n.*?(?=^\[|\Z)", framework, re.MULTILINE | re.DOTALL)[0]


if __name__ == "__main__":
    main(sys.argv[1:])
