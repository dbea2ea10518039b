"""The function that changes the schema of a database: invoked after the update of a stack, before a new version serves requests."""

import base64
import json
import sys
import time

from botocore.config import Config

# The timeout of the function (infra/migration.yaml), and some time for its response.
READ_SECONDS = 900 + 60
# For a migration that is running already.
PATIENCE_SECONDS = 900
POLL_SECONDS = 5


class MigrationError(Exception):
    """The reason why the schema of a database was not changed."""


def migrate(account, function, lambda_digest, live):
    """Changes the schema by the code with this digest. Exits if that fails: the previous version serves all requests, and the
    migrations that succeeded stay."""
    try:
        run(account, function, lambda_digest)
    except MigrationError as error:
        served = f"version {live} serves all requests" if live else "no version serves requests yet"
        sys.exit(
            f"{function} failed, and nothing was published: {error}\n"
            f"{served}. Remove the cause, then deploy again: migrations that succeeded are not repeated."
        )


def run(account, function, lambda_digest):
    print(f"migrating the database by {function} …", flush=True)
    invoked = invoke(account, function, lambda_digest)
    payload = invoked["Payload"].read()
    text = payload[:1000].decode(errors="replace")
    if invoked.get("FunctionError"):
        log = base64.b64decode(invoked.get("LogResult", "")).decode(errors="replace")
        raise MigrationError(f"{text}\n{log}")
    try:
        json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MigrationError(f"its result is not JSON: {text}") from error
    print(f"migrated {text}")


def invoke(account, function, lambda_digest):
    """Invokes it once. A second invocation waits for the first: the function has one execution environment."""
    config = Config(read_timeout=READ_SECONDS, retries={"total_max_attempts": 1}, tcp_keepalive=True)
    client = account.client("lambda", config=config)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        # Before each attempt: another deployment may have changed the function in the meantime.
        compare_code(client, function, lambda_digest)
        try:
            return client.invoke(FunctionName=function, LogType="Tail", Payload=b"{}")
        except client.exceptions.TooManyRequestsException as error:
            if time.monotonic() > deadline:
                raise MigrationError("another invocation is still running") from error
            time.sleep(POLL_SECONDS)


def compare_code(client, function, lambda_digest):
    """Rejects a function with other code than that of this deployment: it changes the schema as the cluster's administrator."""
    found = client.get_function_configuration(FunctionName=function)["CodeSha256"]
    if found != lambda_digest:
        raise MigrationError(
            f"its code has the SHA-256 {found}, and that of this deployment {lambda_digest}: it was not invoked. The function was changed "
            "by another deployment, or not by CloudFormation"
        )
