"""The templates of infra/ and of the functions, as `make deploy` deploys them, in an account that moto plays."""

import argparse
import ast
import base64
import contextlib
import datetime
import functools
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import boto3
import cfnlint
import completion
import deploy as deploy_script
import networkx
import new
import postgres
import psycopg
import pytest
import small_stacks
import templates
import yaml
from aws_account import ACCOUNT, KNOWN_TO_MOTO, REGION, STAND_INS, account, given, loaded, register
from cfnlint.decode import cfn_yaml
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from cfnlint.template.template import Template
from conftest import PROJECT, emulated
from moto.cloudformation import parsing
from moto.core import disable_iam_authentication, enable_iam_authentication
from oauth import fetch

import tools
from deploying import rollout
from deploying.artifacts import Archive

INFRA = PROJECT / "infra"
STACKS = sorted(templates.shipped().values())
TEMPLATES = [*sorted(INFRA.glob("*.yaml")), *STACKS]
DEPLOY = PROJECT / "scripts" / "deploy.py"
register()
# What cfn-lint knows of IAM: the actions of each service, with the kinds of resources that they can be limited to.
IAM_ACTIONS = json.loads((pathlib.Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json").read_text())

ANYONE_BY_URL = [
    {"Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE"},
    {"Action": "lambda:InvokeFunction", "Principal": "*", "InvokedViaFunctionUrl": True},
]
LAMBDA_ASSUMES = [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
URL = STAND_INS["AWS::Lambda::Url"]["FunctionUrl"] + "mcp"
TRACES = {"Effect": "Allow", "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "Resource": "*"}
IN_A_NETWORK = [
    {
        "Effect": "Allow",
        "Action": [
            "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
        ],
        "Resource": "*",
    },
    {
        "Effect": "Deny", "Action": "ec2:*", "Resource": "*",
        "Condition": {"Null": {"lambda:SourceFunctionArn": "false"}},
    },
]
# The stand-in of a secret is referred to by its logical id.
CLUSTER = STAND_INS["AWS::DSQL::Cluster"]["ResourceArn"]
READS_STATE_KEY = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "StateKeySecret"}
OWNER_SECRET = STAND_INS["AWS::RDS::DBCluster"]["MasterUserSecret.SecretArn"]


def archive(function, folder, features=()):
    """Writes a zip with its record where --lambda-dir looks. Its program is not the function, which no test runs from there: one of the
    function would take most of the time of a deployment. Returns the zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        opened.write(shutil.which("true"), "bootstrap")
        # No two are the same.
        opened.comment = ".".join([function, *features]).encode()
    small_stacks.archive(folder, content.getvalue(), features, function)
    return deploy_script.build.archive_in(folder, function, sorted(features))


@pytest.fixture(scope="session")
def lambda_dir(tmp_path_factory):
    """A folder with a zip of each function, without and with `auth`."""
    folder = tmp_path_factory.mktemp("zips")
    for function in tools.SHIPPED_FUNCTIONS:
        for features in deploy_script.build.variants(function, []):
            archive(function, folder, features)
    return folder


@pytest.fixture
def aws():
    with account():
        yield


@pytest.fixture
def deploy(aws, lambda_dir, monkeypatch):
    """Runs scripts/deploy.py; returns what it tells at its end."""

    def run(*words, confirmed=True, doctor=False, folder=lambda_dir):
        words = [*words]
        if words[0] in ("up", "code"):
            words += ["--lambda-dir", folder]
            words += [] if doctor else ["--no-doctor"]
        if words[0] != "outputs" and confirmed:
            words.append("--yes")
        if words[0] == "code":
            # cargo-lambda looks one up. moto takes more than a second to read them all.
            monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        # What it starts itself writes to the same output.
        start = started if doctor or words[0] == "code" else called
        finished = start([str(word) for word in words])
        if confirmed:
            assert finished.returncode == 0, finished.stdout + finished.stderr
            return dict(re.findall(r"^(\w+): (.*)$", finished.stdout, re.MULTILINE))
        return finished

    return run


def started(words):
    return subprocess.run([sys.executable, DEPLOY, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def called(words):
    """The same in this process: Python and boto3 take a second to start."""
    stdin, stdout, stderr, code = io.StringIO(), io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [DEPLOY.name, *words])
        patch.setattr(sys, "stdin", stdin)
        try:
            deploy_script.main()
        except SystemExit as ended:
            code = ended.code
        if isinstance(code, str):
            print(code, file=stderr)
    code = 1 if isinstance(code, str) else code or 0
    return SimpleNamespace(returncode=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def parameters(**values):
    return [word for name, value in values.items() for word in ("--parameter", f"{name}={value}")]


def name_of(path):
    """The stack of a template."""
    return next((name for name, own in templates.of_functions().items() if own == path), path.stem)


def function_of(stack):
    """A stack's function: configuration, URL, reserved concurrency, and the policy's statements of the alias."""
    client = boto3.client("lambda")
    statements = yaml.safe_load(client.get_policy(FunctionName=stack, Qualifier="live")["Policy"])["Statement"]
    said = {"Action", "Principal", "Condition", "FunctionUrlAuthType", "InvokedViaFunctionUrl"}
    return (
        client.get_function_configuration(FunctionName=stack),
        client.get_function_url_config(FunctionName=stack, Qualifier="live"),
        client.get_function_concurrency(FunctionName=stack).get("ReservedConcurrentExecutions"),
        [{key: value for key, value in statement.items() if key in said} for statement in statements],
    )


def variables_of(configuration):
    """The variables that a function has, those in the lines of MCP_VARIABLES among them."""
    variables = configuration["Environment"]["Variables"]
    lines = variables["MCP_VARIABLES"].splitlines()
    return {**variables, **{name: value for name, value in (line.split("=", 1) for line in lines) if not variables.get(name)}}


def role_of(configuration):
    """Who may assume a function's role, and all that it may do."""
    return role(configuration["Role"].rpartition("/")[2])


def role(beginning):
    """The same of the only role whose name begins so."""
    client = boto3.client("iam")
    (name,) = [own["RoleName"] for own in client.list_roles()["Roles"] if own["RoleName"].startswith(beginning)]
    policies = []
    for policy in client.list_role_policies(RoleName=name)["PolicyNames"]:
        document = client.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        # moto keeps what its CloudFormation hands over as Python writes it.
        policies += (ast.literal_eval(document) if isinstance(document, str) else document)["Statement"]
    for policy in client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        version = client.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId="v1")["PolicyVersion"]
        document = version["Document"]
        policies += (ast.literal_eval(document) if isinstance(document, str) else document)["Statement"]
    return client.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"], policies


def own_log(stack):
    (found,) = boto3.client("logs").describe_log_groups(logGroupNamePrefix=f"{stack}-Function-")["logGroups"]
    assert found["retentionInDays"] == 30
    # In AWS the attribute ends in `:*`; moto leaves that off.
    arn = found["arn"].removesuffix(":*")
    return {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": arn}


def asked_for(kind):
    """What stand-ins of a type were given, by logical id."""
    return {logical_id: properties for own, logical_id, properties in given if own == kind}


def test_stand_ins_are_for_what_moto_lacks_and_for_nothing_else():
    small = [*(tools.INTEROP / "stacks").rglob("*.yaml")]
    read = [*(loaded(name_of(path)) for path in TEMPLATES), *(cfn_yaml.load(str(path)) for path in small)]
    used = {resource["Type"] for template in read for resource in template["Resources"].values()}

    # moto makes instances, but none of Aurora's.
    assert set(STAND_INS) == (used - KNOWN_TO_MOTO) | {"AWS::RDS::DBInstance"}


def test_what_moto_does_not_keep_of_a_function():
    function = loaded("function")["Resources"]["Function"]["Properties"]

    assert function["Architectures"] == ["arm64"]
    assert function["LoggingConfig"] == {
        "LogFormat": "JSON", "LogGroup": {"Ref": "LogGroup"},
        "ApplicationLogLevel": {"Ref": "LogLevel"}, "SystemLogLevel": {"Ref": "SystemLogLevel"},
    }


@pytest.mark.parametrize("path", STACKS, ids=name_of)
def test_what_a_stack_passes_on_is_described_by_function_yaml(path):
    """A parameter of the same name has the same default, and the stack its description; what a stack does not pass on, function.yaml
    has a default for."""
    own, shared = loaded(name_of(path)), loaded("function")["Parameters"]
    passed = own["Resources"]["Function"]["Properties"]["Parameters"]
    same = [name for name, value in passed.items() if value == {"Ref": name}]

    assert passed.keys() <= shared.keys()
    assert {name for name, parameter in shared.items() if "Default" not in parameter} <= passed.keys()
    assert len(same) > 15 and {"LiveVersion", "CanaryVersion", "CanaryWeight", "PermissionsBoundary", "KmsKeyArn"} <= {*same}
    differing = {name for name in same if str(own["Parameters"][name].get("Default")) != str(shared[name].get("Default"))}
    # A function with a state key of its own, one outside of a VPC, and one whose schedule would resume a database too often.
    assert differing <= {"StateKey", "InvokeMode", "TasksSchedule"}
    # What the stack does not declare itself is what function.yaml has, bounds and all.
    declared = completion.blocks(completion.with_parts(path.read_text().splitlines(), templates.PARTS), "Parameters").keys()
    assert {name: own["Parameters"][name] for name in same if name not in declared} == {
        name: shared[name] for name in same if name not in declared
    }
    assert own["Outputs"].keys() >= loaded("function")["Outputs"].keys()


def test_make_build_writes_plain_cloudformation(tmp_path):
    """For teams with other tools than `make deploy`."""
    templates.write(tmp_path / "templates")

    written = {path.stem: path.read_text() for path in (tmp_path / "templates").iterdir()}
    assert written.keys() == {path.stem for path in INFRA.glob("*.yaml")} | set(templates.stacks())
    for name, text in written.items():
        assert "# +" not in text and text == templates.text_of(name), name
        # The limit of a template that is no file in S3, by which make deploy asks for default values.
        assert len(text.encode()) < 51_200, name
        # Each template that one contains is beside it.
        assert set(templates.NESTED.findall(text)) <= written.keys(), name


@pytest.mark.parametrize("kind", new.KINDS)
def test_the_stack_of_a_new_function_is_short(kind):
    assert len(new.stack_of("weather", kind).splitlines()) <= 45


def test_the_stack_of_a_new_function_with_state_has_no_network_and_no_database_by_the_hour():
    stack = completion.completed(new.stack_of("weather", "stateful"), templates.FUNCTION.read_text(), templates.PARTS)

    assert set(templates.NESTED.findall(stack)) == {"cognito", "dsql", "function", "migration"}


def test_resources_keep_their_logical_ids():
    """CloudFormation replaces a resource whose logical id changes."""
    pool = {"Cognito"}

    assert loaded("event-logger-dsql")["Resources"].keys() == {"Database", "DatabasePolicy", "Function", "Migration", *pool}
    assert loaded("event-logger")["Resources"].keys() == {"Network", "Database", "DatabasePolicy", "DatabaseLiveRights", "Function", *pool}
    assert loaded("api-docs")["Resources"].keys() == {"DocumentPolicy", "DocumentLiveRights", "Function"}


def test_greeter_is_public_and_may_do_nothing_but_log_and_trace(deploy):
    told = deploy("up", "greeter", *parameters(AlarmEmail="ops@example.com"))

    configuration, url, concurrency, statements = function_of("greeter")
    assert told["Url"] == f"{STAND_INS['AWS::Lambda::Url']['FunctionUrl']}mcp"
    assert configuration["Runtime"] == "provided.al2023"
    assert concurrency == 10
    assert url["AuthType"] == "NONE"
    assert statements == ANYONE_BY_URL
    assert role_of(configuration) == (LAMBDA_ASSUMES, [own_log("greeter"), TRACES])
    alarms = asked_for("AWS::CloudWatch::Alarm")
    assert alarms.keys() == {"Errors", "Throttles", "Duration", "Faults", "Unavailable", "KeyRefreshFailures"}
    assert float(alarms["Duration"]["Threshold"]) < configuration["Timeout"] * 1000
    (subscription,) = boto3.client("sns").list_subscriptions()["Subscriptions"]
    assert subscription["Endpoint"] == "ops@example.com"
    assert [alarm["AlarmActions"] for alarm in alarms.values()] == [[subscription["TopicArn"]]] * 6


def test_an_issuer_closes_a_function(deploy):
    deploy("up", "greeter", *parameters(Issuer="https://id.example.com", Audience="api", ScopePrefix="api/"))

    variables = variables_of(function_of("greeter")[0])
    assert {name: variables[f"OIDC_{name}"] for name in ("ISSUER", "AUDIENCE", "SCOPE_PREFIX")} == {
        "ISSUER": "https://id.example.com", "AUDIENCE": "api", "SCOPE_PREFIX": "api/",
    }


EXCHANGE = {
    "ExchangeClientId": "notes", "ExchangeSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:exchange-AbCdEf",
}


@pytest.mark.parametrize(
    ("name", "given", "others"),
    [
        ("greeter", {}, []),
        ("api-docs", {"Source": "file:openapi.yaml"}, []),
        ("event-logger", {"IssuerEgress": "ipv6"}, None),
    ],
)
def test_a_function_that_exchanges_tokens_may_read_its_secret(deploy, name, given, others):
    deploy("up", name, *parameters(Issuer="https://id.example.com", **EXCHANGE, **given))

    configuration, *_ = function_of(name)
    variables = variables_of(configuration)
    assert variables["OIDC_EXCHANGE_CLIENT_ID"] == EXCHANGE["ExchangeClientId"]
    assert variables["OIDC_EXCHANGE_CLIENT_SECRET_ARN"] == EXCHANGE["ExchangeSecretArn"]
    read = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": EXCHANGE["ExchangeSecretArn"]}
    _, statements = role_of(configuration)
    assert read in statements
    if others is None:
        # By the endpoint, since there is no way out by IPv4.
        (endpoint,) = boto3.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
        assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.secretsmanager"
    else:
        state_key = [READS_STATE_KEY] if name == "api-docs" else []
        assert statements == [own_log(name), TRACES, *state_key, read]


@pytest.mark.parametrize("name", ["function", "tasks"])
def test_the_variables_of_a_function_are_within_the_limit_of_lambda(name):
    """B9: 4 KB of names and values."""
    (variables,) = [
        own["Properties"]["Environment"]["Variables"] for own in loaded(name)["Resources"].values() if own["Type"] == "AWS::Lambda::Function"
    ]
    # tasks.yaml gets them from function.yaml.
    known = loaded("function")["Parameters"]
    known |= {"Alias": known["TasksAlias"], "StateKeySecretArn": known["StateKey"]}

    def longest(value):
        """The maximum length of a value; 0 for one that is not set."""
        if isinstance(value, str):
            return len(value)
        if "Fn::If" in value:
            return max(map(longest, value["Fn::If"][1:]))
        if "Fn::Sub" in value:
            if "MoreVariables" in value["Fn::Sub"]:
                return known["FurtherVariables"]["MaxLength"]
            # The name of the second function, with its alias.
            return len("-tasks:") + 40 + known["TasksAlias"]["MaxLength"]
        if value["Ref"] in ("AWS::NoValue", "StateKeySecret"):
            return 0
        parameter = known[value["Ref"]]
        return max(map(len, parameter["AllowedValues"])) if "AllowedValues" in parameter else parameter["MaxLength"]

    lengths = {own: len(own) + longest(value) for own, value in variables.items()}
    # `Issuers` stands in place of these.
    either = sum(lengths[own] for own in ("OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_SCOPE_PREFIX"))
    assert either < lengths["OIDC_ISSUERS"]
    # `MoreVariables` stands in place of `Issuers`.
    assert either + known["MoreVariables"]["MaxLength"] < lengths["OIDC_ISSUERS"]
    assert 3_500 < sum(lengths.values()) - either + sum(map(len, ("OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_SCOPE_PREFIX"))) < 4_096


@pytest.mark.parametrize("path", STACKS, ids=name_of)
def test_a_stack_rejects_what_would_not_fit_before_it_changes_anything(path):
    """B9: CloudFormation compares a parameter with its MaxLength when a change set is created. cfn-lint and moto do not."""
    own, shared = loaded(name_of(path))["Parameters"], loaded("function")["Parameters"]

    bounded = {"AuthorizationServer", "Audience", "ResourceClaims", "ResourceEveryone", "ExchangeClientId", "ExchangeSecretArn", "Issuer", "Issuers", "PublicUrl", "ScopePrefix"}
    # It accepts no tokens.
    for name in bounded if path.parent.name != tools.AUTHORIZATION_SERVER else {"PublicUrl"}:
        assert own[name]["MaxLength"] == shared[name]["MaxLength"], name


@pytest.mark.parametrize("parameter", ["ExchangeSecretArn", "StateKey"])
def test_the_arn_of_a_secret_is_no_pattern(parameter):
    secret = loaded("function")["Parameters"][parameter]

    own = EXCHANGE["ExchangeSecretArn"]
    assert re.fullmatch(secret["AllowedPattern"], own)
    for refused in ("*", f"{own}*", f"{own[:-6]}??????", "exchange", own.replace("secretsmanager", "ssm"), f"{own}${{x}}"):
        assert not re.fullmatch(secret["AllowedPattern"], refused), refused


# As the page on Google has it.
GOOGLE = '[{"preset":"google","client_ids":["123-abc.apps.googleusercontent.com"],"hosted_domain":"example.com"}]'


@pytest.mark.parametrize("name", ["greeter", "event-logger"])
def test_issuers_that_need_more_words_are_a_list(deploy, name):
    deploy("up", name, *parameters(Issuers=GOOGLE))

    variables = variables_of(function_of(name)[0])
    assert variables["OIDC_ISSUERS"] == GOOGLE
    assert variables["OIDC_ISSUER"] == variables["OIDC_AUDIENCE"] == variables["OIDC_SCOPE_PREFIX"] == ""


@pytest.mark.parametrize(
    ("given", "auth"),
    [
        ({}, ""),
        ({"AuthType": "AWS_IAM"}, "iam"),
        # Who asks is not in what CloudFront signs.
        ({"AuthType": "AWS_IAM", "DistributionArn": "arn:aws:cloudfront::123456789012:distribution/E1"}, ""),
    ],
)
def test_who_signs_is_known_to_the_function(deploy, given, auth):
    deploy("up", "greeter", *parameters(**given))

    # One that only AWS's own credentials reach has no policy.
    (function,) = boto3.client("lambda").list_functions()["Functions"]
    assert function["Environment"]["Variables"]["MCP_AUTH"] == auth


def test_a_new_account_has_no_concurrency_to_reserve(deploy):
    deploy("up", "greeter", *parameters(ReservedConcurrency=""))

    assert function_of("greeter")[2] is None


ISSUER = {"Issuer": "https://id.example.com"}


@pytest.mark.parametrize(
    ("function", "given", "named", "features"),
    [
        ("greeter", ISSUER, None, ["auth"]),
        ("greeter", {"Issuers": GOOGLE}, None, ["auth"]),
        ("greeter", ISSUER, ["auth", "otel"], ["auth", "otel"]),
        ("greeter", ISSUER, [], ["auth"]),
        ("greeter", {}, ["otel"], ["otel"]),
        ("greeter", {"AuthType": "AWS_IAM"}, None, []),
        # It is always closed.
        ("event-logger", ISSUER, None, []),
    ],
)
def test_a_function_is_built_with_what_it_is_deployed_for(aws, function, given, named, features, monkeypatch):
    built = []
    monkeypatch.setattr(deploy_script.build, "prepare", lambda: None)
    monkeypatch.setattr(deploy_script.build, "build", lambda *words: built.append(words) or PROJECT / "README.md")
    arguments = argparse.Namespace(lambda_dir=None, subject=function, features=named)
    stack = deploy_script.Stack(deploy_script.Account(), "new")

    deploy_script.archive_of(arguments, deploy_script.feature_sets.stack_features(stack, arguments, given))

    assert built == [("arm64", function, features)]


def uploaded():
    """What the account holds of code, by key."""
    s3 = boto3.client("s3")
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    keys = [(bucket, own["Key"]) for bucket in buckets for own in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for bucket, key in keys if key.startswith("code/")}


def nothing_was_deployed():
    stacks = boto3.client("cloudformation").list_stacks()["StackSummaries"]
    return boto3.client("s3").list_buckets()["Buckets"] == [] == stacks and not boto3.client("lambda").list_functions()["Functions"]


@pytest.mark.parametrize("given", [ISSUER, {"Issuers": GOOGLE}, {**ISSUER, "Audience": "api"}, {"AuthorizationServer": "https://id.example.com"}])
def test_a_zip_without_auth_is_not_deployed_with_an_issuer(deploy, given, tmp_path):
    """A3: its init would end with an error, and every call with 502."""
    archive("greeter", tmp_path)

    refused = deploy("up", "greeter", *parameters(**given), "--yes", confirmed=False, folder=tmp_path)

    assert refused.returncode != 0
    assert "the feature auth" in refused.stderr and "`make build FUNCTION=greeter`" in refused.stderr
    assert nothing_was_deployed()


def test_a_stack_that_gets_an_issuer_gets_a_zip_with_auth(deploy, lambda_dir):
    """A3: also where the issuer is known from an earlier deployment."""
    deploy("up", "greeter")
    deploy("up", "greeter", *parameters(**ISSUER))
    deploy("up", "greeter", *parameters(AlarmEmail="ops@example.com"))

    plain, closed = ((lambda_dir / folder / "bootstrap.zip").read_bytes() for folder in ("greeter", "greeter.auth"))
    assert plain != closed
    assert sorted(uploaded().values()) == sorted([plain, closed])
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName="greeter")["Stacks"]
    (code_key,) = [own["ParameterValue"] for own in stack["Parameters"] if own["ParameterKey"] == "CodeKey"]
    assert uploaded()[code_key] == closed


def rewrite(archive, **members):
    path = archive.with_name("features.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda archive: archive.with_name("features.json").unlink(), "has no features.json beside it"),
        (lambda archive: archive.write_bytes(archive.read_bytes() + b"\0"), "is not the record of"),
        (lambda archive: rewrite(archive, features=["auth"]), 'records another build: features ["auth"]'),
        (lambda archive: rewrite(archive, architecture="x86-64"), 'records another build: architecture "x86-64"'),
        (lambda archive: rewrite(archive, function="api-docs"), 'records another build: function "api-docs"'),
        (lambda archive: archive.with_name("features.json").write_text("[]"), "is not a record"),
        (lambda archive: archive.unlink(), "does not exist"),
    ],
)
def test_a_zip_whose_record_is_not_its_own_is_not_deployed(deploy, spoil, why, tmp_path):
    """A3: stale, missing or of another zip."""
    spoil(archive("greeter", tmp_path))

    refused = deploy("up", "greeter", "--yes", confirmed=False, folder=tmp_path)

    assert refused.returncode != 0
    assert why in refused.stderr and "`make build FUNCTION=greeter`" in refused.stderr
    assert nothing_was_deployed()


def test_features_that_are_named_must_be_those_of_the_zip(deploy):
    """A3"""
    for named, why in (
        ("otel", "`make build FUNCTION=greeter FEATURES=otel`"),
        ("oetl", "greeter has no feature oetl: set FEATURES to some of auth, none, otel"),
        ("none,otel", "none excludes every feature"),
        ("../greeter", "is not the name of a feature"),
    ):
        refused = deploy("up", "greeter", "--features", named, "--yes", confirmed=False)

        assert refused.returncode != 0 and why in refused.stderr
    assert nothing_was_deployed()


def test_a_deployment_that_names_no_features_keeps_them(deploy, lambda_dir, tmp_path):
    """A3: what the running one was built with does not get lost."""
    traced = archive("greeter", tmp_path, ["otel"]), archive("greeter", tmp_path, ["auth", "otel"])
    deploy("up", "greeter", "--features", "otel", folder=tmp_path)

    refused = deploy("up", "greeter", "--yes", confirmed=False)
    assert refused.returncode != 0
    assert "the feature otel" in refused.stderr and "`make build FUNCTION=greeter FEATURES=otel`" in refused.stderr
    assert "FEATURES=none" in refused.stderr
    assert list(uploaded().values()) == [traced[0].read_bytes()]

    # The empty text is what the workflow gives if its input is empty.
    deploy("up", "greeter", "--features", "", *parameters(**ISSUER), folder=tmp_path)
    assert sorted(uploaded().values()) == sorted(own.read_bytes() for own in traced)
    deploy("up", "greeter", *parameters(Issuer=""), "--features", "none")
    assert (lambda_dir / "greeter" / "bootstrap.zip").read_bytes() in uploaded().values()


def test_a_function_without_a_stack_keeps_its_features(deploy, lambda_dir, tmp_path):
    """A3: by `make deploy-code`, whose variables stay, too."""
    env_file = tmp_path / "production.env"
    env_file.write_text("# A comment\nOIDC_ISSUER=https://id.example.com\n")
    archive("greeter", tmp_path)
    only_traced = tmp_path / "traced"
    archive("greeter", only_traced, ["auth", "otel"])

    refused = deploy("code", "greeter", "--yes", "--env-file", env_file, confirmed=False, folder=tmp_path)
    assert refused.returncode != 0 and "the feature auth" in refused.stderr
    assert nothing_was_deployed()

    deploy("code", "greeter", "--features", "otel", "--env-file", env_file, folder=only_traced)
    for folder, missing in ((tmp_path, "auth, otel"), (lambda_dir, "auth, otel")):
        refused = deploy("code", "greeter", "--yes", confirmed=False, folder=folder)
        assert refused.returncode != 0 and f"the features {missing}" in refused.stderr
    deploy("code", "greeter", folder=only_traced)


def test_the_workflow_deploys_with_what_was_built_and_builds_nothing(aws, lambda_dir, tmp_path):
    """A3, 8.5: the step of deploy.yml, as it stands there."""
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "deploy.yml").read_text())
    (step,) = [step for step in workflow["jobs"]["deploy"]["steps"] if step.get("id") == "deploy"]
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "lambda").symlink_to(lambda_dir)
    for name in ("cargo", "rustup", "mcpl"):
        (tmp_path / name).write_text("#!/bin/sh\necho a build >&2\nexit 99\n")
        (tmp_path / name).chmod(0o755)
    output = tmp_path / "output"
    inputs = {"STACK": "greeter", "NAME": "greeter-staging", "FEATURES": "", "PARAMETERS": "", "CANARY": ""}
    variables = {**inputs, "RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(output)}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=PROJECT, capture_output=True, text=True,
        env={**os.environ, **variables, "PATH": path, "TOOLS_DIR": str(tools.FOLDER)},
    )

    assert ran.returncode == 0 and "a build" not in ran.stderr, ran.stdout + ran.stderr
    # What the next job tries.
    assert output.read_text() == f"url={STAND_INS['AWS::Lambda::Url']['FunctionUrl']}mcp\n"
    assert list(uploaded().values()) == [(lambda_dir / "greeter" / "bootstrap.zip").read_bytes()]


