"""B18: resources of the real templates that an update would replace or remove have to be named, in an emulated account."""

import boto3
import pytest
import templates
from aws_account import ACCOUNT, REGION, account, register
from deploying import changes, migration, stack
from small_stacks import archive, run

register()
ISSUER = "Issuer=https://id.example.com"
STATE_KEY = f"StateKey=arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shared-AbCdEf"
CLUSTER = f"ClusterArn=arn:aws:dsql:{REGION}:{ACCOUNT}:cluster/zyxwvutsrqponmlkjihgfedcba"
DOMAIN = ["HostedZoneId={zone}", "CertificateArn=arn:aws:acm:us-east-1:123456789012:certificate/1", "FunctionUrlHost=abc.lambda-url.us-east-1.on.aws"]
# By stack: the parameters of the first deployment, those of the second, and what would be lost.
CASES = {
    "cluster": ("event-logger-dsql", [ISSUER], [CLUSTER], {"Database/Cluster": "AWS::DSQL::Cluster"}),
    "secret": ("event-logger-dsql", [ISSUER], [STATE_KEY], {"Function/StateKeySecret": "AWS::SecretsManager::Secret"}),
    "user pool": (
        "event-logger-dsql", ["Issuer=cognito"], [ISSUER],
        {"Cognito/UserPool": "AWS::Cognito::UserPool", "Cognito/Domain": "AWS::Cognito::UserPoolDomain"},
    ),
    "domain": (
        "custom-domain", [*DOMAIN, "DomainName=mcp.example.com"], ["HostedZoneId="],
        {"Ipv4Record": "AWS::Route53::RecordSet", "Ipv6Record": "AWS::Route53::RecordSet"},
    ),
}


@pytest.fixture
def up(tmp_path, monkeypatch):
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(migration, "POLL_SECONDS", 0.01)
    for function in ("event-logger", "greeter"):
        archive(tmp_path / "zips", b"the first", function=function)

    def deploy(subject, *words, code=0):
        given = [word for own in words if "=" in own for word in ("--parameter", own)]
        options = [own for own in words if "=" not in own]
        ended = run("up", subject, "--lambda-dir", tmp_path / "zips", "--no-doctor", "--yes", *given, *options)
        assert ended.code == code, ended.text
        return ended

    with account():
        yield deploy


def resources(name):
    """The resources of a stack and of those in it: path, type and id."""
    found = set()
    for own in boto3.client("cloudformation").list_stack_resources(StackName=name)["StackResourceSummaries"]:
        found.add((own["LogicalResourceId"], own["ResourceType"], own["PhysicalResourceId"]))
        if own["ResourceType"] == changes.STACK:
            found |= {(f"{own['LogicalResourceId']}/{path}", *more) for path, *more in resources(own["PhysicalResourceId"])}
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_the_real_templates_would_lose_has_to_be_named(up, case):
    subject, first, second, lost = CASES[case]
    zone = boto3.client("route53").create_hosted_zone(Name="example.com", CallerReference="tests")["HostedZone"]["Id"].rpartition("/")[2]
    up(subject, *(own.replace("{zone}", zone) for own in first))
    before = resources(subject)

    for words in ([], ["--replace", "Topic"]):
        refused = up(subject, *second, *words, code=1)
        for path, kind in lost.items():
            assert f"{path} ({kind})" in refused.stderr.partition("would replace or remove")[2]
        assert resources(subject) == before
    # The names that the message asks for.
    names = refused.stderr.partition("REPLACE=")[2].split()[0]
    assert {path.rpartition("/")[2] for path in lost} <= {*names.split(",")}
    up(subject, *second, "--replace", names)
    assert resources(subject) != before


def test_a_url_that_would_be_replaced_has_to_be_named(up, tmp_path, monkeypatch):
    """By another template: no parameter replaces it."""
    up("greeter")
    changed = tmp_path / "function.yaml"
    text = templates.FUNCTION.read_text()
    changed.write_text(text.replace("      Qualifier: live\n", "      Qualifier: !Ref LiveVersion\n", 1))
    assert changed.read_text() != text
    monkeypatch.setattr(templates, "SHARED", [changed if path.name == "function.yaml" else path for path in templates.SHARED])

    refused = up("greeter", code=1)

    assert "would replace or remove Function/FunctionUrl (AWS::Lambda::Url)" in refused.stderr and "REPLACE=FunctionUrl" in refused.stderr
    client = boto3.client("lambda")
    assert client.get_function_url_config(FunctionName="greeter", Qualifier="live")["AuthType"] == "NONE"
    up("greeter", "--replace", "FunctionUrl")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function_url_config(FunctionName="greeter", Qualifier="live")


@pytest.mark.parametrize("change", [{"Action": "Remove"}, {"Action": "Modify", "Replacement": "True"}], ids=lambda own: own["Action"])
@pytest.mark.parametrize("kind", sorted(changes.PROTECTED))
def test_every_protected_kind_has_to_be_named_by_its_id_or_path(kind, change):
    own = changes.Change(("Nested", "Own"), {"ResourceType": kind, **change}, {})
    other = changes.Change(("Nested", "Role"), {"ResourceType": "AWS::IAM::Role", **change}, {})
    kept = changes.Change(("Own",), {"ResourceType": kind, "Action": "Modify", "Replacement": "False"}, {})

    for allowed in (set(), {"Nested"}, {"Other/Own"}, {kind}):
        assert changes.lost([own, other, kept], allowed) == [own]
    for allowed in ({"Own"}, {"Nested/Own"}):
        assert changes.lost([own, other, kept], allowed) == []
