"""Commands to an authorization server: direct invocations of its live version (docs/authorization-server.md)."""

import json
import sys

import templates
import tools
from deploying.checking import CheckError, invoke, patient_client

# The member of an event that has a command.
MEMBER = "mcpAuthorizationServer"


def stacks():
    """The stacks that accept commands."""
    return [name for name in templates.stacks() if is_authorization_server(name)]


def is_authorization_server(stack):
    return templates.function_of(stack) == tools.AUTHORIZATION_SERVER


def live_outputs(stack):
    """The outputs of a stack that has a live version. Exits if it has none."""
    outputs = stack.outputs() if stack.is_made else {}
    if "Url" not in outputs:
        sys.exit(f"there is no stack {stack.name} with a live version")
    return outputs


def deletion(stack, issuer, subject):
    """The event that deletes the rows of a person. The server's own issuer is part of its rows' subject."""
    server = live_outputs(stack)["Url"]
    return {MEMBER: {"command": "delete-person", "server": server, "issuer": issuer, "subject": subject}}


def run(account, function, command, member):
    """Sends a command. Returns the member of its result, and exits if there is none."""
    try:
        return json.loads(invoke(patient_client(account), function, "live", {MEMBER: {"command": command}}))[member]
    except (CheckError, ValueError, KeyError, TypeError, RecursionError) as error:
        sys.exit(f"{function} did not run the command {command}, unless its live version has no commands: {error}")
