"""event-logger on Aurora DSQL, in an emulated account: its stack, and the migrations before the alias moves."""

import ast
import sys
from types import SimpleNamespace

import aws_versions
import boto3
import pytest
import templates
from aws_account import ACCOUNT, REGION, STAND_INS, account, given, register
from deploying import migration, stack
from deploying.account import Account
from small_stacks import archive, run

register()
NAME = "event-logger-dsql"
MIGRATION = f"{NAME}-migrate"
ISSUER = "Issuer=https://id.example.com"
CLUSTER = STAND_INS["AWS::DSQL::Cluster"]["ResourceArn"]
OTHER_CLUSTER = f"arn:aws:dsql:{REGION}:{ACCOUNT}:cluster/zyxwvutsrqponmlkjihgfedcba"
CHECKS = ["server/discover", "tools/list"]


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Deploys a stack of event-logger, and expects success unless `code` says otherwise."""
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(migration, "POLL_SECONDS", 0.01)
    zips = archive(tmp_path / "zips", b"event-logger", function="event-logger")

    def up(*parameters, name=NAME, subject=NAME, code=0):
        given = [word for own in (ISSUER, *parameters) for word in ("--parameter", own)]
        ended = run("up", subject, "--name", name, "--lambda-dir", zips, "--no-doctor", "--yes", *given)
        assert ended.code == code, ended.text
        return ended

    with account():
        yield up


def configuration(function):
    """A function's configuration, and its reserved concurrency."""
    client = boto3.client("lambda")
    reserved = client.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions")
    return client.get_function_configuration(FunctionName=function), reserved


def statements(role_arn):
    """What a role may do, without its logs and traces."""
    client, role = boto3.client("iam"), role_arn.rpartition("/")[2]
    documents = [client.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in client.list_role_policies(RoleName=role)["PolicyNames"]]
    for policy in client.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        documents.append(client.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId="v1")["PolicyVersion"]["Document"])
    # moto keeps what its CloudFormation hands over as Python writes it.
    documents = [ast.literal_eval(own) if isinstance(own, str) else own for own in documents]
    found = [own for document in documents for own in document["Statement"]]
    return [own for own in found if not str(own["Action"]).startswith(("['logs:", "['xray:"))]


def stack_values(name=NAME):
    (found,) = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return {own["ParameterKey"]: own["ParameterValue"] for own in found["Parameters"]}


def clusters():
    return [properties for kind, _, properties in given if kind == "AWS::DSQL::Cluster"]


def versions():
    listed = boto3.client("lambda").list_versions_by_function(FunctionName=NAME)["Versions"]
    return [own["Version"] for own in listed if own["Version"] != "$LATEST"]


def test_the_function_is_outside_of_a_vpc_and_streams(deploy):
    ended = deploy()

    function, reserved = configuration(NAME)
    variables = function["Environment"]["Variables"]
    lines = dict(line.split("=", 1) for line in variables["MCP_VARIABLES"].splitlines())
    assert not function.get("VpcConfig", {}).get("SubnetIds") and reserved == 10
    url = boto3.client("lambda").get_function_url_config(FunctionName=NAME, Qualifier="live")
    assert (url["InvokeMode"], variables["MCP_INVOKE_MODE"], url["AuthType"]) == ("RESPONSE_STREAM", "stream", "NONE")
    assert variables["MCP_AUTH"] == "required"
    assert {name: value for name, value in lines.items() if name.startswith("DB_")} == {
        "DB_AUTH": "dsql", "DB_HOST": STAND_INS["AWS::DSQL::Cluster"]["Endpoint"], "DB_MIGRATE": "off", "DB_NAME": "postgres",
        "DB_USER": "app",
    }
    assert statements(function["Role"]) == [
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "StateKeySecret"},
        {"Effect": "Allow", "Action": "dsql:DbConnect", "Resource": CLUSTER},
    ]
    assert f"ClusterArn: {CLUSTER}" in ended.stdout


def test_another_function_of_the_same_zip_migrates_as_admin_one_at_a_time(deploy):
    deploy()

    (function, _), (migrating, reserved) = configuration(NAME), configuration(MIGRATION)
    assert migrating["CodeSha256"] == function["CodeSha256"] and migrating["Timeout"] == 900 and reserved == 1
    assert migrating["Environment"]["Variables"] == {
        "MCP_ROLE": "migrate", "DB_AUTH": "dsql", "DB_HOST": STAND_INS["AWS::DSQL::Cluster"]["Endpoint"], "DB_NAME": "postgres",
        "DB_USER": "admin", "DB_APP_ROLE_ARN": function["Role"],
    }
    assert statements(migrating["Role"]) == [{"Effect": "Allow", "Action": "dsql:DbConnectAdmin", "Resource": CLUSTER}]


