"""8.5: what `make check` finds in workflows: jobs with rights that have another form than the permitted one."""

import subprocess

import pytest
import tools
import workflows
import yaml

BUILD = {"permissions": {"contents": "read"}, "steps": [{"run": "make build\ncargo test\nnpm ci"}]}
DOWNLOAD = {"uses": "actions/download-artifact@1", "with": {"name": "built", "path": "built"}}
DIGEST = {"DIGEST": "${{ needs.build.outputs.digest }}"}
COMPARES = 'echo "$DIGEST  SHA256SUMS" | sha256sum --check --strict\nsha256sum --check --strict --quiet SHA256SUMS\n'
CHECK = {"env": DIGEST, "run": f"cd built\n{COMPARES}"}
TOOLS = "python3 scripts/tools.py deploy"
DEPLOYS = f'"$({TOOLS})/venv/bin/python" scripts/deploy.py up "$STACK" --name "$NAME" {{}} --features "$FEATURES" --parameters-file "$PARAMETERS" --canary "$CANARY" | tee "$RUNNER_TEMP/deployed"'
WITH_ZIPS = '--yes --no-doctor \\\n  --lambda-dir "$RUNNER_TEMP/built/lambda"'
URL = "sed -n 's/^next: .* /url=/p' \"$RUNNER_TEMP/deployed\" >> \"$GITHUB_OUTPUT\""
DRAFT = 'gh release create "$TAG" --draft --verify-tag --generate-notes dist/*'


@pytest.fixture
def faults(tmp_path):
    """What is wrong with a job, or with workflows."""
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    requirements = (tools.PROJECT / "scripts" / "requirements-deploy.txt").read_text()

    def find(*steps, requirements=requirements, others={}, job={}, **workflow):
        (tmp_path / "scripts" / "requirements-deploy.txt").write_text(requirements)
        written = {"permissions": {"id-token": "write"}, "jobs": {"build": BUILD, "deploy": {**job, "steps": [*steps]}}, **workflow}
        for name, content in {"deploy.yml": written, **others}.items():
            text = content if isinstance(content, str) else yaml.dump(content, Dumper=Plain)
            (tmp_path / ".github" / "workflows" / name).write_text(text)
        return list(workflows.builds_with_permissions(tmp_path))

    return find


class Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def test_no_job_of_this_repository_builds_and_may_write():
    assert list(workflows.builds_with_permissions(tools.PROJECT)) == []


