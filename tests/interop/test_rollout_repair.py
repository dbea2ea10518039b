"""Stacks of an earlier layout, and deployments that were killed: the procedures that repair them, in an emulated account."""

import subprocess

import aws_changes
import aws_versions
import boto3
import pytest
import small_stacks
from killed import kill_after
from rollouts import aws, deploy, rollback, served, traffic, values, zips
from small_stacks import run

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
    before, new = "1", "2"
    if call == "DeleteFunction" and not is_first:
        # Of three versions it deletes the first.
        deploy(Variable="w")
        before, new = "2", "3"
    words = ["up", "greeter", "--lambda-dir", zips, "--yes", "--no-doctor", "--canary", "0.1", "--minutes", "5", "--parameter", "Variable=x"]
    if is_first and (call.endswith(":3") or call == "DeleteFunction") or not is_first and call == "CreateBucket":
        pytest.skip("this deployment has no such call")
    killed = kill_after(call, *words)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    if not is_first:
        assert traffic().keys() <= {before, new} and before in traffic() or traffic() == {new: 1}

    if repair == "rollback" and not is_first:
        # Back to the version before, wherever the deployment was.
        has_moved = before not in traffic() or len(traffic()) > 1
        ended = run("rollback", "greeter", "--yes")
        assert ended.code == (0 if has_moved else 1), ended.text
        assert traffic() == {before: 1} and values()["CanaryVersion"] == ""
    deploy(Variable="x")
    assert len(traffic()) == 1 and served()["Environment"]["Variables"]["VARIABLE"] == "x"
    assert values()["CanaryVersion"] == "" and values()["LiveVersion"] in traffic()
    assert boto3.client("cloudformation").list_change_sets(StackName="greeter")["Summaries"] == []


@pytest.mark.parametrize("call", ["Invoke", "CreateChangeSet", "ExecuteChangeSet"])
@pytest.mark.parametrize("repair", ["rollback", pytest.param("deploy", marks=pytest.mark.slow)])
def test_a_rollback_that_is_killed_is_repaired_by_the_next_command(deploy, call, repair):
    deploy()
    deploy(Variable="x")
    aws_changes.slowness[0] = 2
    killed = kill_after(call, "rollback", "greeter", "--yes")
    assert killed.returncode == -9, killed.stdout + killed.stderr
    # One version serves everything, whichever it is.
    assert traffic() == ({"1": 1} if call == "ExecuteChangeSet" else {"2": 1})

    if repair == "rollback":
        ended = run("rollback", "greeter", "--yes", "--version", "1")
        assert ended.code == 0 or "version 1 serves all requests already" in ended.stderr, ended.text
        assert traffic() == {"1": 1} and values()["LiveVersion"] == "1"
    deploy(Variable="x")
    assert traffic() == {"2": 1} and values()["LiveVersion"] == "2"
    assert boto3.client("cloudformation").list_change_sets(StackName="greeter")["Summaries"] == []
