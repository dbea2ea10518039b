"""The stack of the authorization server, in an emulated account: its function, its signing keys, and the check of a version."""

import json
import re

import aws_versions
import boto3
import pytest
import templates
from aws_account import ACCOUNT, REGION, STAND_INS, account, register
from cfnlint.decode import cfn_yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from deploying import migration, stack
from moto.secretsmanager.models import secretsmanager_backends
from small_stacks import archive, run
from test_dsql_stack import configuration, statements

register()
NAME = "authorization-server"
METADATA = "/.well-known/oauth-authorization-server"
CLUSTER = STAND_INS["AWS::DSQL::Cluster"]["ResourceArn"]
URL = STAND_INS["AWS::Lambda::Url"]["FunctionUrl"].rstrip("/")
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:upstream-AbCdEf"
KEYS = STAND_INS["AWS::SecretsManager::Secret"]["Id"]
PARAMETERS = {
    "UpstreamIssuer": "https://accounts.example", "UpstreamProvider": "cognito", "UpstreamClientId": "1a2b", "UpstreamSecretArn": SECRET,
}


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
    ended = deploy(Registration="known", RegistrationHosts="app.example")

    function, reserved = configuration(NAME)
    variables = function["Environment"]["Variables"]
    lines = dict(line.split("=", 1) for line in variables["MCP_VARIABLES"].splitlines())
    assert lines == {
        "AUTHORIZATION_UPSTREAM_ISSUER": "https://accounts.example", "AUTHORIZATION_UPSTREAM_PROVIDER": "cognito",
        "AUTHORIZATION_UPSTREAM_CLIENT_ID": "1a2b", "AUTHORIZATION_UPSTREAM_CLIENT_SECRET_ARN": SECRET,
        "AUTHORIZATION_SIGNING_KEYS_SECRET_ARN": KEYS, "AUTHORIZATION_RESOURCES_PATH": f"/{NAME}/resources",
        "AUTHORIZATION_REGISTRATION": "known", "AUTHORIZATION_REGISTRATION_HOSTS": "app.example", "DB_AUTH": "dsql",
        "DB_HOST": STAND_INS["AWS::DSQL::Cluster"]["Endpoint"], "DB_MIGRATE": "off", "DB_NAME": "postgres", "DB_USER": "app",
    }
    assert (variables["MCP_AUTH"], variables["OIDC_ISSUER"], reserved) == ("", "", 10)
    assert statements(function["Role"]) == [
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "StateKeySecret"},
        {"Effect": "Allow", "Action": "dsql:DbConnect", "Resource": CLUSTER},
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": [KEYS, SECRET]},
        {"Effect": "Allow", "Action": "ssm:GetParametersByPath", "Resource": f"{PARAMETER}/{NAME}/resources"},
    ]
    assert f"Url: {URL}\n" in ended.stdout and f"CallbackUrl: {URL}/callback\n" in ended.stdout
    assert f"register {URL}/callback at the identity provider" in ended.stdout and f"AuthorizationServer={URL}" in ended.stdout


def test_the_longest_values_fit_into_the_variables(deploy):
    parameters = cfn_yaml.loads(templates.text_of(NAME))["Parameters"]
    longest = {name: parameters[name]["MaxLength"] for name in (*PARAMETERS, "RegistrationHosts", "ResourcesPath") if name != "UpstreamProvider"}
    values = {
        "UpstreamIssuer": "https://", "UpstreamClientId": "", "UpstreamSecretArn": SECRET, "RegistrationHosts": "", "ResourcesPath": "/mcp",
    }
    deploy(UpstreamProvider="keycloak", **{name: begin.ljust(longest[name], "a") for name, begin in values.items()})

    variables = configuration(NAME)[0]["Environment"]["Variables"]["MCP_VARIABLES"]
    assert f"AUTHORIZATION_RESOURCES_PATH=/mcp{'a' * 46}\n" in variables
    # The ARN of the signing keys has the name of the stack, of up to 40 characters. Some regions have longer names.
    limit = cfn_yaml.loads(templates.FUNCTION.read_text())["Parameters"]["FurtherVariables"]["MaxLength"]
    assert len(variables) + 40 - len(NAME) + 3 * len("ap-southeast-1") <= limit


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
