#!/usr/bin/env python3
"""`make deploy`, `deploy-code`, `outputs` and `destroy`: the functions in an AWS account.

    deploy.py up STACK [--parameter NAME=VALUE]...    makes or updates the stack of functions/STACK/stack.yaml or infra/STACK.yaml
    deploy.py code FUNCTION [--env-file FILE]         `cargo lambda deploy`, without a stack
    deploy.py outputs STACK                           what the stack tells: URLs, ids
    deploy.py down STACK                              deletes the stack

Account and region are those of the AWS SDKs' own configuration: AWS_PROFILE, `aws sso login`, AWS_REGION and so on. A command
that changes something there names both and asks first.

A function is deployed with the features that its variables need (`auth`, once there is an issuer, or a variable about issuers
whose value cannot be known before), and with those that --features names. Without --features those of the running deployment
stay. `none` drops them. A zip of --lambda-dir that does not have these features is refused before anything is uploaded.
"""

import argparse
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

import build
import templates
import tools

CLOUDFRONT_REGION = "us-east-1"
APP_USER = templates.INFRA / "app-user.sql"
# As every template has it.
ARCHITECTURE = "arm64"
# A line of an env file.
ASSIGNMENT = re.compile(r"""(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(?:"([^"\\$`]*)"|'([^'\\]*)'|([^\s"'\\$`#]*))(?:[ \t]+\#.*)?""")
OTHER_ASSIGNMENT = re.compile(r"""(?:export[ \t]+)?(\w+)[ \t]*=[^"']*""")
CODE_KEY = re.compile(r"code/([\w-]+)/([\w.-]+)/[0-9a-f]{64}\.zip", re.ASCII)
# What `make deploy-code` notes at a function that has no stack.
FEATURES_TAG = "mcp-features"
PATIENCE_SECONDS = 3600
POLL_SECONDS = 5
RESUME_SECONDS = 120


def main():
    arguments = read_arguments()
    try:
        account = Account()
        arguments.run(account, arguments)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"AWS: {error}")


def read_arguments():
    parser = argparse.ArgumentParser(description="Deploys the functions to AWS.")
    commands = parser.add_subparsers(required=True)

    def command(name, run, subject, choices):
        own = commands.add_parser(name)
        own.add_argument("subject", metavar=subject, choices=choices, help=", ".join(choices))
        own.set_defaults(run=run)
        return own

    stack_commands = [command(name, run, "STACK", templates.stacks()) for name, run in (("up", up), ("outputs", outputs), ("down", down))]
    for own in stack_commands:
        own.add_argument("--name", help="the stack's name, if it is another than the template's")
    code_command = command("code", code, "FUNCTION", tools.FUNCTIONS)
    code_command.add_argument("--env-file", type=pathlib.Path, help="variables for the function, NAME=VALUE in each line")
    up_command, _, down_command = stack_commands
    up_command.add_argument(
        "--parameter", action="append", default=[], type=parameter, metavar="NAME=VALUE", dest="parameters",
        help="of the template; one that is not given stays as it is",
    )
    for own in (up_command, code_command):
        own.add_argument("--lambda-dir", type=pathlib.Path, help="the zips of `make build` for arm64; builds none")
        own.add_argument(
            "--features", type=build.feature_list, metavar="NAMES",
            help="features of the function's Cargo.toml, separated by commas; those of the running deployment unless named, "
            f"{build.NO_FEATURES} for none",
        )
        own.add_argument("--no-doctor", action="store_true", help="print the command that tries the URL, and do not run it")
    for own in (up_command, code_command, down_command):
        own.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args()


def parameter(text):
    name, is_one, value = text.partition("=")
    if not is_one:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


