#!/usr/bin/env python3
"""`make deploy`, `rollback`, `deploy-code`, `outputs`, `delete-subject`, `rotate-state-key`, `revoke-grants`, `rotate-keys` and `destroy`:
deployment of functions to an AWS account.

    deploy.py up STACK [--parameter NAME=VALUE]...    creates or updates a stack, publishes a version, moves the alias to it
    deploy.py up [--functions NAME,NAME]              the same for the stacks of these functions, or of all, one after another
    deploy.py rollback STACK [--version N]            moves the alias to an earlier version
    deploy.py code FUNCTION [--env-file FILE]         `cargo lambda deploy`, without a stack
    deploy.py outputs STACK                           prints the stack's outputs: URLs, ids
    deploy.py delete-subject STACK --issuer URL --subject ID
                                                      deletes what the server's store has of a person
    deploy.py rotate-state-key STACK                  writes a new version of the stack's state key
    deploy.py revoke-grants STACK                     revokes all grants of an authorization server
    deploy.py rotate-keys STACK [--replace-keys]      adds a signing key to an authorization server, or replaces all of them
    deploy.py down STACK                              deletes the stack

Account and region come from the configuration of the AWS SDKs: AWS_PROFILE, `aws sso login`, AWS_REGION and so on. A command that
changes resources prints both and asks for confirmation.

A function is deployed with the features that its variables need, and with those that --features lists. `auth` is needed if an
issuer is configured, or may be, by a variable whose value is not known before the deployment. Without --features, the features of
the running deployment are kept; `none` removes them. A zip of --lambda-dir without these features is rejected before the upload.

The modules are in scripts/deploying.
"""

import argparse
import copy
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
from deploying import authorization, rights, settings, signing_keys, state_keys, subjects, tasks, urls
from deploying.account import Account
from deploying.artifacts import Artifacts, archive_of
from deploying.changes import PROTECTED, removed
from deploying.migration import migrate
from deploying.rollout import ALIAS, Rollout
from deploying.stack import Stack, is_rolled_out

CLOUDFRONT_REGION = "us-east-1"
APP_USER = templates.INFRA / "app-user.sql"
RESUME_SECONDS = 120


def main():
    # SystemExit: the traffic of a canary is returned to the live version before the command ends.
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
        own.add_argument("subject", metavar=subject, choices=choices, help=", ".join(choices), nargs="?" if run is up_chosen else None)
        own.set_defaults(run=run)
        return own

    up_command, outputs_command, down_command, rollback_command, delete_command, rotate_state_command = (
        command(name, run, "STACK", templates.stacks())
        for name, run in (
            ("up", up_chosen), ("outputs", outputs), ("down", down), ("rollback", rollback), ("delete-subject", delete_subject),
            ("rotate-state-key", rotate_state_key),
        )
    )
    revoke_command, rotate_command = (
        command(name, run, "STACK", authorization.stacks()) for name, run in (("revoke-grants", revoke_grants), ("rotate-keys", rotate_keys))
    )
    code_command = command("code", code, "FUNCTION", tools.MCP_FUNCTIONS)
    operated = (delete_command, rotate_state_command, revoke_command, rotate_command)
    for own in (up_command, outputs_command, down_command, rollback_command, *operated):
        own.add_argument("--name", help="name of the stack; that of the template unless given")
    for own in (up_command, down_command, rollback_command):
        own.add_argument("--role-arn", help="role that CloudFormation assumes to change resources; the caller's permissions unless given")
    for own in (up_command, rollback_command):
        own.add_argument(
            "--replace", type=settings.names, default=set(), metavar="NAMES",
            help="logical ids of URLs, functions, databases and so on that may be replaced or removed",
        )
    code_command.add_argument("--env-file", type=pathlib.Path, help="variables for the function, NAME=VALUE in each line")
    rollback_command.add_argument(
        "--version", type=settings.version, metavar="N", help="version to move the alias to; the one that was live before unless given"
    )
    rollback_command.add_argument("--no-check", action="store_true", help="do not invoke the version before it serves requests")
    delete_command.add_argument("--issuer", required=True, help="the issuer of the person's tokens, exactly as in `iss`; for an authorization server, its identity provider")
    delete_command.add_argument("--subject", required=True, dest="person", metavar="SUBJECT", help="the person's `sub` at the issuer")
    rotate_command.add_argument(
        "--replace-keys", action="store_true", help="replace all signing keys at once, after one was disclosed, in place of adding one"
    )
    add_options_of_up(up_command)
    for own in (up_command, code_command):
        own.add_argument("--lambda-dir", type=pathlib.Path, help="folder with the zips of `make build` for arm64; nothing is built then")
        own.add_argument(
            "--features", type=build.feature_list, metavar="NAMES",
            help="features of the function's Cargo.toml, separated by commas; those of the running deployment unless named, "
            f"{build.NO_FEATURES} for none",
        )
        own.add_argument("--no-doctor", action="store_true", help="print the `mcpl doctor` command for the URL, and do not run it")
    for own in (up_command, code_command, down_command, rollback_command, *operated):
        own.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    return parser.parse_args()


