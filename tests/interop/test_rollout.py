"""A4: deployments in two updates of a stack: versions, their check, canaries and rollbacks, in an emulated account."""

import datetime
import json
from types import SimpleNamespace

import aws_versions
import boto3
import pytest
from deploying import checking, rollout
from rollouts import aws, deploy, on, pass_time, rollback, served, traffic, values, versions, zips
from small_stacks import archive


def test_the_first_deployment_publishes_a_version_and_then_has_a_url(deploy):
    ended = deploy()

    assert "add      Function  AWS::CloudFormation::Stack" in ended.stdout
    assert "Url: https://" in ended.stdout
    assert traffic() == {"1": 1} and values()["LiveVersion"] == "1"
    assert aws_versions.invocations == [("1", "server/discover"), ("1", "tools/list")]


def test_a_deployment_without_changes_publishes_nothing(deploy):
    deploy()
    ended = deploy()

    assert "serves all requests already" in ended.stdout
    assert versions() == ["1"] and traffic() == {"1": 1}


@pytest.mark.parametrize(
    ("parameters", "changed"),
    [
        ({"Variable": "x"}, lambda own: own["Environment"]["Variables"]["VARIABLE"] == "x"),
        ({"MemorySize": "256"}, lambda own: own["MemorySize"] == 256),
        ({"SecretArn": "arn:aws:x"}, lambda own: own["Environment"]["Variables"]["SECRET_ARN"] == "arn:aws:x"),
    ],
)
def test_a_change_of_configuration_alone_reaches_callers(deploy, parameters, changed):
    deploy()
    deploy(**parameters)

    assert traffic() == {"2": 1} and changed(served())


def test_code_that_changes_is_served_when_its_version_was_checked(deploy, tmp_path):
    deploy()
    first = served()["CodeSha256"]
    during = []
    # The version before serves all requests as long as the new one is checked.
    aws_versions.answering[0] = lambda *own: during.append(traffic()) or aws_versions.answer(*own)
    deploy(folder=archive(tmp_path / "next", b"the second"))

    assert during == [{"1": 1}] * 2
    assert traffic() == {"2": 1} and served()["CodeSha256"] != first


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda *_: RuntimeError("exit status 1"), "the invocation failed"),
        (lambda *own: aws_versions.answer(*own, status=502), "status 502"),
        (lambda *_: b'{"statusCode": 200, "headers": {}, "body": "<html>"}', "no result"),
        (lambda *_: b"null", "the result is not a response of HTTP"),
        (lambda *_: b'{"statusCode": 401, "headers": {"www-authenticate": "Bearer"}, "body": ""}', "status 401"),
        (lambda *_: b'{"statusCode": 200, "headers": {}, "body": "{\\"error\\": {}}"}', "no result"),
    ],
)
def test_a_version_that_fails_its_check_serves_nothing(deploy, answer, reason):
    deploy()
    aws_versions.answering[0] = answer
    ended = deploy(code=1, Variable="x")

    assert f"version 2 failed its check, and serves nothing: server/discover: {reason}" in ended.stderr
    assert "version 1 serves all requests" in ended.stderr
    assert traffic() == {"1": 1} and values()["LiveVersion"] == "1"
    aws_versions.answering[0] = None
    # A rollback cannot find it, and the same configuration gets another number.
    assert versions() == ["1"]
    deploy()
    assert traffic() == {"3": 1}


def test_a_first_version_that_fails_its_check_gets_no_url(deploy):
    aws_versions.answering[0] = lambda *_: RuntimeError("no")
    assert "no version serves requests yet" in deploy(code=1).stderr
    assert boto3.client("lambda").list_aliases(FunctionName="greeter")["Aliases"] == []
    aws_versions.answering[0] = None
    deploy()
    assert traffic() == {"2": 1}


def test_a_closed_function_is_checked_by_its_challenge(deploy, tmp_path):
    folder = archive(tmp_path / "closed", b"closed", ["auth"])
    deploy(folder=folder, Issuer="https://id.example.com")
    assert traffic() == {"1": 1}

    aws_versions.answering[0] = lambda *_: b'{"statusCode": 401, "headers": {}, "body": ""}'
    assert "without a challenge" in deploy(code=1, folder=folder, Variable="x").stderr