class Account:
    """Whose account it is, and which region of it."""

    def __init__(self):
        # boto3 is the only SDK that does not look there; cargo-lambda does.
        self.session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        self.region = self.session.region_name
        if not self.region:
            sys.exit("no region: set AWS_REGION, or one in the profile")
        identity = self.client("sts").get_caller_identity()
        self.id, self.caller = identity["Account"], identity["Arn"]

    def client(self, service):
        return self.session.client(service)

    def ask(self, arguments, *plan):
        """Says where something is about to happen, and what; ends unless the answer is yes."""
        print(f"account  {self.id}, as {self.caller}\nregion   {self.region}")
        for line in plan:
            print(line)
        if arguments.yes:
            return
        try:
            answer = input("Go on? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            sys.exit("Nothing was changed.")


def up(account, arguments):
    if arguments.subject == "custom-domain" and account.region != CLOUDFRONT_REGION:
        sys.exit(f"what CloudFront uses must be in {CLOUDFRONT_REGION}: set AWS_REGION={CLOUDFRONT_REGION}")
    stack = Stack(account, arguments.name or arguments.subject)
    artifacts = Artifacts(account)
    if stack.status == "ROLLBACK_COMPLETE":
        sys.exit(f"{stack.name} could not be made: `make destroy` it first")
    of_the_bucket = "is there" if artifacts.exists() else "will be made, closed to the public"
    parameters = dict(arguments.parameters)
    is_function = arguments.subject in tools.FUNCTIONS
    features = stack_features(stack, arguments, parameters) if is_function else None
    account.ask(
        arguments,
        f"stack    {stack.name}: {'will be updated' if stack.exists else 'will be made'}",
        f"bucket   {artifacts.bucket}, for code and templates: {of_the_bucket}",
        *([f"features {', '.join(features) or build.NO_FEATURES}"] if is_function else []),
    )
    archive = archive_of(arguments, features) if is_function else None
    artifacts.make()
    prefix = artifacts.put_templates(arguments.subject)
    if archive:
        code_key = artifacts.put_code(arguments.subject, features, archive)
        parameters |= {"ArtifactBucket": artifacts.bucket, "CodeKey": code_key, "TemplatesPrefix": prefix}
    template = artifacts.url(f"{prefix}/{arguments.subject}.yaml")
    stack.deploy(template, parameters)
    told = stack.outputs()
    if archive:
        # The alias serves published versions only.
        version = account.client("lambda").publish_version(FunctionName=told["FunctionName"])["Version"]
        stack.deploy(template, {"LiveVersion": version, "CanaryVersion": "", "CanaryWeight": "0"})
        told = stack.outputs()
    if "DatabaseArn" in told:
        make_app_user(account, told)
    show(told)
    if not archive:
        # A domain leads nowhere before its DNS and its function know of it.
        return
    if stack.values().get("AuthType") == "AWS_IAM":
        print(f"The doctor signs nothing; `mcpl tools {told['Url']} --sigv4` does.")
    else:
        check_url(arguments, told["Url"])


def stack_features(stack, arguments, given):
    """The features that a stack's function is deployed with."""
    template = templates.path_of(arguments.subject).read_text()
    values = stack.defaults(template) | stack.values() | given
    variables = templates.function_variables(template, values, stack.defaults(templates.FUNCTION.read_text()))
    return choose_features(arguments, needs_auth(variables), stack.features(arguments.subject))


def needs_auth(variables):
    """Whether a function with these variables starts only if it was built with `auth`: the rule of
    crates/mcp-lambda/src/authentication.rs, without its exceptions (`MCP_AUTH=iam` and `dangerously-off` start either way).
    A value that is unknown (None) counts as set."""
    return any(
        value is None or (value.strip() == "required" if name == "MCP_AUTH" else bool(templates.ABOUT_ISSUERS.match(name) and value.strip()))
        for name, value in variables
    )


def choose_features(arguments, is_auth_needed, running):
    """Those that are named, or those of the running deployment (None if they are unknown); and `auth`, where it is needed."""
    function = arguments.subject
    offered = set(tools.features(function))
    named = arguments.features
    if named is None:
        if running is None and offered - {build.AUTH}:
            sys.exit(
                f"the features of the running {function} are unknown: name them, as in FEATURES={min(offered - {build.AUTH})}, "
                f"or FEATURES={build.NO_FEATURES}"
            )
        named = set(running or ()) - {build.AUTH}
    if unknown := set(named) - offered:
        sys.exit(
            f"{function} has no feature {', '.join(sorted(unknown))}: set FEATURES to some of "
            f"{', '.join(sorted(offered | {build.NO_FEATURES}))}"
        )
    return sorted({*named, *({build.AUTH} & offered if is_auth_needed else ())})


def archive_of(arguments, features):
    """The content of the zip to be deployed. What is deployed is this, and not what is in the file later."""
    if not arguments.lambda_dir:
        build.prepare()
        return build.build(ARCHITECTURE, arguments.subject, features).read_bytes()
    archive, fault = build.recorded(arguments.lambda_dir, ARCHITECTURE, arguments.subject, features)
    if fault:
        others = [feature for feature in features if feature != build.AUTH]
        named = f" FEATURES={','.join(others)}" if others else ""
        what = f"the feature{'s' if features[1:] else ''} {', '.join(features)}" if features else "no features"
        dropped = f"; FEATURES={build.NO_FEATURES} deploys without {', '.join(others)}" if others and not arguments.features else ""
        sys.exit(
            f"{arguments.subject} cannot be deployed with {what}: {fault}. Build such a zip with "
            f"`make build FUNCTION={arguments.subject}{named}`{dropped}"
        )
    return archive


def check_url(arguments, url):
    if arguments.no_doctor:
        print(f"next: mcpl doctor {url}")
    else:
        doctor(url)


class Artifacts:
    """The bucket that CloudFormation and Lambda read from. Objects are named after their content and are kept for
    a rollback."""

    def __init__(self, account):
        self.account = account
        self.bucket = f"mcp-on-lambda-{account.id}-{account.region}"
        self.s3 = account.client("s3")

    def exists(self):
        try:
            # Bucket names are global: do not put code into a bucket of another account.
            self.s3.head_bucket(Bucket=self.bucket, ExpectedBucketOwner=self.account.id)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
                return False
            raise
        return True

    def make(self):
        if not self.exists():
            elsewhere = {} if self.account.region == "us-east-1" else {
                "CreateBucketConfiguration": {"LocationConstraint": self.account.region}
            }
            self.s3.create_bucket(Bucket=self.bucket, **elsewhere)
        closed = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
        self.s3.put_public_access_block(
            Bucket=self.bucket, ExpectedBucketOwner=self.account.id,
            PublicAccessBlockConfiguration=dict.fromkeys(closed, True),
        )

    def put_code(self, function, features, content):
        # By the key the next deployment knows the features.
        key = f"code/{function}/{'.'.join(features) or build.NO_FEATURES}/{hashlib.sha256(content).hexdigest()}.zip"
        self.put(key, content)
        return key

    def put_templates(self, stack):
        """A stack's own, and all that may be nested in it, below one prefix."""
        own = templates.path_of(stack)
        prefix = f"templates/{tools.digest(sorted({own, *templates.SHARED}))}"
        for template in templates.SHARED:
            self.put(f"{prefix}/{template.name}", template.read_bytes())
        self.put(f"{prefix}/{stack}.yaml", own.read_bytes())
        return prefix

    def put(self, key, content):
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content, ExpectedBucketOwner=self.account.id)

    def url(self, key):
        return f"https://{self.bucket}.s3.{self.account.region}.amazonaws.com/{key}"