def add_options_of_up(command):
    command.add_argument(
        "--functions", default="", metavar="NAMES", help="in place of STACK: the stacks of these functions, separated by commas; all unless given"
    )
    command.add_argument(
        "--parameter", action="append", default=[], type=settings.assignment, metavar="NAME=VALUE", dest="parameters",
        help="parameter of the template; a parameter that is not given keeps its value",
    )
    command.add_argument(
        "--parameters-file", type=settings.file, help='parameters and tags of a stage: {"Parameters": {…}, "Tags": {…}}'
    )
    command.add_argument(
        "--tag", action="append", default=[], type=settings.assignment, metavar="NAME=VALUE", dest="tags",
        help="tag of the stack and all of its resources; an empty value removes the tag",
    )
    command.add_argument("--protect", choices=["yes", "no"], help="set the stack's termination protection")
    command.add_argument("--plan", action="store_true", help="show the changes, and do not execute them")
    command.add_argument(
        "--digest", type=settings.digest, metavar="SHA256", help="deploy the zip with this digest, from the bucket or from --lambda-dir"
    )
    command.add_argument(
        "--canary", type=settings.weight, metavar="PART", help="part of the requests that the new version serves first, such as 0.1"
    )
    command.add_argument("--minutes", type=settings.minutes, default=10, help="duration of a canary; 10 unless given")


def up_chosen(account, arguments):
    """Deploys one stack, or the stacks of some functions in this order. The first failure ends the command."""
    if arguments.subject and arguments.functions:
        sys.exit("STACK and FUNCTION exclude each other")
    if arguments.subject:
        return up(account, arguments)
    chosen = stacks_of(arguments.functions)
    if len(chosen) > 1 and (one := [name for name in ("name", "digest", "replace") if getattr(arguments, name)]):
        sys.exit(f"{', '.join(own.upper() for own in one)}: for one stack, and not for {', '.join(chosen)}")
    print(f"stacks   {', '.join(chosen)}")
    for number, subject in enumerate(chosen, 1):
        own = copy.copy(arguments)
        own.subject = subject
        try:
            up(account, own)
        except BaseException as ended:
            # After --plan, or for a reason.
            if isinstance(ended, SystemExit) and not ended.code:
                continue
            if left := chosen[number:]:
                print(f"not deployed after {subject}: {', '.join(left)}", file=sys.stderr)
            raise


def stacks_of(functions):
    """Returns the stacks that have the names of these functions (`stack.yaml`), or of all functions that have one."""
    stacks = [name for name in tools.FUNCTIONS if name in templates.stacks()]
    if not functions and stacks:
        return stacks
    names = tools.chosen(functions)
    if without := [name for name in names if name not in stacks]:
        sys.exit(f"functions/{without[0]} has no stack.yaml")
    return names


