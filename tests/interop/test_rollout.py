"""A4, B18: deployments in two updates of a stack, canaries, rollbacks, and what a change set must not do, in an emulated account."""

import json
import subprocess
import sys

import aws_changes
import aws_versions
import boto3
import pytest
import small_stacks
from aws_account import account, register
from deploying import changes, rollout
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
    deploy("--canary", ".5", "--minutes", "3", Variable="x")

    assert looks == [0, 0, 30, 60, 90, 120, 150, 180] and traffic() == {"2": 1}


def test_a_canary_with_an_alarm_is_withdrawn_and_the_command_fails(deploy, monkeypatch):
    deploy()
    during = []
    # The alarm goes off while the canary serves requests.
    monkeypatch.setattr(rollout.time, "sleep", lambda _: during.append(traffic()) or on("ALARM"))
    ended = deploy("--canary", "0.25", "--minutes", "1", code=1, Variable="x")

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


@pytest.mark.parametrize("weight", ["0", "1", "1.5", "-0.1", "0.0", "ten", "nan"])
def test_a_weight_is_a_part_of_the_requests(deploy, weight):
    assert "--canary" in deploy(f"--canary={weight}", code=2).stderr


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
    assert "there is no version before 1" in rollback(code=1).stderr


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


@pytest.mark.parametrize(
    ("parameters", "name", "kind"),
    [
        ({"DataName": "another"}, "Documents", "AWS::S3::Bucket"),
        ({"Data": "no"}, "Documents", "AWS::S3::Bucket"),
    ],
)
def test_what_would_be_lost_has_to_be_named(deploy, parameters, name, kind):
    """B18: in nested stacks, too; by a replacement, or with a nested stack that is removed."""
    deploy()
    buckets = boto3.client("s3").list_buckets()["Buckets"]
    for words in ([], ["--replace", "Function,Topic"]):
        ended = deploy(*words, code=1, **parameters)
        assert f"would replace or remove Storage/{name} ({kind})" in ended.stderr and f"REPLACE={name}" in ended.stderr
        assert boto3.client("s3").list_buckets()["Buckets"] == buckets and values().get("Data") == "yes"
        assert boto3.client("cloudformation").list_change_sets(StackName="greeter")["Summaries"] == []

    deploy("--replace", name, **parameters)
    assert boto3.client("s3").list_buckets()["Buckets"] != buckets


def test_the_url_stays_when_the_function_that_it_names_changes(deploy):
    """The change set calls its replacement conditional, since the function's ARN is an attribute."""
    deploy()
    ended = deploy(Variable="x")
    assert "REPLACE" not in ended.stdout and traffic() == {"2": 1}


def described(replacement, *details):
    details = [{"Target": {"RequiresRecreation": "Always"}, **own} for own in details]
    return {"ResourceType": "AWS::Lambda::Url", "Action": "Modify", "Replacement": replacement, "Details": details}


ATTRIBUTE = {"Evaluation": "Dynamic", "ChangeSource": "ResourceAttribute"}


@pytest.mark.parametrize(
    ("change", "of_the_function", "expected"),
    [
        (described("True"), "False", True),
        (described("False"), "False", False),
        (described("Conditional", {**ATTRIBUTE, "CausingEntity": "Function.Arn"}), "False", False),
        (described("Conditional", {**ATTRIBUTE, "CausingEntity": "Function.Arn"}), "True", True),
        (described("Conditional", {**ATTRIBUTE, "CausingEntity": "Function.Arn"}), "Conditional", True),
        (described("Conditional", {**ATTRIBUTE, "CausingEntity": "Function.Other"}), "False", True),
        (described("Conditional", {**ATTRIBUTE, "CausingEntity": "Function.Arn"}, {"Evaluation": "Static"}), "False", True),
        (described("Conditional"), "False", True),
    ],
)
def test_a_conditional_replacement_counts_unless_its_cause_stays(change, of_the_function, expected):
    assert changes.is_replaced(change, {"Function": of_the_function}) is expected


def test_the_changes_are_shown_and_executed_only_if_asked_for(deploy, zips):
    deploy()
    words = ["up", "greeter", "--lambda-dir", zips, "--no-doctor", "--parameter", "Variable=x"]
    no = run(*words, input="y\nn\n")
    assert no.code == 1 and "modify   Function/Function  AWS::Lambda::Function" in no.stdout and "not changed" in no.stderr
    plan = run(*words, "--yes", "--plan")
    assert plan.code == 0 and "modify   Function/Function  AWS::Lambda::Function" in plan.stdout
    assert versions() == ["1"] and values()["Variable"] == ""
    yes = run(*words, input="y\ny\n")
    assert yes.code == 0 and traffic() == {"2": 1}