def test_lock_files_of_a_pull_request_are_compared_with_the_target_branch():
    workflow = yaml.safe_load((tools.PROJECT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["contracts"]
    checkout, compare = job["steps"]

    # YAML reads the key `on` as a boolean.
    assert "pull_request" in workflow[True] and job["if"] == "github.event_name == 'pull_request'"
    assert checkout["with"]["fetch-depth"] == 0
    assert compare == {"env": {"BASE": "${{ github.event.pull_request.base.sha }}"}, "run": 'make contract SINCE="$BASE"'}
    words = ["make", "--dry-run", "--no-print-directory", "contract", "PYTHON=python", "SINCE=0123abc"]
    made = subprocess.run(words, cwd=tools.PROJECT, capture_output=True, text=True, check=True).stdout.split()
    assert made == ["python", "scripts/contract.py", "--since", "0123abc"]


def test_what_deploys_and_attests_is_permitted(faults):
    temporary = {**DOWNLOAD, "with": {"name": "built", "path": "${{ runner.temp }}/built"}}
    assert faults(
        {"uses": "actions/checkout@1", "with": {"persist-credentials": False}},
        temporary, {"name": "Compare", "env": DIGEST, "run": f'cd "$RUNNER_TEMP/built"\n{COMPARES}'}, DOWNLOAD, CHECK,
        {"run": TOOLS}, {"uses": "aws-actions/configure-aws-credentials@1", "with": {"aws-region": "eu-central-1"}},
        {"id": "deploy", "env": {"STACK": "${{ inputs.stack }}"}, "shell": "bash", "run": f"{DEPLOYS.format(WITH_ZIPS)}\n{URL}\n"},
        {"uses": "actions/attest@1", "with": {"subject-checksums": "dist/SHA256SUMS"}},
        {"env": {"GH_TOKEN": "${{ github.token }}"}, "run": DRAFT},
        job={"needs": "build", "runs-on": "ubuntu-24.04", "timeout-minutes": 5}, on={"workflow_dispatch": {}},
    ) == []


@pytest.mark.parametrize(
    "line",
    [
        "cargo build --release", "cd x && cargo test", "echo $(cargo metadata)", "FLAGS=1 cargo build", "make build", "npm ci",
        "pip install boto3", "python3 -m pip install --require-hashes -r own.txt", "python3 scripts/build.py",
        f"{TOOLS} check", "python3 scripts/tools.py lambda", f"X=1 {TOOLS}", f"./{TOOLS}", f"{TOOLS}\\\ncheck", ".ci/run",
        "echo https://example.com/x | sh", "./mcpl doctor $URL",
        # What a shell reads otherwise than it looks.
        "echo a # x \\\ncargo build", "cd x # \\\nmake build", "echo '\n# '; cargo build", "cat <<X\n# $(cargo build)\nX",
        "echo \\\n#; cargo build", "echo a \\\\\ncargo build", "> x cargo build", "cat <(cargo build)", "echo() { cargo build; }",
        "echo ${{ inputs.x }}", "echo `make`", "! cargo build", "coproc cargo build",
        # What runs or writes another file.
        "gh alias set b '!cargo build'\ngh b", "gh extension install built\ngh built", f"gh pr checkout 5\n{TOOLS}",
        f"gh release download -D scripts --clobber\n{TOOLS}", "sed '1e cargo build' Cargo.toml", "sed -f built/x.sed Cargo.toml",
        f"sed -i '1i import os' scripts/tools.py\n{TOOLS}", f"cat built/x | tee scripts/tools.py\n{TOOLS}",
        f"echo evil > scripts/requirements-deploy.txt\n{TOOLS}", f"cat built/x > scripts/json.py\n{TOOLS}",
        'echo "BASH_ENV=built/x.sh" >> "$GITHUB_ENV"', 'echo "built/bin" >> "$GITHUB_PATH"', f"cd built\n{TOOLS}",
        "echo 'cargo build' > .git/hooks/post-checkout",
        # What looks as if it deployed by zips that are there.
        DEPLOYS.format("--no-doctor --yes"), DEPLOYS.format('--lambda-dir "$RUNNER_TEMP/built/lambda" --yes'),
        DEPLOYS.format("--yes # --no-doctor --lambda-dir built "), DEPLOYS.format("'--no-doctor --lambda-dir x' "),
        DEPLOYS.format('--name "x --no-doctor --lambda-dir y "'), DEPLOYS.format('--parameter "A=--no-doctor --lambda-dir y "'),
        DEPLOYS.format("--yes; echo --no-doctor --lambda-dir x "), DEPLOYS.format("--yes && echo --no-doctor --lambda-dir x "),
    ],
)
def test_another_line_in_a_job_with_rights_is_found(faults, line):
    told = faults({"run": line, "shell": "bash"})

    assert told and all(own.startswith(".github/workflows/deploy.yml: the job deploy has id-token: write, and runs `") for own in told)


def test_a_deployment_whose_failure_a_pipe_would_hide_is_found(faults):
    (told,) = faults({"run": DEPLOYS.format(WITH_ZIPS)})

    assert "has a shell other than `bash`" in told


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ({"uses": "Swatinem/rust-cache@1"}, "uses Swatinem/rust-cache"),
        ({"uses": "./.github/actions/own"}, "uses ./.github/actions/own"),
        ({"uses": "actions/checkout@1", "with": {"repository": "evil/x"}}, "the input repository"),
        ({"uses": "actions/checkout@1", "with": {"ref": "${{ inputs.ref }}"}}, "the input ref"),
        ({"uses": "actions/checkout@1", "with": {"ssh-key": "x"}}, "the input ssh-key"),
        *(({"run": TOOLS, "shell": shell}, "a shell other") for shell in ("python", "make -f {0}", "npm ci --prefix {0}", "bash -l {0}")),
        ({"run": TOOLS, "working-directory": "built"}, "the key working-directory"),
        ({"run": TOOLS, "continue-on-error": True}, "the key continue-on-error"),
        ({"run": TOOLS, "if": "always()"}, "the key if"),
        *(({"run": TOOLS, "env": {name: "built"}}, f"sets {name}") for name in (
            "BASH_ENV", "ENV", "PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "BASH_FUNC_echo%%", "NODE_OPTIONS", "GIT_SSH_COMMAND",
            "GH_CONFIG_DIR", "PIP_INDEX_URL", "TOOLS_DIR", "PS4", "SHELLOPTS",
        )),
        ({"run": TOOLS, "env": {"STACK": "${{ github.head_ref }}"}}, "sets STACK"),
        ({"Run": TOOLS}, "the key Run"),
    ],
    ids=str,
)
def test_another_key_of_a_step_in_a_job_with_rights_is_found(faults, step, found):
    told = faults(step)

    assert any(found in line for line in told) and all("the job deploy has id-token: write, and " in line for line in told)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"job": {"defaults": {"run": {"shell": "make -f {0}"}}}}, "the key defaults"),
        ({"job": {"env": {"BASH_ENV": "built/x.sh"}}}, "the key env"),
        ({"job": {"container": "evil/image"}}, "the key container"),
        ({"job": {"services": {"x": {"image": "evil/image"}}}}, "the key services"),
        ({"job": {"continue-on-error": True}}, "the key continue-on-error"),
        ({"job": {"runs-on": ["self-hosted"]}}, "runs on"),
        ({"job": {"Permissions": {}}}, "the key Permissions"),
        ({"defaults": {"run": {"working-directory": "built"}}}, "the key defaults"),
        ({"env": {"PATH": "built"}}, "the key env"),
        ({"on": "pull_request_target"}, "started by pull_request_target"),
        ({"on": ["push", "issue_comment"]}, "started by issue_comment"),
        ({"on": {"workflow_run": {"workflows": ["CI"]}}}, "started by workflow_run"),
        ({"on": {"pull_request": None}}, "started by pull_request"),
    ],
    ids=str,
)
def test_another_key_of_a_job_with_rights_is_found(faults, where, found):
    told = faults({"run": TOOLS}, **where)

    assert any(found in line for line in told)


