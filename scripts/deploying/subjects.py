"""Deletion of the rows that a server's store has of a person, by one of its functions (docs/state.md)."""

import json
import sys

from deploying import authorization
from deploying.checking import CheckError, invoke, patient_client
from deploying.features import has_tasks

# A person who still calls writes new rows.
INVOCATIONS = 10


def delete(account, stack, issuer, subject, *, is_authorization_server):
    """Deletes all rows of a person. Exits if some are left."""
    event = {"mcpDeleteSubject": {"issuer": issuer, "subject": subject}}
    if is_authorization_server:
        event = authorization.deletion(stack, issuer, subject)
    values = stack.values()
    function, alias = stack.outputs()["FunctionName"], "live"
    if has_tasks(values) and values.get("LiveTasksAlias"):
        # It has more time.
        function, alias = f"{function}-tasks", values["LiveTasksAlias"]
    client = patient_client(account)
    deleted, left = 0, None
    for _ in range(INVOCATIONS):
        try:
            result = json.loads(invoke(client, function, alias, event))
            deleted, left = deleted + result["deleted"], result["left"]
        except (CheckError, ValueError, KeyError, TypeError, RecursionError) as error:
            sys.exit(f"{function} did not delete the rows, unless it has no store; {deleted} were deleted before: {error}")
        if not left:
            break
    print(f"{deleted} rows were deleted")
    if left:
        sys.exit(f"{left} rows are left: the person still calls the server. Reject the person's calls at the issuer, then run this again")
