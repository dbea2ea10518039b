"""Functions that share a network, a database and a user pool: event-logger's stack with what other stacks have made."""

import boto3
import pytest
from aws_account import given
from moto.cloudformation import parsing
from test_infra import (  # noqa: F401: aws, deploy and lambda_dir are fixtures
    IN_A_NETWORK, LAMBDA_ASSUMES, READS_STATE_KEY, TRACES, asked_for, aws, deploy, function_of, lambda_dir, loaded,
    own_log, parameters, role_of, variables_of,
)

ISSUER = "https://id.example.com"
NETWORK = {"VpcId": "vpc-0a1b2c3d", "SubnetIds": "subnet-0a1b2c3d,subnet-4e5f6a7b", "SecurityGroupId": "sg-0a1b2c3d"}
CONNECT_ARN = "arn:aws:rds-db:us-east-1:123456789012:dbuser:cluster-SHARED/notes"
SECRET_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!cluster-1a2b-AbCdEf"
DATABASE = {"DatabaseHost": "db.example.com", "DatabaseName": "notes", "DatabaseUser": "notes", "DatabaseConnectArn": CONNECT_ARN}
POOL = {"UserPoolId": "us-east-1_AbCdEf123", "UserPoolClientIds": "1a2b,3c4d", "ScopePrefix": "team/"}


def made(kind):
    """How many resources of a type were made."""
    return sum(own == kind for own, *_ in given)


def vpcs():
    return {own["VpcId"] for own in boto3.client("ec2").describe_vpcs()["Vpcs"]}


def test_two_functions_share_the_network_and_the_database_of_one_stack(deploy):
    before = vpcs()
    first = deploy("up", "event-logger", *parameters(Issuer=ISSUER))
    network = vpcs() - before
    shared = {name: first[name] for name in ("VpcId", "SubnetIds", "SecurityGroupId", "DatabaseHost", "DatabaseConnectArn")}
    second = deploy("up", "event-logger", "--name", "notes", *parameters(Issuer=ISSUER, DatabaseName="notes", **shared))

    assert network == {first["VpcId"]} and vpcs() - before == network
    assert (made("AWS::RDS::DBCluster"), made("AWS::RDS::DBInstance")) == (1, 1)
    (one, *_), (other, *_) = function_of("event-logger"), function_of("notes")
    places = [{name: sorted(own["VpcConfig"][name]) for name in ("SubnetIds", "SecurityGroupIds")} for own in (one, other)]
    assert places[0] == places[1] == {"SubnetIds": sorted(first["SubnetIds"].split(",")), "SecurityGroupIds": [first["SecurityGroupId"]]}
    database = variables_of(other)
    assert (database["DB_HOST"], database["DB_AUTH"]) == (variables_of(one)["DB_HOST"], "iam")
    assert (database["DB_NAME"], variables_of(one)["DB_NAME"]) == ("notes", "events")
    connect = {"Effect": "Allow", "Action": "rds-db:connect", "Resource": first["DatabaseConnectArn"]}
    assert role_of(other) == (LAMBDA_ASSUMES, [own_log("notes"), TRACES, *IN_A_NETWORK, READS_STATE_KEY, connect])
    # make deploy creates users only in the database of the stack.
    assert "DatabaseArn" in first and not {"DatabaseArn", "DatabaseOwnerSecretArn", *shared} & second.keys()

    # A stack that uses what another one has made leaves it.
    deploy("down", "event-logger", "--name", "notes")

    functions = [own["FunctionName"] for own in boto3.client("lambda").list_functions()["Functions"]]
    assert functions == ["event-logger"] and vpcs() - before == network
    kinds = {own["ResourceType"] for stack in nested() for own in stack}
    assert {"AWS::RDS::DBCluster", "AWS::EC2::NatGateway", "AWS::EC2::Subnet"} <= kinds


def nested():
    """The resources of each stack that is left."""
    client = boto3.client("cloudformation")
    for stack in client.describe_stacks()["Stacks"]:
        yield client.list_stack_resources(StackName=stack["StackId"])["StackResourceSummaries"]