def test_a_stack_that_was_not_confirmed_leaves_nothing(aws, zips):
    no = run("up", "greeter", "--lambda-dir", zips, "--no-doctor", input="y\nn\n")
    assert no.code == 1
    stacks = boto3.client("cloudformation").list_stacks()["StackSummaries"]
    assert [own["StackStatus"] for own in stacks] == ["DELETE_COMPLETE"]


def test_parameters_and_tags_of_a_stage_are_in_a_file(deploy, tmp_path):
    stage = tmp_path / "production.json"
    stage.write_text(json.dumps({"Parameters": {"Variable": "of the file", "MemorySize": "256"}, "Tags": {"team": "data", "cost": "1"}}))
    deploy("--parameters-file", stage, "--tag", "cost=2", Variable="of the line")
    assert (values()["Variable"], values()["MemorySize"]) == ("of the line", "256")

    def tags():
        (stack,) = boto3.client("cloudformation").describe_stacks(StackName="greeter")["Stacks"]
        return {own["Key"]: own["Value"] for own in stack["Tags"]}

    assert tags() == {"team": "data", "cost": "2"}
    deploy("--tag", "cost=", Variable="x")
    assert tags() == {"team": "data"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"Parameters": {"LiveVersion": "1"}}', "set by make deploy itself"),
        ('{"Parameters": {"A": "1", "A": "2"}}', "it has a name twice"),
        ('{"Parameters": {"MemorySize": 256}}', "is text"),
        ('{"parameters": {}}', "another form"),
        ('[]', "another form"),
        ('{', "is not JSON"),
        ('[' * 100_000, "is not JSON"),
        ('{"Parameters": {"Unknown": "1"}}', "the template has no parameter Unknown"),
    ],
)
def test_a_file_of_parameters_that_is_none_is_refused(deploy, tmp_path, text, reason):
    stage = tmp_path / "stage.json"
    stage.write_text(text)
    assert reason in deploy("--parameters-file", stage, code=1).stderr


def test_one_artifact_goes_through_all_stages_by_its_digest(deploy, tmp_path):
    deploy("--name", "greeter-staging")
    digest = values("greeter-staging")["CodeKey"].rpartition("/")[2].removesuffix(".zip")
    promoted = run("up", "greeter", "--name", "greeter-production", "--digest", digest, "--yes", "--no-doctor")
    assert promoted.code == 0, promoted.text
    assert values("greeter-production")["CodeKey"] == values("greeter-staging")["CodeKey"]
    unknown = run("up", "greeter", "--name", "greeter-production", "--digest", "0" * 64, "--yes", "--no-doctor")
    assert unknown.code == 1 and "has no zip of greeter" in unknown.stderr
    # With an issuer another zip is needed.
    closed = run("up", "greeter", "--digest", digest, "--yes", "--no-doctor", "--parameter", "Issuer=https://id.example.com")
    assert closed.code == 1 and "the features auth" in closed.stderr
    other = deploy("--digest", digest, code=1, folder=archive(tmp_path / "other", b"another"))
    assert f"and not {digest}" in other.stderr


def test_an_object_that_was_changed_is_not_promoted(deploy):
    deploy()
    (bucket,) = [own["Name"] for own in boto3.client("s3").list_buckets()["Buckets"] if own["Name"].startswith("mcp-on-lambda")]
    key = values()["CodeKey"]
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"another")
    digest = key.rpartition("/")[2].removesuffix(".zip")
    ended = run("up", "greeter", "--digest", digest, "--yes", "--no-doctor", "--parameter", "Variable=x")
    assert ended.code == 1 and "it was changed" in ended.stderr


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED"])
def test_a_state_without_a_way_on_is_refused_with_the_procedure(deploy, status):
    deploy()
    aws_changes.next_end.append(status)
    deploy(code=1, Variable="x")
    for ended in (deploy(code=1, Variable="x"), rollback(code=1)):
        wanted = "continue-update-rollback" if status.startswith("UPDATE") else "`make destroy` it first"
        assert f"is in {status}" in ended.stderr and wanted in ended.stderr


def test_an_update_that_was_rolled_back_is_repeated(deploy):
    deploy()
    aws_changes.next_end.append("UPDATE_ROLLBACK_COMPLETE")
    failed = deploy(code=1, Variable="x")
    assert "Broken: emulated failure" in failed.stderr and traffic() == {"1": 1}
    deploy(Variable="x")
    assert traffic() == {"2": 1}


