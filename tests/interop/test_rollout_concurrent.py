"""Two commands that move the alias of one stack at the same time, in an emulated account."""

import boto3
import pytest
from deploying import rollout
from rollouts import aws, deploy, pass_time, rollback, traffic, values, versions, zips

CANARY = ["--canary", "0.1", "--minutes", "5"]
MOVED = "another command has moved the alias of greeter"


@pytest.fixture
def served_requests(monkeypatch):
    """Each canary serves requests."""
    monkeypatch.setattr(rollout.Rollout, "counts", lambda own, metric, *_: [1, 1, 1] if metric == "Invocations" else [])


def test_a_canary_that_was_rolled_back_by_another_command_is_not_promoted(deploy, monkeypatch, served_requests):
    deploy()
    pass_time(monkeypatch, 30, rollback)
    ended = deploy(*CANARY, code=1, Variable="x")

    assert f"{MOVED}: it serves version 1." in ended.stderr and "still split" not in ended.stderr
    assert traffic() == {"1": 1} and values()["LiveVersion"] == "1"


def test_a_canary_does_not_replace_the_version_of_a_later_deployment(deploy, monkeypatch, served_requests):
    deploy()
    pass_time(monkeypatch, 30, lambda: deploy(Variable="newer"))
    ended = deploy(*CANARY, code=1, Variable="x")

    assert f"{MOVED}: it serves version 3." in ended.stderr
    assert traffic() == {"3": 1} and values()["Variable"] == "newer"


def test_a_canary_that_waits_for_its_metrics_notices_another_command(deploy, monkeypatch):
    deploy()
    # The minutes are over after the first pause.
    counts = [[], [1, 1, 1]]
    monkeypatch.setattr(rollout.Rollout, "counts", lambda *_: counts.pop(0) or rollback() and [])
    pass_time(monkeypatch, 300)
    assert MOVED in deploy(*CANARY, code=1, Variable="x").stderr
    assert traffic() == {"1": 1}


def test_a_canary_of_another_command_is_left_as_it_is(deploy, monkeypatch, served_requests):
    deploy()
    deploy(Variable="x")

    def another():
        rollback()
        with pytest.MonkeyPatch.context() as other:
            # It is still watched.
            other.setattr(rollout.Rollout, "watch", lambda own: (_ for _ in ()).throw(rollout.TrafficMoved("for a test")))
            deploy(*CANARY, code=1, Variable="y")

    pass_time(monkeypatch, 30, another)
    ended = deploy(*CANARY, code=1, Variable="z")
    assert f"{MOVED}: it serves version 2 and version 4 as a canary." in ended.stderr
    assert traffic() == {"2": 0.9, "4": 0.1}


@pytest.mark.parametrize("words", [[], CANARY])
def test_a_rollback_during_the_check_of_a_new_version_holds(deploy, monkeypatch, words):
    deploy()
    deploy(Variable="x")
    monkeypatch.setattr(rollout, "check", lambda *_: rollback("--no-check", "--version", "1"))
    assert f"{MOVED}: it serves version 1." in deploy(*words, code=1, Variable="y").stderr

    assert traffic() == {"1": 1}
    # No change set is left to execute.
    assert boto3.client("cloudformation").list_change_sets(StackName="greeter")["Summaries"] == []


def test_a_rollback_does_not_move_what_another_command_has_moved(deploy, monkeypatch):
    for number in range(3):
        deploy(Variable=str(number))
    monkeypatch.setattr(rollout, "check", lambda *_: rollback("--no-check", "--version", "1"))
    assert f"{MOVED}: it serves version 1." in rollback("--version", "2", code=1).stderr
    assert traffic() == {"1": 1}


def test_an_interrupted_canary_leaves_the_version_of_another_command(deploy, monkeypatch):
    deploy()
    deploy(Variable="x")

    def interrupt():
        rollback("--version", "1")
        raise KeyboardInterrupt

    pass_time(monkeypatch, 30, interrupt)
    ended = deploy(*CANARY, code=1, Variable="y")
    assert MOVED in ended.stderr and "still split" not in ended.stderr
    assert traffic() == {"1": 1} and versions()[:2] == ["1", "2"]