def test_nothing_is_made_that_is_named(deploy):
    told = deploy("up", "event-logger", *parameters(Issuer="cognito", **NETWORK, **DATABASE, **POOL))

    used = {"AWS::RDS::DBCluster", "AWS::RDS::DBProxy", "AWS::EC2::SecurityGroupEgress", "AWS::Cognito::UserPool", "AWS::Cognito::UserPoolClient"}
    assert not used & {kind for kind, *_ in given}
    assert not {"ClaudeClientId", "DatabaseArn", *NETWORK, *POOL} & told.keys()
    configuration, *_ = function_of("event-logger")
    assert configuration["VpcConfig"]["SubnetIds"] == NETWORK["SubnetIds"].split(",")
    assert configuration["VpcConfig"]["SecurityGroupIds"] == [NETWORK["SecurityGroupId"]]
    variables = variables_of(configuration)
    assert {name: value for name, value in variables.items() if name.startswith("COGNITO_")} == {
        "COGNITO_USER_POOL_ID": POOL["UserPoolId"], "COGNITO_CLIENT_IDS": POOL["UserPoolClientIds"],
    }
    assert (variables["OIDC_SCOPE_PREFIX"], variables["OIDC_ISSUER"]) == (POOL["ScopePrefix"], "")
    assert {name: value for name, value in variables.items() if name.startswith("DB_")} == {
        "DB_HOST": "db.example.com", "DB_NAME": "notes", "DB_AUTH": "iam", "DB_USER": "notes", "DB_WARM": "off", "DB_SECRET_ARN": "",
        "DB_SSLROOTCERT": "",
    }
    assert role_of(configuration)[1][-1] == {"Effect": "Allow", "Action": "rds-db:connect", "Resource": CONNECT_ARN}