def test_a_running_update_is_waited_for(deploy):
    aws_changes.slowness[0] = 3
    deploy()
    deploy(Variable="x")
    assert traffic() == {"2": 1}
    # Of another deployment, which was killed.
    from moto.cloudformation.models import cloudformation_backends

    (stack,) = [own for own in cloudformation_backends["123456789012"]["us-east-1"].stacks.values() if own.name == "greeter"]
    stack.pending = 3
    assert "waiting until this has ended" in deploy(Variable="y").stdout
    assert traffic() == {"3": 1}


def test_a_protected_stack_is_not_destroyed(deploy):
    deploy("--protect", "yes", "--role-arn", "arn:aws:iam::123456789012:role/cloudformation")
    from moto.cloudformation.models import cloudformation_backends

    (stack,) = [own for own in cloudformation_backends["123456789012"]["us-east-1"].stacks.values() if own.name == "greeter"]
    assert stack.role_arn == "arn:aws:iam::123456789012:role/cloudformation"
    refused = run("down", "greeter", "--yes")
    assert refused.code == 1 and "PROTECT=no" in refused.stderr
    deploy("--protect", "no")
    gone = run("down", "greeter", "--yes")
    assert gone.code == 0 and "Function/FunctionUrl" in gone.stdout, gone.text
    assert boto3.client("lambda").list_functions()["Functions"] == []


def test_a_name_that_would_be_cut_is_refused(deploy):
    """C9"""
    assert "longer than 40 characters" in deploy("--name", "a" * 41, code=1).stderr


def test_the_verification_of_an_account_runs_all_of_its_steps(aws, zips, monkeypatch, capfd):
    import verify_account

    def answer(function, event):
        return RuntimeError("no bootstrap") if function.code_bytes.startswith(b"PK\5\6") else aws_versions.answer(function, event)

    aws_versions.answering[0] = answer
    monkeypatch.setattr(verify_account, "COMMAND", [sys.executable, small_stacks.FOLDER.parent / "small_stacks.py"])
    # No process listens at the URL of the emulated account.
    monkeypatch.setattr(verify_account.Verification, "call", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["verify_account.py", "--lambda-dir", str(zips), "--change", "Variable=x", "--yes"])
    verify_account.main()

    printed = capfd.readouterr().out
    assert printed.count("STEP ") == 8 and printed.endswith("verified\n"), printed
    assert boto3.client("lambda").list_functions()["Functions"] == []


OLD = small_stacks.FOLDER / "old"
ISSUER = {"Issuer": "https://id.example.com"}


def old_stack(name, **parameters):
    """A stack of the templates whose Function URL is on $LATEST, as an earlier `make deploy` made it."""
    s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
    s3.create_bucket(Bucket="earlier")
    for template in OLD.glob("*.yaml"):
        s3.put_object(Bucket="earlier", Key=f"templates/{template.name}", Body=template.read_bytes())
    s3.put_object(Bucket="earlier", Key="code", Body=b"earlier")
    given = {"ArtifactBucket": "earlier", "CodeKey": "code", "TemplatesPrefix": "templates", **parameters}
    cloudformation.create_stack(
        StackName="greeter", TemplateBody=(OLD / f"{name}.yaml").read_text(), Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    )


@pytest.mark.parametrize(
    ("name", "parameters"), [("greeter", {}), ("event-logger", ISSUER), ("api-docs", {"Source": "https://example.com/openapi.json"})],
)
def test_a_stack_whose_url_is_on_latest_is_refused_and_replaced_by_one_beside_it(deploy, zips, name, parameters):
    """The procedure of docs/migration.md."""
    old_stack(name, **parameters)
    before = boto3.client("lambda").list_functions()["Functions"]

    for words in (["up", "greeter", "--lambda-dir", zips, "--no-doctor", "--yes"], ["up", "greeter", "--digest", "0" * 64, "--no-doctor", "--yes"]):
        refused = run(*words)
        assert refused.code == 1 and "docs/migration.md#stacks-whose-url-is-on-latest" in refused.stderr, refused.text
    assert boto3.client("lambda").list_functions()["Functions"] == before
    assert [own["Name"] for own in boto3.client("s3").list_buckets()["Buckets"]] == ["earlier"]
    assert "no stack greeter with versions" in rollback(code=1).stderr

    deploy("--name", "greeter-2")
    assert aws_versions.traffic("greeter-2") == {"1": 1}
    destroyed = run("down", "greeter", "--yes")
    assert destroyed.code == 0 and "AWS::Lambda::Url" in destroyed.stdout, destroyed.text
    assert [own["FunctionName"] for own in boto3.client("lambda").list_functions()["Functions"]] == ["greeter-2"]


