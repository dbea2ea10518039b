"""The stack of the authorization server, in an emulated account: its function, its signing keys, and the check of a version."""

import json
import re
from types import SimpleNamespace

import aws_versions
import boto3
import pytest
from aws_account import ACCOUNT, REGION, STAND_INS, account, loaded, register
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from deploying import migration, stack
from moto.cloudformation.models import cloudformation_backends
from moto.secretsmanager.models import secretsmanager_backends
from small_stacks import archive, run
from test_dsql_stack import configuration, statements
from test_live_rights import readable

register()
NAME = "authorization-server"
METADATA = "/.well-known/oauth-authorization-server"
CLUSTER = STAND_INS["AWS::DSQL::Cluster"]["ResourceArn"]
URL = STAND_INS["AWS::Lambda::Url"]["FunctionUrl"].rstrip("/")
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:upstream-AbCdEf"
OTHER_SECRET = f"{SECRET}-2"
KEYS = STAND_INS["AWS::SecretsManager::Secret"]["Id"]
PARAMETERS = {
    "UpstreamIssuer": "https://accounts.example", "UpstreamProvider": "cognito", "UpstreamClientId": "1a2b", "UpstreamSecretArn": SECRET,
}
OPTIONAL = ("AssertionIssuers", "Clients", "RegistrationHosts", "ResourcesPath")
CLIENT = {"id": "portal", "name": "Portal", "redirect_uris": ["https://app.example/callback"], "secret_sha256": "HsHCa1DV08WNlYMYGvgHZlX-AHVr9yhZQLo2cPmfy6A"}


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Deploys the stack, and expects success unless `code` says otherwise."""
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(migration, "POLL_SECONDS", 0.01)
    zips = archive(tmp_path / "zips", b"authorization-server", function=NAME)

    def up(code=0, **others):
        given = [word for name, value in {**PARAMETERS, **others}.items() for word in ("--parameter", f"{name}={value}")]
        ended = run("up", NAME, "--lambda-dir", zips, "--yes", *given)
        assert ended.code == code, ended.text
        return ended

    with account():
        # As GenerateSecretString does, under the ARN of the stand-in.
        boto3.client("secretsmanager").create_secret(Name=f"{NAME}/signing-keys", SecretString="a" * 42)
        secretsmanager_backends[ACCOUNT][REGION].secrets[f"{NAME}/signing-keys"].arn = KEYS
        aws_versions.answering[0] = metadata
        yield up


def metadata(function, event, status=200):
    body = json.dumps({"issuer": f"https://{event['requestContext']['domainName']}"})
    return json.dumps({"statusCode": status, "headers": {"content-type": "application/json"}, "body": body}).encode()


def signing_keys():
    return boto3.client("secretsmanager").get_secret_value(SecretId=f"{NAME}/signing-keys")["SecretString"]


def test_the_function_has_its_database_and_reads_secrets_and_parameters(deploy):
    clients = json.dumps([CLIENT], separators=(",", ":"))
    ended = deploy(Registration="known", RegistrationHosts="app.example", AssertionIssuers="https://corp.example", Clients=clients)

    function, reserved = configuration(NAME)
    variables = function["Environment"]["Variables"]
    lines = dict(line.split("=", 1) for line in variables["MCP_VARIABLES"].splitlines())
    assert lines == {
        "AUTHORIZATION_CLIENTS": clients,
        "AUTHORIZATION_UPSTREAM_ISSUER": "https://accounts.example", "AUTHORIZATION_UPSTREAM_PROVIDER": "cognito",
        "AUTHORIZATION_UPSTREAM_CLIENT_ID": "1a2b", "AUTHORIZATION_UPSTREAM_CLIENT_SECRET_ARN": SECRET,
        "AUTHORIZATION_SIGNING_KEYS_SECRET_ARN": KEYS, "AUTHORIZATION_RESOURCES_PATH": f"/{NAME}/resources",
        "AUTHORIZATION_REGISTRATION": "known", "AUTHORIZATION_REGISTRATION_HOSTS": "app.example",
        "AUTHORIZATION_ASSERTION_ISSUERS": "https://corp.example", "DB_AUTH": "dsql", "DB_HOST": STAND_INS["AWS::DSQL::Cluster"]["Endpoint"], "DB_MIGRATE": "off", "DB_NAME": "postgres", "DB_USER": "app",
    }
    assert (variables["MCP_AUTH"], variables["OIDC_ISSUER"], reserved) == ("", "", 10)
    assert statements(function["Role"]) == [
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "StateKeySecret"},
        {"Effect": "Allow", "Action": "dsql:DbConnect", "Resource": CLUSTER},
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": [KEYS, SECRET]},
        {"Effect": "Allow", "Action": "secretsmanager:PutSecretValue", "Resource": KEYS},
        {"Effect": "Allow", "Action": "ssm:GetParametersByPath", "Resource": f"{PARAMETER}/{NAME}/resources"},
    ]
    assert f"Url: {URL}\n" in ended.stdout and f"CallbackUrl: {URL}/callback\n" in ended.stdout
    assert f"register {URL}/callback at the identity provider" in ended.stdout and f"AuthorizationServer={URL}" in ended.stdout


def test_the_longest_values_fit_into_the_variables(deploy):
    parameters = loaded(NAME)["Parameters"]
    longest = {name: parameters[name]["MaxLength"] for name in (*PARAMETERS, *OPTIONAL) if name != "UpstreamProvider"}
    values = {
        "UpstreamIssuer": "https://", "UpstreamClientId": "", "UpstreamSecretArn": SECRET, "RegistrationHosts": "", "ResourcesPath": "/mcp",
        "AssertionIssuers": "https://", "Clients": "",
    }
    deploy(UpstreamProvider="keycloak", **{name: begin.ljust(longest[name], "a") for name, begin in values.items()})

    variables = configuration(NAME)[0]["Environment"]["Variables"]["MCP_VARIABLES"]
    assert f"AUTHORIZATION_RESOURCES_PATH=/mcp{'a' * 46}\n" in variables
    # The ARN of the signing keys has the name of the stack, of up to 40 characters. This ARN and the host of the cluster have the region,
    # and the ARN the partition.
    longer = 40 - len(NAME) + 2 * (len("ap-southeast-1") - len(REGION)) + len("aws-us-gov") - len("aws")
    limits = loaded("function")["Parameters"]
    more = len(f"AUTHORIZATION_CLIENTS={'a' * longest['Clients']}\n")
    assert variables.startswith("AUTHORIZATION_CLIENTS=aaa") and more <= limits["MoreVariables"]["MaxLength"]
    assert len(variables) - more + longer <= limits["FurtherVariables"]["MaxLength"]


def test_without_clients_the_variable_is_empty(deploy):
    deploy()

    assert configuration(NAME)[0]["Environment"]["Variables"]["MCP_VARIABLES"].startswith("AUTHORIZATION_CLIENTS=\n")


@pytest.mark.parametrize("clients", ["", json.dumps([CLIENT, CLIENT], separators=(",", ":"))])
def test_clients_are_a_json_array(clients):
    pattern = loaded(NAME)["Parameters"]["Clients"]["AllowedPattern"]

    assert re.fullmatch(pattern, clients)
    for refused in ("portal", json.dumps(CLIENT, separators=(",", ":")), json.dumps([CLIENT]), "[{\n}]"):
        assert not re.fullmatch(pattern, refused), refused


def test_a_public_url_is_the_issuer(deploy):
    ended = deploy(PublicUrl="https://login.example.com")

    assert "Url: https://login.example.com\n" in ended.stdout and "CallbackUrl: https://login.example.com/callback\n" in ended.stdout
    assert configuration(NAME)[0]["Environment"]["Variables"]["MCP_PUBLIC_URL"] == "https://login.example.com"


def test_the_first_deployment_writes_a_signing_key_and_no_later_one_changes_it(deploy):
    first = deploy()
    written = signing_keys()
    again = deploy(LogLevel="WARN")

    [key] = json.loads(written)["keys"]
    assert load_pem_private_key(key["private_key"].encode(), None).key_size == 2048 and key["signs_from"] == 0
    assert signing_keys() == written
    assert ["signing key was written" in ended.stdout for ended in (first, again)] == [True, False]
    assert not re.search("PRIVATE KEY", first.text + again.text)


def test_the_schema_is_migrated_and_the_metadata_are_read_before_a_version_is_live(deploy):
    deploy()

    assert aws_versions.invocations == [("$LATEST", "migrate"), ("1", METADATA)]
    assert aws_versions.traffic(NAME) == {"1": 1}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda *_: metadata(*_, status=503), "status 503"),
        (lambda *_: b'{"statusCode": 200, "headers": {}, "body": "[]"}', "no metadata"),
        (lambda *_: RuntimeError("could not read the signing keys"), "could not read the signing keys"),
    ],
)
def test_a_version_without_metadata_serves_no_request(deploy, answer, expected):
    deploy()
    aws_versions.answering[0] = answer
    refused = deploy(code=1, Registration="off")

    assert "version 2 failed its check" in refused.stderr and expected in refused.stderr
    assert aws_versions.traffic(NAME) == {"1": 1}


@pytest.mark.parametrize(
    ("before", "after", "resources"),
    [
        ({}, {"UpstreamSecretArn": OTHER_SECRET}, (SECRET, OTHER_SECRET)),
        ({"ResourcesPath": "/mcp/a"}, {"ResourcesPath": "/mcp/b"}, (f"{PARAMETER}/mcp/a", f"{PARAMETER}/mcp/b")),
        ({}, {"ResourcesPath": "/mcp/b"}, (f"{PARAMETER}/{NAME}/resources", f"{PARAMETER}/mcp/b")),
        ({"ResourcesPath": "/mcp/a"}, {"ResourcesPath": ""}, (f"{PARAMETER}/mcp/a", f"{PARAMETER}/{NAME}/resources")),
    ],
)
def test_the_live_version_keeps_its_secret_and_parameters_until_another_one_serves(deploy, before, after, resources):
    (old, new), seen = resources, []
    deploy(**before)
    assert old in readable(NAME) and new not in readable(NAME)

    def answer(function, event, status):
        seen.append(readable(NAME))
        return metadata(function, event, status)

    # The first update was made, and the new version fails its check.
    aws_versions.answering[0] = lambda function, event: answer(function, event, 503)
    deploy(code=1, **after)
    assert aws_versions.traffic(NAME) == {"1": 1} and {old, new} <= seen[-1] & readable(NAME)

    aws_versions.answering[0] = lambda function, event: answer(function, event, 200)
    deploy(**after)
    assert "1" not in aws_versions.traffic(NAME) and {old, new} <= seen[-1]
    assert new in readable(NAME) and old not in readable(NAME)


def rotations():
    """The schedule of the stack as it is, and the policy of its role."""
    (stack,) = [own for own in cloudformation_backends[ACCOUNT][REGION].stacks.values() if own.name == NAME]
    schedule = stack.resource_map._parsed_resources.get("KeyRotationSchedule")
    return schedule and schedule.given, statements(boto3.client("iam").get_role(RoleName=stack.resource_map["KeyRotationRole"].name)["Role"]["Arn"])


def test_a_schedule_rotates_the_signing_keys_by_the_live_version(deploy):
    deploy()
    schedule, allowed = rotations()

    target = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}:live"
    assert schedule["ScheduleExpression"] == "rate(90 days)" and schedule["Target"]["Arn"] == target
    assert json.loads(schedule["Target"]["Input"]) == {"mcpAuthorizationServer": {"command": "rotate-keys"}}
    assert allowed == [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": target}]
    deploy(KeyRotation="off")
    assert rotations()[0] is None


def test_the_role_may_write_the_signing_keys_with_the_key_of_the_stack(deploy):
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
    deploy(KmsKeyArn=key)

    (own,) = [own for own in statements(configuration(NAME)[0]["Role"]) if own["Action"] == "kms:GenerateDataKey"]
    through = {"StringEquals": {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}}
    assert (own["Resource"], own["Condition"]) == (key, through)


def test_the_boundary_is_wide_enough_for_the_function(deploy):
    deploy(KmsKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd")
    boundary = loaded("boundary")["Resources"]["Boundary"]
    allowed = boundary["Properties"]["PolicyDocument"]["Statement"][0]["Action"]

    assert {own["Action"] for own in statements(configuration(NAME)[0]["Role"])} <= {*allowed}


@pytest.fixture
def commands(deploy):
    """The events with commands that the live version got. It responds with the results of `respond`, in this order."""
    deploy()
    deploy(Registration="off")
    events, results = [], []

    def answer(function, event):
        events.append((str(function.version), event["mcpAuthorizationServer"]))
        return results.pop(0)

    aws_versions.commanding[0] = answer
    assert aws_versions.traffic(NAME) == {"2": 1}
    return SimpleNamespace(events=events, respond=results.extend)


@pytest.mark.parametrize(
    ("words", "command", "asked", "result", "done"),
    [
        (["revoke-grants"], "revoke-all", "all grants will be revoked", {"revoked": True}, "all grants were revoked"),
        (["rotate-keys"], "rotate-keys", "a signing key will be added", {"rotated": True}, "a signing key was added"),
        (["rotate-keys"], "rotate-keys", "a signing key will be added", {"rotated": False}, "nothing was changed"),
        (["rotate-keys", "--replace-keys"], "replace-keys", "all signing keys will be replaced", {"rotated": True}, "keys were replaced"),
    ],
)
def test_a_command_is_confirmed_and_run_by_the_live_version(commands, words, command, asked, result, done):
    commands.respond([json.dumps(result).encode()])
    name, *options = words
    refused = run(name, NAME, *options)
    ended = run(name, NAME, *options, "--yes")

    assert refused.code == 1 and asked in refused.stdout and f"account  {ACCOUNT}" in refused.stdout and f"region   {REGION}" in refused.stdout
    assert ended.code == 0 and done in ended.stdout, ended.text
    assert commands.events == [("2", {"command": command})]


def test_the_rows_of_a_person_are_deleted_by_issuer_and_subject_at_the_provider(commands):
    commands.respond([b'{"deleted": 3, "left": 0}', RuntimeError("rows of the person are left: delete them again")])
    words = ("delete-subject", NAME, "--issuer", "https://accounts.example", "--subject", "ada")
    refused, ended, failed = run(*words), run(*words, "--yes"), run(*words, "--yes")

    assert refused.code == 1 and "all rows of ada of https://accounts.example will be deleted, with grants and approvals" in refused.stdout
    assert ended.code == 0 and "3 rows were deleted" in ended.stdout
    event = {"command": "delete-person", "server": URL, "issuer": "https://accounts.example", "subject": "ada"}
    assert commands.events == [("2", event)] * 2
    assert failed.code == 1 and "rows of the person are left: delete them again" in failed.stderr


def test_the_public_url_is_the_server_of_the_rows(deploy):
    deploy(PublicUrl="https://login.example.com")
    servers = []
    aws_versions.commanding[0] = lambda _, event: servers.append(event["mcpAuthorizationServer"]["server"]) or b'{"deleted": 0, "left": 0}'

    assert run("delete-subject", NAME, "--issuer", "https://accounts.example", "--subject", "ada", "--yes").code == 0
    assert servers == ["https://login.example.com"]


@pytest.mark.parametrize("result", [RuntimeError("expected the event of a Function URL"), b'{"statusCode": 404}', b"[]"])
def test_a_version_without_commands_fails_them(commands, result):
    commands.respond([result] * 2)
    ended = [run(name, NAME, "--yes") for name in ("revoke-grants", "rotate-keys")]

    assert [own.code for own in ended] == [1, 1]
    assert all("did not run the command" in own.stderr and "unless its live version has no commands" in own.stderr for own in ended)


def test_a_command_needs_a_live_authorization_server(deploy):
    words = ("--issuer", "https://accounts.example", "--subject", "ada")
    for name, *options in (["revoke-grants"], ["rotate-keys"], ["delete-subject", *words]):
        missing = run(name, NAME, *options, "--yes")
        assert missing.code == 1 and f"there is no stack {NAME}" in missing.stderr
    other = run("revoke-grants", "greeter", "--yes")
    assert other.code == 2 and "invalid choice: 'greeter'" in other.stderr and NAME in other.stderr