class Stack:
    """A stack of CloudFormation's, which may not be there yet."""

    def __init__(self, account, name):
        self.name = name
        self.client = account.client("cloudformation")
        self.described = self.describe()

    def describe(self):
        try:
            return self.client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                return None
            raise

    @property
    def status(self):
        return self.described and self.described["StackStatus"]

    @property
    def exists(self):
        return self.described is not None

    def deploy(self, template_url, parameters):
        request = {"StackName": self.name, "TemplateURL": template_url, "Capabilities": ["CAPABILITY_IAM"]}
        request["Parameters"] = self.parameters(template_url, parameters)
        if not self.exists:
            self.client.create_stack(**request)
            return self.wait_for("create")
        since = self.last_event()
        try:
            self.client.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" not in error.response["Error"]["Message"]:
                raise
            print("the stack is as it should be")
            return
        self.wait_for("update", since)

    def delete(self):
        # By its id, by which it is still found when it is gone.
        self.name = self.described["StackId"]
        since = self.last_event()
        self.client.delete_stack(StackName=self.name)
        self.wait_for("delete", since)

    def last_event(self):
        """When something last happened to the stack."""
        return self.client.describe_stack_events(StackName=self.name)["StackEvents"][0]["Timestamp"]

    def parameters(self, template_url, given):
        """Those that are given; the others stay as they are, or are the template's own."""
        known = {own["ParameterKey"] for own in self.client.get_template_summary(TemplateURL=template_url)["Parameters"]}
        if unknown := given.keys() - known:
            sys.exit(f"the template has no parameter {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
        values = {name: value for name, value in self.values().items() if name in known} | given
        return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]

    def values(self):
        """Its parameters. None of them is a secret, which would not be told."""
        return {own["ParameterKey"]: own["ParameterValue"] for own in (self.described or {}).get("Parameters", [])}

    def defaults(self, template):
        """What the parameters of a template are if they are not given."""
        known = self.client.get_template_summary(TemplateBody=template)["Parameters"]
        return {own["ParameterKey"]: own.get("DefaultValue", "") for own in known}

    def features(self, function):
        """Those that its function was deployed with; None if that is unknown."""
        if not self.exists:
            return []
        key = CODE_KEY.fullmatch(self.values().get("CodeKey", ""))
        return features_in(key[2]) if key and key[1] == function else None

    def wait_for(self, what, since=None):
        print(f"waiting for {what} of {self.name} …", flush=True)
        patience = {"Delay": POLL_SECONDS, "MaxAttempts": PATIENCE_SECONDS // POLL_SECONDS}
        try:
            self.client.get_waiter(f"stack_{what}_complete").wait(StackName=self.name, WaiterConfig=patience)
        except WaiterError:
            for line in self.failures(self.name, since):
                print(line, file=sys.stderr)
            sys.exit(f"{what} of {self.name} failed")

    def failures(self, name, since):
        """Why, in this stack and in those in it; not what failed in an earlier deployment."""
        for page in self.client.get_paginator("describe_stack_events").paginate(StackName=name):
            for event in page["StackEvents"]:
                # The newest come first.
                if since and event["Timestamp"] <= since:
                    return
                if not event.get("ResourceStatus", "").endswith("_FAILED"):
                    continue
                yield f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
                nested = event.get("PhysicalResourceId")
                if event["ResourceType"] == "AWS::CloudFormation::Stack" and nested and nested != event["StackId"]:
                    yield from self.failures(nested, since)

    def outputs(self):
        self.described = self.describe()
        if not self.exists:
            sys.exit(f"there is no stack {self.name}")
        return {own["OutputKey"]: own["OutputValue"] for own in self.described.get("Outputs", [])}


def make_app_user(account, told):
    """The function's own user, by the Data API, which needs no way into the network. A database that sleeps wakes up."""
    data = account.client("rds-data")
    deadline = time.monotonic() + RESUME_SECONDS
    while True:
        try:
            data.execute_statement(
                resourceArn=told["DatabaseArn"], secretArn=told["DatabaseOwnerSecretArn"], database="events",
                sql=APP_USER.read_text(),
            )
            return
        except data.exceptions.DatabaseResumingException:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


def features_in(text):
    """The features in a key or in a tag; None if it is not one of this script's."""
    features = [] if text == build.NO_FEATURES else text.split(".")
    return None if "" in features or build.NO_FEATURES in features else features


def code(account, arguments):
    client = account.client("lambda")
    features = code_features(client, arguments)
    account.ask(
        arguments, f"function {arguments.subject}: will be made or updated, with a public URL",
        f"features {', '.join(features) or build.NO_FEATURES}",
    )
    tools.install_lambda()
    archive = archive_of(arguments, features)
    command = ["cargo", "lambda", "deploy", arguments.subject, "--region", account.region]
    command += ["--manifest-path", f"functions/{arguments.subject}/Cargo.toml"]
    command += ["--tags", f"{FEATURES_TAG}={'.'.join(features) or build.NO_FEATURES}"]
    command += ["--env-file", arguments.env_file] if arguments.env_file else []
    with tempfile.TemporaryDirectory() as folder:
        # cargo-lambda takes a zip from a folder of the function's name alone.
        (pathlib.Path(folder) / arguments.subject).mkdir()
        (pathlib.Path(folder) / arguments.subject / build.ARCHIVE).write_bytes(archive)
        run([*command, "--lambda-dir", folder])
    url = client.get_function_url_config(FunctionName=arguments.subject)["FunctionUrl"].rstrip("/") + "/mcp"
    show({"Url": url})
    check_url(arguments, url)


def code_features(client, arguments):
    """The same for a function without a stack: variables that it has stay, and its tag says what it was deployed with."""
    try:
        function = client.get_function(FunctionName=arguments.subject)
    except client.exceptions.ResourceNotFoundException:
        variables, running = {}, []
    else:
        variables = function["Configuration"].get("Environment", {}).get("Variables", {})
        tagged = function.get("Tags", {}).get(FEATURES_TAG)
        running = tagged and features_in(tagged)
    if arguments.env_file:
        variables |= assigned_in(arguments.env_file.read_text(encoding="utf-8-sig"))
    return choose_features(arguments, needs_auth(variables.items()), running)


def assigned_in(text):
    """The variables of an env file by name; with None by "", if it has a line that is not understood."""
    variables = {}
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if assigned := ASSIGNMENT.fullmatch(line):
            variables[assigned[1]] = next(value for value in assigned.groups()[1:] if value is not None)
        elif not (other := OTHER_ASSIGNMENT.fullmatch(line)) or templates.is_about_auth(other[1]):
            variables[""] = None
    return variables


def outputs(account, arguments):
    show(Stack(account, arguments.name or arguments.subject).outputs())


def show(told):
    for name, value in told.items():
        print(f"{name}: {value}")


def down(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    if not stack.exists:
        sys.exit(f"there is no stack {stack.name}")
    account.ask(
        arguments, f"stack    {stack.name}: will be deleted, its logs too",
        "stays    a last snapshot of a database, a user pool, and the bucket with code and templates",
    )
    stack.delete()


def doctor(url):
    if ended := run_on(["cargo", "run", "--quiet", "--release", "--locked", "--package", "mcp-cli", "--", "doctor", url]):
        # No success for those who watch a deployment's end: clients are stopped.
        print("The deployment itself succeeded, and stays. `mcpl doctor`, above, says what stops clients.", file=sys.stderr)
        sys.exit(ended)


def run(command):
    if ended := run_on(command):
        sys.exit(ended)


def run_on(command):
    """Runs a command; returns how it ended."""
    return subprocess.run([str(word) for word in command], cwd=tools.PROJECT, env=tools.environment()).returncode


if __name__ == "__main__":
    main()
