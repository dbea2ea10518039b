"""What the live version may read while a deployment changes it: variables belong to a version, and the role to all versions."""

import aws_versions
import pytest
from aws_account import ACCOUNT, REGION, account, register
from deploying import rights, rollout, stack
from moto.cloudformation.models import cloudformation_backends
from small_stacks import archive, run

register()
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/"
USER = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:cluster-A/"
READS = {"kms:Decrypt", "rds-db:connect", "s3:GetObject", "secretsmanager:GetSecretValue", "ssm:GetParametersByPath"}
# The stand-in of the generated secret is referred to by its logical id.
GENERATED = rights.GENERATED_SECRET
SOURCE = {"Source": "s3://documents/one.yaml"}
DATABASE = {
    "Issuer": "https://id.example.com", "SubnetIds": "subnet-1a,subnet-2b", "SecurityGroupId": "sg-1a", "DatabaseHost": "db.example.com",
}


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Deploys a stack, and expects success unless `code` says otherwise."""
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)

    def up(name, *words, code=0, **parameters):
        zips = archive(tmp_path / name, name.encode(), function=name)
        given = [word for own, value in parameters.items() for word in ("--parameter", f"{own}={value}")]
        ended = run("up", name, "--lambda-dir", zips, "--no-doctor", "--yes", *words, *given)
        assert ended.code == code, ended.text
        return ended

    with account():
        yield up


def stacks(name):
    """A stack, and those that are nested in it."""
    found = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    return [own for own in found if own.name == name or own.name.startswith(f"{name}-")]


def parameters(name):
    """The parameters of a stack, as it has them and as CloudFormation returns them."""
    (found,) = [own for own in stacks(name) if own.name == name]
    return found.parameters, found.resource_map.resolved_parameters


def readable(name):
    """What the roles of a stack may read."""
    properties = [own for nested in stacks(name) for own in nested.resolved.values()]
    documents = [own["PolicyDocument"] for own in properties if "PolicyDocument" in own]
    documents += [own["PolicyDocument"] for each in properties for own in each.get("Policies", [])]
    statements = [own for document in documents for own in document["Statement"] if READS & {*listed(own["Action"])}]
    return {resource for own in statements for resource in listed(own["Resource"])}


def listed(value):
    return value if isinstance(value, list) else [value]


def has_generated_key(name):
    return any(GENERATED in nested.resolved for nested in stacks(name))


def check(name, seen, fails=False):
    """Answers the check of a version, and notes what can be read then. The alias serves the version before."""

    def answer(function, event):
        seen.append(readable(name))
        return RuntimeError("it does not start") if fails else aws_versions.answer(function, event)

    aws_versions.answering[0] = answer


@pytest.mark.parametrize(
    ("name", "own", "words", "before", "after", "resources"),
    [
        ("api-docs", SOURCE, [], {"StateKey": f"{SECRET}a"}, {"StateKey": f"{SECRET}b"}, (f"{SECRET}a", f"{SECRET}b")),
        ("api-docs", SOURCE, ["--replace", GENERATED], {}, {"StateKey": f"{SECRET}b"}, (GENERATED, f"{SECRET}b")),
        ("api-docs", SOURCE, [], {"StateKey": f"{SECRET}a"}, {"StateKey": "generated"}, (f"{SECRET}a", GENERATED)),
        ("api-docs", SOURCE, [], {"ExchangeSecretArn": f"{SECRET}a"}, {"ExchangeSecretArn": f"{SECRET}b"}, (f"{SECRET}a", f"{SECRET}b")),
        ("api-docs", SOURCE, [], {"KmsKeyArn": f"{KEY}a"}, {"KmsKeyArn": f"{KEY}b"}, (f"{KEY}a", f"{KEY}b")),
        (
            "api-docs", {}, [], SOURCE, {"Source": "s3://documents/two.yaml"},
            ("arn:aws:s3:::documents/one.yaml", "arn:aws:s3:::documents/two.yaml"),
        ),
        ("event-logger", DATABASE, [], {"DatabaseConnectArn": f"{USER}a"}, {"DatabaseConnectArn": f"{USER}b"}, (f"{USER}a", f"{USER}b")),
        (
            "event-logger", DATABASE, [], {"DatabaseAuth": "secret", "DatabaseSecretArn": f"{SECRET}a"},
            {"DatabaseSecretArn": f"{SECRET}b"}, (f"{SECRET}a", f"{SECRET}b"),
        ),
    ],
)
def test_the_live_version_keeps_its_rights_until_another_one_serves(deploy, name, own, words, before, after, resources):
    (old, new), seen = resources, []
    deploy(name, **own, **before)
    assert old in readable(name) and new not in readable(name)

    # The first update was made, and the new version fails its check.
    check(name, seen, fails=True)
    deploy(name, *words, code=1, **after)
    assert aws_versions.traffic(name) == {"1": 1} and {old, new} <= seen[-1] & readable(name)
    assert GENERATED not in resources or has_generated_key(name)

    check(name, seen)
    again = deploy(name, *words)
    assert "REPLACE" not in again.stdout
    assert "1" not in aws_versions.traffic(name) and {old, new} <= seen[-1]
    assert new in readable(name) and old not in readable(name)
    assert has_generated_key(name) == (new == GENERATED or name == "event-logger" or "StateKey" not in before | after)


def test_both_versions_of_a_canary_can_start(deploy, monkeypatch):
    seen = []
    monkeypatch.setattr(rollout.Rollout, "watch", lambda own: seen.append(readable("api-docs")))
    monkeypatch.setattr(rollout.Rollout, "refuse_alarms", lambda own: None)
    deploy("api-docs", **SOURCE, StateKey=f"{SECRET}a")

    deploy("api-docs", "--canary", "0.1", StateKey=f"{SECRET}b")

    assert {f"{SECRET}a", f"{SECRET}b"} <= seen[0]
    assert f"{SECRET}a" not in readable("api-docs")


def test_a_stack_of_an_earlier_template_keeps_the_rights_of_its_live_version(deploy):
    seen = []
    deploy("api-docs", **SOURCE, StateKey=f"{SECRET}a")
    for own in parameters("api-docs"):
        del own["LiveStateKey"], own["LiveSource"]

    check("api-docs", seen)
    deploy("api-docs", StateKey=f"{SECRET}b")

    assert {f"{SECRET}a", f"{SECRET}b"} <= seen[-1]
    own, _ = parameters("api-docs")
    assert (own["LiveStateKey"], own["LiveSource"]) == (f"{SECRET}b", SOURCE["Source"])


def test_rights_by_a_parameter_that_is_no_variable_end_with_the_deployment(deploy):
    deploy("api-docs", **SOURCE, SourceKeyArn=f"{KEY}a")

    deploy("api-docs", SourceKeyArn=f"{KEY}b")

    # Code and variables are the same, so there is no new version.
    assert aws_versions.traffic("api-docs") == {"1": 1}
    assert f"{KEY}b" in readable("api-docs") and f"{KEY}a" not in readable("api-docs")


def test_a_rollback_changes_no_rights(deploy):
    deploy("api-docs", **SOURCE, StateKey=f"{SECRET}a")
    deploy("api-docs", MaxAgeSeconds="60")
    check("api-docs", [], fails=True)
    deploy("api-docs", code=1, StateKey=f"{SECRET}b")
    check("api-docs", [])

    ended = run("rollback", "api-docs", "--yes", "--version", "1")

    assert ended.code == 0 and aws_versions.traffic("api-docs") == {"1": 1}, ended.text
    assert {f"{SECRET}a", f"{SECRET}b"} <= readable("api-docs")


def test_a_generated_key_is_deleted_only_by_name(deploy):
    deploy("api-docs", **SOURCE)

    refused = deploy("api-docs", code=1, StateKey=f"{SECRET}b")

    assert f"REPLACE={GENERATED}" in refused.stderr and has_generated_key("api-docs")
    assert parameters("api-docs")[1]["StateKey"] == "generated"


def test_a_canary_is_rejected_if_the_live_version_would_lose_its_database(deploy):
    user = {"DatabaseConnectArn": f"{USER}a"}
    deploy("event-logger", **DATABASE, **user)

    refused = deploy("event-logger", "--canary", "0.1", code=1, DatabaseHost="other.example.com")

    assert "no canary with another value of DatabaseHost" in refused.stderr
    assert parameters("event-logger")[0]["DatabaseHost"] == "db.example.com"


def test_no_option_sets_what_the_live_version_may_read(deploy):
    refused = deploy("api-docs", code=1, **SOURCE, LiveStateKey=f"{SECRET}a")

    assert "LiveStateKey: set by make deploy itself" in refused.stderr