def queries(alarm):
    """The metrics that an alarm watches: its own, or those of its expression."""
    return [own["MetricStat"]["Metric"] for own in alarm.get("Metrics", []) if "MetricStat" in own] or [alarm]


def test_a_budget_notifies_before_it_is_used_up(deploy):
    deploy("up", "budget", *parameters(MonthlyBudget="50", Email="ops@example.com"))

    (budget,) = asked_for("AWS::Budgets::Budget").values()
    assert float(budget["Budget"]["BudgetLimit"]["Amount"]) == 50
    notified = {
        (own["Notification"]["NotificationType"], float(own["Notification"]["Threshold"]), own["Subscribers"][0]["Address"])
        for own in budget["NotificationsWithSubscribers"]
    }
    assert notified == {("ACTUAL", 80, "ops@example.com"), ("FORECASTED", 100, "ops@example.com")}


def test_the_fleet_has_a_topic_and_a_dashboard(deploy):
    told = deploy("up", "fleet", *parameters(AlarmEmail="ops@example.com"))
    deploy("up", "greeter", *parameters(AlarmTopicArn=told["AlarmTopicArn"], Dashboard="no", Metrics="off", Tracing="PassThrough"))

    alarms = asked_for("AWS::CloudWatch::Alarm")
    assert alarms.keys() == {"Errors", "Throttles", "Duration"}
    assert [alarm["AlarmActions"] for alarm in alarms.values()] == [[told["AlarmTopicArn"]]] * 3
    outputs = boto3.client("cloudformation").describe_stacks(StackName="greeter")["Stacks"][0]["Outputs"]
    (names,) = [own["OutputValue"] for own in outputs if own["OutputKey"] == "AlarmNames"]
    # The alarms' names have a random part.
    assert [name.split("-")[-2] for name in names.split(",")] == list(alarms)
    # No right to send traces that are not sent.
    assert role_of(function_of("greeter")[0]) == (LAMBDA_ASSUMES, [own_log("greeter")])
    dashboard = json.loads(loaded("fleet")["Resources"]["Watched"]["Properties"]["DashboardBody"]["Fn::Sub"])
    searched = {name for name in re.findall(r'MetricName=\\"(\w+)', json.dumps(dashboard))}
    assert "faults" in searched and searched <= metrics_in_code()


