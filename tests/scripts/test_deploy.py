"""`scripts/deploy.py` by itself: which features a deployment needs, what is uploaded, and which failures are reported."""

import argparse
import datetime
import re
import subprocess
import sys
from types import SimpleNamespace

import boto3
import deploy as deploy_script
import pytest
import templates
import tools
from botocore.stub import Stubber
from deploying import features as feature_sets

REGION = "us-east-1"
ACCOUNT = "123456789012"


def stack_with(code_key):
    stack = deploy_script.Stack.__new__(deploy_script.Stack)
    stack.described = {"StackStatus": "CREATE_COMPLETE", "Parameters": [{"ParameterKey": "CodeKey", "ParameterValue": code_key}]}
    return stack


@pytest.mark.parametrize("code_key", ["code/greeter-0a.zip", "own/place.zip", ""])
def test_a_deployment_whose_features_are_unknown_has_to_name_them(code_key):
    """A3: its zip was uploaded by other means."""
    stack = stack_with(code_key)
    arguments = argparse.Namespace(subject="greeter", features=None)

    with pytest.raises(SystemExit, match="FEATURES=otel, or FEATURES=none"):
        feature_sets.choose_features(arguments, {"auth"}, feature_sets.running("greeter", stack))
    # There is nothing to lose.
    api_docs = argparse.Namespace(subject="api-docs", features=None)
    assert feature_sets.choose_features(api_docs, {"auth"}, feature_sets.running("api-docs", stack)) == []


@pytest.mark.parametrize(
    ("stack", "function"),
    [
        ("greeter", "greeter"), ("event-logger", "event-logger"), ("event-logger-dsql", "event-logger"), ("custom-domain", None),
        ("dsql", None), ("event-logger-nothing", None),
        ("conformance", None),
    ],
)
def test_a_function_can_have_several_stacks(stack, function):
    assert templates.function_of(stack) == function
    assert (stack in templates.stacks()) == (function is not None or stack == "custom-domain")
    printed = subprocess.run([sys.executable, templates.__file__, stack], capture_output=True, text=True, check=True).stdout
    assert printed == f"{function or ''}\n"


@pytest.mark.parametrize(
    ("variables", "is_needed"),
    [
        ({}, False),
        ({"OIDC_ISSUER": "https://id.example.com"}, True),
        ({"OIDC_ISSUER": "", "OIDC_AUDIENCE": " "}, False),
        ({"GOOGLE_CLIENT_ID": "123"}, True),
        ({"GOOGLE_HOSTED_DOMAIN": "example.com"}, False),
        ({"COGNITO_USER_POOL_ID": "eu-central-1_a"}, True),
        ({"MCP_AUTH": "required"}, True),
        ({"MCP_AUTH": "iam"}, False),
    ],
)
def test_auth_is_needed_for_variables_about_issuers(variables, is_needed):
    """A3"""
    assert feature_sets.needs_auth(variables.items()) is is_needed


def test_which_variables_are_about_issuers_is_the_functions_own_rule():
    """A3: what a function that was built without `auth` ends its init for."""
    source = (tools.PROJECT / "crates" / "mcp-lambda" / "src" / "authentication.rs").read_text()
    (rule,) = re.findall(r"let is_about_issuers =(.*?);", source, re.DOTALL)
    prefixes, names = re.findall(r'starts_with\("(\w+)"\)', rule), re.findall(r'== "(\w+)"', rule)

    assert templates.ABOUT_ISSUERS.pattern == "|".join([*prefixes, *(f"{name}$" for name in names)])