def test_the_cluster_is_protected_as_soon_as_a_version_is_live(deploy):
    during = []
    aws_versions.migrating[0] = lambda *_: during.append(clusters()[0]["DeletionProtectionEnabled"]) or b"{}"
    deploy()
    resource = made_cluster()

    # A first deployment that fails can delete it.
    assert during == ["false"] and resource.given["DeletionProtectionEnabled"] == "true"
    deploy("DatabaseDeletionProtection=false")
    assert made_cluster().given["DeletionProtectionEnabled"] == "false"


def made_cluster():
    from moto.cloudformation.models import cloudformation_backends

    nested = [own for own in cloudformation_backends[ACCOUNT][REGION].stacks.values() if own.name.startswith(f"{NAME}-Database-")]
    (own,) = nested
    return own.resource_map._parsed_resources["Cluster"]


def test_migrations_run_after_the_update_and_before_the_alias_moves(deploy):
    deploy()
    assert aws_versions.invocations == [("$LATEST", "migrate"), *(("1", own) for own in CHECKS)]

    during = []

    def migrate(*_):
        memory = boto3.client("lambda").get_function_configuration(FunctionName=NAME)["Environment"]["Variables"]["MCP_METRICS"]
        during.append((aws_versions.traffic(NAME), versions(), memory))
        return b'{"applied": [4]}'

    aws_versions.migrating[0] = migrate
    ended = deploy("Metrics=off")
    assert during == [({"1": 1}, ["1"], "off")]
    assert 'migrated {"applied": [4]}' in ended.stdout and aws_versions.traffic(NAME) == {"2": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda *_: RuntimeError("index events_id is invalid"), "index events_id is invalid"),
        (lambda *_: b"<html>", "its result is not JSON: <html>"),
        (lambda *_: b"[" * 100_000, "its result is not JSON"),
    ],
)
def test_a_migration_that_fails_moves_no_traffic(deploy, answer, reason):
    deploy()
    aws_versions.invocations.clear()
    aws_versions.migrating[0] = answer
    ended = deploy("Metrics=off", code=1)

    assert f"{MIGRATION} failed, and nothing was published" in ended.stderr and reason in ended.stderr
    assert "version 1 serves all requests" in ended.stderr
    assert aws_versions.traffic(NAME) == {"1": 1} and versions() == ["1"] and stack_values()["LiveVersion"] == "1"
    assert aws_versions.invocations == [("$LATEST", "migrate")]

    aws_versions.migrating[0] = None
    deploy()
    assert aws_versions.traffic(NAME) == {"2": 1}


def test_a_first_migration_that_fails_leaves_no_url(deploy):
    aws_versions.migrating[0] = lambda *_: RuntimeError("access denied")
    ended = deploy(code=1)

    assert "no version serves requests yet" in ended.stderr and "the log of the function" in ended.stderr
    assert versions() == [] and boto3.client("lambda").list_aliases(FunctionName=NAME)["Aliases"] == []
    aws_versions.migrating[0] = None
    deploy()
    assert aws_versions.traffic(NAME) == {"1": 1}


def test_a_migration_waits_for_one_that_is_running(deploy, monkeypatch):
    begun = []

    def busy(*_):
        begun.append(1)
        if len(begun) < 3:
            raise aws_versions.Throttled()
        return b"{}"

    aws_versions.migrating[0] = busy
    deploy()
    assert len(begun) == 3

    begun.clear()
    monkeypatch.setattr(migration, "PATIENCE_SECONDS", -1)
    assert "another invocation is still running" in deploy("Metrics=off", code=1).stderr
    assert aws_versions.traffic(NAME) == {"1": 1}


def test_other_code_than_that_of_the_deployment_is_not_invoked(deploy, monkeypatch):
    deploy()
    aws_versions.invocations.clear()
    update = stack.Stack.update

    def update_and_replace(own, *given, **others):
        update(own, *given, **others)
        boto3.client("lambda").update_function_code(FunctionName=MIGRATION, ZipFile=b"other code")

    monkeypatch.setattr(stack.Stack, "update", update_and_replace)
    refused = deploy("Metrics=off", code=1)

    assert f"{MIGRATION} failed, and nothing was published: its code has the SHA-256" in refused.stderr
    assert "it was not invoked" in refused.stderr and aws_versions.invocations == []
    assert aws_versions.traffic(NAME) == {"1": 1} and versions() == ["1"]