def closed_by_lines(function, event):
    """A function that reads MCP_VARIABLES, and rejects a request without a token or signer."""
    lines = function.environment_vars["MCP_VARIABLES"].splitlines()
    if "MCP_AUTH=iam" in lines:
        return aws_versions.answer(function, event, status=200 if "iam" in event["requestContext"].get("authorizer", {}) else 403)
    return b'{"statusCode": 401, "headers": {"www-authenticate": "Bearer"}, "body": "{}"}'


@pytest.mark.parametrize("lines", ["OIDC_ISSUER=https://id.example.com\n", "A=b\n MCP_AUTH=required", "GOOGLE_CLIENT_ID=own", "MCP_AUTH=iam"])
def test_variables_in_the_lines_of_another_one_count_in_the_check(deploy, tmp_path, lines):
    aws_versions.answering[0] = closed_by_lines
    for features in ([], ["auth"]):
        folder = archive(tmp_path / "closed", b"closed", features)
    deploy(folder=folder, FurtherVariables=lines)
    assert traffic() == {"1": 1}


def test_a_variable_of_a_line_counts_only_where_none_is_set_itself():
    def read(**variables):
        return checking.variables_of({"Environment": {"Variables": variables}})

    lines = "OIDC_ISSUER=https://lines.example.com\nMCP_AUTH=required\nno assignment\n"
    assert read(MCP_VARIABLES=lines, OIDC_ISSUER="https://own.example.com", MCP_AUTH=" ") == {
        "MCP_VARIABLES": lines, "OIDC_ISSUER": "https://own.example.com", "MCP_AUTH": "required",
    }
    assert read() == {} and checking.variables_of({}) == {}


GREETING = {"name": "personalized_greeting", "arguments": {"name": "Ada"}}


@pytest.fixture
def own_check(tmp_path, monkeypatch):
    """A check in the function's folder: a call of a tool, and a part of its result."""
    path = tmp_path / "checks.json"
    path.write_text(json.dumps([{"method": "tools/call", "params": GREETING, "result": {"structuredContent": {"greeting": "Hello, Ada!"}}}]))
    monkeypatch.setattr(checking, "CHECKS", path)
    return path


def greets(text):
    """A function that answers the call with a text, and everything else without a fault."""

    def answer(function, event):
        if json.loads(event["body"])["method"] != "tools/call":
            return aws_versions.answer(function, event)
        assert event["headers"]["mcp-name"] == GREETING["name"] and json.loads(event["body"])["params"]["arguments"] == GREETING["arguments"]
        return aws_versions.answer(function, event, result={"isError": False, "structuredContent": {"greeting": text, "language": "en"}})

    return answer


def test_a_version_whose_result_differs_from_a_check_of_the_function_serves_nothing(deploy, own_check):
    aws_versions.answering[0] = greets("Hello, Ada!")
    assert "version 1 answers server/discover, tools/list, tools/call" in deploy().stdout

    aws_versions.answering[0] = greets("Hello, Bob!")
    ended = deploy(code=1, Variable="x")
    assert "version 2 failed its check, and serves nothing: tools/call: the result is" in ended.stderr and "Hello, Bob!" in ended.stderr
    assert traffic() == {"1": 1} and versions() == ["1"]
    # A rollback is checked, too.
    aws_versions.answering[0] = greets("Hello, Ada!")
    deploy(Variable="x")
    aws_versions.answering[0] = greets("Hello, Bob!")
    assert "failed its check" in rollback(code=1).stderr and traffic() == {"3": 1}


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"params": {}}]', '[{"method": 1}]', "[" * 100_000])
def test_a_file_of_checks_that_is_none_blocks_the_version(deploy, own_check, text):
    own_check.write_text(text)
    assert "checks.json must have the form" in deploy(code=1).stderr
    assert versions() == []


def test_a_streamed_response_is_read(deploy):
    head = b'{"statusCode":200,"headers":{"content-type":"text/event-stream"}}' + b"\0" * 8
    aws_versions.answering[0] = lambda *_: head + b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
    deploy()
    assert traffic() == {"1": 1}


def test_a_function_that_is_switched_off_is_deployed_without_a_check(deploy):
    deploy(ReservedConcurrency="0")

    assert aws_versions.invocations == [] and traffic() == {"1": 1}


