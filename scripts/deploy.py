#!/usr/bin/env python3
"""`make deploy`, `rollback`, `deploy-code`, `outputs` and `destroy`: the functions in an AWS account.

    deploy.py up STACK [--parameter NAME=VALUE]...    makes or updates a stack, publishes a version, moves the alias to it
    deploy.py rollback STACK [--version N]            moves the alias to an earlier version
    deploy.py code FUNCTION [--env-file FILE]         `cargo lambda deploy`, without a stack
    deploy.py outputs STACK                           the stack's outputs: URLs, ids
    deploy.py down STACK                              deletes the stack

Account and region are those of the AWS SDKs' own configuration: AWS_PROFILE, `aws sso login`, AWS_REGION and so on. A command
that changes something there names both and asks first.

A function is deployed with the features that its variables need (`auth`, once there is an issuer, or a variable about issuers
whose value cannot be known before), and with those that --features names. Without --features those of the running deployment
stay. `none` drops them. A zip of --lambda-dir that does not have these features is refused before anything is uploaded.

The parts are in scripts/deploying.
"""

import argparse
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

import build
import templates
import tools
from deploying import features as feature_sets
from deploying import settings
from deploying.account import Account
from deploying.artifacts import Artifacts, archive_of
from deploying.changes import PROTECTED, removed
from deploying.rollout import Rollout
from deploying.stack import Stack, is_rolled_out

CLOUDFRONT_REGION = "us-east-1"
APP_USER = templates.INFRA / "app-user.sql"
RESUME_SECONDS = 120


def main():
    # A canary's traffic goes back before the command ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = read_arguments()
    try:
        account = Account()
        arguments.run(account, arguments)
    except (BotoCoreError, ClientError, WaiterError) as error:
        sys.exit(f"AWS: {error}")


def read_arguments():
    parser = argparse.ArgumentParser(description="Deploys the functions to AWS.")
    commands = parser.add_subparsers(required=True)

    def command(name, run, subject, choices):
        own = commands.add_parser(name)
        own.add_argument("subject", metavar=subject, choices=choices, help=", ".join(choices))
        own.set_defaults(run=run)
        return own

    up_command, outputs_command, down_command, rollback_command = (
        command(name, run, "STACK", templates.stacks())
        for name, run in (("up", up), ("outputs", outputs), ("down", down), ("rollback", rollback))
    )
    code_command = command("code", code, "FUNCTION", tools.FUNCTIONS)
    for own in (up_command, outputs_command, down_command, rollback_command):
        own.add_argument("--name", help="the stack's name, if it is another than the template's")
    for own in (up_command, down_command, rollback_command):
        own.add_argument("--role-arn", help="the role with which CloudFormation changes resources; otherwise the caller's own rights")
    for own in (up_command, rollback_command):
        own.add_argument(
            "--replace", type=settings.names, default=set(), metavar="NAMES",
            help="logical ids of URLs, functions, databases and so on that may be replaced or removed",
        )
    code_command.add_argument("--env-file", type=pathlib.Path, help="variables for the function, NAME=VALUE in each line")
    rollback_command.add_argument("--version", type=settings.version, metavar="N", help="the version before the live one unless given")
    rollback_command.add_argument("--no-check", action="store_true", help="do not invoke the version before it serves requests")
    add_options_of_up(up_command)
    for own in (up_command, code_command):
        own.add_argument("--lambda-dir", type=pathlib.Path, help="the zips of `make build` for arm64; builds none")
        own.add_argument(
            "--features", type=build.feature_list, metavar="NAMES",
            help="features of the function's Cargo.toml, separated by commas; those of the running deployment unless named, "
            f"{build.NO_FEATURES} for none",
        )
        own.add_argument("--no-doctor", action="store_true", help="print the command that tries the URL, and do not run it")
    for own in (up_command, code_command, down_command, rollback_command):
        own.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args()


def add_options_of_up(command):
    command.add_argument(
        "--parameter", action="append", default=[], type=settings.assignment, metavar="NAME=VALUE", dest="parameters",
        help="of the template; one that is not given stays as it is",
    )
    command.add_argument(
        "--parameters-file", type=settings.file, help='parameters and tags of a stage: {"Parameters": {…}, "Tags": {…}}'
    )
    command.add_argument(
        "--tag", action="append", default=[], type=settings.assignment, metavar="NAME=VALUE", dest="tags",
        help="of the stack and all of its resources; an empty value removes the tag",
    )
    command.add_argument("--protect", choices=["yes", "no"], help="switch the stack's termination protection")
    command.add_argument("--plan", action="store_true", help="show the changes, and execute none")
    command.add_argument("--digest", type=settings.digest, metavar="SHA256", help="deploy this zip: of the bucket, or of --lambda-dir")
    command.add_argument("--canary", type=settings.weight, metavar="PART", help="the new version serves this part of the requests first")
    command.add_argument("--minutes", type=settings.minutes, default=10, help="how long a canary is watched; 10 unless given")


