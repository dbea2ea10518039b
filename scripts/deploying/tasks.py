"""The function that runs tasks (infra/tasks.yaml): its versions, and an alias for each zip.

A version of the MCP function wakes the alias of its own zip, by its variable MCP_TASKS_FUNCTION. A task that is created during a canary
is therefore run by the canary's code, and a task of the previous version by the previous code.
"""

import datetime
import json
import sys

from deploying.checking import CheckError, invoke

VARIABLE = "MCP_TASKS_FUNCTION"
# The event of the schedule: it wakes tasks that are due.
DUE = {"mcpDueTasks": {}}
# The asynchronous invocations of an alias. An alias does not have the settings of $LATEST.
RETRIES, MAXIMUM_AGE_SECONDS = 2, 3600
# The longest lifetime of a task: a version that creates no more tasks has none after this time.
LIFETIME = datetime.timedelta(days=30)
# In the description of an alias, before the time at which a version that wakes it last began or ended to serve requests.
SERVED = "served requests at "
KEPT = 10


def alias_of(digest):
    """The name of the alias for the zip with this SHA-256. 16 digits: a stack has few zips, and an alias is moved only to code that
    was compared with the whole digest."""
    return f"code-{digest[:16]}"


class Tasks:
    def __init__(self, account, mcp_function, alias):
        self.client = account.client("lambda")
        self.mcp_function, self.function, self.alias = mcp_function, f"{mcp_function}-tasks", alias
        self.version = self.before = None

    def publish(self, lambda_digest):
        """Publishes a version, checks that it starts, and points the alias at it: no earlier version wakes that alias, unless it has
        the same code. Exits if it does not start."""
        self.before = self.aliases().get(self.alias)
        self.version = self.client.publish_version(FunctionName=self.function, CodeSha256=lambda_digest)["Version"]
        if self.version == self.before:
            return
        try:
            self.check()
        except CheckError as error:
            self.delete_version(self.version)
            sys.exit(f"version {self.version} of {self.function} failed its check, and nothing was changed: {error}")
        self.point(self.version)

    def check(self):
        self.client.get_waiter("published_version_active").wait(FunctionName=self.function, Qualifier=self.version)
        if self.client.get_function_concurrency(FunctionName=self.function).get("ReservedConcurrentExecutions") == 0:
            print(f"version {self.version} of {self.function} was not checked: its reserved concurrency is 0, so that no task runs")
            return
        payload = invoke(self.client, self.function, self.version, DUE)
        try:
            woken = json.loads(payload)["woken"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckError(f"its result is not that of a function that runs tasks: {payload[:300]!r}") from error
        print(f"version {self.version} of {self.function} runs tasks; {woken} were due")

    def point(self, version):
        """Points the alias at a version, and creates it if it does not exist."""
        change = self.client.update_alias if self.alias in self.aliases() else self.client.create_alias
        change(FunctionName=self.function, Name=self.alias, FunctionVersion=version)
        self.client.put_function_event_invoke_config(
            FunctionName=self.function, Qualifier=self.alias, MaximumRetryAttempts=RETRIES,
            MaximumEventAgeInSeconds=MAXIMUM_AGE_SECONDS,
        )

    def withdraw(self, has_served):
        """Undoes the publication, for a version of the MCP function that was withdrawn. If it has served requests, the code of its
        open tasks stays until `prune` finds that none of them lives."""
        if self.version == self.before:
            return
        if self.before:
            # The same code.
            self.point(self.before)
        elif has_served:
            return
        else:
            self.delete_alias(self.alias)
        self.delete_version(self.version)

    def woken_by(self, version):
        """The alias that a version of the MCP function wakes. Empty for one from before it had tasks."""
        found = self.client.get_function_configuration(FunctionName=self.mcp_function, Qualifier=version)
        return alias_in(found)

    def mark(self, versions):
        """Records that these versions of the MCP function serve requests, or did until now, in the aliases that they wake. Tasks that
        they have created live until `LIFETIME` after that."""
        aliases = self.aliases()
        for name in {self.woken_by(version) for version in versions} & aliases.keys():
            description = f"{SERVED}{datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')}"
            self.client.update_alias(FunctionName=self.function, Name=name, FunctionVersion=aliases[name], Description=description)

    def aliases_with_tasks(self):
        """The aliases whose tasks may live."""
        found, published = set(), self.published()
        for own in self.listed_aliases():
            served = served_at(own)
            # Of an earlier deployment, which did not record it: later versions create the tasks from then on.
            later = [at for number, at in published.items() if number > int(own["FunctionVersion"])]
            last = served or (min(later) if later else None)
            if last is None or last >= datetime.datetime.now(datetime.UTC) - LIFETIME:
                found.add(own["Name"])
        return found

    def versions_with_tasks(self):
        """The newest version of the MCP function for each alias whose tasks may live: a rollback returns to their code."""
        alive = self.aliases_with_tasks()
        return {str(max(versions)) for name, versions in self.wakers().items() if name in alive}

    def wakers(self):
        """The versions of the MCP function by the alias that they wake."""
        found = {}
        for page in self.client.get_paginator("list_versions_by_function").paginate(FunctionName=self.mcp_function):
            for own in page["Versions"]:
                if own["Version"] != "$LATEST":
                    found.setdefault(alias_in(own), []).append(int(own["Version"]))
        return found

    def prune(self):
        """Deletes aliases that no version of the MCP function wakes, once none of their tasks lives, and versions without an alias."""
        for name in self.aliases().keys() - {self.alias, *self.wakers()} - self.aliases_with_tasks():
            self.delete_alias(name)
        published = self.published()
        used = {int(version) for version in self.aliases().values()}
        for number in sorted(published)[:-KEPT]:
            if number not in used:
                self.delete_version(str(number))

    def published(self):
        """The times at which versions were published, by number."""
        pages = self.client.get_paginator("list_versions_by_function").paginate(FunctionName=self.function)
        listed = [own for page in pages for own in page["Versions"] if own["Version"] != "$LATEST"]
        return {int(own["Version"]): datetime.datetime.fromisoformat(own["LastModified"]) for own in listed}

    def aliases(self):
        return {own["Name"]: own["FunctionVersion"] for own in self.listed_aliases()}

    def listed_aliases(self):
        return [own for page in self.client.get_paginator("list_aliases").paginate(FunctionName=self.function) for own in page["Aliases"]]

    def delete_alias(self, name):
        self.tried(f"the alias {name}", self.client.delete_alias, FunctionName=self.function, Name=name)

    def delete_version(self, version):
        self.tried(f"version {version}", self.client.delete_function, FunctionName=self.function, Qualifier=version)

    def tried(self, what, delete, **request):
        """Deletes what the next deployment would otherwise delete: a failure does not fail this one."""
        try:
            delete(**request)
        except self.client.exceptions.ClientError as error:
            print(f"could not delete {what} of {self.function}: {error}", file=sys.stderr)


def served_at(alias):
    """The time of `Tasks.mark`. None for an alias without one."""
    _, mark, text = alias.get("Description", "").partition(SERVED)
    try:
        at = datetime.datetime.fromisoformat(text) if mark else None
    except ValueError:
        return None
    return at if at and at.tzinfo else None


def alias_in(configuration):
    value = configuration.get("Environment", {}).get("Variables", {}).get(VARIABLE, "")
    return value.partition(":")[2]
