#!/usr/bin/env python3
"""`make check`: format, lints, documentation, dependencies and templates.

    python3 scripts/check.py [NAME...]                     runs the named checks; without a name, all that need no network
    python3 scripts/check.py --functions NAME,NAME         runs the checks of these functions alone

Every check runs, also after another one has failed.
"""

import argparse
import json
import re
import subprocess
import sys

import contract
import documentation
import layers
import sources
import templates
import tools

# Features unify: one crate that turns these on would change how every server reads and writes JSON.
FORBIDDEN_FEATURES = {"serde_json": {"arbitrary_precision", "preserve_order"}}

# What a function without further features may pull in, and what never: crates that need a C compiler.
SMALL_FUNCTION = "greeter"
MAX_CRATES = 90
NEEDS_C_COMPILER = re.compile(r"cc|cmake|bindgen|.+-sys")


def main(words):
    parser = argparse.ArgumentParser(description="Runs the checks that are no tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a check; all that need no network unless named")
    parser.add_argument("--functions", default="", metavar="NAMES", help="check these functions alone; separated by commas")
    arguments = parser.parse_args(words)
    # A workspace of one's own has nothing but functions.
    is_of_functions = arguments.functions or tools.PROJECT != tools.FRAMEWORK
    own = checks_of(tools.chosen(arguments.functions)) if is_of_functions else CHECKS
    everything = own if is_of_functions else CHECKS | ONLINE_CHECKS
    if unknown := [name for name in arguments.names if name not in everything]:
        parser.error(f"no check {unknown[0]}: choose from {', '.join(everything)}")
    tools.install_check()
    chosen = {name: everything[name] for name in arguments.names} or own
    failed = [name for name, check in chosen.items() if not passes(name, check)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def passes(name, check):
    print(f"check: {name}", flush=True)
    return check()


def command(*words, **variables):
    environment = {**tools.environment(), **variables}
    return lambda: subprocess.run(words, cwd=tools.PROJECT, env=environment).returncode == 0


def schema(name, *files):
    return command("check-jsonschema", "--quiet", "--builtin-schema", f"vendor.{name}", *files)


def features_are_allowed():
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"],
            cwd=tools.PROJECT, capture_output=True, check=True,
        ).stdout
    )
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    found = [
        f"{names[node['id']]}: {feature}"
        for node in metadata["resolve"]["nodes"]
        for feature in FORBIDDEN_FEATURES.get(names[node["id"]], set()) & set(node["features"])
    ]
    for feature in found:
        print(f"  forbidden feature {feature}", file=sys.stderr)
    return not found


def functions_build_alone(functions=()):
    """Features unify in a workspace: one that a function forgot to name shows only when the function is built alone."""
    names = functions or sorted(path.parent.name for path in (tools.PROJECT / "functions").glob("*/Cargo.toml"))
    results = [command("cargo", "check", "--package", name, "--locked", "--quiet")() for name in names]
    return all(results)


def templates_are_valid(functions=()):
    """cfn-lint reads the templates as they are deployed: completed."""
    folder = tools.target_folder() / templates.FOLDER
    templates.write(folder)
    chosen = [name for name in templates.stacks() if templates.path_of(name).parent.name in functions]
    paths = [folder / f"{name}.yaml" for name in chosen] if functions else sorted(folder.glob("*.yaml"))
    return not paths or command("cfn-lint", *map(str, paths))()


def checks_of(functions):
    """The checks of some functions. The others are about the crates and the documents of the framework."""
    packages = [word for name in functions for word in ("--package", name)]
    folders = [tools.PROJECT / "functions" / name for name in functions]
    return {
        "format": command("cargo", "fmt", "--check", *packages),
        "clippy": command(
            "cargo", "clippy", *packages, "--no-deps", "--all-targets", "--all-features", "--locked", "--quiet", "--", "-D", "warnings"
        ),
        "functions alone": lambda: functions_build_alone(functions),
        "docs": command(
            "cargo", "doc", *packages, "--no-deps", "--all-features", "--locked", "--quiet", RUSTDOCFLAGS="-D warnings"
        ),
        "unused dependencies": command("cargo", "machete", "--with-metadata", *map(str, folders)),
        "contracts": lambda: holds(lambda _: contract.outdated(folders)),
        "templates": lambda: templates_are_valid(functions),
    }


