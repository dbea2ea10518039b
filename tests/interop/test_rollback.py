"""The version that `make rollback` returns to, in an emulated account."""

import pytest
from deploying import rollout, stack
from rollouts import aws, deploy, pass_time, rollback, traffic, values, versions, zips

CANARY = ["--canary", "0.1", "--minutes", "5"]


def test_a_rollback_returns_to_the_version_that_was_live_and_not_to_a_withdrawn_one(deploy):
    deploy()
    deploy(Variable="bad")
    rollback()
    deploy(Variable="bad again")
    assert traffic() == {"3": 1} and values()["PreviousVersion"] == "1"

    rollback()
    assert traffic() == {"1": 1}


def test_a_second_rollback_needs_the_number(deploy):
    for number in range(3):
        deploy(Variable=str(number))
    rollback()
    assert traffic() == {"2": 1}

    refused = rollback(code=1)
    assert "no version before 2 is known: name one with VERSION=…; greeter has 1, 2, 3" in refused.stderr
    rollback("--version", "1")
    assert traffic() == {"1": 1} and "no version before 1 is known" in rollback(code=1).stderr
    # The next deployment of the same configuration, which has a version already.
    deploy(Variable="2")
    rollback()
    assert traffic() == {"1": 1}


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit(143)])
def test_an_interrupted_canary_is_deleted_so_that_no_rollback_finds_it(deploy, monkeypatch, ends):
    deploy()

    def interrupt():
        raise ends

    with pytest.MonkeyPatch.context() as patch:
        pass_time(patch, 30, interrupt)
        with pytest.raises(KeyboardInterrupt) if ends is KeyboardInterrupt else pytest.MonkeyPatch.context():
            deploy(*CANARY, code=143, Variable="bad")
    assert traffic() == {"1": 1} and versions() == ["1"]

    deploy(Variable="next")
    rollback()
    assert traffic() == {"1": 1}


def test_a_rollback_of_a_canary_leaves_the_version_before_the_live_one(deploy, monkeypatch):
    deploy()
    deploy(Variable="x")
    monkeypatch.setattr(rollout.Rollout, "counts", lambda own, metric, *_: [1, 1, 1] if metric == "Invocations" else [])
    pass_time(monkeypatch, 30, rollback)
    deploy(*CANARY, code=1, Variable="y")
    assert traffic() == {"2": 1}

    rollback()
    assert traffic() == {"1": 1}


def test_a_promoted_canary_is_rolled_back_to_the_version_beside_it(deploy, monkeypatch):
    deploy()
    deploy(Variable="bad")
    rollback()
    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: None)
    deploy(*CANARY, Variable="y")
    rollback()
    assert traffic() == {"1": 1}


def test_the_version_of_a_rollback_is_kept(deploy, monkeypatch):
    deploy()
    for number in range(3):
        deploy(Variable=str(number))
        rollback("--version", "1")
    monkeypatch.setattr(rollout, "KEPT", 1)
    deploy(Variable="last")

    assert versions() == ["1", "5"]
    rollback()
    assert traffic() == {"1": 1}


def test_a_stack_of_an_earlier_template_is_rolled_back_to_the_next_lower_number(deploy, monkeypatch):
    deploy()
    deploy(Variable="x")
    known = stack.Stack.values
    monkeypatch.setattr(stack.Stack, "values", lambda own: {name: value for name, value in known(own).items() if name != rollout.PREVIOUS})
    rollback()
    assert traffic() == {"1": 1}
    assert "no version before 1 is known" in rollback(code=1).stderr