def test_a_canary_without_an_alarm_gets_all_requests(deploy, monkeypatch):
    deploy()
    during = []
    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: during.append(traffic()))
    deploy("--canary", "0.1", Variable="x")

    assert during == [{"1": 0.9, "2": 0.1}]
    assert traffic() == {"2": 1} and values()["CanaryVersion"] == ""


def test_a_canary_is_watched_for_the_minutes_that_are_given(deploy, monkeypatch):
    deploy()
    now, looks = [0.0], []
    refuse = rollout.Rollout.refuse_alarms
    monkeypatch.setattr(rollout.Rollout, "refuse_alarms", lambda own: looks.append(now[0]) or refuse(own))
    clock = type("Clock", (), {"monotonic": staticmethod(lambda: now[0]), "sleep": staticmethod(lambda own: now.__setitem__(0, now[0] + 30))})
    monkeypatch.setattr(rollout, "time", clock)
    # Requests are shown with a delay.
    counts = {"Invocations": [7, 1, 2], "Errors": []}
    monkeypatch.setattr(rollout.Rollout, "counts", lambda own, metric, version, begin: counts[metric] if now[0] > 400 else [7, 1])
    ended = deploy("--canary", ".5", "--minutes", "5", Variable="x")

    assert looks == [0, *range(0, 300, 30), 420] and traffic() == {"2": 1}
    assert "version 2 served 10 requests without an alarm; 0 failed" in ended.stdout


def count(metric, values, **dimensions):
    """Publishes a metric of the second version behind the alias: a value for each minute from now on."""
    named = {"FunctionName": "greeter", "Resource": "greeter:live", "ExecutedVersion": "2"} | dimensions
    dimensions = [{"Name": name, "Value": value} for name, value in named.items()]
    now = datetime.datetime.now(datetime.UTC)
    for minute, value in enumerate(values):
        at = now + datetime.timedelta(minutes=minute)
        data = {"MetricName": metric, "Dimensions": dimensions, "Value": value, "Unit": "Count", "Timestamp": at}
        boto3.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=[data])


@pytest.fixture
def later(monkeypatch):
    """The metrics of the next minutes are there."""
    now = rollout.datetime.datetime

    class Later(now):
        @classmethod
        def now(cls, zone):
            # Of the query. The canary begins now.
            return now.now(zone) + (datetime.timedelta(minutes=9) if cls.calls.pop(0) else datetime.timedelta())

        calls = [False, *[True] * 100]

    monkeypatch.setattr(rollout, "datetime", SimpleNamespace(datetime=Later, timedelta=datetime.timedelta, UTC=datetime.UTC))


@pytest.mark.parametrize(
    ("served", "dimensions", "minutes"),
    [
        ([], {}, 0),
        ([3, 3, 3], {"ExecutedVersion": "1"}, 0),
        ([3, 3, 3], {"Resource": "greeter"}, 0),
        # Many requests of one client at once.
        ([50], {}, 1),
        ([3, 0, 0, 2, 0], {}, 2),
        ([1, 0, 1, 1], {}, 3),
    ],
)
def test_a_canary_without_requests_in_three_minutes_is_withdrawn(deploy, monkeypatch, later, served, dimensions, minutes):
    """By the metric of its version behind the alias, which no other version and no direct invocation counts for."""
    deploy()
    pass_time(monkeypatch, 100)
    count("Invocations", served, **dimensions)
    ended = deploy("--canary", "0.1", code=0 if minutes == 3 else 1, Variable="x")

    if minutes == 3:
        assert "version 2 served 3 requests without an alarm; 0 failed" in ended.stdout and traffic() == {"2": 1}
    else:
        assert f"version 2 was withdrawn: it served requests in {minutes} of 10 minutes" in ended.stderr
        assert traffic() == {"1": 1} and versions() == ["1"]


@pytest.mark.parametrize(
    ("served", "failed", "dimensions", "is_good"),
    [
        # A quiet server, whose alarms need three minutes with failures in five.
        ([1, 0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 0, 0, 1], {}, False),
        ([40, 40, 19], [0, 1, 0], {}, False),
        ([40, 40, 20], [0, 1, 0], {}, True),
        # Of the version before.
        ([1, 1, 1], [1, 1, 1], {"ExecutedVersion": "1"}, True),
    ],
)
def test_a_canary_is_withdrawn_if_more_than_one_in_a_hundred_of_its_requests_failed(deploy, monkeypatch, later, served, failed, dimensions, is_good):
    deploy()
    pass_time(monkeypatch, 100)
    count("Invocations", served)
    count("Errors", failed, **dimensions)
    ended = deploy("--canary", "0.1", code=0 if is_good else 1, Variable="x")

    if is_good:
        assert traffic() == {"2": 1}
    else:
        assert f"version 2 was withdrawn: {sum(failed)} of its {sum(served)} requests failed" in ended.stderr
        assert traffic() == {"1": 1} and versions() == ["1"]


