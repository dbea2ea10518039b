"""The Function URL, which changes with the version behind it, by the template of greeter in an emulated account."""

import re

import aws_versions
import boto3
import pytest
import templates
import yaml
from aws_account import ACCOUNT, account, register
from deploying import rollout, stack
from killed import kill_after
from rollouts import values
from small_stacks import archive, run

register()
DISTRIBUTION = f"arn:aws:cloudfront::{ACCOUNT}:distribution/E1"
SIGNED = {"AuthType": "AWS_IAM", "DistributionArn": DISTRIBUTION}
OPEN = {"AuthType": "NONE", "DistributionArn": ""}
ISSUER = {"Issuer": "https://id.example.com"}
ANYONE, CLOUDFRONT = {"*"}, {"cloudfront.amazonaws.com"}


@pytest.fixture
def up(tmp_path, monkeypatch):
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    for features in ([], ["auth"]):
        archive(tmp_path / "zips", b"the first", features)

    def deploy(*words, code=0, **parameters):
        given = [word for name, value in parameters.items() for word in ("--parameter", f"{name}={value}")]
        ended = run("up", "greeter", "--lambda-dir", tmp_path / "zips", "--no-doctor", "--yes", *given, *words)
        assert ended.code == code, ended.text
        return ended

    with account():
        yield deploy


def rollback(*words, code=0):
    ended = run("rollback", "greeter", "--yes", *words)
    assert ended.code == code, ended.text
    return ended


def url():
    """Authentication and invoke mode of the URL, and who may call it."""
    client = boto3.client("lambda")
    found = client.get_function_url_config(FunctionName="greeter", Qualifier="live")
    try:
        policy = yaml.safe_load(client.get_policy(FunctionName="greeter", Qualifier="live")["Policy"])
    except client.exceptions.ResourceNotFoundException:
        policy = {"Statement": []}
    principals = [own["Principal"] for own in policy["Statement"]]
    callers = {own if isinstance(own, str) else own["Service"] for own in principals}
    assert len(principals) == 2 * len(callers)
    return found["AuthType"], found["InvokeMode"], callers


def live():
    return values()["LiveVersion"]


@pytest.mark.parametrize(
    ("first", "second", "before", "after"),
    [
        ({}, {"InvokeMode": "RESPONSE_STREAM"}, ("NONE", "BUFFERED", ANYONE), ("NONE", "RESPONSE_STREAM", ANYONE)),
        ({**SIGNED, "Metrics": "off"}, {**OPEN, **ISSUER}, ("AWS_IAM", "BUFFERED", CLOUDFRONT), ("NONE", "BUFFERED", ANYONE)),
        (ISSUER, {"Issuer": "", **SIGNED}, ("NONE", "BUFFERED", ANYONE), ("AWS_IAM", "BUFFERED", CLOUDFRONT)),
    ],
)
def test_the_url_changes_with_the_version_behind_it(up, first, second, before, after):
    up(**first)
    during = []
    aws_versions.answering[0] = lambda *own: during.append(url()) or aws_versions.answer(*own)
    up(**second)
    assert during == [before] * 2 and url() == after and live() == "2"

    rollback("--no-check", code=1 if first.get("AuthType") else 0)
    # It is not known whether the first version may be public.
    assert url() == (after if first.get("AuthType") else before)


@pytest.mark.parametrize(
    ("first", "second"), [({}, {"InvokeMode": "RESPONSE_STREAM"}), (SIGNED, {**OPEN, **ISSUER}), ({}, {"AuthType": "AWS_IAM"})],
)
def test_a_version_that_fails_its_check_leaves_the_url_as_it_is(up, first, second):
    up(**first)
    before = url()
    aws_versions.answering[0] = lambda *_: RuntimeError("it does not start")
    up(code=1, **second)
    assert url() == before and live() == "1"

    # Neither does another deployment, before its version is checked.
    up(code=1, Metrics="off")
    assert url() == before
    aws_versions.answering[0] = None
    up(Metrics="on")
    assert url() != before


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({}, {"InvokeMode": "RESPONSE_STREAM"}, "InvokeMode"),
        ({}, SIGNED, "AuthType, DistributionArn"),
        (SIGNED, {"DistributionArn": ""}, "DistributionArn"),
    ],
)
def test_a_canary_does_not_change_the_url(up, monkeypatch, first, second, names):
    up(**first)
    before = values()
    assert f"no canary with a change of {names}: both versions" in up("--canary", "0.1", code=1, **second).stderr
    assert values() == before

    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: None)
    up("--canary", "0.1", Metrics="off")
    assert live() == "2"


