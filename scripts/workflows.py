#!/usr/bin/env python3
"""Checks that jobs of GitHub workflows with rights have the permitted form: part of `make check`.

    workflows.py [PROJECT]     reads .github/workflows

A build runs other people's code: build scripts, procedural macros, install scripts. Everything that runs in a job can read its
tokens. Therefore a job with rights (a permission other than `read`, `id-token` above all, a secret, AWS credentials) contains
nothing but the keys, actions, variables and lines below, compared as text: nothing is parsed that a shell could read differently.
It gets what other jobs have built as an artifact, and compares its digest in the next step. A job that needs another line gets it
by a change to this file, which is where a review has to look.
"""

import pathlib
import re
import sys

import yaml

DOWNLOAD, CHECKOUT = "actions/download-artifact", "actions/checkout"
# They build nothing, with these inputs.
ACTIONS = {
    CHECKOUT: {"persist-credentials"},
    DOWNLOAD: {"name", "path"},
    "actions/attest": {"subject-checksums"},
    "aws-actions/configure-aws-credentials": {"role-to-assume", "aws-region", "role-session-name"},
}
INSTALLS = "python3 scripts/tools.py deploy"
# By zips that are there; it runs no `mcpl doctor`, which has been built. The pipe hides a failure, unless the shell is `bash`.
DEPLOYS = (
    f'"$({INSTALLS})/venv/bin/python" scripts/deploy.py up "$STACK" --name "$NAME" --yes --no-doctor'
    ' --lambda-dir "$RUNNER_TEMP/built/lambda" --features "$FEATURES" --parameters-file "$PARAMETERS" --canary "$CANARY"'
    ' | tee "$RUNNER_TEMP/deployed"'
)
LINES = {
    INSTALLS, DEPLOYS,
    """sed -n 's/^next: .* /url=/p' "$RUNNER_TEMP/deployed" >> "$GITHUB_OUTPUT\"""",
    'gh release create "$TAG" --draft --verify-tag --generate-notes dist/*',
}
# The step after a download; the first line is `cd` to its path.
CHECKS = ['echo "$DIGEST  SHA256SUMS" | sha256sum --check --strict', "sha256sum --check --strict --quiet SHA256SUMS"]
CHECK_KEYS = {"name", "env", "run"}
TEMPORARY = "${{ runner.temp }}/"
ARTIFACT_PATH = re.compile(rf"({re.escape(TEMPORARY)})?([a-z][a-z0-9]*)")
DIGEST = re.compile(r"\$\{\{ needs\.[a-z]+\.outputs\.digest \}\}")
VARIABLES = {
    "CANARY": "${{ inputs.canary }}", "FEATURES": "${{ inputs.features }}", "GH_REPO": "${{ github.repository }}",
    "GH_TOKEN": "${{ github.token }}", "NAME": "${{ inputs.name }}", "PARAMETERS": "${{ inputs.parameters }}",
    "STACK": "${{ inputs.stack }}", "TAG": "${{ github.ref_name }}",
}

WORKFLOW_KEYS = {"name", "on", "permissions", "concurrency", "jobs"}
JOB_KEYS = {"name", "needs", "runs-on", "timeout-minutes", "environment", "permissions", "outputs", "steps"}
CALL_KEYS = {"name", "needs", "permissions", "uses"}
ACTION_KEYS, SCRIPT_KEYS = {"name", "id", "uses", "with"}, {"name", "id", "env", "run", "shell"}
LOCAL_WORKFLOW = re.compile(r"\./\.github/workflows/[a-z-]+\.yml")
RUNNERS = {"ubuntu-24.04"}
# Those that run the code of this repository, of a commit that was merged or tagged.
TRIGGERS = {"push", "workflow_call", "workflow_dispatch"}
# What may be in other jobs: a key that is written differently would hide what it gives.
OTHER_WORKFLOW_KEYS = WORKFLOW_KEYS | {"defaults", "env"}
OTHER_JOB_KEYS = JOB_KEYS | CALL_KEYS | {
    "concurrency", "container", "continue-on-error", "defaults", "env", "if", "secrets", "services", "strategy", "with",
}
# AWS-LC is a library.
CREDENTIALS = {
    "a secret": re.compile(r"(?i)\bsecrets\b(?!\.GITHUB_TOKEN\b)"), "AWS credentials": re.compile(r"(?i)(?<![a-z])aws(?!_lc_sys_)"),
}


def main(arguments):
    project = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    found = list(builds_with_permissions(project))
    for mistake in found:
        print(f"  {mistake}", file=sys.stderr)
    sys.exit(bool(found))


def builds_with_permissions(project):
    """What is wrong, in a line each."""
    folder = project / ".github" / "workflows"
    paths = sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])
    yield from dict.fromkeys(fault for path in paths for fault in in_workflow(project, path, None))


def in_workflow(project, path, of_the_caller):
    try:
        workflow = read(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield f"{path.relative_to(project)}: cannot be read: {' '.join(str(error).split())}"
        return
    yield from (f"{path.relative_to(project)}: {fault}" for fault in unknown(workflow, OTHER_WORKFLOW_KEYS))
    for name, job in workflow["jobs"].items():
        permissions = job.get("permissions", workflow.get("permissions", of_the_caller))
        where = f"{path.relative_to(project)}: the job {name}"
        yield from (f"{where} {fault}" for fault in unknown(job, OTHER_JOB_KEYS))
        rights = [*writable(permissions), *credentials(workflow, job)]
        if not rights:
            continue
        yield from (f"{where} has {', '.join(rights)}, and {fault}" for fault in faults(project, workflow, job))
        if LOCAL_WORKFLOW.fullmatch(job.get("uses", "")):
            yield from in_workflow(project, project / job["uses"], permissions)


def read(path):
    """A workflow, all of whose scalars are text. YAML that another reader may understand differently is an error."""
    text = path.read_text(encoding="utf-8")
    if other := re.search(r"[^\n -~]|^%", text, re.MULTILINE):
        raise ValueError(f"it has {other[0]!a}, which is neither printable ASCII nor a line feed, or is a directive")
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise ValueError(f"it has an anchor, an alias or a tag in line {event.start_mark.line + 1}")
    refuse_duplicates(yaml.compose(text, Loader=yaml.BaseLoader))
    workflow = yaml.load(text, Loader=yaml.BaseLoader)
    jobs = workflow.get("jobs") if isinstance(workflow, dict) else None
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) and are_steps(job.get("steps", [])) for job in jobs.values()):
        raise ValueError("it has no jobs, or one that is not made of keys and steps")
    return workflow


