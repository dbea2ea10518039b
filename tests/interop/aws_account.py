"""An AWS account on loopback: moto's, with stand-ins for the types of resources that its CloudFormation does not know.

moto resolves the templates: conditions, references, nested stacks. A stand-in keeps the properties that it was given, so that
a test reads what CloudFormation would have asked for, and answers the attributes that other resources refer to.
"""

import contextlib
import functools
import ipaddress
import itertools
import os
import shutil
import subprocess
import urllib.request
import zipfile

import boto3
import build as built
import tools
from moto.cloudformation import models, parsing, responses, utils
from moto.core.common_models import CloudFormationModel
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
ACCOUNT = "123456789012"
ARN = f"arn:aws:{{}}:{REGION}:{ACCOUNT}:{{}}"

# The attributes by which each is referred to.
STAND_INS = {
    "AWS::CloudFront::Distribution": {"DomainName": "d1.cloudfront.net"},
    "AWS::CloudFront::OriginAccessControl": {},
    "AWS::CloudWatch::Alarm": {},
    "AWS::Cognito::ManagedLoginBranding": {},
    "AWS::Cognito::UserPool": {},
    "AWS::Cognito::UserPoolClient": {},
    "AWS::Cognito::UserPoolDomain": {},
    "AWS::Cognito::UserPoolResourceServer": {},
    "AWS::EC2::EgressOnlyInternetGateway": {},
    "AWS::EC2::SecurityGroupEgress": {},
    "AWS::EC2::VPCCidrBlock": {},
    "AWS::IAM::OIDCProvider": {},
    "AWS::Lambda::Url": {"FunctionUrl": "https://abcdef.lambda-url.us-east-1.on.aws/"},
    "AWS::RDS::DBCluster": {
        "DBClusterArn": ARN.format("rds", "cluster:events"),
        "DBClusterResourceId": "cluster-EVENTS",
        "Endpoint.Address": "events.cluster-x.us-east-1.rds.amazonaws.com",
        "MasterUserSecret.SecretArn": ARN.format("secretsmanager", "secret:owner"),
    },
    "AWS::RDS::DBClusterParameterGroup": {},
    # moto has it, but none of Aurora's.
    "AWS::RDS::DBInstance": {},
    "AWS::RDS::DBProxy": {
        "DBProxyArn": ARN.format("rds", "db-proxy:prx-1"),
        "Endpoint": "events.proxy-x.us-east-1.rds.amazonaws.com",
    },
    "AWS::RDS::DBProxyTargetGroup": {},
    "AWS::SecretsManager::Secret": {},
    "AWS::WAFv2::WebACL": {"Arn": ARN.format("wafv2", "global/webacl/mcp/1")},
}

KNOWN_TO_MOTO = set(parsing.get_model_map())

# What stand-ins were given: the type, the logical id, the properties with everything resolved.
given = []


@functools.cache
def register():
    """Makes moto find them: it looks for subclasses."""
    for kind, attributes in STAND_INS.items():
        # moto reads the service from the module's name.
        members = {"kind": kind, "attributes": attributes, "__module__": "moto.stand_ins"}
        type(kind.replace("::", ""), (StandIn, CloudFormationModel), members)
    for module in (models, responses, utils):
        module.yaml_tag_constructor = read_tag
    parsing.clean_json = resolve
    parsing.parse_and_update_resource = update
    # A nested stack is referred to by what it tells.
    models.Stack.get_cfn_attribute = lambda stack, name: stack.output_map[name.removeprefix("Outputs.")].value
    parsing.get_model_list.cache_clear()
    parsing.get_model_map.cache_clear()
    parsing.get_name_type_map.cache_clear()


def read_tag(loader, tag, node, read=utils.yaml_tag_constructor):
    """moto cuts `!GetAtt` at every dot and loses what is behind the second, and takes `!Condition` for a function."""
    if tag == "!GetAtt" and isinstance(node.value, str):
        return {"Fn::GetAtt": node.value.split(".", 1)}
    if tag == "!Condition":
        return {"Condition": node.value}
    return read(loader, tag, node)


def resolve(value, resources, clean=parsing.clean_json):
    """moto knows neither Fn::Cidr nor the IPv6 addresses of a VPC, and keeps an AWS::NoValue in a list."""
    if isinstance(value, dict) and value.get("Fn::GetAtt", ["", ""])[1] == "Ipv6CidrBlocks":
        return ["2600:1f18::/56"]
    if isinstance(value, dict) and "Fn::Cidr" in value:
        block, count, bits = (resolve(part, resources) for part in value["Fn::Cidr"])
        network = ipaddress.ip_network(block)
        subnets = network.subnets(new_prefix=network.max_prefixlen - int(bits))
        return [str(subnet) for subnet in itertools.islice(subnets, int(count))]
    cleaned = clean(value, resources)
    return [own for own in cleaned if own is not None] if isinstance(value, list) else cleaned


def update(logical_id, template, resources, parse=parsing.parse_and_update_resource, **where):
    """moto forgets a resource whose type it cannot update, and then drops what refers to it."""
    return parse(logical_id, template, resources, **where) or resources[logical_id]


class StandIn:
    """A resource that is remembered. Two are made too, which moto has, and its CloudFormation has not."""

    def __init__(self, logical_id):
        self.physical_resource_id = logical_id

    @classmethod
    def cloudformation_type(cls):
        return cls.kind

    @staticmethod
    def cloudformation_name_type():
        return None

    @classmethod
    def has_cfn_attr(cls, attr):
        return attr in cls.attributes

    def get_cfn_attribute(self, attribute_name):
        return self.attributes[attribute_name]

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        properties = cloudformation_json["Properties"]
        made = cls(kwargs["LogicalId"])
        if cls.kind == "AWS::Lambda::Url":
            function = properties["TargetFunctionArn"].rpartition(":")[2]
            config = {name: properties[name] for name in ("AuthType", "InvokeMode")}
            boto3.client("lambda").create_function_url_config(FunctionName=function, **config)
        if cls.kind == "AWS::EC2::EgressOnlyInternetGateway":
            gateway = boto3.client("ec2").create_egress_only_internet_gateway(VpcId=properties["VpcId"])
            made.physical_resource_id = gateway["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
        given.append((cls.kind, kwargs["LogicalId"], properties))
        return made

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
    ):
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name):
        pass


@contextlib.contextmanager
def account():
    """The account, empty; the environment names it meanwhile, for boto3 here and in programs that are started."""
    variables = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
    }
    before = dict(os.environ)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        os.environ.pop("AWS_PROFILE", None)
        os.environ.update(variables, AWS_ENDPOINT_URL=f"http://{host}:{port}")
        given.clear()
        # What moto keeps is the process's, and outlives its server.
        urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", b"").close()
        yield
    finally:
        moto.stop()
        os.environ.clear()
        os.environ.update(before)


def archive(function, folder, features=(), architecture="arm64", target=None):
    """Zips a function that was built into a target folder, as Lambda wants it, where --lambda-dir looks, with the record of having
    been built so: a real one, though neither of its architecture nor with its features. Returns the zip."""
    made = built.archive_in(folder, function, sorted(features))
    made.parent.mkdir(parents=True)
    binary = made.with_name("bootstrap")
    shutil.copy((target or tools.target_folder()) / "debug" / function, binary)
    # Without what debuggers read, which is nine tenths of it.
    subprocess.run(["strip", binary], check=True)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        opened.write(binary, binary.name)
        # No two are the same.
        opened.comment = " ".join(features).encode()
    binary.unlink()
    built.record(made, architecture, function, features)
    return made