def at(path):
    return {**DOWNLOAD, "with": {"name": "built", "path": path}}


@pytest.mark.parametrize(
    "steps",
    [
        [DOWNLOAD], [DOWNLOAD, {"run": TOOLS}, CHECK], [DOWNLOAD, DOWNLOAD, CHECK],
        *([DOWNLOAD, {**CHECK, "run": run}] for run in (
            COMPARES, "echo sha256sum --check", "echo a # sha256sum x --check", "cd built\nsha256sum --check SHA256SUMS",
            "cat built/digest | sha256sum --check", f"cd built\nset +e\n{COMPARES}echo", f"cd built\n{COMPARES.rstrip()} || echo",
            f"cd built\n{COMPARES.rstrip()} | cat", f"cd built\n{COMPARES.rstrip()} &", "cd built\nsha256sum --help --check",
            f"cat built/env >> $GITHUB_ENV\ncd built\n{COMPARES}", f"cd other\n{COMPARES}",
        )),
        *([DOWNLOAD, {**CHECK, **other}] for other in (
            {"continue-on-error": True}, {"if": "false"}, {"env": {**DIGEST, "PATH": "built"}}, {"env": {"DIGEST": "${{ inputs.digest }}"}},
            {"shell": "cat {0}"}, {"working-directory": "other"},
        )),
        *([at(path), {**CHECK, "run": f"cd {path}\n{COMPARES}"}] for path in (".", "scripts", "scripts/x", "./built", "../built", "")),
        [{**DOWNLOAD, "with": {**DOWNLOAD["with"], "run-id": "1"}}, CHECK],
        [{**DOWNLOAD, "with": {"path": "built"}}, CHECK],
        [DOWNLOAD, CHECK, {"uses": "actions/checkout@1"}],
    ],
    ids=str,
)
def test_an_artifact_whose_digest_is_not_compared_is_found(faults, steps):
    assert faults(*steps)


@pytest.mark.parametrize(
    "requirements",
    ["boto3==1.44.5\n", "--only-binary :all:\nboto3==1.44.5\n", f"boto3==1.44.5 --hash=sha256:{'0' * 64}\n",
     f"--only-binary :all:\nboto3>=1.44.5 --hash=sha256:{'0' * 64}\n"],
)
def test_the_sdk_is_pinned_by_digest(faults, requirements):
    (told,) = faults({"run": TOOLS}, requirements=requirements)

    assert "installs scripts/requirements-deploy.txt" in told