def crates_of(package):
    """The third-party crates that a package is built from, on Lambda."""
    tree = subprocess.run(
        ["cargo", "tree", "--package", package, "--edges", "normal,build", "--target", "x86_64-unknown-linux-gnu",
         "--prefix", "none", "--format", "{p}", "--locked"],
        cwd=tools.PROJECT, capture_output=True, check=True, text=True,
    ).stdout
    lines = {line.removesuffix(" (*)") for line in tree.splitlines()}
    return sorted(line for line in lines if str(tools.PROJECT) not in line)


def small_function_is_small():
    crates = crates_of(SMALL_FUNCTION)
    faults = [f"{crate} needs a C compiler" for crate in crates if NEEDS_C_COMPILER.fullmatch(crate.split()[0])]
    if len(crates) > MAX_CRATES:
        faults.append(f"{len(crates)} third-party crates, at most {MAX_CRATES} are allowed")
    for fault in faults:
        print(f"  {SMALL_FUNCTION}: {fault}", file=sys.stderr)
    return not faults


def holds(mistakes):
    found = list(mistakes(tools.PROJECT))
    for mistake in found:
        print(f"  {mistake}", file=sys.stderr)
    return not found


CHECKS = {
    "format": command("cargo", "fmt", "--all", "--check"),
    "clippy": command(
        "cargo", "clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--quiet", "--", "-D", "warnings"
    ),
    # By itself, so that nothing of authorization is compiled in.
    "clippy without features": command("cargo", "clippy", "--package", "greeter", "--locked", "--quiet", "--", "-D", "warnings"),
    "mcpl for Windows and macOS": command(str(tools.BIN / "python"), "scripts/elsewhere.py"),
    "functions alone": functions_build_alone,
    "crates of greeter": small_function_is_small,
    "docs": command(
        "cargo", "doc", "--workspace", "--no-deps", "--all-features", "--locked", "--quiet", RUSTDOCFLAGS="-D warnings"
    ),
    "public API": command(sys.executable, "scripts/public_api.py"),
    "dependencies": command("cargo", "deny", "--log-level", "error", "check", "bans", "licenses", "sources"),
    "unused dependencies": command("cargo", "machete", "--with-metadata", str(tools.PROJECT)),
    "features": features_are_allowed,
    "JSON of others": lambda: holds(sources.unexplained_readers),
    "contracts": lambda: holds(lambda _: contract.outdated(contract.functions())),
    "layers": lambda: holds(layers.misplaced),
    "foreign words": lambda: holds(sources.foreign_words),
    "vague words": lambda: holds(sources.vague_words),
    "long files": lambda: holds(sources.long_files),
    "examples' length": lambda: holds(sources.long_examples),
    "examples' crate": lambda: holds(sources.examples_of_other_crates),
    "variables": lambda: holds(documentation.stray_variables),
    "log lines": lambda: holds(documentation.unexplained_lines),
    "messages of mcpl": lambda: holds(documentation.unknown_messages),
    "rules of OAuth": lambda: all([holds(documentation.unproven_rules), holds(documentation.missing_rules)]),
    "links": lambda: holds(documentation.dead_links),
    "tables": lambda: holds(documentation.torn_tables),
    "workflows": command("actionlint", *map(str, sorted((tools.PROJECT / ".github" / "workflows").glob("*.yml")))),
    # What it would look up on the network stays out: CI says the same as a machine without one.
    "workflows' security": command("zizmor", "--offline", "--quiet", ".github"),
    # By the Python that reads YAML.
    "workflows' builds": command(str(tools.BIN / "python"), "scripts/workflows.py"),
    "dependabot": schema("dependabot", ".github/dependabot.yml"),
    "dockerfile": command("hadolint", "container/Dockerfile"),
    "issue forms": schema("github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"),
    "templates": templates_are_valid,
    # By the Python that has cfn-lint.
    "regions": command(str(tools.BIN / "python"), "scripts/regions.py"),
}

ONLINE_CHECKS = {"advisories": command("cargo", "deny", "--log-level", "error", "check", "advisories")}

if __name__ == "__main__":
    main(sys.argv[1:])