def test_a_canary_with_an_alarm_is_withdrawn_and_the_command_fails(deploy, monkeypatch):
    deploy()
    during = []
    # The alarm goes off while the canary serves requests.
    monkeypatch.setattr(rollout.time, "sleep", lambda _: during.append(traffic()) or on("ALARM"))
    ended = deploy("--canary", "0.25", "--minutes", "5", code=1, Variable="x")

    assert during[0] == {"1": 0.75, "2": 0.25}
    assert "version 2 was withdrawn: an alarm is on" in ended.stderr and versions() == ["1"]
    assert traffic() == {"1": 1} and values()["CanaryVersion"] == ""


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit])
def test_a_canary_that_is_interrupted_is_withdrawn(deploy, monkeypatch, ends):
    deploy()

    def interrupt(_):
        raise ends

    monkeypatch.setattr(rollout.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt) if ends is KeyboardInterrupt else pytest.MonkeyPatch.context():
        deploy("--canary", "0.1", Variable="x")

    assert traffic() == {"1": 1}


def test_an_alarm_that_is_on_already_refuses_a_canary_and_not_a_fix(deploy):
    deploy()
    on("ALARM")
    ended = deploy("--canary", "0.1", code=1, Variable="x")
    assert "no canary: an alarm is on" in ended.stderr and traffic() == {"1": 1}

    deploy()
    assert traffic() == {"2": 1}


@pytest.mark.parametrize("weight", ["0", "1", "1.5", "-0.1", "0.0", "ten", "nan", "0.01", ".019"])
def test_a_weight_is_a_part_of_the_requests_that_alarms_notice(deploy, weight):
    assert "--canary" in deploy(f"--canary={weight}", code=2).stderr


@pytest.mark.parametrize("minutes", ["0", "4", "241", "ten", "5.5"])
def test_a_canary_lasts_as_long_as_alarms_need(deploy, minutes):
    assert "--minutes" in deploy(f"--minutes={minutes}", code=2).stderr


def test_a_rollback_is_the_same_update_with_an_earlier_number(deploy):
    deploy()
    deploy(Variable="x")
    deploy(Variable="y")

    rollback()
    assert traffic() == {"2": 1} and served()["Environment"]["Variables"]["VARIABLE"] == "x"
    rollback("--version", "1")
    assert traffic() == {"1": 1}
    rollback("--version", "3")
    assert traffic() == {"3": 1}
    # The stack has the configuration of the last deployment: the next one goes on from there.
    assert values()["Variable"] == "y"
    for words, reason in ((["--version", "9"], "has no version 9"), (["--version", "3"], "already")):
        assert reason in rollback(*words, code=1).stderr


def test_there_is_no_rollback_before_the_first_version(deploy):
    assert "there is no stack greeter" in rollback(code=1).stderr
    deploy()
    assert "no version before 1 is known: name one with VERSION=…; greeter has 1" in rollback(code=1).stderr


def test_a_rollback_to_a_version_that_fails_its_check_is_refused(deploy):
    deploy()
    deploy(Variable="x")
    aws_versions.answering[0] = lambda *_: RuntimeError("its database is gone")
    assert "failed its check" in rollback(code=1).stderr
    assert traffic() == {"2": 1}
    rollback("--no-check")
    assert traffic() == {"1": 1}


def test_the_last_ten_versions_stay_and_those_that_serve(deploy, monkeypatch):
    monkeypatch.setattr(rollout, "KEPT", 2)
    for number in range(4):
        deploy(Variable=str(number))
    assert versions() == ["3", "4"]
    boto3.client("lambda").create_alias(FunctionName="greeter", Name="own", FunctionVersion="3")
    for number in range(4, 6):
        deploy(Variable=str(number))
    assert versions() == ["3", "5", "6"]
