"""`make new-workspace`: a repository of one's own, against a clone of this one by `file://`."""

import os
import pathlib
import re
import shutil
import subprocess

import copied
import pytest
import tools

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


def make(folder, *words, **variables):
    command = ["make", "--silent", "-C", folder, *words]
    # `-C` would otherwise announce the folder; the Makefile must not see the workspace of the tests.
    return subprocess.run([str(word) for word in command], env=copied.environment(**variables), capture_output=True, text=True, stdin=subprocess.DEVNULL)


def run(folder, *command):
    ran = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
