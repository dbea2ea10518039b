"""Stages: files of parameters, and one zip that goes through all of them by its digest, in an emulated account."""

import json
import re
import sys
from types import SimpleNamespace

import aws_versions
import boto3
import pytest
import small_stacks
from rollouts import aws, deploy, values, zips
from small_stacks import archive, run


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
        ('{"Parameters": {"MemorySize": 256}}', "must be a string"),
        ('{"parameters": {}}', "must have the form"),
        ('[]', "must have the form"),
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
    assert ended.code == 1 and "it was modified" in ended.stderr


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


def test_a_verification_whose_stack_is_not_destroyed_fails(aws, zips, monkeypatch, capfd):
    import verify_account

    monkeypatch.setattr(verify_account.Verification, "run", lambda _: None)
    monkeypatch.setattr(verify_account, "Stack", lambda *_: SimpleNamespace(exists=True))
    monkeypatch.setattr(verify_account.subprocess, "run", lambda words: SimpleNamespace(returncode=int(words[-2].endswith("-2"))))
    monkeypatch.setattr(sys, "argv", ["verify_account.py", "--lambda-dir", str(zips), "--yes"])
    with pytest.raises(SystemExit) as ended:
        verify_account.main()

    (name,) = re.findall(r"STEP destroy (\S+-2): exit code 1", capfd.readouterr().out)
    assert f"make destroy STACK=greeter NAME={name}" in str(ended.value)