@pytest.mark.parametrize(
    ("written", "is_needed"),
    [
        ("OIDC_ISSUER: !Ref Own", False),
        ("OIDC_ISSUER: !Ref Given # a reason", True),
        ("OIDC_ISSUER: !Ref Default", True),
        ("GOOGLE_CLIENT_ID: 123-abc.apps.googleusercontent.com", True),
        ('OIDC_ISSUER: ""', False),
        ("# OIDC_ISSUER: https://id.example.com", False),
        ("OIDC_ISSUERS: !Sub '[{\"issuer\":\"${Own}\"}]'", True),
        ("COGNITO_USER_POOL_ID:\n  Ref: Own", True),
        ("Variables: {A: b, OIDC_ISSUER: !Ref Given}", True),
        ("MCP_AUTH: required", True),
        ('MCP_AUTH: !If [IsSigned, iam, ""]', False),
        ("OIDC_ISSUER: !Ref Own # OIDC_ISSUER: https://id.example.com", False),
        ("OTHER: !Sub ${Own}:x\n  LONG: >-\n    OIDC_ISSUER: x\n  OIDC_ISSUER: !Ref Own", False),
        # What is not understood counts as set.
        ("MCP_AUTH: !If [IsClosed, required, optional]", True),
        ("OIDC_ISSUER: !If [IsCognito, !Ref Own, !Ref Given]", True),
        ("COGNITO_USER_POOL_ID: !If [IsCognito, !GetAtt Pool.Id, '']", True),
        ("MCP_AUTH: !Sub ${Auth}", True),
        ("MCP_AUTH: !Ref 'Given'", True),
        ("MCP_AUTH: {Ref: Given}", True),
        ("MCP_AUTH:\n    Fn::If: [IsClosed, required, '']", True),
        ("MCP_AUTH: >-\n    required", True),
        ("MCP_AUTH: !!str required", True),
        ("MCP_AUTH: &own required", True),
        ("MCP_AUTH: *own", True),
        ('MCP_AUTH: "requ\\u0069red"', True),
        ("MCP_AUTH: required\r", True),
        ("MCP_AUTH:\trequired", True),
        ('"MCP_AUTH": required', True),
        ('"MCP_\\u0041UTH": required', True),
        ("MCP_AUTH : required", True),
        ("? MCP_AUTH\n  : required", True),
        ("{MCP_AUTH: required}", True),
        ("<<: {OIDC_ISSUER: https://id.example.com}", True),
        ("Fn::Transform: {Name: AWS::Include}", True),
        ("OIDC_ISSUER: '#x'", True),
        ("OTHER: 'x # y'\n  OIDC_ISSUER: https://id.example.com", True),
        ("COGNITO_USER_POOL_ID: !Ref UserPool", True),
        ("OTHER: x\nVariables:\n  OIDC_ISSUER: https://id.example.com", True),
        ("OTHER: x\nOther: {Variables: {OIDC_ISSUER: x}}", True),
    ],
)
def test_auth_is_needed_for_what_a_template_sets(written, is_needed):
    """A3: a function's own variables, too."""
    values = {"Own": "", "Default": "https://id.example.com", "Given": "https://id.example.com"}

    assert feature_sets.needs_auth(templates.variables_of(f"Variables:\n  {written}\n", values)) is is_needed


def test_a_template_without_the_known_form_of_variables_needs_auth():
    """8.5, A3"""
    assert feature_sets.needs_auth(templates.variables_of("Environment: !Ref Own\n", {"Own": ""}))


@pytest.mark.parametrize(
    ("text", "is_needed"),
    [
        ("MCP_AUTH=required", True),
        ("\ufeffMCP_AUTH=required", True),
        ("export MCP_AUTH=required", True),
        ("export\tMCP_AUTH=required", True),
        ("export  MCP_AUTH=required", True),
        ('MCP_AUTH="required" # a reason', True),
        ("MCP_AUTH=required # a reason", True),
        ("MCP_AUTH=required\r\n", True),
        ("MCP_AUTH: required", True),
        ('"MCP_AUTH"=required', True),
        ("A=required\nMCP_AUTH=$A", True),
        ("MCP_AUTH=req\\uired", True),
        ("MCP_AUTH=requ'ired'", True),
        ('A="x\nOIDC_ISSUER=\n"', True),
        ("# OIDC_ISSUER=x\n\nOIDC_ISSUER=\"\" # none\nA=b c$d", False),
        ("MCP_AUTH='iam' # signed", False),
    ],
)
def test_auth_is_needed_for_what_an_env_file_sets(text, is_needed, tmp_path):
    """8.5, A3: a line that is not understood counts as one that sets an issuer."""
    env_file = tmp_path / "own.env"
    env_file.write_bytes(text.encode())

    class NotFound(Exception):
        pass

    def get_function(FunctionName):
        raise NotFound

    client = SimpleNamespace(exceptions=SimpleNamespace(ResourceNotFoundException=NotFound), get_function=get_function)
    arguments = argparse.Namespace(subject="greeter", env_file=env_file, features=[])

    assert (feature_sets.code_features(client, arguments) == ["auth"]) is is_needed


def zip_with_record(folder, features):
    """A zip that is none, with its record: its content is not looked at."""
    path = deploy_script.build.archive_in(folder, "greeter", features)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"as it was recorded")
    deploy_script.build.record(path, "arm64", "greeter", features)
    return path


def test_what_is_uploaded_is_what_was_compared(tmp_path):
    """8.5, A3: a zip that is replaced after its record was compared is not uploaded."""
    path = zip_with_record(tmp_path, ["auth"])
    puts = []
    client = SimpleNamespace(put_object=lambda **request: puts.append(request["Body"]))
    artifacts = deploy_script.Artifacts(SimpleNamespace(id="1", region="r", client=lambda _: client))

    compared = deploy_script.archive_of(argparse.Namespace(subject="greeter", lambda_dir=tmp_path, features=["auth"]), ["auth"])
    path.write_bytes(b"of another build")
    artifacts.put_code("greeter", compared)

    assert puts == [b"as it was recorded"]


