"""The weights of the alias, which CloudFormation changes and the commands compare, in an emulated account."""

import aws_versions
import boto3
import pytest
from deploying import rollout
from rollouts import aws, deploy, pass_time, traffic, versions, zips

CANARY = ["--canary", "0.1", "--minutes", "5"]


def test_a_promotion_whose_weights_stay_fails(deploy, monkeypatch):
    deploy()
    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: aws_versions.keeps_weights.__setitem__(0, True))
    pass_time(monkeypatch, 30)
    ended = deploy(*CANARY, code=1, Variable="x")

    assert "the alias live of greeter serves 10 % by version 2, in place of 100 % by version 2, although the update of the stack succeeded" in ended.stderr
    assert "aws lambda update-alias --function-name greeter --name live --function-version VERSION" in ended.stderr


def test_a_withdrawal_whose_weights_stay_fails_and_deletes_nothing(deploy, monkeypatch):
    deploy()

    def fail(own):
        aws_versions.keeps_weights[0] = True
        raise rollout.CanaryError("an alarm is on")

    monkeypatch.setattr(rollout.Rollout, "watch", fail)
    pass_time(monkeypatch, 30)
    ended = deploy(*CANARY, code=1, Variable="x")

    assert "serves 90 % by version 1, 10 % by version 2, in place of 100 % by version 1" in ended.stderr
    assert versions() == ["1", "2"]


@pytest.mark.parametrize("weight", ["0.1", "0.25", "0.3333", ".02"])
def test_the_weight_of_a_canary_is_that_of_the_alias(deploy, monkeypatch, weight):
    deploy()
    during = []
    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: during.append(traffic()))
    deploy("--canary", weight, Variable="x")

    assert during == [{"1": round(1 - float(weight), 4), "2": float(weight)}]
    assert rollout.traffic_of(boto3.client("lambda"), "greeter") == traffic() == {"2": 1}


def test_an_alias_that_is_read_too_early_is_read_again(deploy, monkeypatch):
    found = [{}, {"1": 1}]
    monkeypatch.setattr(rollout, "traffic_of", lambda *_: found.pop(0))
    pass_time(monkeypatch, 30)
    deploy()
    assert found == []


def test_a_function_without_an_alias_serves_no_version(deploy):
    deploy()
    assert rollout.traffic_of(boto3.client("lambda"), "greeter") == {"1": 1}
    boto3.client("lambda").delete_alias(FunctionName="greeter", Name="live")
    assert rollout.traffic_of(boto3.client("lambda"), "greeter") == {}