def up(account, arguments):
    if arguments.subject == "custom-domain" and account.region != CLOUDFRONT_REGION:
        sys.exit(f"resources of CloudFront must be in {CLOUDFRONT_REGION}: set AWS_REGION={CLOUDFRONT_REGION}")
    given = settings.Settings(arguments)
    function, is_rolled = templates.function_of(arguments.subject), is_rolled_out(arguments.subject)
    name = arguments.name or arguments.subject
    if is_rolled and len(name) > settings.MAX_NAME:
        sys.exit(f"{name} is longer than {settings.MAX_NAME} characters: names that CloudFormation generates from it would be truncated")
    stack = Stack(account, name)
    stack.settle()
    if is_rolled:
        stack.refuse_old_layout()
        stack.refuse_another_database(templates.text_of(arguments.subject))
    has_live = is_rolled and bool(stack.values().get("LiveVersion"))
    if has_live:
        rights.refuse_loss(stack.values(), given.parameters, arguments)
        if arguments.canary:
            urls.refuse_canary(stack.values(), given.parameters)
    artifacts = Artifacts(account)
    bucket_state = "exists" if artifacts.exists() else "will be created, without public access"
    features = feature_sets.stack_features(stack, arguments, given.parameters) if function else None
    account.ask(
        arguments,
        f"stack    {stack.name}: {'will be updated' if stack.is_made else 'will be created'}",
        f"bucket   {artifacts.bucket}, for code and templates: {bucket_state}",
        *([f"features {', '.join(features) or build.NO_FEATURES}"] if function else []),
    )
    archive = archive_of(arguments, features, artifacts) if function else None
    artifacts.make()
    prefix = artifacts.put_templates(arguments.subject, stack.name)
    parameters = dict(given.parameters)
    if archive:
        print(f"zip      {archive.digest}")
        code_key = artifacts.put_code(function, archive)
        parameters |= {"ArtifactBucket": artifacts.bucket, "CodeKey": code_key, "TemplatesPrefix": prefix}
        if feature_sets.has_tasks(stack.defaults(templates.text_of(arguments.subject)) | stack.values() | parameters):
            parameters["TasksAlias"] = tasks.alias_of(archive.digest)
        elif stack.values().get("LiveTasksAlias"):
            # Of the function that is removed.
            parameters["LiveTasksAlias"] = ""
    if is_rolled and stack.values().get("CanaryVersion"):
        # Left by a deployment that was killed during its canary.
        parameters |= {"CanaryVersion": "", "CanaryWeight": "0"}
    if has_live:
        parameters |= rights.kept(stack.values(), stack.defaults(templates.text_of(arguments.subject)))
    stack.update(arguments, parameters, artifacts.url(f"{prefix}/{arguments.subject}.yaml"), given.tags, arguments.role_arn)
    protect(stack, arguments)
    stack_outputs = stack.outputs()
    # Before the database is prepared: another command that moves the alias meanwhile ends this one.
    rollout = Rollout(account, stack, arguments) if is_rolled else None
    if "SigningKeysArn" in stack_outputs:
        signing_keys.make(account, stack_outputs["SigningKeysArn"])
    if "DatabaseArn" in stack_outputs:
        make_app_user(account, stack_outputs)
    if "MigrationFunctionName" in stack_outputs:
        migrate(account, stack_outputs["MigrationFunctionName"], archive.lambda_digest, stack.values().get("LiveVersion"))
    if rollout:
        rollout.deploy(archive.lambda_digest)
        stack_outputs = stack.outputs()
    show(stack_outputs)
    if not archive:
        # A custom domain cannot be checked before its DNS record and its function are configured.
        return
    if function == tools.AUTHORIZATION_SERVER:
        print(f"next: register {stack_outputs['CallbackUrl']} at the identity provider, and deploy other stacks with AuthorizationServer={stack_outputs['Url']}")
    elif stack.values().get("AuthType") == "AWS_IAM":
        print(f"`mcpl doctor` does not sign requests. Check the URL with `mcpl tools {stack_outputs['Url']} --sigv4`.")
    else:
        check_url(arguments, stack_outputs["Url"], f"make rollback STACK={arguments.subject}" if is_rolled else None)


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


def make_app_user(account, stack_outputs):
    """Creates the function's database user by the Data API, which needs no network access. Resumes a paused database."""
    data = account.client("rds-data")
    deadline = time.monotonic() + RESUME_SECONDS
    while True:
        try:
            data.execute_statement(
                resourceArn=stack_outputs["DatabaseArn"], secretArn=stack_outputs["DatabaseOwnerSecretArn"], database="events",
                sql=APP_USER.read_text(),
            )
            return
        except data.exceptions.DatabaseResumingException:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