@pytest.mark.parametrize("member", ["function", "architecture", "features", "sha256", "other"])
def test_a_record_with_a_member_twice_is_none(member, tmp_path):
    """8.5, A3: readers differ in which of the two counts."""
    record = zip_with_record(tmp_path, ["auth"]).with_name("features.json")
    record.write_text(record.read_text().replace("{", f'{{"{member}": [], "other": 1, ', 1))

    _, fault = deploy_script.build.recorded(tmp_path, "arm64", "greeter", ["auth"])

    assert "is not a record" in fault


@pytest.mark.parametrize(
    ("place", "features"),
    [
        ("greeter/auth", ["auth"]),
        ("greeter/auth.otel", ["auth", "otel"]),
        ("greeter/none", []),
        ("greeter/none.auth", None),
        ("greeter/..", None),
        ("greeter/.auth", None),
        ("event-logger/otel", None),
        ("other/greeter/otel", None),
    ],
)
def test_a_code_key_tells_features_of_its_own_function(place, features):
    """8.5, A3"""
    stack = stack_with(f"code/{place}/{'0' * 64}.zip")

    assert feature_sets.running("greeter", stack) == features


def test_what_failed_in_an_earlier_deployment_is_not_told_again():
    names = {name: f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/1" for name in ("outer", "inner")}

    def event(stack, minute, resource="AWS::CloudFormation::Stack", **said):
        at = datetime.datetime(2026, 11, 22, 12, minute, tzinfo=datetime.timezone.utc)
        return {
            "StackId": names[stack], "StackName": stack, "EventId": f"{stack}-{minute}", "ResourceType": resource,
            "Timestamp": at, **said,
        }

    reason = {"ResourceStatus": "CREATE_FAILED", "LogicalResourceId": "Role", "resource": "AWS::IAM::Role"}
    outer = [
        event("outer", 9, ResourceStatus="UPDATE_ROLLBACK_COMPLETE", PhysicalResourceId=names["outer"]),
        event("outer", 8, ResourceStatus="UPDATE_FAILED", LogicalResourceId="Inner", PhysicalResourceId=names["inner"]),
        event("outer", 3, **reason, ResourceStatusReason="earlier"),
    ]
    inner = [
        event("inner", 7, **reason, ResourceStatusReason="now"),
        event("inner", 2, **reason, ResourceStatusReason="earlier"),
    ]
    client = boto3.client("cloudformation", region_name=REGION)
    with Stubber(client) as events:
        events.add_response("describe_stack_events", {"StackEvents": outer}, {"StackName": names["outer"]})
        events.add_response("describe_stack_events", {"StackEvents": inner}, {"StackName": names["inner"]})
        stack = deploy_script.Stack(SimpleNamespace(client=lambda _: client), names["outer"])
        told = list(stack.failures(names["outer"], outer[-1]["Timestamp"]))

    assert told == ["  Inner: UPDATE_FAILED", "  Role: now"]


def test_a_stack_is_described_once_until_it_changes():
    described = {
        "StackName": "greeter", "CreationTime": datetime.datetime.now(datetime.UTC), "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": "Url", "OutputValue": "https://a.example.com/mcp"}],
    }
    client = boto3.client("cloudformation", region_name=REGION)
    with Stubber(client) as calls:
        calls.add_response("describe_stacks", {"Stacks": [described]}, {"StackName": "greeter"})
        calls.add_response("get_template_summary", {"Parameters": [{"ParameterKey": "Name", "DefaultValue": "x"}]})
        stack = deploy_script.Stack(SimpleNamespace(client=lambda _: client), "greeter")
        for _ in range(2):
            assert stack.is_made and stack.outputs() == {"Url": "https://a.example.com/mcp"}
            assert stack.defaults("a template") == {"Name": "x"}
        calls.assert_no_pending_responses()


def test_the_client_of_a_service_is_kept():
    account = deploy_script.Account.__new__(deploy_script.Account)
    account.session = boto3.Session("key", "secret", region_name=REGION)

    assert account.client("s3") is account.client("s3") is not account.client("sts")


@pytest.mark.parametrize(
    ("stack", "nested"),
    [
        ("fleet", set()),
        ("greeter", {"function", "monitoring", "tasks"}),
        ("event-logger-dsql", {"cognito", "dsql", "function", "migration", "monitoring", "tasks"}),
    ],
)
def test_only_the_templates_that_a_stack_can_contain_are_uploaded(stack, nested):
    assert templates.with_nested(stack).keys() == {stack, *nested}


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-central-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
    ],
)
def test_templates_are_read_at_the_domain_of_the_partition(region, domain):
    account = deploy_script.Account.__new__(deploy_script.Account)
    account.session, account.region, account.id = boto3.Session("key", "secret", region_name=region), region, ACCOUNT
    bucket = f"mcp-on-lambda-{ACCOUNT}-{region}"

    assert deploy_script.Artifacts(account).url("templates/a.yaml") == f"https://{bucket}.s3.{region}.{domain}/templates/a.yaml"