def test_a_shared_database_may_have_a_password_and_be_behind_a_proxy(deploy):
    own = {"DatabaseHost": "db.example.com", "DatabaseAuth": "secret", "DatabaseSecretArn": SECRET_ARN, "DatabaseMinCapacity": "0.5"}
    deploy("up", "event-logger", *parameters(Issuer=ISSUER, **NETWORK, **own))

    configuration, *_ = function_of("event-logger")
    variables = variables_of(configuration)
    assert (variables["DB_SECRET_ARN"], variables["DB_AUTH"], variables["DB_USER"]) == (SECRET_ARN, "password", "")
    assert variables["DB_WARM"] == "on"
    assert role_of(configuration)[1][-1] == {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": SECRET_ARN}

    deploy("up", "event-logger", "--name", "proxied", *parameters(Issuer=ISSUER, DatabaseProxy="yes", **NETWORK, **DATABASE))
    # The certificate is that of RDS Proxy.
    assert variables_of(function_of("proxied")[0])["DB_SSLROOTCERT"] == "/etc/pki/tls/certs/ca-bundle.crt"


def network():
    """A network that exists: a database can be made in it."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    zones = zip(("us-east-1a", "us-east-1b"), ("10.2.0.0/24", "10.2.1.0/24"))
    subnets = [ec2.create_subnet(VpcId=vpc, AvailabilityZone=zone, CidrBlock=block)["Subnet"]["SubnetId"] for zone, block in zones]
    group = ec2.create_security_group(GroupName="functions", Description="functions", VpcId=vpc)["GroupId"]
    return {"VpcId": vpc, "SubnetIds": ",".join(subnets), "SecurityGroupId": group}


def test_a_database_of_the_stack_can_be_in_a_network_that_exists(deploy):
    own = network()
    before = vpcs()

    deploy("up", "event-logger", *parameters(Issuer=ISSUER, **own))

    assert vpcs() == before and made("AWS::RDS::DBCluster") == 1
    assert asked_for("AWS::EC2::SecurityGroupEgress")["FunctionEgress"]["GroupId"] == own["SecurityGroupId"]
    assert function_of("event-logger")[0]["VpcConfig"]["SecurityGroupIds"] == [own["SecurityGroupId"]]


@pytest.mark.parametrize(
    ("has_network", "made_by", "used", "lost"),
    [
        (True, {}, DATABASE, "Database/Cluster (AWS::RDS::DBCluster)"),
        (True, {"Issuer": "cognito", **DATABASE}, POOL, "Cognito/UserPool (AWS::Cognito::UserPool)"),
        (False, {}, {**NETWORK, **DATABASE}, "Network/Vpc (AWS::EC2::VPC)"),
    ],
)
def test_what_the_stack_has_made_is_not_removed_for_what_exists_unless_it_is_named(deploy, has_network, made_by, used, lost):
    own = network() if has_network else {}
    deploy("up", "event-logger", *parameters(**{"Issuer": ISSUER, **own, **made_by}))
    before = sorted(own["LogicalResourceId"] for stack in nested() for own in stack)

    refused = deploy("up", "event-logger", *parameters(**used), "--yes", confirmed=False)

    assert refused.returncode == 1 and lost in (message := refused.stderr) and "REPLACE=" in message

    assert sorted(own["LogicalResourceId"] for stack in nested() for own in stack) == before
    (named,) = [word for word in message.split() if word.startswith("REPLACE=")]
    # The changes are shown. moto deletes no VPC with its contents.
    deploy("up", "event-logger", "--plan", "--replace", named.removeprefix("REPLACE="), *parameters(**used))


@pytest.mark.parametrize("name", ["CognitoBringsItsOwn", "UserPoolIsWhole"])
def test_both_stacks_name_a_user_pool_by_the_same_rules(name):
    first, second = loaded("event-logger"), loaded("event-logger-dsql")
    assert first["Rules"][name] == second["Rules"][name]
    assert all(first["Parameters"][own] == second["Parameters"][own] for own in POOL)


@pytest.mark.parametrize(
    ("rule", "values", "is_valid"),
    [
        ("CognitoBringsItsOwn", {"Issuer": "cognito", "ScopePrefix": "team/"}, False),
        ("CognitoBringsItsOwn", {"Issuer": "cognito", **POOL}, True),
        ("CognitoBringsItsOwn", {"Issuer": "cognito", "Audience": "api", **POOL}, False),
        ("UserPoolIsWhole", {}, True),
        ("UserPoolIsWhole", {"Issuer": "cognito", **POOL}, True),
        ("UserPoolIsWhole", {"Issuer": ISSUER, **POOL}, False),
        ("UserPoolIsWhole", {"Issuer": "cognito", "UserPoolId": POOL["UserPoolId"]}, False),
        ("UserPoolIsWhole", {"Issuer": "cognito", "UserPoolClientIds": "1a2b"}, False),
        ("NetworkIsWhole", {}, True),
        ("NetworkIsWhole", NETWORK, True),
        ("NetworkIsWhole", {**NETWORK, "VpcId": ""}, True),
        ("NetworkIsWhole", {**NETWORK, "SecurityGroupId": ""}, False),
        ("NetworkIsWhole", {"VpcId": NETWORK["VpcId"]}, False),
        ("DatabaseHasAVpc", NETWORK, True),
        ("DatabaseHasAVpc", {**NETWORK, "VpcId": ""}, False),
        ("DatabaseHasAVpc", {**NETWORK, "VpcId": "", **DATABASE}, True),
        ("DatabaseIsInTheNetwork", DATABASE, False),
        ("DatabaseIsInTheNetwork", {**NETWORK, **DATABASE}, True),
        ("DatabaseTakesTheFunction", DATABASE, True),
        ("DatabaseTakesTheFunction", {**DATABASE, "DatabaseAuth": "secret"}, False),
        ("DatabaseTakesTheFunction", {"DatabaseHost": "db", "DatabaseAuth": "secret", "DatabaseSecretArn": SECRET_ARN}, True),
        ("DatabaseTakesTheFunction", {"DatabaseHost": "db"}, False),
        ("DatabaseIsNamed", {}, True),
        ("DatabaseIsNamed", DATABASE, True),
        *(("DatabaseIsNamed", {name: value}, False) for name, value in DATABASE.items() if name != "DatabaseHost"),
    ],
)
def test_what_exists_is_named_as_a_whole(rule, values, is_valid):
    known = loaded("event-logger")
    values = {name: str(own.get("Default", "")) for name, own in known["Parameters"].items()} | values
    (assertion,) = known["Rules"][rule]["Assertions"]

    applies, holds = (parsing.parse_condition(own, values, {}) for own in (known["Rules"][rule]["RuleCondition"], assertion["Assert"]))

    assert (not applies or holds) is is_valid
