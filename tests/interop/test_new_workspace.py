"""`make new-workspace`: a repository of one's own, against a clone of this one by `file://`."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import boto3
import copied
import pytest
import tools
from aws_account import account, register
from aws_versions import traffic
from rollouts import code_of, digest_of, raise_alarm_of, values
from small_stacks import archive

register()

NAMES = {"own-words": "stateless", "own-notes": "stateful"}
AUTHOR = ["-c", "user.name=test", "-c", "user.email=test@example.com"]


@pytest.fixture(scope="module")
def framework(tmp_path_factory):
    """A repository with what is in this workspace now, and a remote."""
    folder = tmp_path_factory.mktemp("framework") / "repository"
    shutil.copytree(tools.PROJECT, folder, ignore=shutil.ignore_patterns(*copied.LEFT_OUT))
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    run(folder, "git", *AUTHOR, "commit", "--quiet", "--message", "all")
    run(folder, "git", "remote", "add", "origin", folder.as_uri())
    return folder


@pytest.fixture
def own(framework, tmp_path):
    folder = tmp_path / "own"
    made = make(framework, "new-workspace", f"FOLDER={folder}")
    assert made.returncode == 0, made.stderr
    return folder


def test_a_new_workspace_names_the_revision_and_has_the_commands_of_the_framework(framework, own):
    revision = run(framework, "git", "rev-parse", "HEAD").strip()
    manifest = (own / "Cargo.toml").read_text()
    listed = make(own, "help").stdout

    pinned = f'{{ git = "{framework.as_uri()}", rev = "{revision}" }}'
    for crate in ("mcp-lambda", "mcp-testing"):
        assert f"\n{crate} = {pinned}\n" in manifest
    assert run(own / ".framework", "git", "rev-parse", "HEAD").strip() == revision
    commands = {line.split()[0] for line in listed.splitlines()}
    assert {"new", "dev", "test", "check", "build", "deploy"} <= commands and not {"bench", "soak"} & commands
    # Of the framework nothing is in the repository.
    tracked = run(own, "git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line.split()[1] for line in tracked} == {
        ".cargo/config.toml", ".gitignore", "Cargo.lock", "Cargo.toml", "Makefile", "README.md", "clippy.toml", "rust-toolchain.toml", "rustfmt.toml",
    }
    none = make(own, "test")
    assert none.returncode != 0 and "there is no function yet" in none.stderr


def test_another_revision_is_fetched_when_the_manifest_names_it(framework, own):
    first = run(framework, "git", "rev-parse", "HEAD").strip()
    run(framework, "git", *AUTHOR, "commit", "--quiet", "--allow-empty", "--message", "next")
    second = run(framework, "git", "rev-parse", "HEAD").strip()
    manifest = own / "Cargo.toml"
    for old, new in ((first, second), (second, first)):
        manifest.write_text(manifest.read_text().replace(old, new))

        assert make(own, "framework").returncode == 0
        assert run(own / ".framework", "git", "rev-parse", "HEAD").strip() == new


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ([], "usage"),
        (["FOLDER={tmp}", "GIT_URL={framework}/nowhere"], "could not fetch the revision"),
        (["FOLDER={tmp}", "GIT_URL=https://user:secret@example.com/own"], "without them"),
        (["FOLDER={tmp}", "GIT_URL=/a/path"], "is not a URL"),
        (["FOLDER={here}/own"], "inside of the framework"),
        (["FOLDER={here}"], "is not empty"),
        (["PATH={tmp}"], "FOLDER=…"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(framework, tmp_path, variables, reason):
    folder = tmp_path / "own"
    names = {"tmp": folder, "framework": framework.as_uri(), "here": framework}
    refused = make(framework, "new-workspace", *(own.format(**names) for own in variables))

    assert refused.returncode != 0
    assert reason in refused.stderr and "secret" not in refused.stderr
    assert not folder.exists() and not (framework / "own").exists()


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("git@example.com:owner/name.git", "ssh://git@example.com/owner/name.git"),
        ("ssh://git@example.com/owner/name.git", "ssh://git@example.com/owner/name.git"),
        ("https://example.com/owner/name", "https://example.com/owner/name"),
    ],
)
def test_the_url_of_a_remote_is_written_as_cargo_takes_it(remote, url):
    import new_workspace

    assert new_workspace.url_of(remote) == url


@pytest.fixture
def apart(tmp_path):
    """Variables with which Cargo keeps what it builds of these crates, and their clone, in folders that are removed. The registry is
    that of this machine."""
    home, target = tmp_path / "cargo", tools.target_folder() / "own"
    home.mkdir()
    for path in pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo").iterdir():
        if path.name != "git":
            (home / path.name).symlink_to(path)
    yield {"CARGO_HOME": str(home), "CARGO_TARGET_DIR": str(target), "CARGO_BUILD_BUILD_DIR": str(target)}
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(home)


@pytest.mark.slow
def test_functions_of_ones_own_workspace_pass_their_checks_and_tests(own, apart):
    for name, kind in NAMES.items():
        made = make(own, "new", f"NAME={name}", f"KIND={kind}", **apart)
        assert made.returncode == 0, made.stderr
        stack = (own / "functions" / name / "stack.yaml").read_text()
        assert name in stack and ("infra/parts/stateful.yaml" in stack) == (kind == "stateful")

    for words in (["check"], ["test"], ["check", "FUNCTION=own-notes"], ["test", "FUNCTION=own-notes"]):
        ran = make(own, *words, **apart)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"test result: ok\. [1-9]", ran.stdout)


ISSUER = ["--parameter", "Issuer=https://id.example.com"]
STAGES = ("stage", "production")


class Operator:
    """Who deploys a function of a workspace to both stages. The content of the zips is not looked at."""

    def __init__(self, own, function, folder, variables):
        self.own, self.function, self.folder, self.variables = own, function, folder, variables
        # The stateful one has an issuer of tokens.
        self.given = ISSUER if NAMES[function] == "stateful" else []

    def stack(self, stage):
        return f"{self.function}-{stage}"

    def zips(self, content):
        folder = self.folder / content
        for features in ([], ["auth"]):
            archive(folder, content.encode(), features, function=self.function)
        return ["--lambda-dir", folder]

    def up(self, stage, *words, code=0):
        """Deploys with the file of a stage; what was printed."""
        file = self.folder / f"{stage}.json"
        file.write_text(json.dumps({"Parameters": {"ReservedConcurrency": str(2 + STAGES.index(stage))}, "Tags": {"stage": stage}}))
        command = [tools.BIN / "python", self.own / ".framework" / "scripts" / "deploy.py", "up", self.function, "--name", self.stack(stage)]
        command += ["--parameters-file", file, "--yes", "--no-doctor", *self.given, *words]
        environment = copied.environment(WORKSPACE_DIR=str(self.own), **self.variables)
        ran = subprocess.run([str(word) for word in command], cwd=self.own, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def make(self, target, stage, *words, succeeds=True):
        ran = make(self.own, target, f"STACK={self.function}", f"NAME={self.stack(stage)}", "YES=1", *words, **self.variables)
        assert (ran.returncode == 0) == succeeds, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr


@pytest.mark.slow
def test_functions_of_ones_own_workspace_go_through_their_stages_and_are_destroyed(own, apart, tmp_path):
    """A new workspace, a stateless and a stateful function, the templates of infra/, two stages, a bad canary, a promotion, a rollback and
    the end. test_rollout_scenario.py lists the steps that no emulator covers."""
    for name, kind in NAMES.items():
        made = make(own, "new", f"NAME={name}", f"KIND={kind}", **apart)
        assert made.returncode == 0, made.stderr
    with account():
        for name in NAMES:
            (tmp_path / name).mkdir()
            go_through_the_stages(Operator(own, name, tmp_path / name, apart))
        assert boto3.client("lambda").list_functions()["Functions"] == []
        assert boto3.client("cloudformation").describe_stacks()["Stacks"] == []


def go_through_the_stages(operator):
    stage, production = (operator.stack(own) for own in STAGES)
    operator.up("stage", *operator.zips("good"))
    first = digest_of(stage)
    operator.up("production", "--digest", first, "--protect", "yes")
    assert code_of(stage) == code_of(production)
    assert [values(own)["ReservedConcurrency"] for own in (stage, production)] == ["2", "3"]
    assert "Url: https://" in operator.make("outputs", "stage")

    during = []
    thread, is_over = raise_alarm_of(stage, during)
    try:
        refused = operator.up("stage", *operator.zips("bad"), "--canary", "0.1", "--minutes", "5", code=1)
    finally:
        is_over.set()
        thread.join()
    assert during == [{"1": 0.9, "2": 0.1}] and "version 2 was withdrawn: an alarm is on" in refused, refused
    assert traffic(stage) == {"1": 1} and code_of(stage) == code_of(production)
    operator.up("stage", *operator.zips("better"))

    # By its digest: no zip is needed, and none is built.
    operator.up("production", "--digest", digest_of(stage))
    assert code_of(production) == code_of(stage) and digest_of(production) != first
    operator.make("rollback", "production")
    assert traffic(production) == {"1": 1}
    operator.make("rollback", "production", "VERSION=2")
    assert traffic(production) == {"2": 1}

    assert "PROTECT=no" in operator.make("destroy", "production", succeeds=False)
    operator.up("production", "--digest", digest_of(stage), "--protect", "no")
    for own in STAGES:
        operator.make("destroy", own)


def make(folder, *words, **variables):
    command = ["make", "--silent", "-C", folder, *words]
    # `-C` would otherwise announce the folder; the Makefile must not see the workspace of the tests.
    return subprocess.run([str(word) for word in command], env=copied.environment(**variables), capture_output=True, text=True, stdin=subprocess.DEVNULL)


def run(folder, *command):
    ran = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