def test_the_dashboards_of_two_regions_have_different_names():
    """CloudWatch has one dashboard of a name in all regions of an account: the second region would replace that of the first."""
    dashboards = {
        name_of(path): own["Properties"]["DashboardName"] for path in TEMPLATES
        for own in loaded(name_of(path))["Resources"].values() if own["Type"] == "AWS::CloudWatch::Dashboard"
    }

    assert dashboards == {
        "fleet": {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}, "monitoring": {"Fn::Sub": "${FunctionName}-${AWS::Region}"},
    }


def test_a_function_can_be_stopped_and_limited(deploy):
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    deploy("up", "greeter", *parameters(ReservedConcurrency="0", PermissionsBoundary=boundary))

    configuration, _, concurrency, _ = function_of("greeter")
    assert concurrency == 0
    name = configuration["Role"].rpartition("/")[2]
    assert boto3.client("iam").get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary


def metrics_in_code():
    """The metrics that the functions write into their log lines, by name."""
    functions = [path for name in tools.SHIPPED for path in (tools.PROJECT / "functions" / name).glob("src/**/*.rs")]
    sources = [*(tools.PROJECT / "crates").glob("mcp-*/src/**/*.rs"), *functions]
    texts = [own.read_text().partition("\n#[cfg(test)]\n")[0] for own in sources if own.name != "tests.rs" and "tests" not in own.parts]
    found = {name for text in texts for name in re.findall(r"(?:monotonic_counter|histogram)\.(\w+) =", text)}
    assert len(found) > 10
    return found


def test_what_is_watched_is_written_by_the_functions_and_explained():
    resources = loaded("monitoring")["Resources"]
    text = resources["Watched"]["Properties"]["DashboardBody"]["Fn::Sub"]
    dashboard = json.loads(re.sub(r"\$\{[\w:]+\}", "x", text))
    rows = [row for widget in dashboard["widgets"] for row in widget["properties"].get("metrics", []) if isinstance(row[0], str)]
    alarms = [own["Properties"] for own in resources.values() if own["Type"] == "AWS::CloudWatch::Alarm"]
    alarms = [query for alarm in alarms for query in queries(alarm)]
    (search,) = re.findall(r'MetricName=\\"(\w+)\\"', text)

    watched = {search} | {alarm["MetricName"] for alarm in alarms if alarm["Namespace"] == "mcp"}
    namespace = None
    for row in rows:
        namespace = namespace if row[0] in {".", "..."} else row[0]
        watched |= {row[1]} if namespace == "mcp" and row[0] != "..." else set()

    documented = (tools.PROJECT / "docs" / "operations.md").read_text()
    assert watched <= metrics_in_code()
    assert {name for name in metrics_in_code() if f"`{name}`" not in documented} == set()


@pytest.mark.parametrize(("of_the_url", "of_the_function"), [("BUFFERED", "buffered"), ("RESPONSE_STREAM", "stream")])
def test_url_and_function_agree_on_how_answers_travel(deploy, of_the_url, of_the_function):
    deploy("up", "greeter", *parameters(InvokeMode=of_the_url))

    configuration, url, *_ = function_of("greeter")
    assert (url["InvokeMode"], configuration["Environment"]["Variables"]["MCP_INVOKE_MODE"]) == (of_the_url, of_the_function)


def test_nothing_is_served_before_a_version_is_live(deploy):
    deploy("up", "greeter")
    client, cloudformation = boto3.client("lambda"), boto3.client("cloudformation")
    alias = client.get_alias(FunctionName="greeter", Name="live")
    second = client.publish_version(FunctionName="greeter")["Version"]

    def change(**values):
        known = cloudformation.describe_stacks(StackName="greeter")["Stacks"][0]["Parameters"]
        before = {own["ParameterKey"]: own["ParameterValue"] for own in known}
        cloudformation.update_stack(
            StackName="greeter", UsePreviousTemplate=True, Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in {**before, **values}.items()],
        )
        return {own["OutputKey"] for own in cloudformation.describe_stacks(StackName="greeter")["Stacks"][0]["Outputs"]}

    outputs = change(CanaryVersion=second, CanaryWeight="0.1")
    canary = client.get_alias(FunctionName="greeter", Name="live")
    change(LiveVersion=second, CanaryVersion="", CanaryWeight="0")
    moved = client.get_alias(FunctionName="greeter", Name="live")
    first, *_ = asked_for("AWS::Lambda::Url").values()
    # As it is after the first of the two updates of a new stack.
    without = change(LiveVersion="")

    assert (alias["FunctionVersion"], alias["RoutingConfig"]["AdditionalVersionWeights"]) == ("1", {})
    assert (canary["FunctionVersion"], canary["RoutingConfig"]["AdditionalVersionWeights"]) == ("1", {second: 0.1})
    assert (moved["FunctionVersion"], moved["RoutingConfig"]["AdditionalVersionWeights"]) == (second, {})
    # One URL, on the alias, which stays when the alias moves.
    assert (first["TargetFunctionArn"], first["Qualifier"]) == ("greeter", "live")
    assert outputs - without == {"Url", "FunctionUrlHost"}
    assert {"FunctionName", "FunctionArn", "LogGroup", "AlarmNames"} <= without


def test_a_url_for_signed_calls_is_open_to_the_distribution_alone(deploy):
    distribution = f"arn:aws:cloudfront::{ACCOUNT}:distribution/E1"
    # The doctor would be rejected too, and is not run.
    deploy("up", "greeter", *parameters(AuthType="AWS_IAM", DistributionArn=distribution), doctor=True)

    _, url, _, statements = function_of("greeter")
    signed = {
        "Principal": {"Service": "cloudfront.amazonaws.com"}, "Condition": {"ArnLike": {"AWS:SourceArn": distribution}},
    }
    assert url["AuthType"] == "AWS_IAM"
    assert statements == [
        {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "AWS_IAM", **signed},
        {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True, **signed},
    ]


SOURCE_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    ("source", "object_arn", "key_arn"),
    [
        ("s3://docs.example/api/v1/openapi.json", "arn:aws:s3:::docs.example/api/v1/openapi.json", ""),
        # B17
        ("s3://docs.example/api/v1/openapi.json", "arn:aws:s3:::docs.example/api/v1/openapi.json", SOURCE_KEY),
        ("https://api.example.com/openapi.json?v=1", None, ""),
        ("file:openapi.yaml", None, SOURCE_KEY),
    ],
)
def test_api_docs_may_read_its_document_and_nothing_else(deploy, source, object_arn, key_arn):
    deploy("up", "api-docs", *parameters(Source=source, SourceKeyArn=key_arn, MaxAgeSeconds="60"))

    configuration, url, _, statements = function_of("api-docs")
    variables = variables_of(configuration)
    # moto keeps a number as one.
    assert (variables["OPENAPI_SOURCE"], str(variables["OPENAPI_MAX_AGE_SECONDS"])) == (source, "60")
    assert (url["AuthType"], statements) == ("NONE", ANYONE_BY_URL)
    read = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": object_arn}] if object_arn else []
    decrypt = [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key_arn}] if object_arn and key_arn else []
    assert role_of(configuration) == (LAMBDA_ASSUMES, [own_log("api-docs"), TRACES, READS_STATE_KEY, *read, *decrypt])
    (secret,) = asked_for("AWS::SecretsManager::Secret").values()
    # A2
    assert secret["Name"] == "api-docs/state-key"