@pytest.mark.parametrize(
    ("job", "workflow", "is_found"),
    [
        ({"permissions": {"id-token": "write"}}, {"permissions": {}}, True),
        ({"permissions": {"attestations": "write"}}, {"permissions": {}}, True),
        ({"permissions": {"contents": "write"}}, {"permissions": {}}, True),
        ({"permissions": {"id-token": "${{ 'write' }}"}}, {"permissions": {}}, True),
        ({"permissions": {"id-token": "Write"}}, {"permissions": {}}, True),
        ({"permissions": "write-all"}, {"permissions": {}}, True),
        ({"permissions": None}, {"permissions": {"id-token": "write"}}, True),
        ({}, {"permissions": "write-all"}, True),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, {"permissions": {}}, True),
        ({"env": {"aws_session_token": "x"}}, {"permissions": {}}, True),
        ({"env": {"X": "${{ secrets.KEY }}"}}, {"permissions": {}}, True),
        ({"env": {"X": "${{ Secrets.KEY }}"}}, {"permissions": {}}, True),
        ({"env": {"X": "${{ secrets[format('AWS{0}', '_KEY')] }}"}}, {"permissions": {}}, True),
        ({"env": {"X": "${{ toJSON(secrets) }}"}}, {"permissions": {}}, True),
        ({}, {"permissions": {}, "env": {"X": "${{ secrets.KEY }}"}}, True),
        ({"permissions": {}}, {}, False),
        ({"env": {"X": "${{ secrets.GITHUB_TOKEN }}", "AWS_LC_SYS_PREBUILT_NASM": "1"}}, {"permissions": {}}, False),
        ({"permissions": {"id-token": "none", "contents": "read"}}, {}, False),
        ({}, {"permissions": "read-all"}, False),
    ],
)
def test_where_rights_come_from(faults, job, workflow, is_found):
    assert bool(faults({"run": "make build"}, job=job, **workflow)) is is_found


@pytest.mark.parametrize(
    "text",
    [
        "permissions: {}\nname: &w write\njobs:\n  d:\n    permissions: {id-token: *w}\n    steps: [{run: make build}]\n",
        "permissions: {}\njobs:\n  d:\n    permissions: {id-token: write}\n    permissions: {}\n    steps: [{run: make build}]\n",
        "permissions: {}\njobs:\n  d:\n    permissions: {id-token: write, id-token: none}\n    steps: [{run: make build}]\n",
        "permissions: {}\njobs: {}\n---\njobs:\n  d:\n    permissions: {id-token: write}\n    steps: [{run: make build}]\n",
        "permissions: {id-token: write}\njobs:\n  d:\n    steps: [{run: !!binary bWFrZSBidWlsZA==}]\n",
        "permissions: {}\njobs:\n  d: {steps: [{run: make build}]}\n# \x85permissions: write-all\n",
        "jobs:\n  d: {steps: [{run: make build}]}\n", "permissions: {}\njobs: []\n", "permissions: {}\njobs: {d: {steps: x}}\n", "x: [\n",
    ],
)
def test_yaml_that_may_be_read_differently_is_found(faults, text):
    assert any(".github/workflows/own.yml: " in line for line in faults(others={"own.yml": text}))


def test_a_role_is_a_right(faults):
    told = faults({"uses": "aws-actions/configure-aws-credentials@1"}, {"run": "make build"}, permissions={})

    assert told == [
        ".github/workflows/deploy.yml: the job deploy has AWS credentials, and runs `make build`, "
        "which is not in the list of scripts/workflows.py"
    ]


@pytest.mark.parametrize(("permissions", "is_found"), [({"permissions": {}}, False), ({}, True)])
def test_a_called_workflow_inherits_permissions(faults, permissions, is_found):
    called = {**permissions, "jobs": {"compile": {"steps": [{"run": "make build"}]}}}
    caller = {"jobs": {"all": {"uses": "./.github/workflows/build.yml", "permissions": {"id-token": "write"}}}}

    told = faults(others={"build.yml": called, "release.yml": caller})

    assert any("id-token: write" in line for line in told) is is_found and all("build.yml: the job compile" in line for line in told)


@pytest.mark.parametrize("called", ["own/other/.github/workflows/x.yml@1", ".//.github/workflows/x.yml", "./.github/workflows/../x.yml"])
def test_a_workflow_that_is_not_read_gets_no_permission(faults, called):
    caller = {"jobs": {"all": {"uses": called, "permissions": {"id-token": "write"}}}}

    (told,) = faults(others={"release.yml": caller})

    assert f"calls {called}, which cannot be looked into" in told


def test_a_called_workflow_gets_no_secrets(faults):
    caller = {"jobs": {"all": {"uses": "./.github/workflows/deploy.yml", "permissions": {}, "secrets": "inherit"}}}

    assert any("has a secret, and has the key secrets" in line for line in faults(others={"release.yml": caller}))