def test_a_canary_is_refused_after_a_change_of_the_url_that_failed(up):
    up()
    aws_versions.answering[0] = lambda *_: RuntimeError("it does not start")
    up(code=1, InvokeMode="RESPONSE_STREAM")
    assert "no canary with a change of InvokeMode" in up("--canary", "0.1", code=1).stderr


def test_a_change_of_the_url_alone_needs_no_new_version(up):
    up(**SIGNED)
    up(**OPEN)
    assert live() == "1" and url() == ("NONE", "BUFFERED", ANYONE)


def test_a_rollback_returns_to_a_url_with_signatures(up):
    up(AuthType="AWS_IAM")
    up(**OPEN, **ISSUER)
    assert url() == ("NONE", "BUFFERED", ANYONE)
    rollback()
    assert url() == ("AWS_IAM", "BUFFERED", set())


def test_a_rollback_opens_no_version_without_authentication(up):
    up(**SIGNED)
    up(**OPEN, **ISSUER)
    refused = rollback(code=1)
    assert "version 1 authenticates no caller, in contrast to the live one" in refused.stderr and live() == "2"

    # Neither of both authenticates callers.
    up(Issuer="")
    up(Metrics="off")
    rollback()
    assert live() == values()["PreviousVersion"] == "3"


@pytest.mark.parametrize("name", ["LiveInvokeMode", "LiveAuthType", "LiveDistributionArn", "PreviousVersion"])
def test_its_parameters_are_not_given(up, name):
    assert f"{name}: set by make deploy itself" in up(code=1, **{name: ""}).stderr


def test_a_stack_of_an_earlier_template_is_updated_in_place(up, tmp_path, monkeypatch):
    own = templates.FUNCTION.read_text()
    earlier = re.sub(r"(?m)^  (PreviousVersion|Live(InvokeMode|AuthType|DistributionArn)):\n(    .*\n)+", "", own)
    earlier = re.sub(r"!If \[HasLive(?:InvokeMode|AuthType), !Ref \w+, (!Ref \w+)\]", r"\1", earlier)
    earlier = re.sub(r"(?m)^  HasLive(InvokeMode|AuthType): .*\n", "", earlier)
    earlier = re.sub(r"(?m)^  IsPublic: !And\n(    .*\n)+", "  IsPublic: !And [!Condition IsLive, !Equals [!Ref AuthType, NONE]]\n", earlier)
    earlier = re.sub(r"(?m)^  HasDistribution: !And\n(    .*\n)+", '  HasDistribution: !And [!Condition IsLive, !Not [!Equals [!Ref DistributionArn, ""]]]\n', earlier)
    earlier = re.sub(r"(?m)^ +Description: .*PreviousVersion.*\n", "", earlier)
    assert not re.search(r"^  ((Has)?Live[IAD]|Previous)|Ref (Live[IAD]|Previous)", earlier, re.MULTILINE)
    path = tmp_path / "function.yaml"
    path.write_text(earlier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "FUNCTION", path)
        patch.setattr(templates, "SHARED", [path if own.name == "function.yaml" else own for own in templates.SHARED])
        up(**SIGNED)
        up(Metrics="off")
        rollback()
    before = url()
    assert "LiveAuthType" not in values() and before == ("AWS_IAM", "BUFFERED", CLOUDFRONT)

    during = []
    aws_versions.answering[0] = lambda *own: during.append(url()) or aws_versions.answer(*own)
    ended = up(**OPEN, **ISSUER)
    assert "REPLACE" not in ended.stdout and during == [before] * 2
    assert url() == ("NONE", "BUFFERED", ANYONE) and values()["LiveAuthType"] == "NONE" and values()["PreviousVersion"] == "1"


@pytest.mark.parametrize("repair", ["deploy", "rollback"])
@pytest.mark.parametrize("call", ["ExecuteChangeSet", "PublishVersion", "Invoke", "CreateChangeSet:2", "ExecuteChangeSet:2"])
def test_a_killed_deployment_leaves_a_url_that_fits_the_live_version(up, tmp_path, call, repair):
    up(AuthType="AWS_IAM")
    before, after = ("AWS_IAM", "BUFFERED", set()), ("NONE", "RESPONSE_STREAM", ANYONE)
    change = OPEN | ISSUER | {"InvokeMode": "RESPONSE_STREAM"}
    given = [word for name, value in change.items() for word in ("--parameter", f"{name}={value}")]
    killed = kill_after(call, "up", "greeter", "--lambda-dir", tmp_path / "zips", "--no-doctor", "--yes", *given, is_small=False)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    has_moved = call == "ExecuteChangeSet:2"
    assert url() == (after if has_moved else before) and live() == ("2" if has_moved else "1")

    if repair == "rollback":
        rollback(code=0 if has_moved else 1)
        assert url() == before and live() == "1"
    up(**change)
    assert url() == after and live() == "2"