def test_the_state_key_is_read_by_the_function_and_is_no_variable(deploy):
    """B8"""
    shared = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shared/state-key-AbCdEf"
    for name, given, secret in (("generated", {}, "StateKeySecret"), ("shared", {"StateKey": shared}, shared), ("none", {"StateKey": ""}, "")):
        deploy("up", "api-docs", "--name", name, *parameters(Source="file:openapi.yaml", KmsKeyArn=SOURCE_KEY, **given))

        configuration, *_ = function_of(name)
        variables = variables_of(configuration)
        assert variables["MCP_STATE_KEY_SECRET_ARN"] == secret and "MCP_STATE_KEY" not in variables
        statements = [own for own in role_of(configuration)[1] if own["Action"] in ("secretsmanager:GetSecretValue", "kms:Decrypt")]
        read = [{**READS_STATE_KEY, "Resource": secret}] if secret else []
        assert statements == [*read, {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": SOURCE_KEY}]


def test_no_template_has_a_secret_in_a_variable():
    """B8: who may read a function's configuration would read it."""
    assert [path.name for path in TEMPLATES if "{{resolve:" in path.read_text()] == []


def test_the_name_of_a_document_is_no_pattern():
    source = loaded("api-docs")["Parameters"]["Source"]

    assert "Default" not in source
    for refused in ("", "s3://bucket/*", "s3://bucket/a?c", "s3://*/key", "s3://bucket/", "s3://bucket/${aws:username}"):
        assert not re.fullmatch(source["AllowedPattern"], refused), refused
    for refused in ("http://api.example.com/openapi.json", "https://user:secret@api.example.com/", "file:/etc/passwd"):
        assert not re.fullmatch(source["AllowedPattern"], refused), refused


def test_event_logger_with_a_user_pool_of_its_own(deploy):
    told = deploy("up", "event-logger", *parameters(Issuer="cognito"))

    configuration, url, concurrency, statements = function_of("event-logger")
    variables = variables_of(configuration)
    assert (url["AuthType"], url["InvokeMode"], variables["MCP_INVOKE_MODE"]) == ("NONE", "BUFFERED", "buffered")
    assert statements == ANYONE_BY_URL
    assert concurrency == 10
    assert variables["MCP_AUTH"] == "required"

    # The issuer, its clients and its scopes are those of the pool.
    clients = asked_for("AWS::Cognito::UserPoolClient")
    (scopes,) = asked_for("AWS::Cognito::UserPoolResourceServer").values()
    assert variables["COGNITO_USER_POOL_ID"] == "UserPool" and not variables["OIDC_ISSUER"]
    assert variables["COGNITO_CLIENT_IDS"].split(",") == list(clients)
    assert (told["ClaudeClientId"], told["CommandLineClientId"]) == ("Claude", "CommandLine")
    assert variables["OIDC_SCOPE_PREFIX"] == f"{scopes['Identifier']}/"
    for client in clients.values():
        own = {f"{scopes['Identifier']}/{scope['ScopeName']}" for scope in scopes["Scopes"]}
        assert own == {"event-logger/events:read", "event-logger/events:write"} <= set(client["AllowedOAuthScopes"])
    own = [f"https://{host}/api/mcp/auth_callback" for host in ("claude.ai", "claude.com")]
    assert clients["Claude"]["CallbackURLs"] == own
    assert "http://127.0.0.1:33418/callback" in clients["CommandLine"]["CallbackURLs"]
    (pool,) = asked_for("AWS::Cognito::UserPool").values()
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["UsernameConfiguration"] == {"CaseSensitive": False}

    # It signs in as itself alone.
    connect = {
        "Effect": "Allow", "Action": "rds-db:connect",
        "Resource": f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:cluster-EVENTS/app",
    }
    assert role_of(configuration) == (LAMBDA_ASSUMES, [own_log("event-logger"), TRACES, *IN_A_NETWORK, READS_STATE_KEY, connect])
    database = {name: value for name, value in variables.items() if name.startswith("DB_")}
    host = STAND_INS["AWS::RDS::DBCluster"]["Endpoint.Address"]
    assert database == {
        "DB_HOST": host, "DB_NAME": "events", "DB_AUTH": "iam", "DB_USER": "app", "DB_SECRET_ARN": "", "DB_SSLROOTCERT": "",
        "DB_WARM": "off",
    }


@pytest.mark.parametrize(("capacity", "warm", "slowest"), [("0", "off", 29_500), ("0.5", "on", 24_000)])
def test_only_a_database_that_is_always_awake_is_opened_at_init(deploy, capacity, warm, slowest):
    """6.3 and 6.4: a call that wakes the database may take half a minute, and raises no alarm."""
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", DatabaseMinCapacity=capacity))

    assert variables_of(function_of("event-logger")[0])["DB_WARM"] == warm
    alarms = asked_for("AWS::CloudWatch::Alarm")
    assert float(alarms["Duration"]["Threshold"]) == slowest
    assert (alarms["Unavailable"]["EvaluationPeriods"], alarms["Unavailable"]["DatapointsToAlarm"]) == (3, 3)


def test_the_database_has_alarms_on_its_capacity_and_its_connections(deploy):
    """B16"""
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", AlarmTopicArn=topic))

    alarms = {name: own for name, own in asked_for("AWS::CloudWatch::Alarm").items() if own.get("Namespace") == "AWS/RDS"}
    (settings,) = asked_for("AWS::RDS::DBClusterParameterGroup").values()
    assert {name: own["MetricName"] for name, own in alarms.items()} == {"Capacity": "ACUUtilization", "Connections": "DatabaseConnections"}
    assert all(own["AlarmActions"] == [topic] and [one["Name"] for one in own["Dimensions"]] == ["DBClusterIdentifier"] for own in alarms.values())
    assert float(alarms["Connections"]["Threshold"]) < int(settings["Parameters"]["max_connections"]) - 20


def test_the_database_is_private_and_encrypted(deploy):
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com"))

    (cluster,) = asked_for("AWS::RDS::DBCluster").values()
    (instance,) = asked_for("AWS::RDS::DBInstance").values()
    (settings,) = asked_for("AWS::RDS::DBClusterParameterGroup").values()
    assert (cluster["StorageEncrypted"], cluster["ManageMasterUserPassword"]) == (True, True)
    # B16: a minor version is behind after the first update by RDS.
    assert cluster["EngineVersion"] == "17" and settings["Family"] == "aurora-postgresql17"
    assert "MasterUserPassword" not in cluster
    assert cluster["BackupRetentionPeriod"] >= 7
    assert instance["PubliclyAccessible"] is False
    assert settings["Parameters"]["rds.force_ssl"] == "1"
    # Twice as many environments as may run at once may hold a connection, and 20 are not the function's.
    most = loaded("event-logger")["Parameters"]["ReservedConcurrency"]["MaxValue"]
    assert 2 * most + 20 <= int(settings["Parameters"]["max_connections"])
    # B16: the log that says why a token was rejected.
    assert cluster["EnableCloudwatchLogsExports"] == ["postgresql", "iam-db-auth-error"]
    # In ms. Longer than an environment trusts a connection, and short enough that the database can sleep.
    assert 5_000 < int(settings["Parameters"]["idle_session_timeout"]) <= 300_000

    ec2 = boto3.client("ec2")
    groups = {group["GroupId"]: group for group in ec2.describe_security_groups()["SecurityGroups"]}
    configuration, *_ = function_of("event-logger")
    (own,) = configuration["VpcConfig"]["SecurityGroupIds"]
    (of_the_database,) = cluster["VpcSecurityGroupIds"]
    (rule,) = groups[of_the_database]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"], rule["IpRanges"], rule["Ipv6Ranges"]) == (5432, 5432, [], [])
    assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [own]
    assert groups[own]["IpPermissions"] == []
    # Neither function nor database is where the internet could knock.
    private = set(configuration["VpcConfig"]["SubnetIds"])
    assert {subnet["SubnetIdentifier"] for subnet in database_subnets()} == private
    assert not [route for route in routes("PrivateRoutes") if route.get("GatewayId", "").startswith("igw-")]


def test_a_database_can_be_brought_back_protected_and_elsewhere(deploy):
    """B6, B16, C2"""
    own = {
        "DatabaseSnapshot": "last", "DatabaseDeletionProtection": "true", "KmsKeyArn": SOURCE_KEY,
        "CidrBlock": "10.7.0.0/16", "IssuerPort": "8443",
    }
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com:8443", **own))

    (cluster,) = asked_for("AWS::RDS::DBCluster").values()
    assert (cluster["SnapshotIdentifier"], cluster["DeletionProtection"], cluster["KmsKeyId"]) == ("last", "true", SOURCE_KEY)
    assert not {"DatabaseName", "MasterUsername"} & cluster.keys()
    ec2 = boto3.client("ec2")
    configuration, *_ = function_of("event-logger")
    subnets = ec2.describe_subnets(SubnetIds=configuration["VpcConfig"]["SubnetIds"])["Subnets"]
    assert sorted(subnet["CidrBlock"] for subnet in subnets) == ["10.7.0.0/24", "10.7.1.0/24"]
    # moto keeps no rules of this kind.
    network = settled("network", Nat=True, Ipv6=False, HasEndpoint=False, HasOtherPort=True)
    rules = network["FunctionSecurityGroup"]["Properties"]["SecurityGroupEgress"]
    assert [rule["FromPort"] for rule in rules] == [443, {"Ref": "IssuerPort"}]


def database_subnets():
    (group,) = boto3.client("rds").describe_db_subnet_groups()["DBSubnetGroups"]
    return group["Subnets"]


def routes(logical_id):
    tag = {"Name": "tag:aws:cloudformation:logical-id", "Values": [logical_id]}
    (table,) = boto3.client("ec2").describe_route_tables(Filters=[tag])["RouteTables"]
    return table["Routes"]


def test_the_way_out_by_nat(deploy):
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", IssuerEgress="nat"))

    configuration, *_ = function_of("event-logger")
    (way_out,) = [route for route in routes("PrivateRoutes") if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
    assert way_out["NatGatewayId"] and not configuration["VpcConfig"]["Ipv6AllowedForDualStack"]


def test_the_way_out_by_ipv6(deploy):
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", IssuerEgress="ipv6"))

    configuration, *_ = function_of("event-logger")
    (way_out,) = [route for route in routes("PrivateRoutes") if route.get("GatewayId") != "local"]
    assert way_out["EgressOnlyInternetGatewayId"] and configuration["VpcConfig"]["Ipv6AllowedForDualStack"]
    ec2 = boto3.client("ec2")
    assert ec2.describe_nat_gateways()["NatGateways"] == []
    # It signs its tokens itself. Secrets Manager, for the state key, has IPv6 addresses.
    assert ec2.describe_vpc_endpoints()["VpcEndpoints"] == []


def test_the_owners_secret_and_the_state_key_can_be_read_and_are_reached_without_nat(deploy):
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", IssuerEgress="ipv6", DatabaseAuth="secret"))

    configuration, *_ = function_of("event-logger")
    read = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": OWNER_SECRET}
    assert role_of(configuration) == (LAMBDA_ASSUMES, [own_log("event-logger"), TRACES, *IN_A_NETWORK, READS_STATE_KEY, read])
    variables = variables_of(configuration)
    assert (variables["DB_SECRET_ARN"], variables["DB_AUTH"], variables["DB_USER"]) == (OWNER_SECRET, "password", "")
    (endpoint,) = boto3.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.secretsmanager"
    assert asked_for("AWS::EC2::SecurityGroupEgress").keys() == {"FunctionEgress", "SecretsManagerEgress"}


def test_a_proxy_stands_between_and_is_another_resource(deploy):
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", DatabaseProxy="yes"))

    configuration, *_ = function_of("event-logger")
    (proxy,) = asked_for("AWS::RDS::DBProxy").values()
    assert (proxy["RequireTLS"], proxy["DefaultAuthScheme"]) == (True, "IAM_AUTH")
    *_, connect = role_of(configuration)[1]
    users = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser"
    assert connect == {"Effect": "Allow", "Action": "rds-db:connect", "Resource": f"{users}:prx-1/app"}
    (assumed,), of_the_proxy = role("event-logger-Database-")
    assert assumed["Principal"] == {"Service": "rds.amazonaws.com"}
    assert assumed["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert of_the_proxy == [{**connect, "Resource": f"{users}:cluster-EVENTS/app"}]
    variables = variables_of(configuration)
    assert variables["DB_HOST"] == STAND_INS["AWS::RDS::DBProxy"]["Endpoint"]
    # Its certificate is no RDS certificate.
    assert variables["DB_SSLROOTCERT"] == "/etc/pki/tls/certs/ca-bundle.crt"
    (cluster,) = asked_for("AWS::RDS::DBCluster").values()
    groups = {group["GroupId"]: group for group in boto3.client("ec2").describe_security_groups()["SecurityGroups"]}
    # B3: the function's way to the database stays, so that a switch is no outage. Those of the proxy are resources of their
    # own, which are deleted when the function connects to the database again.
    (own,) = configuration["VpcConfig"]["SecurityGroupIds"]
    rules = groups[cluster["VpcSecurityGroupIds"][0]]["IpPermissions"]
    allowed = {pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]}
    assert allowed == {own, *proxy["VpcSecurityGroupIds"]}
    assert asked_for("AWS::EC2::SecurityGroupEgress").keys() == {"FunctionEgress", "FunctionProxyEgress", "ProxyEgress"}


# What `make deploy` does without CloudFormation.
ROLLOUT = {
    "cloudwatch:DescribeAlarms", "lambda:DeleteFunction", "lambda:GetFunctionConcurrency", "lambda:GetFunctionConfiguration",
    "lambda:InvokeFunction", "lambda:ListAliases", "lambda:ListVersionsByFunction", "lambda:PublishVersion",
}


def test_github_may_be_one_environment_and_change_one_stack(deploy):
    who = {"Owner": "octocat", "OwnerId": "1", "Repository": "servers", "RepositoryId": "2", "Environment": "production"}
    told = deploy("up", "github-oidc", *parameters(Stack="greeter", **who))

    (assumed,), policies = role("github-oidc-Role-")
    assert told["RoleArn"].startswith(f"arn:aws:iam::{ACCOUNT}:role/github-oidc-Role-")
    assert (assumed["Action"], assumed["Principal"]) == ("sts:AssumeRoleWithWebIdentity", {"Federated": "Provider"})
    assert assumed["Condition"] == {"StringEquals": {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": "repo:octocat@1/servers@2:environment:production",
    }}
    through_cloudformation = {"ForAnyValue:StringEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"}}
    for statement in policies:
        actions, resources = ([own] if isinstance(own, str) else own for own in (statement["Action"], statement["Resource"]))
        if {action.partition(":")[0] for action in actions} <= {"cloudformation", "s3"} or {*actions} <= ROLLOUT:
            assert "lambda" not in actions[0] or all(":function:greeter" in resource for resource in resources)
            # Of a function only versions may be deleted directly.
            assert actions != ["lambda:DeleteFunction"] or all(resource.endswith(":*") for resource in resources)
            continue
        if "Condition" not in statement:
            # What make deploy does with versions of the function, and with the alarms.
            # Both of CloudWatch only read, and have no resource.
            read = {"cloudwatch:DescribeAlarms", "cloudwatch:GetMetricStatistics"}
            assert all("function:greeter" in resource for resource in resources) or {*actions} <= read
            assert "*" not in "".join(actions)
            continue
        assert through_cloudformation.items() <= statement["Condition"].items(), statement
        # What is not of the stack can only be read; a random password is of nothing.
        of_the_stack = all("greeter" in resource for resource in resources)
        read = [action for action in actions if action.partition(":")[2].startswith("Describe")]
        assert of_the_stack or set(actions) - {*read} <= {"secretsmanager:GetRandomPassword"}, statement


def test_a_boundary_is_on_every_role_that_github_makes_and_wide_enough_for_the_functions(deploy):
    """B15"""
    boundary = deploy("up", "boundary")["PermissionsBoundary"]
    who = {"Owner": "octocat", "Repository": "servers", "Environment": "production"}
    deploy("up", "github-oidc", *parameters(Stack="event-logger", PermissionsBoundary=boundary, **who))
    deploy("up", "event-logger", *parameters(Issuer="https://id.example.com", PermissionsBoundary=boundary))

    refused = [statement for statement in role("github-oidc-Role-")[1] if statement["Effect"] == "Deny"]
    assert refused[0]["Condition"] == {"StringNotEquals": {"iam:PermissionsBoundary": boundary}}
    assert {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"} <= set(refused[0]["Action"])
    (allowed,) = boundary_of("Boundary")
    granted = [statement for statement in role_of(function_of("event-logger")[0])[1] if statement["Effect"] == "Allow"]
    assert {action for own in granted for action in listed(own["Action"])} <= set(allowed["Action"])


def boundary_of(logical_id):
    return loaded("boundary")["Resources"][logical_id]["Properties"]["PolicyDocument"]["Statement"]


def test_only_the_boundary_of_the_function_that_migrates_permits_to_connect_as_administrator():
    # A session tag is `aws:PrincipalTag`, too: who may assume a role with `sts:TagSession` chooses it.
    tagged = {"aws:PrincipalTag/mcp-role": "migrate"}

    assert not is_allowed(boundary_of("Boundary"), "dsql:DbConnectAdmin", CLUSTER, tagged)
    assert is_allowed(boundary_of("Boundary"), "dsql:DbConnect", CLUSTER, {})
    # It is as wide as the role of the function that migrates.
    (role,) = [own["Properties"] for own in loaded("migration")["Resources"].values() if own["Type"] == "AWS::IAM::Role"]
    needed = {action for own in re.findall(r"'Action': (\[[^]]+\]|'[^']+')", str(role["Policies"])) for action in listed(ast.literal_eval(own))}
    (permitted,) = boundary_of("Migration")
    assert needed == {*permitted["Action"]} and "dsql:DbConnectAdmin" in needed
    # Of all templates this one alone asks for it.
    asking = {name_of(path) for path in TEMPLATES if "dsql:DbConnectAdmin" in path.read_text()}
    assert asking == {"boundary", "migration"}


@pytest.mark.parametrize(("database", "may_migrate"), [("no", False), ("yes", False), ("dsql", True)])
def test_a_role_for_a_stack_without_a_cluster_makes_no_role_that_may_connect_as_administrator(database, may_migrate):
    general, migration = (f"arn:aws:iam::{ACCOUNT}:policy/{own}" for own in ("boundary", "migration"))
    statements = deploy_role("weather", database, PermissionsBoundary=general, MigrationBoundary=migration)

    def may(action, boundary):
        """Whether the role may give a role of its stack this boundary, or rights within it."""
        role = f"arn:aws:iam::{ACCOUNT}:role/weather-Function-1A-Role-2B"
        context = {"aws:CalledVia": "cloudformation.amazonaws.com", **({"iam:PermissionsBoundary": boundary} if boundary else {})}
        allowed, denied = ([own for own in statements if own["Effect"] == effect] for effect in ("Allow", "Deny"))
        return is_allowed(allowed, action, role, context) and not is_denied(denied, action, context)

    for action in ("iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"):
        assert may(action, general), action
        assert may(action, migration) == may_migrate, action
        assert not may(action, None) and not may(action, f"arn:aws:iam::{ACCOUNT}:policy/other"), action


@pytest.mark.parametrize("stack", ["event-logger-dsql", "authorization-server"])
def test_the_role_that_migrates_has_its_own_boundary(stack):
    (passed,) = [own["Properties"]["Parameters"] for name, own in loaded(stack)["Resources"].items() if name == "Migration"]
    conditions = loaded(stack)["Conditions"]

    # An existing stack, which has none, keeps the one that it has.
    assert passed["PermissionsBoundary"] == {"Fn::If": ["HasMigrationBoundary", {"Ref": "MigrationBoundary"}, {"Ref": "PermissionsBoundary"}]}
    assert conditions["HasMigrationBoundary"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "MigrationBoundary"}, ""]}]}
    assert loaded(stack)["Parameters"]["MigrationBoundary"]["Default"] == ""