def test_an_existing_cluster_is_used_and_none_is_made(deploy):
    deploy(f"ClusterArn={OTHER_CLUSTER}")

    function, _ = configuration(NAME)
    assert clusters() == []
    assert f"DB_HOST=zyxwvutsrqponmlkjihgfedcba.dsql.{REGION}.on.aws" in function["Environment"]["Variables"]["MCP_VARIABLES"]
    assert {"Effect": "Allow", "Action": "dsql:DbConnect", "Resource": OTHER_CLUSTER} in statements(function["Role"])


def cognito_variables():
    lines = configuration(NAME)[0]["Environment"]["Variables"]["MCP_VARIABLES"].splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return [values.get(name) for name in ("COGNITO_USER_POOL_ID", "COGNITO_CLIENT_IDS", "OIDC_SCOPE_PREFIX")]


def test_an_existing_user_pool_is_used_and_none_is_made(deploy):
    pool = ["us-east-1_AbCdEf123", "1a2b,3c4d", "team/"]
    names = ("UserPoolId", "UserPoolClientIds", "ScopePrefix")
    ended = deploy("Issuer=cognito", *(f"{name}={value}" for name, value in zip(names, pool)))

    assert cognito_variables() == pool
    assert not [kind for kind, *_ in given if kind.startswith("AWS::Cognito::")]
    assert "ClaudeClientId" not in ended.stdout and "UserPoolId" not in ended.stdout


def test_a_user_pool_of_the_stack_has_outputs_for_other_stacks(deploy):
    ended = deploy("Issuer=cognito")

    pool, clients, prefix = cognito_variables()
    for line in (f"UserPoolId: {pool}", f"UserPoolClientIds: {clients}", f"ScopePrefix: {prefix}"):
        assert line in ended.stdout
    assert "ClaudeClientId: " in ended.stdout and prefix.endswith("/")


@pytest.mark.parametrize(("before", "after"), [("event-logger", NAME), (NAME, "event-logger")])
def test_a_stack_keeps_its_kind_of_database(deploy, before, after):
    deploy(name="events", subject=before)
    aws_versions.invocations.clear()
    refused = deploy(name="events", subject=after, code=1)

    assert "No template turns one into the other" in refused.stderr
    assert "docs/database.md#moving-events-to-aurora-dsql" in refused.stderr
    assert aws_versions.invocations == [] and aws_versions.traffic("events") == {"1": 1}
    # The procedure: one beside it.
    deploy(name="events-2", subject=after)
    assert aws_versions.traffic("events-2") == {"1": 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"WitnessRegion": "us-west-2"}, {"WitnessRegion": "us-west-2"}),
        ({"WitnessRegion": "us-west-2", "PeerClusterArn": OTHER_CLUSTER}, {"WitnessRegion": "us-west-2", "Clusters": [OTHER_CLUSTER]}),
    ],
)
def test_clusters_are_linked_in_two_steps(deploy, values, expected):
    boto3.client("cloudformation").create_stack(
        StackName="events-cluster", TemplateBody=templates.path_of("dsql").read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )

    (cluster,) = clusters()
    assert cluster.get("MultiRegionProperties") == expected and cluster["DeletionProtectionEnabled"] == "true"


def test_the_verification_of_an_account_runs_its_steps_and_deletes_the_cluster(deploy, tmp_path, monkeypatch, capfd):
    import verify_account
    import verify_dsql

    archive(tmp_path / "zips", b"event-logger", ["tasks"], function="event-logger")

    changed, client = [], Account.client
    cluster = SimpleNamespace(
        update_cluster=lambda **given: changed.append(("update", given)), delete_cluster=lambda **given: changed.append(("delete", given)),
    )
    monkeypatch.setattr(Account, "client", lambda own, service, **others: cluster if service == "dsql" else client(own, service, **others))
    # tests/interop/test_verify_dsql.py has the emulator of a cluster.
    monkeypatch.setattr(verify_dsql, "verify", lambda _, statements: [(name, "executed") for name in statements])
    monkeypatch.setattr(sys, "argv", ["verify_account.py", "--lambda-dir", str(tmp_path / "zips"), "--database", "dsql", "--yes"])
    verify_account.main()

    printed = capfd.readouterr().out
    assert "STEP BY_ID: executed" in printed and "STEP rollback" in printed and printed.endswith("verified\n"), printed
    own = {"identifier": CLUSTER.rpartition("/")[2]}
    assert changed == [("update", {**own, "deletionProtectionEnabled": False}), ("delete", own)]
    assert boto3.client("lambda").list_functions()["Functions"] == []