def test_the_procedure_keeps_network_and_database_of_the_old_stack(aws):
    """By the line of the documentation."""
    import re
    import shutil
    import tempfile

    import tools

    (line,) = re.findall(r"^ +(sed -i .*)$", (tools.PROJECT / "docs" / "migration.md").read_text(), re.MULTILINE)
    old_stack("event-logger", **ISSUER)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(OLD, f"{folder}/infra")
        subprocess.run(line, shell=True, cwd=folder, check=True)
        with open(f"{folder}/infra/event-logger.yaml") as file:
            kept = file.read()
    cloudformation = boto3.client("cloudformation")
    kept_ones = [{"ParameterKey": key, "UsePreviousValue": True} for key in values()]
    made = cloudformation.create_change_set(
        StackName="greeter", ChangeSetName="keep", ChangeSetType="UPDATE", TemplateURL=uploaded(kept), Parameters=kept_ones,
    )
    cloudformation.execute_change_set(ChangeSetName=made["Id"])
    destroyed = run("down", "greeter", "--yes")

    assert destroyed.code == 0, destroyed.text
    left = {own["StackName"].split("-")[1] for own in cloudformation.describe_stacks()["Stacks"]}
    assert left == {"Network", "Database"}


def uploaded(template):
    boto3.client("s3").put_object(Bucket="earlier", Key="kept.yaml", Body=template)
    return "https://earlier.s3.us-east-1.amazonaws.com/kept.yaml"


# The calls after which a deployment is killed: each changes something.
CHANGING = [
    "CreateBucket", "PutPublicAccessBlock", "PutObject", "CreateChangeSet", "ExecuteChangeSet", "PublishVersion", "Invoke",
    "CreateChangeSet:2", "ExecuteChangeSet:2", "CreateChangeSet:3", "ExecuteChangeSet:3", "DeleteFunction",
]
KILLS = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import small_stacks
from deploying.account import Account
from deploying import rollout, stack
name, _, number = {call!r}.partition(":")
left = int(number or 1)
def kill(**_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
def client(account, service):
    made = account.session.client(service)
    made.meta.events.register(f"after-call.*.{{name}}", kill)
    return made
Account.client = client
small_stacks.use()
rollout.KEPT = 1
rollout.Rollout.watch = lambda own: None
small_stacks.deploy.main()
"""


def kill_after(call, *words):
    folder = str(small_stacks.FOLDER.parent)
    program = KILLS.format(folder=folder, call=call)
    return subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("call", CHANGING)
@pytest.mark.parametrize(
    ("is_first", "repair"),
    [pytest.param(True, "deploy", marks=pytest.mark.slow), (False, "deploy"), pytest.param(False, "rollback", marks=pytest.mark.slow)],
)
def test_a_deployment_that_is_killed_is_repaired_by_the_next_command(deploy, zips, call, repair, is_first):
    """SIGKILL after each call that changes something, also while the stack is still being updated."""
    aws_changes.slowness[0] = 2
    if not is_first:
        deploy()
    words = ["up", "greeter", "--lambda-dir", zips, "--yes", "--no-doctor", "--canary", "0.1", "--minutes", "1", "--parameter", "Variable=x"]
    if is_first and (call.endswith(":3") or call == "DeleteFunction") or not is_first and call == "CreateBucket":
        pytest.skip("this deployment has no such call")
    killed = kill_after(call, *words)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    if not is_first:
        assert traffic().keys() <= {"1", "2"} and "1" in traffic() or traffic() == {"2": 1}

    if repair == "rollback" and not is_first:
        # Back to the version before, wherever the deployment was.
        ended = run("rollback", "greeter", "--yes", *(["--version", "1"] if traffic() == {"2": 1} else []))
        assert ended.code in (0, 1), ended.text
        # Unless the killed deployment deleted that version, as the very last.
        assert traffic() == ({"2": 1} if call == "DeleteFunction" else {"1": 1}) and values()["CanaryVersion"] == ""
    deploy(Variable="x")
    assert len(traffic()) == 1 and served()["Environment"]["Variables"]["VARIABLE"] == "x"
    assert values()["CanaryVersion"] == "" and values()["LiveVersion"] in traffic()
    assert boto3.client("cloudformation").list_change_sets(StackName="greeter")["Summaries"] == []
