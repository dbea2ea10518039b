"""B18: what a change set must not do, and states of a stack from which there is a way on or none, in an emulated account."""

import aws_changes
import boto3
import pytest
from deploying import changes
from rollouts import aws, deploy, rollback, traffic, values, versions, zips
from small_stacks import run


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


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED"])
def test_a_state_without_a_way_on_is_refused_with_the_procedure(deploy, status):
    deploy()
    aws_changes.next_end.append(status)
    deploy(code=1, Variable="x")
    for ended in (deploy(code=1, Variable="x"), rollback(code=1)):
        wanted = "continue-update-rollback" if status.startswith("UPDATE") else "run `make destroy`, then deploy again"
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
