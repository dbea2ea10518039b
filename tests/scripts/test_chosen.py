"""`make dev|test|check|build|deploy FUNCTION=a,b`: one or several functions; without, all."""

import subprocess
import sys

import build
import check
import dev
import pytest
import test as test_script
import tools

OTHERS = sorted({*tools.FUNCTIONS} - {"greeter", "api-docs"})


def made(target, *variables):
    """The command that `make` would run."""
    words = ["make", "--no-print-directory", "--dry-run", target, "PYTHON=python", *variables]
    return subprocess.run(words, cwd=tools.PROJECT, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("greeter", ["greeter"]), ("greeter,api-docs", ["greeter", "api-docs"]), ("greeter, api-docs,", ["greeter", "api-docs"]),
        ("api-docs greeter", ["api-docs", "greeter"]), ("greeter,greeter", ["greeter"]), ("", tools.FUNCTIONS),
    ],
)
def test_names_are_separated_by_commas_and_none_are_all(text, names):
    assert tools.chosen(text) == names


@pytest.mark.parametrize("text", ["nothing", "greeter,nothing", "../crates", "conformance"])
def test_an_unknown_function_is_rejected_with_the_known_ones(text):
    with pytest.raises(SystemExit, match=f"no function .*: choose from {', '.join(tools.FUNCTIONS)}"):
        tools.chosen(text)


@pytest.mark.parametrize("target", ["dev", "test", "check"])
def test_make_passes_the_names_on(target):
    assert made(target, "FUNCTION=greeter,api-docs") == ["python", f"scripts/{target}.py", "--functions", "'greeter,api-docs'"]
    assert made(target) == ["python", f"scripts/{target}.py"]


def test_make_build_passes_the_names_on():
    features = ["--features", "'otel'"]

    assert made("build", "FUNCTION=greeter,api-docs", "FEATURES=otel") == ["python", "scripts/build.py", "'greeter,api-docs'", *features]
    assert made("build") == ["python", "scripts/build.py"]


def test_make_deploy_passes_the_names_on():
    def words(*variables):
        made_words = made("deploy", *variables)
        return made_words[made_words.index("up") + 1 :]

    assert words("FUNCTION=greeter,api-docs") == ["--functions", "'greeter,api-docs'"]
    assert words("STACK=greeter") == ["greeter"] and words() == []


def test_make_new_passes_the_kind_on():
    assert made("new", "NAME=weather") == made("new", "FUNCTION=weather") == ["python", "scripts/new.py", '"weather"']
    assert made("new", "NAME=weather", "KIND=stateful") == ["python", "scripts/new.py", '"weather"', "--kind", "'stateful'"]


@pytest.mark.parametrize("words", [["greeter,api-docs"], ["greeter", "api-docs"]])
def test_build_builds_these_alone(words, monkeypatch, tmp_path):
    built = []

    def noted(architecture, function, features):
        built.append((architecture, function))
        archive = tmp_path / "zip"
        archive.touch()
        return archive

    monkeypatch.setattr(build, "prepare", lambda: None)
    monkeypatch.setattr(build, "build", noted)
    monkeypatch.setattr(sys, "argv", ["build.py", *words])
    build.main()

    assert {*built} == {(own, name) for own in build.ARCHITECTURES for name in ("greeter", "api-docs")}


def test_dev_watches_one_function_or_the_workspace():
    assert dev.manifest(["greeter"]) == tools.PROJECT / "functions" / "greeter" / "Cargo.toml"
    assert dev.manifest(["greeter", "api-docs"]) == tools.PROJECT / "Cargo.toml"


@pytest.fixture
def commands(monkeypatch):
    """What is run in place of running it."""
    found = []

    class Finished:
        returncode = 0
        stdout = None

    def noted(words, **_):
        found.append([str(word) for word in words])
        return Finished

    monkeypatch.setattr(subprocess, "run", noted)
    for script in (check, test_script):
        monkeypatch.setattr(script.tools, "install_check", lambda: None)
        monkeypatch.setattr(script.tools, "install_test", lambda: None)
    return found


def test_check_checks_these_alone(commands):
    check.main(["--functions", "greeter,api-docs"])

    run = [word for words in commands for word in words]
    assert {"clippy", "fmt", "doc", "machete", "cfn-lint"} <= {*run} and "--workspace" not in run
    assert {"greeter", "api-docs"} <= {*run} and not [word for word in run if any(name in word for name in OTHERS)]


def test_a_check_of_functions_can_be_named(commands):
    check.main(["--functions", "greeter", "format"])

    assert commands == [["cargo", "fmt", "--check", "--package", "greeter"]]
    with pytest.raises(SystemExit):
        check.main(["--functions", "greeter", "layers"])


class Server:
    url = "postgres://127.0.0.1/test"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_test_tests_these_alone(commands, monkeypatch):
    monkeypatch.setattr(test_script.postgres, "Supervised", lambda **_: Server())
    monkeypatch.setattr(sys, "argv", ["test.py", "--functions", "greeter,api-docs"])
    test_script.main()

    cargo, pytest_command = commands
    assert cargo == ["cargo", "test", "--locked", "--quiet", "--package", "greeter", "--package", "api-docs", "--all-features"]
    assert pytest_command[-1] == str(tools.INTEROP / "test_api_docs.py")
