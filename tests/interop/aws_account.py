"""An AWS account on loopback: moto's, with stand-ins for the types of resources that its CloudFormation does not know.

moto resolves the templates: conditions, references, nested stacks. A stand-in keeps the properties that it was given, so that
a test reads what CloudFormation would have asked for, and answers the attributes that other resources refer to.
"""

import contextlib
import functools
import ipaddress
import itertools
import os
import re
import shutil
import subprocess
import urllib.request
import zipfile

import aws_changes
import aws_versions
import boto3
import botocore.session
import moto.backends
import moto.core.responses
import build as built
import templates
import tools
import yaml
from botocore.awsrequest import AWSResponse
from botocore.handlers import BUILTIN_HANDLERS
from cfnlint.decode import cfn_yaml
from moto.cloudformation import models, parsing, responses, utils
from moto.core.botocore_stubber import MockRawResponse
from moto.core.common_models import CloudFormationModel
from moto.core.request import Request
from moto.iam.models import Role
from moto.server import ThreadedMotoServer
from werkzeug.test import run_wsgi_app

REGION = "us-east-1"
ACCOUNT = "123456789012"
ARN = f"arn:aws:{{}}:{REGION}:{ACCOUNT}:{{}}"

# The attributes by which each is referred to.
STAND_INS = {
    "AWS::Budgets::Budget": {},
    "AWS::CloudFront::Distribution": {"DomainName": "d1.cloudfront.net"},
    "AWS::CloudFront::OriginAccessControl": {},
    "AWS::CloudWatch::Alarm": {},
    "AWS::Cognito::ManagedLoginBranding": {},
    "AWS::Cognito::UserPool": {},
    "AWS::Cognito::UserPoolClient": {},
    "AWS::Cognito::UserPoolDomain": {},
    "AWS::Cognito::UserPoolResourceServer": {},
    "AWS::DSQL::Cluster": {
        "Endpoint": "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws",
        "ResourceArn": ARN.format("dsql", "cluster/abcdefghijklmnopqrstuvwxyz"),
    },
    "AWS::EC2::EgressOnlyInternetGateway": {},
    "AWS::EC2::SecurityGroupEgress": {},
    "AWS::EC2::VPCCidrBlock": {},
    "AWS::IAM::OIDCProvider": {},
    "AWS::IAM::RolePolicy": {},
    "AWS::Lambda::Alias": {},
    "AWS::Lambda::EventInvokeConfig": {},
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
    "AWS::Scheduler::Schedule": {},
    "AWS::SecretsManager::Secret": {"Id": ARN.format("secretsmanager", "secret:authorization-server/signing-keys-AbCdEf")},
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
    models.ResourceMap.update = update_resources
    models.Stack.update_from_cloudformation_json = classmethod(update_nested)
    Role.create_from_cloudformation_json = classmethod(create_role)
    # A nested stack is referred to by what it tells.
    models.Stack.get_cfn_attribute = lambda stack, name: stack.output_map[name.removeprefix("Outputs.")].value
    aws_changes.register()
    aws_versions.register()
    hasten()
    parsing.get_model_list.cache_clear()
    parsing.get_model_map.cache_clear()
    parsing.get_name_type_map.cache_clear()


def hasten():
    """Makes boto3's sessions share the descriptions of services that they read, and moto parse templates by libyaml: half of the
    processor time of a deployment."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    # Each request of moto's server lists the folders of its package.
    modules = frozenset(moto.backends.list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: modules
    moto.core.responses.method_names_from_class = functools.cache(moto.core.responses.method_names_from_class)
    boto3.session.Session.client = client
    boto3.Session = functools.cache(boto3.Session)
    BUILTIN_HANDLERS.append(("before-send", answered_here))
    yaml.add_multi_constructor("", read_tag, Loader=yaml.CLoader)
    yaml.Loader = yaml.CLoader


create_client = boto3.Session.client
kept_client = functools.cache(create_client)


def client(session, service, **options):
    """A client of the account is kept. One with options is a new one."""
    is_kept = not options and is_of_the_account(os.environ.get("AWS_ENDPOINT_URL"))
    return kept_client(session, service) if is_kept else create_client(session, service, **options)


def answered_here(request, **_):
    """Answers a request of boto3 to the account of this process, in the thread of its caller: without the connection and the thread
    that moto's server takes for each request."""
    if not is_of_the_account(request.url):
        return None
    environment = Request.from_primitives(request.method, request.url, request.headers, request.body).environ
    body, status, headers = run_wsgi_app(server()._server.app, environment, buffered=True)
    return AWSResponse(request.url, int(status.split()[0]), headers, MockRawResponse(b"".join(body)))


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
    if resources[logical_id] is None:
        return None
    return parse(logical_id, template, resources, **where) or resources[logical_id]


def references(value):
    """The names that a definition refers to."""
    if isinstance(value, dict):
        for key, own in value.items():
            if key == "Ref":
                yield own
            elif key == "Fn::GetAtt":
                yield own[0]
            elif key == "DependsOn":
                yield from [own] if isinstance(own, str) else own
            elif key == "Fn::Sub":
                yield from re.findall(r"\$\{(\w+)", own if isinstance(own, str) else own[0])
            elif key == "Fn::If":
                yield own[0]
            elif key == "Condition" and isinstance(own, str):
                yield own
            yield from references(own)
    elif isinstance(value, list):
        for own in value:
            yield from references(own)


def update_resources(resources, template, parameters=None):
    """moto updates nothing but what names a changed parameter itself, and never looks at conditions again."""
    before, old = dict(resources._parsed_resources), resources._resource_json_map
    changed = {name for name, value in (parameters or {}).items() if resources.input_parameters.get(name) != value}
    definitions = template["Resources"]
    resources._template, resources._resource_json_map = template, definitions
    resources.input_parameters = parameters or resources.input_parameters
    resources.load_mapping()
    resources.load_parameters()
    resources.load_conditions()
    # A condition is changed by its parameters, and by other conditions.
    for name, condition in [*template.get("Conditions", {}).items()] * 2:
        changed |= {name} if changed & {*references(condition)} else set()
    done = set()

    def visit(name):
        if name in done or name not in definitions:
            return
        done.add(name)
        definition = definitions[name]
        needed = {*references(definition)}
        is_there = before.get(name) is not None and name in old
        if not resources.lazy_condition_map.get(definition.get("Condition"), True):
            if is_there:
                resources._delete_resource(before[name], old[name])
                del resources._parsed_resources[name]
            return
        for other in needed:
            visit(other)
        if not is_there:
            resources._parsed_resources.pop(name, None)
            changed.add(name)
            assert resources[name] is not None, name
        elif changed & needed or definition != old[name]:
            changed.add(name)
            where = {"account_id": resources._account_id, "region_name": resources._region_name}
            resources._parsed_resources[name] = parsing.parse_and_update_resource(name, definition, resources, **where)

    for name in old.keys() - definitions.keys():
        resources._delete_resource(before[name], old[name])
    for name in definitions:
        visit(name)


def create_role(cls, resource_name, cloudformation_json, account_id, region_name, make=Role.create_from_cloudformation_json, **own):
    """moto attaches no managed policies."""
    made = make.__func__(cls, resource_name, cloudformation_json, account_id, region_name, **own)
    for arn in cloudformation_json["Properties"].get("ManagedPolicyArns", []):
        boto3.client("iam").attach_role_policy(RoleName=made.name, PolicyArn=arn)
    return made


def update_nested(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
    """moto deletes a nested stack, and makes another one."""
    properties = cloudformation_json["Properties"]
    template = models.get_stack_from_s3_url(properties["TemplateURL"], account_id=account_id, partition="aws")
    original_resource.update(template, parameters=properties.get("Parameters", {}))
    return original_resource


class StandIn:
    """A resource that is remembered. Some are made too, which moto has, and its CloudFormation has not."""

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
            config = {name: properties[name] for name in ("AuthType", "InvokeMode", "Qualifier") if name in properties}
            boto3.client("lambda").create_function_url_config(FunctionName=properties["TargetFunctionArn"].rpartition(":")[2], **config)
        if cls.kind == "AWS::EC2::EgressOnlyInternetGateway":
            gateway = boto3.client("ec2").create_egress_only_internet_gateway(VpcId=properties["VpcId"])
            made.physical_resource_id = gateway["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
        if cls.kind == "AWS::CloudWatch::Alarm":
            made.physical_resource_id = resource_name
            alarm = {"AlarmName": resource_name, "MetricName": "m", "Namespace": "n", "Period": 60, "Statistic": "Sum"}
            boto3.client("cloudwatch").put_metric_alarm(
                **alarm, EvaluationPeriods=1, Threshold=0, ComparisonOperator="GreaterThanThreshold",
            )
        if cls.kind == "AWS::Lambda::Alias":
            made.physical_resource_id = aws_versions.alias(properties)
        made.given = properties
        given.append((cls.kind, kwargs["LogicalId"], properties))
        return made

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
    ):
        properties = original_resource.given = cloudformation_json["Properties"]
        if cls.kind == "AWS::Lambda::Alias":
            aws_versions.alias(properties)
        if cls.kind == "AWS::Lambda::Url":
            config = {name: properties[name] for name in ("AuthType", "InvokeMode", "Qualifier") if name in properties}
            boto3.client("lambda").update_function_url_config(FunctionName=properties["TargetFunctionArn"].rpartition(":")[2], **config)
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name):
        pass


@functools.cache
def loaded(name):
    """The template of a stack as cfn-lint parses it. It is shared: tests do not change it."""
    return cfn_yaml.loads(templates.text_of(name))


@functools.cache
def server():
    """moto's server, which answers programs that tests start. It serves the process until its end."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    return moto


def endpoint():
    host, port = server().get_host_and_port()
    return f"http://{host}:{port}"


def is_of_the_account(url):
    return bool(url and server.cache_info().currsize) and f"{url}/".startswith(f"{endpoint()}/")


@contextlib.contextmanager
def account():
    """The account, empty; the environment names it meanwhile, for boto3 here and in programs that are started."""
    variables = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
    }
    before = dict(os.environ)
    try:
        os.environ.pop("AWS_PROFILE", None)
        os.environ.update(variables, AWS_ENDPOINT_URL=endpoint())
        given.clear()
        aws_changes.next_end.clear()
        aws_changes.slowness[0], aws_versions.answering[0], aws_versions.migrating[0] = 0, None, None
        aws_versions.running_tasks[0] = aws_versions.commanding[0] = None
        aws_versions.keeps_weights[0] = False
        aws_versions.invocations.clear()
        urllib.request.urlopen(f"{endpoint()}/moto-api/reset", b"").close()
        yield
    finally:
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