# The stacks that the role is for, as docs/github.md lists them, with the value of its parameter Database.
ROLE_STACKS = dict(re.findall(r"^\| `([\w-]+)`.* \| `(yes|dsql|no)` \|$", (PROJECT / "docs" / "github.md").read_text(), re.MULTILINE))
# Permissions of CloudFormation's handlers that the role does not need: by resource type, the property that they are for. An
# entry applies to resources without the property.
UNNEEDED = {
    "AWS::CloudFormation::Stack": {
        "RoleARN": ["iam:PassRole"],
        "StackPolicyBody": ["cloudformation:SetStackPolicy"],
    },
    "AWS::Cognito::UserPool": {
        "EmailConfiguration": ["iam:CreateServiceLinkedRole"],
        "LambdaConfig.KMSKeyID": ["kms:*"],
        "SmsConfiguration": ["iam:PassRole"],
    },
    # Both roles are for Pinpoint.
    "AWS::Cognito::UserPoolClient": {"AnalyticsConfiguration": ["iam:CreateServiceLinkedRole", "iam:*RolePolicy", "iam:PassRole"]},
    "AWS::Cognito::UserPoolDomain": {"CustomDomainConfig": ["cloudfront:updateDistribution", "kms:*"]},
    "AWS::DSQL::Cluster": {
        "KmsEncryptionKey": ["kms:*"],
        # A person links clusters.
        "MultiRegionProperties": ["dsql:AddPeerCluster", "dsql:PutMultiRegionProperties", "dsql:PutWitnessRegion", "dsql:RemovePeerCluster"],
        "PolicyDocument": ["dsql:DeleteClusterPolicy", "dsql:PutClusterPolicy"],
    },
    "AWS::EC2::VPCEndpoint": {"ServiceNetworkArn": ["vpc-lattice:*"], "ServiceRegion": ["vpce:AllowMultiRegion"]},
    "AWS::IAM::ManagedPolicy": {
        "Groups": ["iam:*GroupPolicy"],
        "Roles": ["iam:*RolePolicy"],
        "Users": ["iam:*UserPolicy"],
    },
    "AWS::Lambda::Alias": {"UpdatePolicy": ["codedeploy:*"]},
    "AWS::Lambda::Function": {
        "Code.S3ObjectVersion": ["s3:GetObjectVersion"],
        "FileSystemConfigs": ["elasticfilesystem:*", "s3files:*"],
        "KmsKeyArn": ["kms:*"],
        "VpcConfig": ["ec2:*"],
    },
    "AWS::Logs::LogGroup": {
        "DataProtectionPolicy": ["firehose:TagDeliveryStream", "logs:CreateLogDelivery", "s3:REST.PUT.OBJECT"],
        "FieldIndexPolicies": ["logs:DeleteIndexPolicy", "logs:PutIndexPolicy"],
        "ResourcePolicyDocument": ["logs:DeleteResourcePolicy", "logs:PutResourcePolicy"],
    },
    "AWS::RDS::DBInstance": {"ManageMasterUserPassword": ["secretsmanager:*"], "MonitoringRoleArn": ["iam:ListRoles"]},
    "AWS::SNS::Topic": {"DeliveryStatusLogging": ["iam:PassRole"]},
}


@functools.cache
def deploy_role(stack, database, **others):
    """The statements of the role that deploys a stack from GitHub, of an account of its own."""
    with account():
        make_role(stack, database, **others)
        return role("github-Role-")[1]


def make_role(stack, database, **others):
    own = {"Owner": "owner", "Repository": "servers", "Environment": "production", "Stack": stack, "Database": database, **others}
    boto3.client("cloudformation").create_stack(
        StackName="github", TemplateBody=(INFRA / "github-oidc.yaml").read_text(), Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in own.items()],
    )


def listed(value):
    return [value] if isinstance(value, str) else value


def matches(patterns, text, flags=0):
    """IAM's patterns. They are case-sensitive, except those of actions."""
    return any(expression(pattern, flags).fullmatch(text) for pattern in listed(patterns))


@functools.cache
def expression(pattern, flags):
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), flags)


def is_allowed(statements, action, resource, context):
    """IAM's evaluation, as far as the role's statements need it."""

    def applies(statement):
        assert statement.keys() <= {"Effect", "Action", "Resource", "Condition"} and statement["Effect"] == "Allow"
        conditions = statement.get("Condition", {})
        assert conditions.keys() <= {"StringEquals", "StringLike", "ForAnyValue:StringEquals", "ArnLike"}
        wanted = [own for keys in conditions.values() for own in keys.items()]
        if not all(key in context and matches(values, context[key]) for key, values in wanted):
            return False
        return matches(statement["Action"], action, re.IGNORECASE) and matches(statement["Resource"], resource)

    return any(applies(statement) for statement in statements)


def is_denied(statements, action, context):
    """The same for denials of every resource. A key that the request lacks differs from every value."""

    def applies(statement):
        conditions = statement.get("Condition", {})
        assert statement["Effect"] == "Deny" and statement["Resource"] == "*" and conditions.keys() <= {"StringNotEquals"}
        different = conditions.get("StringNotEquals", {}).items()
        return matches(statement["Action"], action, re.IGNORECASE) and all(context.get(key) not in listed(values) for key, values in different)

    return any(applies(statement) for statement in statements)


# What these templates give a resource only if the stack asks for it: by property, the parameter.
WITH_OPTIONAL = {"dsql", "function", "migration", "tasks"}
OPTIONAL = {
    "KmsEncryptionKey": "KmsKeyArn", "KmsKeyArn": "KmsKeyArn", "KmsKeyId": "KmsKeyArn", "VpcConfig": "SubnetIds",
    "ManagedPolicyArns": "PolicyArns", "MultiRegionProperties": "WitnessRegion", "PermissionsBoundary": "PermissionsBoundary",
}


def with_nested(name, stack, passed=()):
    """The resources of a template, and of those nested in it: the name of the stack, the logical id, the definition."""
    for logical_id, resource in loaded(name)["Resources"].items():
        properties = resource.get("Properties", {})
        if name in WITH_OPTIONAL:
            # What is passed on from the stack's own parameters is empty unless an operator sets it.
            unset = {own for own, parameter in OPTIONAL.items() if passed.get(parameter) in (None, {"Ref": parameter})}
            properties = {key: value for key, value in properties.items() if key not in unset}
        yield stack, logical_id, {**resource, "Properties": properties}
        if resource["Type"] == "AWS::CloudFormation::Stack":
            (nested,) = templates.NESTED.findall(json.dumps(properties["TemplateURL"]))
            yield from with_nested(nested, f"{stack}-{logical_id}-1A2B3C", properties.get("Parameters", {}))


def function_in(stack):
    """The function of a nested stack."""
    own, _, migration = stack.partition("-Migration-")
    function = own.partition("-Function-")[0]
    return f"{own}-migrate" if migration else f"{function}-tasks" if "-TasksFunction-" in own else function


def physical_name(stack, logical_id, resource):
    """The name that a resource has: the template's, or the one that CloudFormation generates."""
    kind = resource["Type"]
    generated = logical_id if kind == "AWS::SecretsManager::Secret" else f"{stack}-{logical_id}"
    given = {"AWS::SecretsManager::Secret": "Name", "AWS::CloudWatch::Dashboard": "DashboardName", "AWS::SSM::Parameter": "Name"}.get(kind)
    written = resource["Properties"].get(given) if given else None
    if not written:
        return f"{generated}-1A2B3C"
    function = stack.partition("-Function-")[0]
    return re.sub(r"\$\{(Name|FunctionName)\}", function, written["Fn::Sub"]).replace("${AWS::Region}", REGION)


def arn_for(action, stack, logical_id, resource, function):
    """What an action of a resource's handler is asked for. An action that IAM cannot limit to resources is asked for all."""
    service, _, name = action.lower().partition(":")
    if "Resources" not in IAM_ACTIONS.get(service, {}).get("Actions", {}).get(name, {"Resources": ["unknown"]}):
        return "*"
    own = physical_name(stack, logical_id, resource)
    if name == "createservicelinkedrole":
        owner = resource["Type"].split("::")[1].lower()
        return f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{owner}.amazonaws.com/AWSServiceRole"
    if resource["Type"] == "AWS::CloudWatch::Dashboard":
        return f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{own}"
    in_region = f"arn:aws:{service}:{REGION}:{ACCOUNT}:"
    if resource["Type"] == "AWS::IAM::RolePolicy":
        # That of the function, also from the stack above it.
        return f"arn:aws:iam::{ACCOUNT}:role/{stack if '-Function-' in stack else f'{stack}-Function-1A2B3C'}-Role-1A2B3C"
    if (service, resource["Type"]) == ("secretsmanager", "AWS::RDS::DBCluster"):
        # RDS makes it.
        return f"{in_region}secret:rds!cluster-id-AbCdEf"
    return {
        "cloudformation": f"{in_region}stack/{own}/1",
        "cloudwatch": f"{in_region}alarm:{own}",
        "cognito-idp": f"{in_region}userpool/id",
        "dsql": f"{in_region}cluster/id",
        # The resource's own, or one that it is given.
        "iam": f"arn:aws:iam::{ACCOUNT}:" + (f"policy/{own}" if "ManagedPolicy" in resource["Type"] else f"role/{stack}-Role-1A2B3C"),
        # URL and permissions are their function's.
        "lambda": f"{in_region}function:{function_in(stack)}",
        "logs": f"{in_region}log-group:{own}",
        "scheduler": f"{in_region}schedule/default/{own}",
        "s3": f"arn:aws:s3:::mcp-on-lambda-{ACCOUNT}-{REGION}/code/{function}/none/0.zip",
        "secretsmanager": f"{in_region}secret:{own}-AbCdEf",
        "sns": f"{in_region}{own}",
        # Its name begins with a slash.
        "ssm": f"{in_region}parameter{own}",
    }.get(service, f"{in_region}id-of-aws")


def refused(name, database, stacks="weather", top="weather"):
    """What CloudFormation's handlers would be refused if the role for `stacks` deployed a template as the stack `top`: type,
    permission, resource, and the properties of the resource."""
    function = templates.function_of(name)
    statements = deploy_role(stacks, database, Function="*" if stacks.endswith("*") else function, Tasks="yes")
    # Other tests are about the denials.
    statements = [own for own in statements if own["Effect"] == "Allow"]
    for stack, logical_id, resource in with_nested(name, top):
        kind = resource["Type"]
        service = f"{kind.split('::')[1].lower()}.amazonaws.com"
        context = {
            "aws:CalledVia": "cloudformation.amazonaws.com", "iam:PassedToService": service, "iam:AWSServiceName": service,
            "iam:PolicyARN": f"arn:aws:iam::{ACCOUNT}:policy/{top}-DatabasePolicy-1A2B3C", "aws:ResourceTag/aws:cloudformation:stack-name": stack,
        }
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema["handlers"]
        # `list` is for an inventory of an account, which no stack needs.
        permissions = {action for name in handlers.keys() - {"list"} for action in handlers[name]["permissions"]}
        for action in sorted(permissions):
            arn = arn_for(action, stack, logical_id, resource, function)
            if not is_allowed(statements, action, arn, context):
                yield kind, action, arn, resource.get("Properties", {})


def has(properties, path):
    for name in path.split("."):
        if name not in properties:
            return False
        properties = properties[name]
    return True


def test_the_role_is_for_every_stack_but_those_that_docs_name():
    """A2"""
    documented = (PROJECT / "docs" / "github.md").read_text()

    own = {name for name in templates.stacks() if templates.function_of(name) in (None, *tools.SHIPPED)}
    assert own - ROLE_STACKS.keys() == {"authorization-server", "boundary", "budget", "custom-domain", "fleet", "github-oidc"}
    assert "not for [`custom-domain.yaml`]" in documented


@pytest.mark.parametrize(("stacks", "top"), [("weather", "weather"), ("mcp-*", "mcp-weather")])
@pytest.mark.parametrize(("name", "database"), ROLE_STACKS.items())
def test_the_role_may_do_what_cloudformation_does_for_each_stack(name, database, stacks, top):
    """A1, A2, B14: by the registry schemas of the resource types."""
    found = [
        f"{kind}: {action} on {arn}" for kind, action, arn, properties in refused(name, database, stacks, top)
        if not any(
            matches(actions, action) and not has(properties, path) for path, actions in UNNEEDED.get(kind, {}).items()
        )
    ]

    assert found == []


@pytest.mark.parametrize("key", ["", SOURCE_KEY])
def test_the_role_may_use_the_key_of_its_stack_and_no_other(key):
    """What the handlers do with a key, and what Lambda does for a caller who publishes a version."""
    statements = deploy_role("weather", "no", KmsKeyArn=key)
    through_cloudformation = {"aws:CalledVia": "cloudformation.amazonaws.com"}
    through_lambda = {"kms:ViaService": f"lambda.{REGION}.amazonaws.com"}
    handlers = [
        handler for kind in ("AWS::Lambda::Function", "AWS::SecretsManager::Secret", "AWS::RDS::DBCluster", "AWS::RDS::DBInstance")
        for handler in PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema["handlers"].values()
    ]
    needed = {action for handler in handlers for action in handler["permissions"] if action.startswith("kms:")}

    assert {"kms:CreateGrant", "kms:Decrypt", "kms:Encrypt"} <= needed
    for action in needed:
        assert is_allowed(statements, action, SOURCE_KEY, through_cloudformation) == bool(key), action
        assert not is_allowed(statements, action, SOURCE_KEY.replace("1234abcd", "4321abcd"), through_cloudformation)
        assert not is_allowed(statements, action, SOURCE_KEY, {})
        assert is_allowed(statements, action, SOURCE_KEY, through_lambda) == (bool(key) and action == "kms:Decrypt"), action