def refuse_duplicates(node):
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        if any(not isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise ValueError(f"it has a key twice after line {node.start_mark.line + 1}, or one that is not text")
        for _, value in node.value:
            refuse_duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            refuse_duplicates(value)


def are_steps(steps):
    return isinstance(steps, list) and all(isinstance(step, dict) for step in steps)


def unknown(mapping, known):
    yield from (f"has the key {key}, which is not in the list of scripts/workflows.py" for key in mapping if key not in known)


def writable(permissions):
    """The permissions by which a job may change something: all that do not just read. Without any, it is the repository's
    settings that decide."""
    if permissions is None:
        return ["the repository's default permissions"]
    if not isinstance(permissions, dict):
        return [] if permissions == "read-all" else [str(permissions)]
    return [f"{name}: {value}" for name, value in permissions.items() if value not in ("read", "none")]


def credentials(workflow, job):
    """Those that are no permission of GitHub's."""
    text = yaml.safe_dump([{key: value for key, value in workflow.items() if key not in ("name", "on", "jobs")}, job])
    return [name for name, words in CREDENTIALS.items() if words.search(text)]


def faults(project, workflow, job):
    """What a job with rights has that is not permitted."""
    yield from unknown(workflow, WORKFLOW_KEYS)
    triggers = workflow.get("on", [])
    yield from (
        f"is started by {name}, which is not in the list of scripts/workflows.py"
        for name in ([triggers] if isinstance(triggers, str) else triggers) if name not in TRIGGERS
    )
    if called := job.get("uses"):
        yield from unknown(job, CALL_KEYS)
        if not LOCAL_WORKFLOW.fullmatch(called):
            yield f"calls {called}, which cannot be looked into"
        return
    yield from unknown(job, JOB_KEYS)
    if "runs-on" in job and job["runs-on"] not in [*RUNNERS]:
        yield f"runs on {job['runs-on']}, which is not in the list of scripts/workflows.py"
    steps = job.get("steps", [])
    is_check = False
    for index, step in enumerate(steps):
        if is_check:
            is_check = False
            continue
        action = step.get("uses", "").partition("@")[0]
        if "uses" not in step:
            yield from faults_of_a_script(project, step)
            continue
        yield from unknown(step, ACTION_KEYS)
        inputs = step.get("with") or {}
        if action not in ACTIONS:
            yield f"uses {action}, which is not known to build nothing"
        else:
            yield from (f"gives {action} the input {name}" for name in inputs if name not in ACTIONS[action])
        if action == CHECKOUT and index:
            yield "checks out after its first step, over what is there"
        if action == DOWNLOAD:
            yield from faults_of_a_download(project, inputs)
            is_check = compares(steps[index + 1] if index + 1 < len(steps) else {}, inputs)
            if not is_check:
                yield "does not compare the digest of an artifact in the next step, by the lines of scripts/workflows.py"


def faults_of_a_download(project, inputs):
    path = ARTIFACT_PATH.fullmatch(inputs.get("path", ""))
    if not inputs.get("name") or not path:
        yield "downloads an artifact without its name, or to no new folder"
    elif not path[1] and (project / path[2]).exists():
        yield f"downloads an artifact over {path[2]}, which is in the repository"


def compares(step, inputs):
    """Whether a step compares the digest of what was downloaded, and does nothing else."""
    path = inputs.get("path", "")
    folder = f'"$RUNNER_TEMP/{path.removeprefix(TEMPORARY)}"' if path.startswith(TEMPORARY) else path
    variables = step.get("env")
    return (
        set(step) <= CHECK_KEYS and isinstance(variables, dict) and set(variables) == {"DIGEST"}
        and bool(DIGEST.fullmatch(variables["DIGEST"])) and step.get("run", "").strip("\n").split("\n") == [f"cd {folder}", *CHECKS]
    )


def faults_of_a_script(project, step):
    yield from unknown(step, SCRIPT_KEYS)
    yield from (
        f"sets {name}, which is not in the list of scripts/workflows.py"
        for name, value in (step.get("env") or {}).items() if VARIABLES.get(name) != value
    )
    # A continued line is one command.
    lines = re.sub(r" \\\n +", " ", step.get("run", "")).strip("\n").split("\n")
    yield from (f"runs `{line}`, which is not in the list of scripts/workflows.py" for line in lines if line not in LINES)
    if step.get("shell", "bash") != "bash" or DEPLOYS in lines and "shell" not in step:
        yield "has a shell other than `bash`"
    installed = project / "scripts" / "requirements-deploy.txt"
    if any(INSTALLS in line for line in lines) and not are_pinned(installed.read_text()):
        yield f"installs {installed.relative_to(project)}, which has a package without a digest, or one that is built"


def are_pinned(requirements):
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    packages = [line for line in lines if line != "--only-binary :all:"]
    return len(packages) < len(lines) and all(re.fullmatch(r"[\w.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", own) for own in packages)


if __name__ == "__main__":
    main(sys.argv[1:])