def code(account, arguments):
    client = account.client("lambda")
    earlier = url_of(client, arguments.subject)
    features = feature_sets.code_features(client, arguments)
    account.ask(
        arguments, f"function {arguments.subject}: will be created or updated, with a public URL",
        f"features {', '.join(features) or build.NO_FEATURES}",
    )
    tools.install_lambda()
    archive = archive_of(arguments, features)
    command = ["cargo", "lambda", "deploy", arguments.subject, "--region", account.region]
    command += ["--manifest-path", f"functions/{arguments.subject}/Cargo.toml"]
    command += ["--tags", f"{feature_sets.FEATURES_TAG}={'.'.join(features) or build.NO_FEATURES}"]
    command += ["--env-file", arguments.env_file] if arguments.env_file else []
    with tempfile.TemporaryDirectory() as folder:
        # cargo-lambda reads a zip only from a folder with the function's name.
        (pathlib.Path(folder) / arguments.subject).mkdir()
        (pathlib.Path(folder) / arguments.subject / build.ARCHIVE).write_bytes(archive.content)
        run([*command, "--alias", ALIAS, "--lambda-dir", folder])
    url = url_of(client, arguments.subject, Qualifier=ALIAS)
    show({"Url": url})
    if earlier:
        print(
            f"{earlier} is on $LATEST, of an earlier deployment, and stays: move its clients to the URL above, then run\n"
            f"  aws lambda delete-function-url-config --function-name {arguments.subject}"
        )
    check_url(arguments, url)


def url_of(client, function, **qualifier):
    """Returns the URL of the MCP endpoint. None if the function or its Function URL does not exist."""
    try:
        return client.get_function_url_config(FunctionName=function, **qualifier)["FunctionUrl"].rstrip("/") + "/mcp"
    except client.exceptions.ResourceNotFoundException:
        return None


def outputs(account, arguments):
    show(Stack(account, arguments.name or arguments.subject).outputs())


def delete_subject(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    if not stack.is_made:
        sys.exit(f"there is no stack {stack.name}")
    is_authorization_server = authorization.is_authorization_server(arguments.subject)
    what = "grants and approvals" if is_authorization_server else "open tasks"
    account.ask(arguments, f"stack    {stack.name}: all rows of {arguments.person} of {arguments.issuer} will be deleted, with {what}")
    subjects.delete(account, stack, arguments.issuer, arguments.person, is_authorization_server=is_authorization_server)


def rotate_state_key(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    client, secret = account.client("secretsmanager"), state_keys.secret_of(stack)
    text = state_keys.rotated(client, secret)
    account.ask(arguments, f"stack    {stack.name}: a new version of the secret {secret} will be written, whose key seals 15 minutes later")
    state_keys.write(client, secret, text)
    print("a new state key was written, which seals in 15 minutes; the index key is the same")


def revoke_grants(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    function = authorization.live_outputs(stack)["FunctionName"]
    account.ask(arguments, f"stack    {stack.name}: all grants will be revoked; each person has to sign in again")
    authorization.run(account, function, "revoke-all", "revoked")
    print("all grants were revoked; access tokens are valid until they expire, at most ten minutes")


def rotate_keys(account, arguments):
    stack = Stack(account, arguments.name or arguments.subject)
    function = authorization.live_outputs(stack)["FunctionName"]
    if arguments.replace_keys:
        account.ask(arguments, f"stack    {stack.name}: all signing keys will be replaced; access tokens become invalid within minutes")
        authorization.run(account, function, "replace-keys", "rotated")
        print("the signing keys were replaced")
        return
    account.ask(arguments, f"stack    {stack.name}: a signing key will be added, which signs an hour later")
    is_rotated = authorization.run(account, function, "rotate-keys", "rotated")
    print("a signing key was added, which signs in an hour" if is_rotated else "nothing was changed: a signing key waits for its hour already")


def show(stack_outputs):
    for name, value in stack_outputs.items():
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
        "kept     a last snapshot of Aurora PostgreSQL, a cluster of Aurora DSQL, a user pool, and the bucket with code and templates",
    )
    stack.delete(arguments.role_arn)


def doctor(url, undo=None):
    command, environment = tools.of_framework("run", "--quiet", "--release", "--locked", "--package", "mcp-cli", "--", "doctor", url)
    if ended := subprocess.run(command, cwd=tools.PROJECT, env=environment).returncode:
        # A failed exit status: clients cannot use the server.
        print("The deployment succeeded and is not rolled back. `mcpl doctor` above reports why clients cannot connect.", file=sys.stderr)
        if undo:
            print(f"To return to the previous version, run `{undo}`.", file=sys.stderr)
        sys.exit(ended)


def run(command):
    if ended := subprocess.run([str(word) for word in command], cwd=tools.PROJECT, env=tools.environment()).returncode:
        sys.exit(ended)


if __name__ == "__main__":
    main()