def up(account, arguments):
    if arguments.subject == "custom-domain" and account.region != CLOUDFRONT_REGION:
        sys.exit(f"what CloudFront uses must be in {CLOUDFRONT_REGION}: set AWS_REGION={CLOUDFRONT_REGION}")
    given = settings.Settings(arguments)
    is_function, is_rolled = arguments.subject in tools.FUNCTIONS, is_rolled_out(arguments.subject)
    name = arguments.name or arguments.subject
    if is_rolled and len(name) > settings.MAX_NAME:
        sys.exit(f"{name} is longer than {settings.MAX_NAME} characters: names that CloudFormation generates from it would be cut")
    stack = Stack(account, name)
    stack.settle()
    if is_rolled:
        stack.refuse_old_layout()
    artifacts = Artifacts(account)
    of_the_bucket = "is there" if artifacts.exists() else "will be made, closed to the public"
    features = feature_sets.stack_features(stack, arguments, given.parameters) if is_function else None
    account.ask(
        arguments,
        f"stack    {stack.name}: {'will be updated' if stack.is_made else 'will be made'}",
        f"bucket   {artifacts.bucket}, for code and templates: {of_the_bucket}",
        *([f"features {', '.join(features) or build.NO_FEATURES}"] if is_function else []),
    )
    archive = archive_of(arguments, features, artifacts) if is_function else None
    artifacts.make()
    prefix = artifacts.put_templates(arguments.subject)
    parameters = dict(given.parameters)
    if archive:
        print(f"zip      {archive.digest}")
        code_key = artifacts.put_code(arguments.subject, archive)
        parameters |= {"ArtifactBucket": artifacts.bucket, "CodeKey": code_key, "TemplatesPrefix": prefix}
    if is_rolled and stack.values().get("CanaryVersion"):
        # Of a deployment that was killed: its canary was not watched to its end.
        parameters |= {"CanaryVersion": "", "CanaryWeight": "0"}
    stack.update(arguments, parameters, artifacts.url(f"{prefix}/{arguments.subject}.yaml"), given.tags, arguments.role_arn)
    protect(stack, arguments)
    told = stack.outputs()
    if "DatabaseArn" in told:
        make_app_user(account, told)
    if is_rolled:
        Rollout(account, stack, arguments).deploy(archive.lambda_digest)
        told = stack.outputs()
    show(told)
    if not archive:
        # A domain leads nowhere before its DNS and its function know of it.
        return
    if stack.values().get("AuthType") == "AWS_IAM":
        print(f"The doctor signs nothing; `mcpl tools {told['Url']} --sigv4` does.")
    else:
        check_url(arguments, told["Url"], f"make rollback STACK={arguments.subject}" if is_rolled else None)


def protect(stack, arguments):
    if arguments.protect:
        stack.client.update_termination_protection(
            StackName=stack.name, EnableTerminationProtection=arguments.protect == "yes",
        )


def rollback(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    stack.settle()
    if not stack.is_made or "LiveVersion" not in stack.values():
        sys.exit(f"there is no stack {stack.name} with versions")
    account.ask(arguments, f"stack    {stack.name}: its alias will be moved from version {stack.values()['LiveVersion']}")
    Rollout(account, stack, arguments).rollback(arguments.version)


def check_url(arguments, url, undo=None):
    if arguments.no_doctor:
        print(f"next: mcpl doctor {url}")
    else:
        doctor(url, undo)


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


def code(account, arguments):
    client = account.client("lambda")
    features = feature_sets.code_features(client, arguments)
    account.ask(
        arguments, f"function {arguments.subject}: will be made or updated, with a public URL",
        f"features {', '.join(features) or build.NO_FEATURES}",
    )
    tools.install_lambda()
    archive = archive_of(arguments, features)
    command = ["cargo", "lambda", "deploy", arguments.subject, "--region", account.region]
    command += ["--manifest-path", f"functions/{arguments.subject}/Cargo.toml"]
    command += ["--tags", f"{feature_sets.FEATURES_TAG}={'.'.join(features) or build.NO_FEATURES}"]
    command += ["--env-file", arguments.env_file] if arguments.env_file else []
    with tempfile.TemporaryDirectory() as folder:
        # cargo-lambda takes a zip from a folder of the function's name alone.
        (pathlib.Path(folder) / arguments.subject).mkdir()
        (pathlib.Path(folder) / arguments.subject / build.ARCHIVE).write_bytes(archive.content)
        run([*command, "--lambda-dir", folder])
    url = client.get_function_url_config(FunctionName=arguments.subject)["FunctionUrl"].rstrip("/") + "/mcp"
    show({"Url": url})
    check_url(arguments, url)


def outputs(account, arguments):
    show(Stack(account, arguments.name or arguments.subject).outputs())


def show(told):
    for name, value in told.items():
        print(f"{name}: {value}")


def down(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    if not stack.exists:
        sys.exit(f"there is no stack {stack.name}")
    if stack.described.get("EnableTerminationProtection"):
        sys.exit(
            f"{stack.name} has termination protection: switch it off first, by `make deploy STACK={arguments.subject} PROTECT=no` or\n"
            f"  aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name {stack.name}"
        )
    lost = [own.line() for own in removed(stack.client, stack.name, ()) if own.kind in PROTECTED] if stack.is_made else []
    account.ask(
        arguments, f"stack    {stack.name}: will be deleted, its logs too", *lost,
        "stays    a last snapshot of a database, a user pool, and the bucket with code and templates",
    )
    stack.delete(arguments.role_arn)


def doctor(url, undo=None):
    if ended := run_on(["cargo", "run", "--quiet", "--release", "--locked", "--package", "mcp-cli", "--", "doctor", url]):
        # No success for those who watch a deployment's end: clients are stopped.
        print("The deployment itself succeeded, and stays. `mcpl doctor`, above, says what stops clients.", file=sys.stderr)
        if undo:
            print(f"The version before: `{undo}`.", file=sys.stderr)
        sys.exit(ended)


def run(command):
    if ended := run_on(command):
        sys.exit(ended)


def run_on(command):
    """Runs a command; returns how it ended."""
    return subprocess.run([str(word) for word in command], cwd=tools.PROJECT, env=tools.environment()).returncode


if __name__ == "__main__":
    main()