@pytest.mark.parametrize(("name", "deployments"), [("greeter", [{}, {"LogRetentionDays": "7"}, {"PublicUrl": "https://mcp.example.com"}]), ("event-logger", [ISSUER]), ("event-logger-dsql", [ISSUER])])
def test_the_role_may_do_what_deploy_py_does_itself(aws, name, deployments, monkeypatch):
    """A1: without CloudFormation in between."""
    statements = deploy_role("weather", ROLE_STACKS[name], Function=templates.function_of(name))
    called = set()

    def client(account, service, **options):
        made = account.session.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"], **options)
        made.meta.events.register(
            "provide-client-params", lambda params, model, **_: called.add((service, model.name, arn(params))),
        )
        return made

    def arn(params):
        if own := params.get("StackName") or params.get("ChangeSetName", "").startswith("arn:") and "weather":
            return own if own.startswith("arn:") else f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{own}/1"
        if own := params.get("Bucket"):
            return f"arn:aws:s3:::{own}" + (f"/{params['Key']}" if "Key" in params else "")
        if own := params.get("FunctionName"):
            return own if own.startswith("arn:") else f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{own}"
        return params.get("resourceArn", "*")

    monkeypatch.setattr(deploy_script.Account, "client", client)
    monkeypatch.setattr(deploy_script, "archive_of", lambda *_: Archive(b"PK", []))
    # A canary, without its minutes.
    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: own.counts("Invocations", own.canary, datetime.datetime.now(datetime.UTC)))
    for words in [["up", "--no-doctor", "--canary", "0.5", *parameters(**given)] for given in deployments] + [["down"]]:
        monkeypatch.setattr(sys, "argv", ["deploy.py", *words, name, "--name", "weather", "--yes"])
        deploy_script.main()

    permissions = {"HeadBucket": "ListBucket", "PutPublicAccessBlock": "PutBucketPublicAccessBlock", "Invoke": "InvokeFunction"}
    asked = {(f"{service}:{permissions.get(name, name)}", arn) for service, name, arn in called if service != "sts"}
    different = "rds-data:ExecuteStatement" if name == "event-logger" else "cloudformation:ExecuteChangeSet"
    assert {"s3:PutObject", "cloudformation:CreateChangeSet", "cloudformation:DeleteStack", different} <= {own for own, _ in asked}
    assert ("cloudwatch:GetMetricStatistics", "*") in asked or len(deployments) < 3
    tagged = {"aws:ResourceTag/aws:cloudformation:stack-name": "weather-Database-1A2B3C"}
    assert [own for own in asked if not is_allowed(statements, *own, tagged)] == []


@pytest.mark.parametrize("database", ["yes", "dsql", "no"])
def test_the_role_has_no_right_to_a_stack_whose_name_begins_with_that_of_its_own(database):
    statements, other = deploy_role("event-logger", database), "event-logger-dsql"
    context = {
        "aws:CalledVia": "cloudformation.amazonaws.com", "iam:PassedToService": "lambda.amazonaws.com",
        "iam:PolicyARN": f"arn:aws:iam::{ACCOUNT}:policy/{other}-DatabasePolicy-1A2B3C",
        "aws:ResourceTag/aws:cloudformation:stack-name": f"{other}-Cognito-1A2B3C",
    }
    asked = {
        (action, arn_for(action, stack, logical_id, resource, "event-logger"))
        for stack, logical_id, resource in with_nested(other, other)
        for handler in PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource["Type"]).schema["handlers"].values()
        for action in handler["permissions"]
    }
    # What has the name of its stack: not ids of clusters, and not the zip that both stacks have.
    named = {(action, arn) for action, arn in asked if other in arn}
    in_region = f"{REGION}:{ACCOUNT}"
    named |= {(action, f"arn:aws:lambda:{in_region}:function:{own}") for action in ROLLOUT for own in (other, f"{other}:1", f"{other}-migrate")}
    named |= {("cloudformation:ExecuteChangeSet", f"arn:aws:cloudformation:{in_region}:stack/{other}/1")}

    services = {"cloudformation", "iam", "lambda", "logs", "secretsmanager", "cloudwatch", "ssm"}
    assert {action.partition(":")[0] for action, _ in named} >= services
    assert [own for own in named if is_allowed(statements, *own, context) and own[0] != "cloudwatch:DescribeAlarms"] == []


def test_a_role_is_for_stacks_without_capital_letters_and_their_resources_have_one():
    pattern = loaded("github-oidc")["Parameters"]["Stack"]["AllowedPattern"]
    resources = {logical_id for name in ROLE_STACKS for logical_id in loaded(name)["Resources"]}

    names = {"event-logger-dsql": True, "greeter-2": True, "Greeter": False, "greeter-Function": False, "mcp-*": True, "mcp*": False, "*": False}
    assert {own: bool(re.search(pattern, own)) for own in names} == names
    assert {own[0] for own in resources} == set("CDFMN")


@pytest.mark.parametrize("stacks", ["mcp-*", "mcp-weather"])
def test_a_role_for_a_prefix_is_for_its_stacks_and_for_resources_of_any_name(stacks):
    """B14"""
    statements, is_prefix = deploy_role(stacks, "yes", Function="*", PermissionsBoundary="arn:boundary"), stacks.endswith("*")
    statements = [own for own in statements if own["Effect"] == "Allow"]
    in_region = f"{REGION}:{ACCOUNT}"

    def may(stack, own):
        named = {
            "iam:CreateRole": f"arn:aws:iam::{ACCOUNT}:role/{stack}-{own}-1A", "iam:PassRole": f"arn:aws:iam::{ACCOUNT}:role/{stack}-{own}-1A",
            "iam:CreatePolicy": f"arn:aws:iam::{ACCOUNT}:policy/{stack}-{own}-1A", "iam:AttachRolePolicy": f"arn:aws:iam::{ACCOUNT}:role/{stack}-{own}-1A",
            "logs:CreateLogGroup": f"arn:aws:logs:{in_region}:log-group:{stack}-{own}-1A", "sns:CreateTopic": f"arn:aws:sns:{in_region}:{stack}-{own}-1A",
            "cloudwatch:PutMetricAlarm": f"arn:aws:cloudwatch:{in_region}:alarm:{stack}-{own}-1A",
            "cloudformation:CreateStack": f"arn:aws:cloudformation:{in_region}:stack/{stack}-{own}-1A/2B",
        }
        context = {
            "aws:CalledVia": "cloudformation.amazonaws.com", "iam:PassedToService": "lambda.amazonaws.com",
            "iam:PolicyARN": f"arn:aws:iam::{ACCOUNT}:policy/{stack}-{own}-1A",
        }
        return {is_allowed(statements, action, arn, context) for action, arn in named.items()}

    # `Table` begins with none of the letters that a role for one stack knows.
    assert may("mcp-weather", "Table") == {is_prefix}
    for action in ROLLOUT - {"cloudwatch:DescribeAlarms", "lambda:DeleteFunction"}:
        arns = {f"arn:aws:lambda:{in_region}:function:{own}": own for own in ("mcp-weather", "mcp-weather:1", "mcp-orders", "mcpx", "other-mcp-weather")}
        allowed = {own for arn, own in arns.items() if is_allowed(statements, action, arn, {})}
        assert allowed == {"mcp-weather", "mcp-weather:1"} | ({"mcp-orders"} if is_prefix else set())
    for other in ("other", "mcpx-weather", "other-mcp-weather"):
        assert may(other, "Table") == may(other, "Function") == {False}


