"""A stack with tasks in an emulated account: the function that runs them, its schedule and alarms, and its versions."""

import ast
import base64
import datetime
import json

import aws_versions
import boto3
import pytest
from aws_account import ACCOUNT, REGION, account, given, loaded, register
from deploying import migration, stack, tasks
from killed import kill_after
from moto.secretsmanager.models import secretsmanager_backends
from small_stacks import archive, run

register()
NAME = "event-logger-dsql"
WORKER = f"{NAME}-tasks"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{WORKER}"
ON = "Tasks=on"


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Deploys event-logger with the code of this content, and expects success unless `code` says otherwise."""
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(migration, "POLL_SECONDS", 0.01)

    def up(*parameters, content=b"first", name=NAME, options=(), code=0):
        folder = tmp_path / content.decode()
        for features in ([], ["tasks"]):
            archive(folder, content, features, function="event-logger")
        issuer = "Issuer=https://id.example.com"
        given = [word for own in (issuer, *parameters) for word in ("--parameter", own)]
        ended = run("up", name, "--lambda-dir", folder, "--no-doctor", "--yes", *given, *options)
        assert ended.code == code, ended.text
        return ended

    with account():
        yield up


def client():
    return boto3.client("lambda")


def aliases():
    listed = client().list_aliases(FunctionName=WORKER)["Aliases"]
    return {own["Name"]: own["FunctionVersion"] for own in listed}


def worker_versions():
    return mcp_versions(WORKER)


def mcp_versions(function=NAME):
    listed = client().list_versions_by_function(FunctionName=function)["Versions"]
    return [own["Version"] for own in listed if own["Version"] != "$LATEST"]


def wakes(version):
    """The function that a version of the MCP function wakes."""
    found = client().get_function_configuration(FunctionName=NAME, Qualifier=version)
    return found["Environment"]["Variables"][tasks.VARIABLE]


def nested(name):
    """The resources of the nested stack of this logical id, by logical id."""
    from moto.cloudformation.models import cloudformation_backends

    stacks = [own for own in cloudformation_backends[ACCOUNT][REGION].stacks.values() if f"-{name}-" in own.name]
    (own,) = [own for own in stacks if own.name.rpartition("-")[0].endswith(name)]
    return own.resource_map._parsed_resources


def schedule():
    return nested("TasksFunction").get("Schedule")


def statements(role_arn):
    iam, role = boto3.client("iam"), role_arn.rpartition("/")[2]
    found = []
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        found += (ast.literal_eval(document) if isinstance(document, str) else document)["Statement"]
    return found


def test_a_second_function_of_the_same_zip_runs_tasks(deploy):
    deploy(ON, "TasksTimeout=600", "TasksConcurrency=3")

    function, worker = (client().get_function_configuration(FunctionName=own) for own in (NAME, WORKER))
    own, others = worker["Environment"]["Variables"], function["Environment"]["Variables"]
    (alias,) = aliases()
    assert worker["CodeSha256"] == function["CodeSha256"] and worker["Timeout"] == 600 and worker["Role"] == function["Role"]
    assert client().get_function_concurrency(FunctionName=WORKER)["ReservedConcurrentExecutions"] == 3
    assert own["MCP_ROLE"] == "tasks" and own[tasks.VARIABLE] == others[tasks.VARIABLE] == f"{WORKER}:{alias}"
    # Both build the same server, with the same key and database.
    assert {name: value for name, value in own.items() if name != "MCP_ROLE"} == {
        name: value for name, value in others.items() if name != "MCP_INVOKE_MODE"
    }
    assert "DB_HOST=" in own["MCP_VARIABLES"] and own["MCP_STATE_KEY_SECRET_ARN"] and own["MCP_AUTH"] == "required"
    with pytest.raises(client().exceptions.ResourceNotFoundException):
        client().get_function_url_config(FunctionName=WORKER)
    assert nested("TasksFunction")["InvokeConfig"].given == {
        "FunctionName": WORKER, "Qualifier": "$LATEST", "MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 3600,
    }


def test_both_functions_may_invoke_the_second_and_nothing_else(deploy):
    deploy(ON)

    role = client().get_function_configuration(FunctionName=WORKER)["Role"]
    invoke = [own for own in statements(role) if "lambda:InvokeFunction" in own["Action"]]
    assert invoke == [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": f"{ARN}:*"}]
    (_, target) = (schedule().given["ScheduleExpression"], schedule().given["Target"])
    assert [own["Resource"] for own in statements(target["RoleArn"])] == [f"{ARN}:*"]


def test_the_schedule_invokes_the_alias_of_the_live_version(deploy):
    before = []
    aws_versions.running_tasks[0] = lambda *_: before.append(schedule()) or b'{"woken": 2}'
    ended = deploy(ON)

    # Not before the alias exists.
    assert before == [None] and "2 were due" in ended.stdout
    (alias,) = aliases()
    target = schedule().given["Target"]
    assert schedule().given["ScheduleExpression"] == "rate(1 minute)"
    assert target["Arn"] == f"{ARN}:{alias}" and target["Input"] == '{"mcpDueTasks":{}}'

    deploy(ON, content=b"second")
    assert len(aliases()) == 2 and schedule().given["Target"]["Arn"] != target["Arn"]
    assert run("rollback", NAME, "--yes").code == 0
    assert schedule().given["Target"]["Arn"] == target["Arn"]
    deploy("TasksSchedule=off", content=b"second")
    assert schedule() is None


def alarms():
    return [own for kind, _, own in given if kind == "AWS::CloudWatch::Alarm" and own.get("Dimensions", [{}])[0].get("Value") == WORKER]


def test_alarms_report_failures_dropped_events_their_age_and_a_schedule_that_stopped(deploy):
    deploy(ON, "AlarmEmail=ops@example.com")

    assert {own["MetricName"] for own in alarms()} == {"Errors", "AsyncEventsDropped", "AsyncEventAge", "Invocations"}
    (subscription,) = boto3.client("sns").list_subscriptions()["Subscriptions"]
    assert all(own["AlarmActions"] == [subscription["TopicArn"]] for own in alarms())


@pytest.mark.parametrize("rate, period", [("rate(1 minute)", 300), ("rate(1 hour)", 3600)])
def test_an_alarm_reports_three_periods_without_an_invocation(deploy, rate, period):
    deploy(ON, f"TasksSchedule={rate}")

    own = nested("TasksFunction")["NotWoken"].given
    assert (own["Period"], own["EvaluationPeriods"], own["TreatMissingData"]) == (period, 3, "breaching")
    assert (own["ComparisonOperator"], own["Threshold"], own["Statistic"]) == ("LessThanThreshold", 1, "Sum")
    deploy("TasksSchedule=off", content=b"second")
    assert "NotWoken" not in nested("TasksFunction")


def test_a_canary_watches_the_alarms_of_tasks(deploy, monkeypatch):
    deploy(ON)
    cloudwatch = boto3.client("cloudwatch")
    (dropped,) = [own["AlarmName"] for own in cloudwatch.describe_alarms()["MetricAlarms"] if "Dropped" in own["AlarmName"]]
    cloudwatch.set_alarm_state(AlarmName=dropped, StateValue="ALARM", StateReason="for a test")

    refused = deploy(content=b"second", options=("--canary", "0.1"), code=1)

    assert "no canary: an alarm is on" in refused.stderr and dropped in refused.stderr


def test_a_version_wakes_the_code_that_it_has_itself(deploy):
    deploy(ON)
    deploy(content=b"second")

    first, second = aliases()
    assert wakes("1") != wakes("2") and {wakes("1"), wakes("2")} == {f"{WORKER}:{first}", f"{WORKER}:{second}"}
    codes = {name: client().get_function_configuration(FunctionName=WORKER, Qualifier=name)["CodeSha256"] for name in aliases()}
    for version in ("1", "2"):
        own = client().get_function_configuration(FunctionName=NAME, Qualifier=version)["CodeSha256"]
        assert codes[wakes(version).partition(":")[2]] == own
    for name in aliases():
        config = client().get_function_event_invoke_config(FunctionName=WORKER, Qualifier=name)
        assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (2, 3600)


def test_other_settings_with_the_same_code_move_its_alias(deploy):
    deploy(ON)
    (alias,) = aliases()

    deploy("TasksTimeout=60")

    assert aliases() == {alias: "2"} and aws_versions.traffic(NAME) == {"1": 1}
    assert client().get_function_configuration(FunctionName=WORKER, Qualifier=alias)["Timeout"] == 60


@pytest.mark.parametrize(
    "answer", [lambda *_: RuntimeError("no tool of the server has settings for tasks"), lambda *_: b'{"end": "idle"}', lambda *_: b"[" * 100_000]
)
def test_a_function_that_does_not_run_tasks_is_not_used(deploy, answer):
    deploy(ON)
    before = aliases()
    aws_versions.running_tasks[0] = answer
    failed = deploy(content=b"second", code=1)

    assert f"version 2 of {WORKER} failed its check, and nothing was changed" in failed.stderr
    assert aliases() == before and worker_versions() == ["1"] and aws_versions.traffic(NAME) == {"1": 1}


@pytest.mark.parametrize("parameters", [("TasksTimeout=60", "Metrics=off"), ()])
def test_a_version_that_fails_its_check_takes_its_tasks_along(deploy, parameters):
    """The same code with other settings, and other code."""
    deploy(ON)
    before = aliases()
    aws_versions.answering[0] = lambda *_: RuntimeError("it does not start")
    deploy(*parameters, content=b"first" if parameters else b"second", code=1)

    assert aliases() == before and worker_versions() == ["1"] and aws_versions.traffic(NAME) == {"1": 1}


def test_stopped_tasks_do_not_fail_a_deployment(deploy):
    ended = deploy(ON, "TasksConcurrency=0")

    assert "was not checked: its reserved concurrency is 0" in ended.stdout and len(aliases()) == 1


def test_old_code_is_kept_for_as_long_as_it_is_woken_and_its_tasks_live(deploy, monkeypatch):
    deploy(ON)
    (first,) = aliases()
    from deploying import rollout

    monkeypatch.setattr(rollout, "KEPT", 1)
    monkeypatch.setattr(tasks, "KEPT", 1)
    # The times at which versions were published are of no account.
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    monkeypatch.setattr(tasks.Tasks, "published", lambda own: {int(number): long_ago for number in worker_versions()})
    deploy(content=b"second")
    # It served requests until now, so that its tasks may live. A rollback to their code is possible.
    assert first in aliases() and worker_versions() == ["1", "2"] and mcp_versions() == ["1", "2"]
    for settings in (("TasksTimeout=60", "Metrics=off"), ("TasksTimeout=90", "Metrics=on")):
        deploy(*settings, content=b"second")
    # Of versions with the same code the newest one, and the one that a rollback returns to.
    assert mcp_versions() == ["1", "3", "4"]

    monkeypatch.setattr(tasks, "LIFETIME", -datetime.timedelta(days=1))
    deploy(content=b"third")
    assert first not in aliases() and "1" not in worker_versions() and mcp_versions() == ["4", "5"]
    live = wakes(*aws_versions.traffic(NAME)).partition(":")[2]
    assert live in aliases()


def test_the_code_of_a_withdrawn_canary_is_kept_while_its_tasks_live(deploy, monkeypatch):
    from deploying import rollout

    def fail(own):
        raise rollout.CanaryError("an alarm is on")

    deploy(ON)
    monkeypatch.setattr(rollout.Rollout, "watch", fail)
    deploy(content=b"second", options=("--canary", "0.1"), code=1)
    assert mcp_versions() == ["1"] and worker_versions() == ["1", "2"]
    (canary,) = [name for name, version in aliases().items() if version == "2"]

    monkeypatch.setattr(tasks, "KEPT", 1)
    deploy(content=b"third")
    assert canary in aliases() and "2" in worker_versions()
    monkeypatch.setattr(tasks, "LIFETIME", -datetime.timedelta(days=1))
    deploy(content=b"fourth")
    assert canary not in aliases() and "2" not in worker_versions()


# In their order: the migration, then the second function's version, check and alias, then the version that serves requests.
CHANGING = ["Invoke", "PublishVersion", "Invoke:2", "CreateAlias", "PutFunctionEventInvokeConfig", "PublishVersion:2", "Invoke:3"]


@pytest.mark.parametrize("call", [pytest.param(own, marks=[pytest.mark.slow] if ":" in own or own.startswith("Pu") else []) for own in CHANGING])
def test_a_deployment_with_a_migration_and_tasks_that_is_killed_is_repaired_by_the_next_one(deploy, tmp_path, call):
    deploy(ON)
    (first,) = aliases()
    archive(tmp_path / "second", b"second", ["tasks"], function="event-logger")
    aws_versions.invocations.clear()

    killed = kill_after(call, "up", NAME, "--lambda-dir", tmp_path / "second", "--no-doctor", "--yes", is_small=False)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    assert ("$LATEST", "migrate") in aws_versions.invocations and aws_versions.traffic(NAME) == {"1": 1}
    # What runs tasks of the version that serves requests is as it was.
    assert aliases()[first] == "1" and wakes("1") == f"{WORKER}:{first}"

    deploy(content=b"second")
    assert aws_versions.traffic(NAME) == {"2": 1} and {*aliases()} == {first, wakes("2").partition(":")[2]}
    assert aliases()[wakes("2").partition(":")[2]] == "2"


def test_the_feature_comes_with_the_parameter(deploy):
    ended = deploy(ON)

    assert "features tasks\n" in ended.stdout
    values = {own["ParameterKey"]: own["ParameterValue"] for own in boto3.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]["Parameters"]}
    assert "/tasks/" in values["CodeKey"] and values["TasksAlias"] == values["LiveTasksAlias"] == [*aliases()][0]
    refused = deploy("TasksAlias=live", code=1)
    assert "set by make deploy itself" in refused.stderr


def delete(*words):
    return run("delete-subject", NAME, "--issuer", "https://id.example.com", "--subject", "ada", *words)


def test_the_rows_of_a_person_are_deleted_by_the_code_that_is_live(deploy):
    deploy(ON)
    deploy(content=b"second")
    assert run("rollback", NAME, "--yes").code == 0
    events, left = [], [800, 0]

    def answer(function, event):
        events.append((function.version, event))
        return json.dumps({"deleted": 500, "left": left[len(events) - 1]}).encode()

    aws_versions.running_tasks[0] = answer
    refused = delete()
    ended = delete("--yes")

    assert "all rows of ada of https://id.example.com will be deleted" in refused.stdout and refused.code == 1
    event = {"mcpDeleteSubject": {"issuer": "https://id.example.com", "subject": "ada"}}
    assert ended.code == 0 and "1000 rows were deleted" in ended.stdout
    assert [(int(version), own) for version, own in events] == [(1, event)] * 2


def test_without_tasks_the_function_with_the_url_deletes_the_rows(deploy):
    deploy()
    deploy(content=b"second")
    assert run("rollback", NAME, "--yes").code == 0
    events = []

    def answer(function, event):
        events.append((int(function.version), event))
        return b'{"deleted": 3, "left": 0}'

    aws_versions.deleting[0] = answer
    ended = delete("--yes")

    event = {"mcpDeleteSubject": {"issuer": "https://id.example.com", "subject": "ada"}}
    assert ended.code == 0 and "3 rows were deleted" in ended.stdout and events == [(1, event)]
    # An event that a function without a store does not know.
    aws_versions.deleting[0] = lambda *_: RuntimeError("expected the event of a Function URL")
    assert "did not delete the rows, unless it has no store" in delete("--yes").stderr


def test_rows_that_are_left_fail_the_deletion(deploy):
    deploy(ON)

    aws_versions.running_tasks[0] = lambda *_: b'{"deleted": 1, "left": 1}'
    assert "1 rows are left: the person still calls" in delete("--yes").stderr
    aws_versions.running_tasks[0] = lambda *_: b'{"woken": 0}'
    assert "did not delete the rows, unless it has no store; 0 were deleted before" in delete("--yes").stderr
    aws_versions.running_tasks[0] = lambda *_: RuntimeError("the store is away")
    assert "the store is away" in delete("--yes").stderr


def state_key(text):
    """Makes the secret of the stack, with a version of an hour ago. Returns what makes its current version an hour older."""
    boto3.client("secretsmanager").create_secret(Name=f"{NAME}/state-key", SecretString=text)
    secret = secretsmanager_backends[ACCOUNT][REGION].secrets[f"{NAME}/state-key"]

    def grow_older():
        secret.versions[secret.default_version_id]["createdate"] -= 3600

    grow_older()
    return grow_older


def versions():
    """The texts of the secret by staging label."""
    client = boto3.client("secretsmanager")
    return [client.get_secret_value(SecretId=f"{NAME}/state-key", VersionStage=own)["SecretString"] for own in ("AWSCURRENT", "AWSPREVIOUS")]


def rotate(*words):
    return run("rotate-state-key", NAME, *words)


def test_rotations_of_the_state_key_keep_the_generated_key_as_the_index_key(deploy):
    deploy()
    generated = "a" * 42
    grow_older = state_key(generated)
    refused = rotate()
    outputs, texts = "", []
    for _ in range(3):
        ended = rotate("--yes")
        assert ended.code == 0, ended.text
        outputs += ended.text
        texts.append(versions()[0])
        too_early = rotate("--yes")
        assert too_early.code == 1 and "younger than 15 minutes" in too_early.stderr and versions()[0] == texts[-1]
        grow_older()

    assert refused.code == 1 and f"a new version of the secret {NAME}/state-key will be written" in refused.stdout
    keys = [text.replace(";", ",").split(",") for text in texts]
    first, second, third = (new for new, _, _ in keys)
    index = f"{generated}A="
    assert keys == [[first, index, index], [second, first, index], [third, second, index]]
    assert len({index, first, second, third}) == 4 and all(len(base64.b64decode(own)) == 32 for own in (first, second, third))
    assert not any(own in refused.text + outputs for own in (generated, first, second, third))


def test_the_index_key_is_the_one_that_the_function_uses(deploy):
    deploy()
    old, plain, index = (base64.b64encode(bytes([own] * 32)).decode() for own in (1, 2, 3))
    client = boto3.client("secretsmanager")
    grow_older = state_key(old)
    for text, expected in (
        # Written by hand: the key of the previous version, or its index key.
        (plain, old), (f"{plain};{index}", index), (old, index),
    ):
        client.put_secret_value(SecretId=f"{NAME}/state-key", SecretString=text)
        grow_older()
        ended = rotate("--yes")
        assert ended.code == 0, ended.text
        assert versions()[0].partition(";")[2] == expected
        client.put_secret_value(SecretId=f"{NAME}/state-key", SecretString=versions()[1])
    for text in ("s3cret", "", f"{old};", f"{old};{old};{old}", ",".join([old] * 4)):
        client.put_secret_value(SecretId=f"{NAME}/state-key", SecretString=text or " ")
        grow_older()
        ended = rotate("--yes")
        assert ended.code == 1 and "is not a state key" in ended.stderr and old not in ended.text


def test_a_rotation_needs_a_stack_with_a_state_key(deploy):
    assert f"there is no stack {NAME} with a state key" in rotate("--yes").stderr
    deploy("StateKey=")
    assert f"there is no stack {NAME} with a state key" in rotate("--yes").stderr


def test_a_stack_without_tasks_has_no_resource_of_them(deploy):
    deploy()

    made = {name for name, own in nested("Function").items() if own is not None and not isinstance(own, (str, list))}
    made &= loaded("function")["Resources"].keys()
    assert made == {
        "Alias", "Function", "FunctionUrl", "LiveRights", "LogGroup", "Monitoring", "PublicInvokePermission", "PublicUrlPermission", "Role",
        "StateKeySecret",
    }
    function = client().get_function_configuration(FunctionName=NAME)
    assert tasks.VARIABLE not in function["Environment"]["Variables"]
    assert not [own for own in statements(function["Role"]) if "lambda:InvokeFunction" in own["Action"]]
    assert {own["FunctionName"] for own in client().list_functions()["Functions"]} == {NAME, f"{NAME}-migrate"}


def test_tasks_are_removed_only_by_name(deploy):
    deploy(ON)
    refused = deploy("Tasks=off", code=1)
    assert "REPLACE=Function" in refused.stderr and worker_versions() == ["1"]

    deploy("Tasks=off", options=("--replace", "Function"))
    with pytest.raises(client().exceptions.ResourceNotFoundException):
        client().get_function_configuration(FunctionName=WORKER)
    deploy(ON)
    assert schedule().given["Target"]["Arn"].startswith(ARN)
