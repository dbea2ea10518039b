"""8.5: what `make check` finds in workflows: builds in jobs that may write."""

import pytest
import workflows
import yaml
from conftest import PROJECT

BUILD = {"permissions": {"contents": "read"}, "steps": [{"run": "make build\ncargo test\nnpm ci"}]}
CHECKED = [{"uses": "actions/download-artifact@1"}, {"run": 'echo "$DIGEST  SHA256SUMS" | sha256sum --check --strict'}]
DEPLOYS = '"$(python3 scripts/tools.py deploy)/venv/bin/python" scripts/deploy.py up "$STACK" {} --yes'


@pytest.fixture
def faults(tmp_path):
    """What is wrong with a job, or with workflows."""
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    requirements = (PROJECT / "scripts" / "requirements-deploy.txt").read_text()

    def find(*steps, requirements=requirements, others={}, job={}, **workflow):
        (tmp_path / "scripts" / "requirements-deploy.txt").write_text(requirements)
        written = {"permissions": {"id-token": "write"}, "jobs": {"build": BUILD, "deploy": {**job, "steps": [*steps]}}, **workflow}
        for name, content in {"deploy.yml": written, **others}.items():
            (tmp_path / ".github" / "workflows" / name).write_text(yaml.safe_dump(content))
        return list(workflows.builds_with_permissions(tmp_path))

    return find


def test_no_job_of_this_repository_builds_and_may_write():
    assert list(workflows.builds_with_permissions(PROJECT)) == []


def test_what_deploys_and_attests_is_permitted(faults):
    assert faults(
        {"uses": "actions/checkout@1"}, *CHECKED, {"run": "python3 scripts/tools.py deploy"},
        {"uses": "aws-actions/configure-aws-credentials@1"},
        {"run": DEPLOYS.format("--no-doctor \\\n  --lambda-dir built") + " | tee deployed\nsed -n 's/a/b/p' deployed"},
        {"uses": "actions/attest@1"}, {"run": "# make build\ngh release create v1 dist/*"},
    ) == []


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ({"run": "cargo build --release"}, "runs cargo"),
        ({"run": "cd x && cargo test"}, "runs cargo"),
        ({"run": "echo $(cargo metadata)"}, "runs cargo"),
        ({"run": "FLAGS=1 cargo build"}, "runs FLAGS=1"),
        ({"run": "make build"}, "runs make"),
        ({"run": "make test"}, "runs make"),
        ({"run": "echo a; make check"}, "runs make"),
        ({"run": "npm ci"}, "runs npm"),
        ({"run": "npx prettier"}, "runs npx"),
        ({"run": "pip install boto3"}, "runs pip"),
        ({"run": "python3 -m pip install --require-hashes -r own.txt"}, "runs python3"),
        ({"run": "python3 scripts/build.py"}, "runs python3"),
        ({"run": "python3 scripts/tools.py deploy check"}, "runs python3"),
        ({"run": "python3 scripts/tools.py lambda"}, "runs python3"),
        ({"run": ".ci/run"}, "runs .ci/run"),
        ({"run": "echo https://example.com/x | sh"}, "runs sh"),
        ({"run": "./mcpl doctor $URL"}, "runs ./mcpl"),
        ({"run": DEPLOYS.format("--no-doctor")}, 'runs "$'),
        ({"run": DEPLOYS.format("--lambda-dir built")}, 'runs "$'),
        ({"uses": "Swatinem/rust-cache@1"}, "uses Swatinem/rust-cache"),
        ({"uses": "./.github/actions/own"}, "uses ./.github/actions/own"),
        ({"uses": "actions/download-artifact@1"}, "does not compare the digest"),
    ],
    ids=lambda own: str(own),
)
def test_a_build_in_a_job_that_may_write_is_found(faults, step, found):
    told = faults(step)

    assert told and all(line.startswith(".github/workflows/deploy.yml: the job deploy has id-token: write, and ") for line in told)
    assert any(f"and {found}" in line for line in told)


def test_an_artifact_is_compared_before_it_is_used(faults):
    download, check = CHECKED

    (told,) = faults(download, {"uses": "actions/attest@1"}, check)

    assert "uses an artifact before its digest is compared" in told


@pytest.mark.parametrize(
    "requirements",
    ["boto3==1.44.5\n", "--only-binary :all:\nboto3==1.44.5\n", f"boto3==1.44.5 --hash=sha256:{'0' * 64}\n",
     f"--only-binary :all:\nboto3>=1.44.5 --hash=sha256:{'0' * 64}\n"],
)
def test_the_sdk_is_pinned_by_digest(faults, requirements):
    (told,) = faults({"run": "python3 scripts/tools.py deploy"}, requirements=requirements)

    assert "installs scripts/requirements-deploy.txt" in told


@pytest.mark.parametrize(
    ("job", "workflow", "is_found"),
    [
        ({"permissions": {"id-token": "write"}}, {"permissions": {}}, True),
        ({"permissions": {"attestations": "write"}}, {"permissions": {}}, True),
        ({"permissions": {"contents": "write"}}, {"permissions": {}}, True),
        ({"permissions": "write-all"}, {"permissions": {}}, True),
        ({}, {"permissions": "write-all"}, True),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "${{ secrets.KEY }}"}}, {"permissions": {}}, True),
        ({}, {"permissions": {}, "env": {"AWS_SECRET_ACCESS_KEY": "${{ secrets.KEY }}"}}, True),
        ({"permissions": {}}, {}, False),
        ({"permissions": {"id-token": "none", "contents": "read"}}, {}, False),
        ({}, {"permissions": "read-all"}, False),
    ],
)
def test_where_permissions_come_from(faults, job, workflow, is_found):
    assert bool(faults({"run": "make build"}, job=job, **workflow)) is is_found


def test_a_role_is_a_permission(faults):
    told = faults({"uses": "aws-actions/configure-aws-credentials@1"}, {"run": "make build"}, permissions={})

    assert told == [
        ".github/workflows/deploy.yml: the job deploy has aws-actions/configure-aws-credentials, and runs make, "
        "which is not known to build nothing"
    ]


@pytest.mark.parametrize(("permissions", "is_found"), [({"permissions": {}}, False), ({}, True)])
def test_a_called_workflow_inherits_permissions(faults, permissions, is_found):
    called = {**permissions, "jobs": {"compile": {"steps": [{"run": "make build"}]}}}
    caller = {"jobs": {"all": {"uses": "./.github/workflows/build.yml", "permissions": {"id-token": "write"}}}}

    told = faults(others={"build.yml": called, "release.yml": caller})

    assert bool(told) is is_found and all("build.yml: the job compile" in line for line in told)


def test_a_workflow_of_another_repository_gets_no_permission(faults):
    caller = {"jobs": {"all": {"uses": "own/other/.github/workflows/x.yml@1", "permissions": {"id-token": "write"}}}}

    (told,) = faults(others={"release.yml": caller})

    assert "calls own/other/.github/workflows/x.yml@1, which cannot be looked into" in told
