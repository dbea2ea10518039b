"""The checkout that `.ci/run` keeps: what is new in it for Cargo."""

import os
import subprocess
import sys

import checkout
import pytest

LONG_AGO = 1_000_000_000
FILES = {
    "README.md": "1", "Cargo.toml": "1", "crates/a/Cargo.toml": "1", "crates/a/src/lib.rs": "1", "crates/a/migrations/1.sql": "1",
    "crates/b/Cargo.toml": "1", "crates/b/src/lib.rs": "1",
}


class Source:
    """A repository, and the folder that its commits are checked out in."""

    def __init__(self, folder):
        self.path, self.kept = folder / "source", folder / "kept"
        self.git("init", "--quiet", self.path, cwd=folder)

    def git(self, *words, cwd=None):
        command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", *words]
        subprocess.run(command, cwd=cwd or self.path, check=True, capture_output=True)

    def commit(self, **files):
        """Commits these files, checks the commit out, and returns the names of the files that are new there."""
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text) if text else (self.path / name).unlink()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "next", "--allow-empty")
        return self.update()

    def update(self):
        checkout.update(self.kept, self.path)
        kept = {path.relative_to(self.kept).as_posix(): path for path in self.kept.rglob("*") if path.is_file()}
        kept = {name: path for name, path in kept.items() if not name.startswith((".git/", "target/"))}
        assert {name: path.read_text() for name, path in kept.items()} == {
            path.relative_to(self.path).as_posix(): path.read_text()
            for path in self.path.rglob("*") if path.is_file() and ".git" not in path.parts
        }
        new = {name for name, path in kept.items() if path.stat().st_mtime > LONG_AGO}
        for path in kept.values():
            os.utime(path, (LONG_AGO, LONG_AGO))
        # Git compares times, too: it has to take these for those that it wrote.
        self.git("update-index", "--refresh", cwd=self.kept)
        return new


@pytest.fixture
def source(tmp_path):
    made = Source(tmp_path)
    assert made.commit(**FILES) == set(FILES)
    return made


def test_files_keep_their_times_unless_their_package_has_changed(source):
    changed = source.commit(**{"crates/a/src/lib.rs": "2", "README.md": "2"})

    assert changed == {"README.md", "crates/a/Cargo.toml", "crates/a/src/lib.rs", "crates/a/migrations/1.sql"}
    assert source.commit() == set()


def test_a_package_is_new_that_gets_or_loses_a_file(source):
    package = {name for name in FILES if name.startswith("crates/a/")}

    assert source.commit(**{"crates/a/migrations/2.sql": "1"}) == package | {"crates/a/migrations/2.sql"}
    assert source.commit(**{"crates/a/migrations/2.sql": ""}) == package


def test_what_a_run_has_left_or_changed_is_gone_but_for_the_target_folder(source):
    for name in ("target/debug/a", "left/over"):
        (source.kept / name).parent.mkdir(parents=True)
        (source.kept / name).write_text("1")
    (source.kept / "crates/b/src/lib.rs").write_text("by a test")
    (source.kept / ".git/index.lock").touch()

    assert source.update() == {"crates/b/src/lib.rs"}
    assert (source.kept / "target/debug/a").exists()


def test_the_command_runs_in_the_checkout_with_its_own_target_folder(tmp_path, monkeypatch):
    source = Source(tmp_path)
    source.commit(**FILES)
    monkeypatch.setattr(checkout.tools, "PROJECT", source.path)
    script = "import os, pathlib; pathlib.Path('made').write_text(os.environ['CARGO_TARGET_DIR']); raise SystemExit(3)"

    assert checkout.main(source.kept, sys.executable, "-c", script) == 3
    assert (source.kept / "made").read_text() == str(source.kept / "target")


def test_without_a_commit_to_fetch_the_command_runs_in_place(tmp_path, monkeypatch, capfd):
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setattr(checkout.tools, "PROJECT", project)

    assert checkout.main(tmp_path / "kept", sys.executable, "-c", "open('made', 'w')") == 0
    assert (project / "made").exists()
    assert "could not be updated" in capfd.readouterr().err
