"""`make deploy` for several functions, in an emulated account."""

import shutil

import aws_versions
import boto3
import pytest
import small_stacks
import templates
from rollouts import aws, values
from small_stacks import archive, run

NAMES = ["api-docs", "greeter"]


@pytest.fixture
def up(aws, tmp_path, monkeypatch):
    """Deploys the small stacks of two functions. A third one has no stack."""
    for name in NAMES:
        shutil.copytree(small_stacks.FOLDER / "functions" / "greeter", tmp_path / "functions" / name)
        archive(tmp_path / "zips", b"the first", function=name)
    monkeypatch.setattr(templates, "path_of", lambda stack: tmp_path / "functions" / stack / "stack.yaml")
    monkeypatch.setattr(templates, "stacks", lambda: NAMES)

    def deploy(*words, code=0, **options):
        ended = run("up", "--lambda-dir", tmp_path / "zips", "--no-doctor", *words, **options)
        assert ended.code == code, ended.text
        return ended

    return deploy


def deployed():
    return sorted(own["FunctionName"] for own in boto3.client("lambda").list_functions()["Functions"])


@pytest.mark.parametrize(("words", "names"), [([], NAMES), (["--functions", "greeter,api-docs"], NAMES), (["--functions", "greeter"], ["greeter"])])
def test_the_functions_that_are_named_are_deployed_and_without_a_name_all(up, words, names):
    ended = up(*words, "--yes", "--parameter", "Variable=x")

    assert deployed() == names and ended.stdout.count("Url: https://") == len(names)
    for name in names:
        assert aws_versions.traffic(name) == {"1": 1} and values(name)["Variable"] == "x"


def test_a_deployment_of_several_stops_at_the_first_failure_and_goes_on_when_it_is_repeated(up):
    def answer(function, event):
        return RuntimeError("exit status 1") if function.function_name == "greeter" else aws_versions.answer(function, event)

    aws_versions.answering[0] = answer
    failed = up("--functions", "greeter,api-docs", "--yes", code=1)
    assert "version 1 failed its check" in failed.stderr and "not deployed after greeter: api-docs" in failed.stderr
    assert deployed() == ["greeter"]

    aws_versions.answering[0] = None
    up("--functions", "greeter,api-docs", "--yes")
    assert deployed() == NAMES
    again = up("--yes")
    assert again.stdout.count("serves all requests already") == 2


def test_each_change_set_is_confirmed_and_a_plan_shows_all(up):
    plan = up("--plan", "--yes")
    assert plan.stdout.count("changes of ") == 2 and deployed() == []
    # The account and the change set of the first, then the account of the second.
    no = up(code=1, input="y\ny\nn\n")
    assert "Nothing was changed." in no.stderr and deployed() == ["api-docs"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--functions", "nothing"], "no function nothing"),
        (["--functions", "event-logger"], "functions/event-logger has no stack.yaml"),
        (["greeter", "--functions", "greeter"], "STACK and FUNCTION exclude each other"),
        (["--name", "staging"], "NAME: for one stack"),
        (["--digest", "0" * 64], "DIGEST: for one stack"),
        (["--functions", "greeter,api-docs", "--replace", "Function"], "REPLACE: for one stack"),
    ],
)
def test_what_is_of_one_stack_is_refused_for_several(up, words, reason):
    assert reason in up(*words, "--yes", code=1).stderr
    assert deployed() == []