def test_a_role_for_a_prefix_makes_no_roles_without_a_boundary():
    (denied,) = [own for own in deploy_role("mcp-*", "no") if own["Effect"] == "Deny"]

    assert {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"} <= {*denied["Action"]}
    assert denied["Resource"] == "*" and "Condition" not in denied


def test_the_role_of_one_stack_is_owner_of_its_database_alone():
    """B15"""
    statements = deploy_role("events", "yes")

    def may(stack, cluster):
        database = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{cluster}"
        secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!cluster-1a2b-AbCdEf"
        return (
            is_allowed(statements, "rds-data:ExecuteStatement", database, {"aws:ResourceTag/aws:cloudformation:stack-name": stack}),
            is_allowed(statements, "secretsmanager:GetSecretValue", secret, {"aws:ResourceTag/aws:rds:primaryDBClusterArn": database}),
        )

    assert may("events-Database-1A2B3C", "events-database-1a2b3c-cluster-4d5e") == (True, True)
    assert may("orders-Database-1A2B3C", "orders-database-1a2b3c-cluster-4d5e") == (False, False)
    assert may("events-dev-Database-1A2B3C", "events-test-database-1a2b3c-cluster-4d5e") == (False, False)
    assert not is_allowed(statements, "rds-data:ExecuteStatement", f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:own", {})


@pytest.mark.parametrize("database", ["yes", "dsql", "no"])
@pytest.mark.parametrize("stacks", ["a-prefix-of-stacks-*", "event-logger-dsql-production"])
def test_the_policies_of_the_role_are_within_the_limits_of_iam(aws, stacks, database):
    """10,240 characters of all inline policies of a role, and 6,144 of a managed one, without white space."""
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary-Boundary-ABCDEFGHIJKL"
    make_role(stacks, database, Tasks="yes", PermissionsBoundary=boundary, MigrationBoundary=boundary, KmsKeyArn=SOURCE_KEY)
    client = boto3.client("iam")
    (name,) = [own["RoleName"] for own in client.list_roles()["Roles"]]

    def length(document):
        return len(json.dumps(ast.literal_eval(document) if isinstance(document, str) else document, separators=(",", ":")))

    inline = [client.get_role_policy(RoleName=name, PolicyName=own)["PolicyDocument"] for own in client.list_role_policies(RoleName=name)["PolicyNames"]]
    attached = [own["PolicyArn"] for own in client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]]
    managed = [client.get_policy_version(PolicyArn=own, VersionId="v1")["PolicyVersion"]["Document"] for own in attached]
    # Ten managed policies can be attached.
    assert 2 <= len(managed) <= 10
    # In a region with a longer name there are more.
    assert sum(map(length, inline)) < 9_500 and all(length(own) < 5_500 for own in managed)



BUCKET = f"arn:aws:s3:::mcp-on-lambda-{ACCOUNT}-{REGION}"


@pytest.mark.parametrize(("key", "is_own"), [
    ("code/event-logger/none/0.zip", True), ("templates/events/0/function.yaml", True), ("code/greeter/none/0.zip", False),
    ("code/event-logger-2/none/0.zip", False), ("templates/events-2/0/function.yaml", False), ("templates/0/function.yaml", False),
    ("other", False),
])
def test_the_role_uploads_what_its_stack_reads_and_nothing_else(key, is_own):
    statements = deploy_role("events", "dsql", Function="event-logger")

    assert is_allowed(statements, "s3:PutObject", f"{BUCKET}/{key}", {}) == is_own
    # An earlier release uploaded templates for all stacks.
    assert is_allowed(statements, "s3:GetObject", f"{BUCKET}/{key}", {}) == (is_own or key.startswith("templates/"))


def test_a_stack_with_the_name_of_its_function_needs_no_other():
    statements = deploy_role("greeter", "no")

    assert is_allowed(statements, "s3:PutObject", f"{BUCKET}/code/greeter/none/0.zip", {})


@pytest.mark.parametrize("database", ["yes", "dsql", "no"])
def test_the_role_may_change_the_user_pool_of_its_stack_and_no_user(database):
    statements = deploy_role("events", database)
    pool = f"arn:aws:cognito-idp:{REGION}:{ACCOUNT}:userpool/id"

    def may(action, stack, **others):
        tagged = {"aws:ResourceTag/aws:cloudformation:stack-name": stack} if stack else {}
        return is_allowed(statements, f"cognito-idp:{action}", pool, {"aws:CalledVia": "cloudformation.amazonaws.com", **tagged, **others})

    assert may("CreateUserPoolClient", "events-Cognito-1A2B3C") == may("DeleteUserPool", "events-Cognito-1A2B3C") == (database != "no")
    for stack in (None, "events-2-Cognito-1A2B3C", "other"):
        assert not any(may(action, stack) for action in ("CreateUserPoolClient", "UpdateUserPool", "DeleteUserPool", "DescribeUserPoolClient"))
    assert not any(may(action, "events-Cognito-1A2B3C") for action in ("AdminCreateUser", "AdminSetUserPassword", "AdminInitiateAuth", "ListUsers"))
    assert not may("UpdateUserPool", "events-Cognito-1A2B3C", **{"aws:CalledVia": "other"})


def test_every_permission_that_the_role_does_not_need_is_one_of_cloudformations():
    """A1: an entry that excuses nothing is out of date."""
    used = set()
    for name, database in ROLE_STACKS.items():
        for kind, action, _, properties in refused(name, database):
            used |= {
                (kind, path, own) for path, actions in UNNEEDED.get(kind, {}).items() for own in actions
                if matches(own, action) and not has(properties, path)
            }

    listed_ones = {(kind, path, own) for kind, paths in UNNEEDED.items() for path, actions in paths.items() for own in actions}
    assert listed_ones - used == set()


def test_secrets_have_the_name_of_their_stack():
    """A2: the role knows them by it. CloudFormation's own names begin with the logical id."""
    resources = [own for path in TEMPLATES for own in loaded(name_of(path))["Resources"].values()]
    secrets = [own["Properties"] for own in resources if own["Type"] == "AWS::SecretsManager::Secret"]

    # `Name` of function.yaml is that of the stack.
    assert [own.get("Name") for own in secrets] == [{"Fn::Sub": "${Name}/state-key"}, {"Fn::Sub": "${AWS::StackName}/signing-keys"}]
    assert [loaded(name_of(path))["Resources"]["Function"]["Properties"]["Parameters"]["Name"] for path in STACKS] == [
        {"Ref": "AWS::StackName"}
    ] * len(STACKS)


def test_what_is_kept_is_not_in_the_way_of_a_second_try():
    """B5: what a first deployment that fails has made is deleted. Only a cluster leaves a snapshot, with a name of its own."""
    kept = {
        (path.stem, logical_id, attribute): resource[attribute]
        for path in TEMPLATES for logical_id, resource in loaded(name_of(path))["Resources"].items()
        for attribute in ("DeletionPolicy", "UpdateReplacePolicy") if attribute in resource
    }

    assert kept == {
        ("cognito", "UserPool", "DeletionPolicy"): "RetainExceptOnCreate",
        # CloudFormation knows no such word for replacements, which have no first deployment.
        ("cognito", "UserPool", "UpdateReplacePolicy"): "Retain",
        ("dsql", "Cluster", "DeletionPolicy"): "RetainExceptOnCreate",
        ("dsql", "Cluster", "UpdateReplacePolicy"): "Retain",
        ("database", "Cluster", "DeletionPolicy"): "Snapshot",
        ("database", "Cluster", "UpdateReplacePolicy"): "Snapshot",
        ("github-oidc", "Provider", "DeletionPolicy"): "RetainExceptOnCreate",
        ("github-oidc", "Provider", "UpdateReplacePolicy"): "Retain",
    }


@pytest.mark.parametrize("path", [INFRA / "custom-domain.yaml", INFRA / "function.yaml", INFRA / "migration.yaml"], ids=name_of)
def test_no_function_starts_before_its_role_has_its_policies(path):
    """B17"""
    resources = loaded(path.stem)["Resources"]
    before = template(path.stem).graph.graph
    for logical_id, function in resources.items():
        if function["Type"] != "AWS::Lambda::Function":
            continue
        own_role = function["Properties"]["Role"]["Fn::GetAtt"][0]
        policies = {
            name for name, policy in resources.items()
            if policy["Type"] == "AWS::IAM::Policy" and {"Ref": own_role} in policy["Properties"]["Roles"]
        }
        assert {own_role} | policies <= networkx.descendants(before, logical_id)


def settled(name, **conditions):
    """The resources of a template under these conditions."""

    def resolve(value):
        if isinstance(value, dict) and "Fn::If" in value:
            condition, yes, no = value["Fn::If"]
            return resolve(yes if conditions[condition] else no)
        if isinstance(value, dict):
            resolved = {key: resolve(own) for key, own in value.items()}
            return {key: own for key, own in resolved.items() if own != {"Ref": "AWS::NoValue"}}
        return [resolve(own) for own in value] if isinstance(value, list) else value

    resources = loaded(name)["Resources"]
    return {key: resolve(own) for key, own in resources.items() if conditions.get(own.get("Condition"), True)}


def test_another_way_out_changes_nothing_that_interfaces_are_in():
    """B4: a block of addresses cannot be taken from a subnet while the function's interfaces have some of it."""
    nat, ipv6 = (settled("network", Nat=not is_ipv6, Ipv6=is_ipv6, HasEndpoint=False, HasOtherPort=False) for is_ipv6 in (False, True))
    both = nat.keys() & ipv6.keys()

    assert {"PrivateSubnetA", "PrivateSubnetB", "Ipv6Block"} <= both
    assert {name for name in both if nat[name] != ipv6[name]} == {"FunctionSecurityGroup"}
    for network in (nat, ipv6):
        network["FunctionSecurityGroup"]["Properties"].pop("SecurityGroupEgress")
    assert nat["FunctionSecurityGroup"] == ipv6["FunctionSecurityGroup"]
    # One route out of the private subnets, in each.
    ways = [
        name for network in (nat, ipv6) for name in network.keys() - both
        if network[name].get("Properties", {}).get("RouteTableId") == {"Ref": "PrivateRoutes"}
    ]
    assert ways == ["NatRoute", "Ipv6Route"]


def test_the_custom_domain_passes_on_what_mcp_needs_and_caches_nothing(deploy):
    certificate = f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1"
    host = "abc.lambda-url.eu-west-1.on.aws"
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    own = {"CertificateArn": certificate, "FunctionUrlHost": host, "PermissionsBoundary": boundary}
    told = deploy("up", "custom-domain", *parameters(DomainName="mcp.example.com", **own))

    (distribution,) = asked_for("AWS::CloudFront::Distribution").values()
    config = distribution["DistributionConfig"]
    behavior, (origin,) = config["DefaultCacheBehavior"], config["Origins"]
    assert (told["PublicUrl"], told["Url"]) == ("https://mcp.example.com", "https://mcp.example.com/mcp")
    assert (origin["DomainName"], origin["CustomOriginConfig"]["OriginProtocolPolicy"]) == (host, "https-only")
    assert "OriginAccessControlId" not in origin
    assert {"GET", "HEAD", "OPTIONS", "POST", "DELETE"} <= set(behavior["AllowedMethods"])
    # Those that CloudFront keeps by default.
    kept = {error["ErrorCode"]: error["ErrorCachingMinTTL"] for error in config["CustomErrorResponses"]}
    assert kept == dict.fromkeys([400, 403, 404, 405, 414, 500, 501, 502, 503, 504], 0)
    assert config["ViewerCertificate"]["MinimumProtocolVersion"].startswith("TLSv1.2")
    # AWS's own policies, the same ids in every account: CachingDisabled, AllViewerExceptHostHeader.
    assert behavior["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
    assert behavior["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac"
    assert [own["EventType"] for own in behavior["LambdaFunctionAssociations"]] == ["origin-response"]
    (web_acl,) = asked_for("AWS::WAFv2::WebACL").values()
    limits = {rule["Name"]: rule["Statement"]["RateBasedStatement"] for rule in web_acl["Rules"]}
    assert {name: (own["AggregateKeyType"], own["Limit"]) for name, own in limits.items()} == {
        "token": ("CUSTOM_KEYS", 1000), "anonymous": ("IP", 1000), "address": ("IP", 20000),
    }
    assert [key["Header"]["Name"] for key in limits["token"]["CustomKeys"]] == ["authorization"]
    # What the first rule does not count: a request whose header is missing or empty.
    with_token = limits["anonymous"]["ScopeDownStatement"]["NotStatement"]["Statement"]["SizeConstraintStatement"]
    assert with_token["FieldToMatch"] == {"SingleHeader": {"Name": "authorization"}}
    assert (with_token["ComparisonOperator"], with_token["Size"]) == ("GT", 0)
    assert "ScopeDownStatement" not in limits["address"]
    assert {rule["Action"]["Block"]["CustomResponse"]["ResponseCode"] for rule in web_acl["Rules"]} == {429}
    assert config["WebACLId"] == STAND_INS["AWS::WAFv2::WebACL"]["Arn"]
    (assumed,), at_the_edge = role("custom-domain-ChallengeRole-")
    assert assumed["Principal"] == {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]}
    # C5
    assert at_the_edge == []
    (edge,) = [own for own in boto3.client("iam").list_roles()["Roles"] if own["RoleName"].startswith("custom-domain-ChallengeRole-")]
    kept = boto3.client("iam").get_role(RoleName=edge["RoleName"])["Role"]
    assert kept["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary


def test_the_edge_gives_the_challenge_its_name_back(node, tmp_path):
    code = loaded("custom-domain")["Resources"]["Challenge"]["Properties"]["Code"]["ZipFile"]
    script = tmp_path / "edge.cjs"
    script.write_text(code + """
        const lists = (headers) => Object.fromEntries(headers.map(([key, value]) => [key.toLowerCase(), [{ key, value }]]));
        const answer = (headers) => exports.handler({ Records: [{ cf: { response: { status: "401", headers: lists(headers) } } }] });
        Promise.all([
          answer([["x-amzn-Remapped-WWW-Authenticate", "Bearer scope=a"], ["Content-Type", "application/json"]]),
          answer([["Content-Type", "application/json"]]),
        ]).then((answers) => console.log(JSON.stringify(answers)));
    """)

    renamed, other = yaml.safe_load(node(str(script)).stdout)

    plain = [{"key": "Content-Type", "value": "application/json"}]
    challenge = [{"key": "WWW-Authenticate", "value": "Bearer scope=a"}]
    assert renamed == {"status": "401", "headers": {"content-type": plain, "www-authenticate": challenge}}
    assert other == {"status": "401", "headers": {"content-type": plain}}


def template(name):
    return Template(name, loaded(name), [REGION])


@pytest.mark.parametrize(
    ("name", "conditions", "values", "is_valid"),
    [
        ("event-logger", {"IsCognito": True, "IsIpv6": True}, {"Issuer": "cognito", "IssuerEgress": "ipv6"}, False),
        ("event-logger", {"IsCognito": True, "IsIpv6": False}, {"Issuer": "cognito", "IssuerEgress": "nat"}, True),
        ("event-logger", {"IsCognito": False, "IsIpv6": True}, {"Issuer": "https://x", "IssuerEgress": "ipv6"}, True),
        ("event-logger", {"HasProxy": True, "IsIam": False}, {"DatabaseProxy": "yes", "DatabaseAuth": "secret"}, False),
        ("event-logger", {"HasProxy": True, "IsIam": True}, {"DatabaseProxy": "yes", "DatabaseAuth": "iam"}, True),
        ("function", {"HasDistribution": True, "IsPublic": True, "IsLive": True}, {"LiveVersion": "1", "DistributionArn": "x", "AuthType": "NONE", "LiveAuthType": ""}, False),
        ("function", {"HasDistribution": True, "IsPublic": False, "IsLive": True}, {"LiveVersion": "1", "DistributionArn": "x", "AuthType": "AWS_IAM", "LiveAuthType": ""}, True),
    ],
)
def test_rules_refuse_what_cannot_work(name, conditions, values, is_valid):
    assert template(name).conditions.satisfiable(conditions, values) is is_valid


EXTERNAL = "https://id.example.com"


@pytest.mark.parametrize(
    ("name", "rule", "issuer", "values", "is_valid"),
    [
        ("event-logger", "CognitoBringsItsOwn", "cognito", {}, True),
        ("event-logger", "CognitoBringsItsOwn", "cognito", {"Audience": "api"}, False),
        ("event-logger", "CognitoBringsItsOwn", "cognito", {"ScopePrefix": "api/"}, False),
        ("event-logger", "CognitoBringsItsOwn", EXTERNAL, {"Audience": "api", "ScopePrefix": "api/"}, True),
        ("event-logger", "IssuerIsSet", "", {}, False),
        ("event-logger", "IssuerIsSet", "cognito", {}, True),
        ("event-logger", "IssuerIsSet", EXTERNAL, {}, True),
        ("event-logger", "IssuerIsSet", "", {"Issuers": GOOGLE}, True),
        ("event-logger", "IssuersStandAlone", EXTERNAL, {"Issuers": GOOGLE}, False),
        ("event-logger", "IssuersStandAlone", "", {"Issuers": GOOGLE, "Audience": "api"}, False),
        ("event-logger", "IssuersStandAlone", "", {"Issuers": GOOGLE}, True),
        ("function", "IssuersStandAlone", EXTERNAL, {"Issuers": GOOGLE}, False),
        ("function", "IssuersStandAlone", "", {"Issuers": GOOGLE}, True),
        ("event-logger", "IssuerIsSet", "", {"AuthorizationServer": EXTERNAL}, True),
        *(
            (name, "AuthorizationServerStandsAlone", issuer, {"AuthorizationServer": EXTERNAL, **others}, not issuer and not others)
            for name in ("function", "event-logger", "event-logger-dsql")
            for issuer, others in (("", {}), (EXTERNAL, {}), ("", {"Issuers": GOOGLE}))
        ),
        *(("event-logger", "AuthorizationServerStandsAlone", "", {"AuthorizationServer": EXTERNAL, own: "api"}, False) for own in ("Audience", "ScopePrefix")),
        ("event-logger", "AuthorizationServerStandsAlone", EXTERNAL, {}, True),
        ("function", "AnIssuerIsAsked", "", {"AuthorizationServer": EXTERNAL}, True),
        ("function", "AnIssuerIsAsked", "", {"AuthorizationServer": EXTERNAL, "AuthType": "AWS_IAM"}, False),
        ("function", "AnExchangeHasAnIssuer", "", {"AuthorizationServer": EXTERNAL, **EXCHANGE}, False),
        ("function", "AnIssuerIsAsked", "", {"Issuers": GOOGLE, "AuthType": "AWS_IAM"}, False),
        ("function", "AnIssuerIsNamed", "", {}, True),
        ("function", "AnIssuerIsNamed", "", {"Audience": "api"}, False),
        ("function", "AnIssuerIsNamed", "", {"ScopePrefix": "api/"}, False),
        ("function", "AnIssuerIsNamed", EXTERNAL, {"Audience": "api", "ScopePrefix": "api/"}, True),
        ("function", "AnExchangeHasAnIssuer", "", {}, True),
        ("function", "AnExchangeHasAnIssuer", "", EXCHANGE, False),
        ("function", "AnExchangeHasAnIssuer", "", {"Issuers": GOOGLE, **EXCHANGE}, True),
        ("function", "AnExchangeHasAnIssuer", EXTERNAL, EXCHANGE, True),
        *(
            (name, "AnExchangeHasASecret", EXTERNAL, {member: EXCHANGE[member] for member in given}, len(given) != 1)
            for name in ("function", "event-logger")
            for given in ([], ["ExchangeClientId"], ["ExchangeSecretArn"], EXCHANGE)
        ),
        ("function", "AuthenticationNeedsTheHeader", "", {"Authentication": "required", "AuthType": "AWS_IAM"}, False),
        ("function", "AuthenticationNeedsTheHeader", "", {"Authentication": "required"}, True),
        *(
            ("github-oidc", "MigrationBoundaryIsForDsql", "", {"Database": database, "MigrationBoundary": own, "PermissionsBoundary": general}, is_valid)
            for database, own, general, is_valid in (
                ("dsql", "a", "b", True), ("dsql", "a", "", False), ("no", "a", "b", False), ("yes", "a", "b", False), ("no", "", "b", True),
            )
        ),
        ("function", "ACanaryStandsBesideALiveVersion", "", {"CanaryVersion": "2"}, False),
        ("function", "ACanaryStandsBesideALiveVersion", "", {"CanaryVersion": "2", "LiveVersion": "1"}, True),
        ("function", "AnIssuerIsAsked", EXTERNAL, {}, True),
        ("function", "AnIssuerIsAsked", EXTERNAL, {"AuthType": "AWS_IAM"}, False),
        ("function", "AnIssuerIsAsked", "", {"AuthType": "AWS_IAM"}, True),
    ],
)
def test_what_goes_with_an_issuer_and_what_does_not(name, rule, issuer, values, is_valid):
    # By moto: cfn-lint knows of a parameter what conditions say of it, and none names all of these.
    rules = loaded(name)["Rules"]
    unset = dict.fromkeys(["Issuers", "AuthorizationServer", "Audience", "ScopePrefix", "Authentication", "LiveVersion", "CanaryVersion", "UserPoolId", *EXCHANGE], "")
    values = {"Issuer": issuer, "AuthType": "NONE", **unset, **values}
    (assertion,) = rules[rule]["Assertions"]

    applies, holds = (parsing.parse_condition(own, values, {}) for own in (rules[rule]["RuleCondition"], assertion["Assert"]))

    assert (not applies or holds) is is_valid


def test_an_issuer_without_a_way_out_is_refused(tmp_path):
    (tmp_path / "event-logger.yaml").write_text(templates.text_of("event-logger"))

    def lint(**values):
        deployment = tmp_path / "deployment.yaml"
        artifacts = {"ArtifactBucket": "artifacts", "CodeKey": "key", "TemplatesPrefix": "templates"}
        deployment.write_text(yaml.safe_dump({
            "template-file-path": str(tmp_path / "event-logger.yaml"), "parameters": {**artifacts, **values},
        }))
        linter = [tools.BIN / "cfn-lint", "--deployment-files", deployment]
        return subprocess.run([str(word) for word in linter], capture_output=True, text=True)

    good = lint(Issuer="https://id.example.com", IssuerEgress="nat")
    without = lint(Issuer="https://id.example.com", IssuerEgress="none")

    assert good.returncode == 0, good.stdout
    assert without.returncode != 0 and "'none' is not one of ['nat', 'ipv6']" in without.stdout


def test_authorization_cannot_be_switched_off_by_a_parameter():
    known = loaded("event-logger")
    issuer, issuers = known["Parameters"]["Issuer"], loaded("function")["Parameters"]["Issuers"]

    # With none of them the rule IssuerIsSet refuses.
    for refused in ("none", "off", "http://id.example.com"):
        assert not re.fullmatch(issuer["AllowedPattern"], refused), refused
        assert not re.fullmatch(known["Parameters"]["AuthorizationServer"]["AllowedPattern"], refused), refused
    for refused in ("none", "[]", "{}"):
        assert not re.fullmatch(issuers["AllowedPattern"], refused), refused
    assert known["Resources"]["Function"]["Properties"]["Parameters"]["Authentication"] == "required"
    # The authentication of the URL itself is a choice of greeter's stack alone; `make deploy` sets the parameter of the live version.
    permitted = ("AuthorizationServer", "DatabaseAuth", "LiveAuthType")
    assert not [name for name in known["Parameters"] if "auth" in name.lower() and name not in permitted]


def test_every_generated_state_key_is_one_and_can_be_rotated():
    """B8: the function reads the secret that the template describes."""
    generated = loaded("function")["Resources"]["StateKeySecret"]["Properties"]["GenerateSecretString"]
    with account():
        secrets, iam = boto3.client("secretsmanager"), boto3.client("iam")
        password = secrets.get_random_password(**generated)["RandomPassword"]
        arn = secrets.create_secret(Name="api-docs/state-key", SecretString=password)["ARN"]
        iam.create_user(UserName="function")
        # moto's secrets are no resources of policies. Others have the ARN, as the tests of the role say.
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{**READS_STATE_KEY, "Resource": "*"}]})
        iam.put_user_policy(UserName="function", PolicyName="state-key", PolicyDocument=policy)
        credentials = iam.create_access_key(UserName="function")["AccessKey"]
        variables = {
            "MCP_STATE_KEY_SECRET_ARN": arn,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": os.environ["AWS_ENDPOINT_URL"],
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        }

        def answers():
            # api-docs asks its clients: it does not start without a key.
            with emulated("api-docs", "buffered", 1, **variables) as url:
                return fetch(url, '{"jsonrpc":"2.0","id":1,"method":"ping"}', "application/json").get("result") == {}

        def put(text):
            with disable_iam_authentication():
                secrets.put_secret_value(SecretId=arn, SecretString=text)

        # moto verifies signatures and policies from here on.
        with enable_iam_authentication():
            assert answers()
            put(base64.b64encode(os.urandom(32)).decode())
            assert answers()


