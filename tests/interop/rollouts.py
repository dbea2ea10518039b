"""Fixtures and helpers of the tests of deployments: `scripts/deploy.py` on the small stacks, in an emulated account."""

import threading
from types import SimpleNamespace

import aws_versions
import boto3
import pytest
import small_stacks
from aws_account import account, register
from small_stacks import archive, run

register()


@pytest.fixture
def aws(monkeypatch):
    import templates
    from deploying import stack

    for module, name in ((templates, "SHARED"), (templates, "FUNCTION"), (templates, "path_of"), (templates, "stacks"), (stack, "POLL_SECONDS")):
        monkeypatch.setattr(module, name, getattr(module, name))
    small_stacks.use()
    with account():
        yield


@pytest.fixture
def zips(tmp_path):
    return archive(tmp_path / "zips", b"the first")


@pytest.fixture
def deploy(aws, zips):
    """Deploys greeter, and expects success unless `code` says otherwise."""

    def up(*words, code=0, folder=zips, yes=True, **parameters):
        given = [word for name, value in parameters.items() for word in ("--parameter", f"{name}={value}")]
        ended = run("up", "greeter", "--lambda-dir", folder, "--no-doctor", *(["--yes"] if yes else []), *given, *words)
        assert ended.code == code, ended.text
        return ended

    return up


def rollback(*words, code=0):
    ended = run("rollback", "greeter", "--yes", *words)
    assert ended.code == code, ended.text
    return ended


def values(stack="greeter"):
    (described,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {own["ParameterKey"]: own["ParameterValue"] for own in described["Parameters"]}


def traffic():
    return aws_versions.traffic("greeter")


def served():
    """The configuration of the version that serves all requests."""
    ((version, part),) = traffic().items()
    assert part == 1
    return boto3.client("lambda").get_function_configuration(FunctionName="greeter", Qualifier=version)


def versions():
    listed = boto3.client("lambda").list_versions_by_function(FunctionName="greeter")["Versions"]
    return [own["Version"] for own in listed if own["Version"] != "$LATEST"]


def on(alarm_state):
    client = boto3.client("cloudwatch")
    (alarm,) = client.describe_alarms()["MetricAlarms"]
    client.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue=alarm_state, StateReason="for a test")


def code_of(name):
    """The digest of the code that serves all requests of a stack."""
    ((version, part),) = aws_versions.traffic(name).items()
    assert part == 1
    return boto3.client("lambda").get_function_configuration(FunctionName=name, Qualifier=version)["CodeSha256"]


def digest_of(name):
    return values(name)["CodeKey"].rpartition("/")[2].removesuffix(".zip")


def pass_time(monkeypatch, seconds, happening=lambda: None):
    """Makes each pause of a canary take this time at once. The first one runs `happening`, with a clock of its own. Returns the time."""
    from deploying import rollout

    now, happenings = [0.0], [happening]

    def sleep(_):
        now[0] += seconds
        if happenings:
            happenings.pop()()

    monkeypatch.setattr(rollout, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def raise_alarm_of(name, seen):
    """Sets an alarm of the stack as soon as a canary serves requests; keeps the traffic at that time."""
    cloudwatch, is_over = boto3.client("cloudwatch"), threading.Event()

    def watch():
        while not is_over.wait(0.02):
            # The alias, and not the parameter of the stack, which has its value before.
            if len(weights := aws_versions.traffic(name)) > 1:
                seen.append(weights)
                alarm, *_ = [own["AlarmName"] for own in cloudwatch.describe_alarms()["MetricAlarms"] if own["AlarmName"].startswith(name)]
                cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="errors of the canary")
                return

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, is_over
