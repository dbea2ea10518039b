#!/usr/bin/env python3
"""Finds jobs of GitHub workflows that build although they may write: part of `make check`.

    workflows.py [PROJECT]     reads .github/workflows

A build runs other people's code: build scripts, procedural macros, install scripts. Everything that runs in a job can read its
tokens. Therefore a job that GitHub or AWS lets write something (a `write` permission, `id-token` above all, or AWS credentials)
runs nothing but the commands, actions and scripts below: no compiler, no package manager, nothing that was built. It gets what
other jobs have built as an artifact, and compares its digest.
"""

import pathlib
import re
import sys

import yaml

# They build nothing. Another one is added once it is known what it runs.
DOWNLOAD = "actions/download-artifact"
AWS_ROLE = "aws-actions/configure-aws-credentials"
ACTIONS = {DOWNLOAD, AWS_ROLE, "actions/attest", "actions/checkout", "actions/upload-artifact"}
COMMANDS = {"cat", "cd", "echo", "gh", "sed", "sha256sum", "tee"}
TOOLS = r"python3 scripts/tools\.py deploy"
# The pinned AWS SDK; and what deploys by it, if it gets built zips and does not run what was built.
SCRIPTS = re.compile(
    rf'"\$\({TOOLS}\)/venv/bin/python" scripts/deploy\.py up (?=[^\n]*--lambda-dir )(?=[^\n]*--no-doctor )|{TOOLS}(?=\n|$)'
)
# Where another command begins.
BORDER = re.compile(r"[\n;|&(){}`]+")
CHECKED = re.compile(r"sha256sum [^\n]*--check")


def main(arguments):
    project = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    found = list(builds_with_permissions(project))
    for mistake in found:
        print(f"  {mistake}", file=sys.stderr)
    sys.exit(bool(found))


def builds_with_permissions(project):
    """What is wrong, in a line each."""
    folder = project / ".github" / "workflows"
    for path in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        yield from in_workflow(project, path, None)


def in_workflow(project, path, of_the_caller):
    workflow = yaml.safe_load(path.read_text())
    for name, job in workflow["jobs"].items():
        permissions = job.get("permissions", workflow.get("permissions", of_the_caller))
        rights = [*writable(permissions), *credentials(workflow, job)]
        if not rights:
            continue
        where = f"{path.relative_to(project)}: the job {name} has {', '.join(rights)}, and"
        if called := job.get("uses"):
            if called.startswith("./"):
                yield from in_workflow(project, project / called, permissions)
            else:
                yield f"{where} calls {called}, which cannot be looked into"
        for fault in faults(project, job.get("steps", [])):
            yield f"{where} {fault}"


def writable(permissions):
    """The permissions by which a job may change something. Without any, GitHub's default gives no id-token."""
    if isinstance(permissions, str):
        return [permissions] if permissions == "write-all" else []
    return [f"{name}: write" for name, value in (permissions or {}).items() if value == "write"]


def credentials(workflow, job):
    """AWS credentials that are no permission of GitHub's: keys, and a role."""
    text = yaml.safe_dump([workflow.get("env"), job])
    return [word for word in ("AWS_SECRET_ACCESS_KEY", AWS_ROLE) if word in text]


def faults(project, steps):
    is_unchecked = False
    for step in steps:
        action = step.get("uses", "").partition("@")[0]
        if action and action not in ACTIONS:
            yield f"uses {action}, which is not known to build nothing"
        # A continued line is one command.
        script = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*$", "", step.get("run", ""), flags=re.MULTILINE))
        if CHECKED.search(script):
            is_unchecked = False
        elif is_unchecked and action != DOWNLOAD:
            yield "uses an artifact before its digest is compared (sha256sum --check)"
            is_unchecked = False
        is_unchecked |= action == DOWNLOAD
        yield from (f"runs {what}, which is not known to build nothing" for what in built_by(script))
    if is_unchecked:
        yield "does not compare the digest of an artifact (sha256sum --check)"
    installed = project / "scripts" / "requirements-deploy.txt"
    if any("scripts/tools.py deploy" in step.get("run", "") for step in steps) and not are_pinned(installed.read_text()):
        yield f"installs {installed.relative_to(project)}, which has a package without a digest, or one that is built"


def built_by(script):
    """The commands of a script that are not known to build nothing."""
    commands = [command.split() for command in BORDER.split(SCRIPTS.sub("echo ", script))]
    yield from (words[0] for words in commands if words and words[0] not in COMMANDS)


def are_pinned(requirements):
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    packages = [line for line in lines if line != "--only-binary :all:"]
    return len(packages) < len(lines) and all(re.fullmatch(r"[\w.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", own) for own in packages)


if __name__ == "__main__":
    main(sys.argv[1:])
