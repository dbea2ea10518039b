"""Deletion of the rows that a server's store has of a person, by one of its functions (docs/state.md)."""

import json
import sys

from botocore.config import Config

from deploying.checking import CheckError, invoke
from deploying.features import has_tasks

# The maximum timeout of the function, and some time for its response.
READ_SECONDS = 900 + 60
# A person who still calls writes new rows.
INVOCATIONS = 10


def delete(account, stack, issuer, subject):
    """Deletes all rows of a person. Exits if some are left."""
    values = stack.values()
    function, alias = stack.outputs()["FunctionName"], "live"
    if has_tasks(values) and values.get("LiveTasksAlias"):
        # It has more time.
        function, alias = f"{function}-tasks", values["LiveTasksAlias"]
    client = account.client("lambda", config=Config(read_timeout=READ_SECONDS, retries={"total_max_attempts": 1}, tcp_keepalive=True))
    deleted, left = 0, None
    for _ in range(INVOCATIONS):
        try:
            result = json.loads(invoke(client, function, alias, {"mcpDeleteSubject": {"issuer": issuer, "subject": subject}}))
            deleted, left = deleted + result["deleted"], result["left"]
        except (CheckError, ValueError, KeyError, TypeError, RecursionError) as error:
            sys.exit(f"{function} did not delete the rows, unless it has no store; {deleted} were deleted before: {error}")
        if not left:
            break
    print(f"{deleted} rows were deleted")
    if left:
        sys.exit(f"{left} rows are left: the person still calls the server. Reject the person's calls at the issuer, then run this again")