def test_the_functions_user_is_made_once_and_owns_its_tables():
    sql = (INFRA / "app-user.sql").read_text()
    with postgres.Postgres() as server:
        with psycopg.connect(server.url(), autocommit=True) as superuser:
            # As RDS makes them; its owner of the database is no superuser.
            superuser.execute("CREATE ROLE rds_iam")
            superuser.execute("CREATE ROLE events_owner LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
            superuser.execute("GRANT rds_iam TO events_owner WITH ADMIN OPTION")
            superuser.execute("CREATE DATABASE events OWNER events_owner")
        with psycopg.connect(server.url("events", "events_owner", "x"), autocommit=True) as owner:
            owner.execute(sql)
            owner.execute(sql)
            # In place of a token.
            owner.execute("ALTER ROLE app PASSWORD 'x'")
        variables = {"DATABASE_URL": server.url("events", "app", "x"), "MCP_AUTH": "dangerously-off"}
        with emulated("event-logger", "buffered", 1, **variables):
            pass
        with pytest.raises(psycopg.errors.InsufficientPrivilege), another_function(server) as notes:
            notes.execute("SELECT count(*) FROM events")
        with psycopg.connect(server.url("events", "app", "x")) as app:
            (takes_tokens,) = app.execute("SELECT pg_has_role('rds_iam', 'member')").fetchone()
            (tables,) = app.execute("SELECT count(*) FROM pg_tables WHERE tableowner = 'app'").fetchone()

    assert takes_tokens
    # The migrations ran, in the init phase.
    assert tables >= 2


def another_function(server):
    """The user of another function with a database of its own in the same cluster, by the lines of the documentation: its
    connection to the database of the first."""
    lines = re.findall(r"""^sql (\w+) ['"](.+)['"]$""", (PROJECT / "docs" / "deployment.md").read_text(), re.MULTILINE)
    assert [database for database, _ in lines] == ["events", "notes"]
    for database, statement in lines:
        expanded = subprocess.run(["sh", "-c", f'printf %s "{statement}"'], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        with psycopg.connect(server.url(database, "events_owner", "x"), autocommit=True) as owner:
            owner.execute(expanded)
            if database == "notes":
                owner.execute("ALTER ROLE notes PASSWORD 'x'")
    with psycopg.connect(server.url("notes", "notes", "x")) as notes:
        notes.execute("CREATE TABLE own (id int)")
    return psycopg.connect(server.url("events", "notes", "x"))


def test_what_cloudfront_uses_is_deployed_in_its_region(deploy, monkeypatch):
    # The one that all SDKs but boto3 read.
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    refused = deploy("up", "custom-domain", confirmed=False)

    assert refused.returncode != 0 and "us-east-1" in refused.stderr


def test_what_is_contained_is_not_deployed_by_itself(deploy):
    for contained in ("cognito", "database", "monitoring", "network"):
        refused = deploy("up", contained, confirmed=False)

        assert refused.returncode != 0 and "invalid choice" in refused.stderr


def test_nothing_happens_to_an_account_unasked(deploy):
    for words in (["up", "greeter"], ["code", "greeter"]):
        refused = deploy(*words, confirmed=False)

        assert refused.returncode != 0 and "Nothing was changed" in refused.stderr
        assert ACCOUNT in refused.stdout and REGION in refused.stdout
    assert boto3.client("s3").list_buckets()["Buckets"] == []
    assert boto3.client("lambda").list_functions()["Functions"] == []

    deploy("up", "greeter")
    refused = deploy("down", "greeter", confirmed=False)

    assert refused.returncode != 0
    assert len(boto3.client("cloudformation").list_stacks()["StackSummaries"]) == 3


def test_a_stack_is_made_updated_told_of_and_deleted(deploy):
    first = deploy("up", "greeter", *parameters(ReservedConcurrency="5"))
    (bucket,) = boto3.client("s3").list_buckets()["Buckets"]
    closed = boto3.client("s3").get_public_access_block(Bucket=bucket["Name"])["PublicAccessBlockConfiguration"]

    # What is not given again stays.
    deploy("up", "greeter", *parameters(PublicUrl="https://mcp.example.com"))
    (variables,) = [own["Environment"]["Variables"] for own in boto3.client("lambda").list_functions()["Functions"]]
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName="greeter")["Stacks"]
    values = {own["ParameterKey"]: own["ParameterValue"] for own in stack["Parameters"]}
    told = deploy("outputs", "greeter")
    deploy("down", "greeter")

    assert set(closed.values()) == {True}
    assert (values["ReservedConcurrency"], values["PublicUrl"]) == ("5", "https://mcp.example.com")
    # What clients use, and what the function says of itself, is the same.
    assert first["Url"] == f"{STAND_INS['AWS::Lambda::Url']['FunctionUrl']}mcp"
    assert (told["Url"], variables["MCP_PUBLIC_URL"]) == ("https://mcp.example.com/mcp", "https://mcp.example.com")
    assert boto3.client("lambda").list_functions()["Functions"] == []


def test_a_url_that_clients_cannot_use_is_no_success_but_a_deployment(deploy, mcpl, tmp_path, monkeypatch):
    # The built `mcpl`, where `cargo run` would build another.
    cargo = tmp_path / "cargo"
    cargo.write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift\nexec {mcpl} "$@"\n')
    cargo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    # No process listens there.
    nowhere = parameters(PublicUrl="https://127.0.0.1:1")
    ended = deploy("up", "greeter", "--yes", *nowhere, confirmed=False, doctor=True)

    assert ended.returncode == 1
    assert "PROBLEM" in ended.stdout and "127.0.0.1:1" in ended.stdout
    assert "The deployment succeeded and is not rolled back" in ended.stderr
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName="greeter")["Stacks"]
    assert stack["StackStatus"] == "UPDATE_COMPLETE"


@pytest.mark.parametrize("command", ["make deploy-code", "cargo lambda deploy"])
@pytest.mark.parametrize("function", sorted({*tools.SHIPPED_FUNCTIONS} - {tools.AUTHORIZATION_SERVER}))
def test_cargo_lambda_deploys_with_what_the_manifest_says(deploy, lambda_dir, monkeypatch, command, function):
    client = boto3.client("lambda")
    if command == "make deploy-code":
        told = deploy("code", function)["Url"]
    else:
        run_cargo_lambda(function, lambda_dir, monkeypatch)
        told = client.get_function_url_config(FunctionName=function, Qualifier="live")["FunctionUrl"].rstrip("/") + "/mcp"

    configuration = client.get_function_configuration(FunctionName=function)
    shared = loaded("function")
    passed = loaded(function)["Resources"]["Function"]["Properties"]["Parameters"]
    of_the_template = {name: own.get("Default") for name, own in shared["Parameters"].items()} | passed
    assert (configuration["MemorySize"], configuration["Timeout"]) == (of_the_template["MemorySize"], of_the_template["Timeout"])
    assert configuration["Runtime"] == shared["Resources"]["Function"]["Properties"]["Runtime"]
    assert configuration["TracingConfig"]["Mode"] == shared["Parameters"]["Tracing"]["Default"]
    assert configuration["Environment"]["Variables"] == {"MCP_INVOKE_MODE": "buffered"}
    # Requests reach a version, and never `$LATEST`.
    assert client.get_alias(FunctionName=function, Name="live")["FunctionVersion"] == "1"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function_url_config(FunctionName=function)
    url = client.get_function_url_config(FunctionName=function, Qualifier="live")
    assert (url["AuthType"], url["InvokeMode"].upper()) == ("NONE", "BUFFERED")
    assert told == url["FunctionUrl"].rstrip("/") + "/mcp"
    statements = yaml.safe_load(client.get_policy(FunctionName=function, Qualifier="live")["Policy"])["Statement"]
    actions = [(own["Action"], own["Principal"], own.get("InvokedViaFunctionUrl", False)) for own in statements]
    assert actions == [("lambda:InvokeFunctionUrl", "*", False), ("lambda:InvokeFunction", "*", True)]
    assert all(own["Resource"].endswith(f":function:{function}:live") for own in statements)


def run_cargo_lambda(function, lambda_dir, monkeypatch):
    """The command of the documentation, with zips of the tests and without its file of variables."""
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    (line,) = re.findall(r"^cargo lambda deploy (?=notes).*$", (PROJECT / "docs" / "deployment.md").read_text(), re.MULTILINE)
    words = line.replace("notes", function).replace(" --env-file production.env", "").split()
    ran = subprocess.run([*words, "--lambda-dir", lambda_dir], cwd=PROJECT, env=tools.environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_url_on_latest_of_an_earlier_deployment_stays(deploy):
    deploy("code", "greeter")
    client = boto3.client("lambda")
    earlier = client.create_function_url_config(FunctionName="greeter", AuthType="NONE")["FunctionUrl"].rstrip("/")

    ended = deploy("code", "greeter", "--yes", confirmed=False)

    assert ended.returncode == 0 and f"{earlier}/mcp is on $LATEST" in ended.stdout, ended.stdout + ended.stderr


# What a statement could be too generous in; a permission of Lambda's has two of them.
GENEROUS = {"Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal"}


def wildcards(text):
    """Every wildcard of a statement without an explanation: a comment on its line or the one before. With the
    number of statements."""
    lines, count, found = text.splitlines(), 0, []

    def walk(node):
        nonlocal count
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: value for key, value in node.value}
            if {"Effect", "Action"} <= entries.keys() or {"Action", "Principal"} <= entries.keys():
                count += 1
                for name in GENEROUS & entries.keys():
                    found.extend(scalars(entries[name]))
            for _, value in node.value:
                walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                walk(value)

    def scalars(node):
        if isinstance(node, yaml.ScalarNode):
            if "*" in node.value and not explained(node.start_mark.line):
                yield f"{node.start_mark.line + 1}: {lines[node.start_mark.line].strip()}"
            return
        for value in node.value:
            yield from scalars(value[1] if isinstance(value, tuple) else value)

    def explained(line):
        before = lines[line - 1].strip() if line else ""
        return before.startswith("#") or " # " in lines[line]

    walk(yaml.compose(text))
    return count, found


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_every_wildcard_says_why(path):
    count, found = wildcards(templates.text_of(name_of(path)))

    assert found == []
    assert (count == 0) == (name_of(path) in {"budget", "cognito", "dsql", "fleet", "greeter", "monitoring", "network"})


@pytest.mark.parametrize(
    "statement",
    [
        "{Effect: Allow, Action: 's3:*', Resource: arn}",
        "{Effect: Allow, Action: [s3:GetObject, 's3:Put*'], Resource: arn}",
        "{Effect: Allow, Action: s3:GetObject, Resource: '*'}",
        "{Effect: Allow, Action: s3:GetObject, Resource: !Sub 'arn:${AWS::Partition}:s3:::*'}",
        "{Effect: Allow, Action: s3:GetObject, Resource: !If [Own, arn, '*']}",
        "{Effect: Allow, Action: sts:AssumeRole, Principal: '*'}",
        "{Effect: Allow, Action: sts:AssumeRole, Principal: {AWS: '*'}}",
        "{FunctionName: f, Action: lambda:InvokeFunction, Principal: '*'}",
    ],
)
def test_a_wildcard_without_a_reason_is_found(statement):
    bare = f"Statement:\n  - {statement}\n"
    with_a_reason = f"Statement:\n  # Since there is no other way.\n  - {statement}\n"

    assert len(wildcards(bare)[1]) == 1
    assert wildcards(with_a_reason) == (1, [])
