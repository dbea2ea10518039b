"""A CloudFormation stack: its states, and its updates by change sets that are shown before they are executed."""

import functools
import re
import sys
import time

from botocore.exceptions import ClientError

import templates
from deploying import changes as change_sets
from deploying.account import is_confirmed

PATIENCE_SECONDS = 3600
POLL_SECONDS = 5
REVIEW = "REVIEW_IN_PROGRESS"
# Prefix of the change sets of this script. One that a killed deployment left behind is deleted by the next deployment.
CHANGE_SET = "mcp-deploy-"
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
NEEDS_DESTROY = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}
MIGRATION = "docs/migration.md#stacks-whose-url-is-on-latest"
# The templates of a database, which stays that of its stack.
DATABASES = {"database": "Aurora PostgreSQL", "dsql": "Aurora DSQL"}
MOVE = "docs/database.md#moving-events-to-aurora-dsql"


class Stack:
    """A stack, which may not exist yet."""

    def __init__(self, account, name):
        self.name = name
        self.client = account.client("cloudformation")

    @functools.cached_property
    def described(self):
        """The last description of the stack. None if it does not exist."""
        return self.describe()

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

    @property
    def is_made(self):
        """Whether the stack has resources. It has none before its first change set is executed."""
        return self.exists and self.status != REVIEW

    def values(self):
        """Returns the parameters by name. None of them is a secret, whose value CloudFormation would not return."""
        return {own["ParameterKey"]: own["ParameterValue"] for own in (self.described or {}).get("Parameters", [])}

    def tags(self):
        return {own["Key"]: own["Value"] for own in (self.described or {}).get("Tags", [])}

    @functools.cache
    def defaults(self, template):
        """Returns the default values of a template's parameters."""
        known = self.client.get_template_summary(TemplateBody=template)["Parameters"]
        return {own["ParameterKey"]: own.get("DefaultValue", "") for own in known}

    def outputs(self):
        if not self.exists:
            sys.exit(f"there is no stack {self.name}")
        return {own["OutputKey"]: own["OutputValue"] for own in self.described.get("Outputs", [])}

    # States that an earlier deployment left behind.

    def settle(self):
        """Waits for a running operation, also for that of a deployment that was killed. Exits if the stack is in a state that does not
        permit an update."""
        self.described = self.describe()
        if self.is_running:
            print(f"{self.name} is in {self.status}: waiting until this has ended …", flush=True)
            self.wait(lambda: not self.is_running)
        if self.status in NEEDS_DESTROY:
            sys.exit(f"{self.name} is in {self.status} and cannot be updated: run `make destroy`, then deploy again")
        if self.status == "UPDATE_ROLLBACK_FAILED":
            self.print_failures(None)
            sys.exit(
                f"{self.name} is in UPDATE_ROLLBACK_FAILED: an update and its rollback failed. Remove the cause above, then run\n"
                f"  aws cloudformation continue-update-rollback --stack-name {self.name}\n"
                "With --resources-to-skip it goes on without a resource that cannot be restored. Then deploy again."
            )
        if self.exists:
            self.delete_change_sets()

    @property
    def is_running(self):
        return bool(self.status) and self.status.endswith("_IN_PROGRESS") and self.status != REVIEW

    def delete_change_sets(self):
        for page in self.client.get_paginator("list_change_sets").paginate(StackName=self.name):
            for own in page["Summaries"]:
                if own.get("StackName") == self.name and own["ChangeSetName"].startswith(CHANGE_SET):
                    self.client.delete_change_set(StackName=self.name, ChangeSetName=own["ChangeSetId"])

    def refuse_old_layout(self):
        """Exits if the stack is of a template whose Function URL is on $LATEST. Its update would replace the URL."""
        if self.is_made and "LiveVersion" not in self.values():
            if "AWS::Lambda::Url" in self.template():
                sys.exit(
                    f"{self.name} is a stack of an earlier version, whose Function URL is on $LATEST. An update would replace the URL, "
                    f"so that every client loses the server. Deploy a new stack beside it (NAME=…), with the same database and key, "
                    f"move the clients, and destroy this one: {MIGRATION}"
                )

    def refuse_another_database(self, template):
        """Exits if a template has another kind of database than the stack. Its update would replace the database by an empty one."""
        if not self.is_made:
            return
        has, wanted = (templates.nested_in(own) & DATABASES.keys() for own in (self.template(), template))
        if has and wanted and has != wanted:
            before, after = (DATABASES[name] for name in (*has, *wanted))
            sys.exit(
                f"{self.name} stores its data in {before}, and this template in {after}. No template turns one into the other. Deploy a "
                f"new stack beside it (NAME=…), move the events and the clients, and destroy this one: {MOVE}"
            )

    def template(self):
        """Returns the text of its template."""
        body = self.client.get_template(StackName=self.name)["TemplateBody"]
        return body if isinstance(body, str) else str(body)

    # Updates.

    def update(self, arguments, parameters, template=None, tags=None, role=None, ask=True, guard=None):
        """Creates or updates the stack by a change set that is shown first. Parameters that are not given keep their values, and so
        does the template. `guard` exits if the change set must not be executed: an update by another command after it makes the change
        set obsolete."""
        changes = self.change(parameters, template, tags or {}, role)
        if not changes:
            print(f"no changes: {self.name} has this template and these parameters")
            return
        listed = list(change_sets.read(self.client, changes["Id"]))
        print(f"changes of {self.name}:")
        for own in listed:
            print(own.line())
        if lost := change_sets.lost(listed, arguments.replace):
            self.discard(changes)
            sys.exit(
                f"this would replace or remove {', '.join(f'{own.name} ({own.kind})' for own in lost)}: clients, callers or data "
                f"would be lost. If that is intended, name each: REPLACE={','.join(sorted({own.path[-1] for own in lost}))}"
            )
        if getattr(arguments, "plan", False):
            self.discard(changes)
            sys.exit(0)
        if ask and not is_confirmed(arguments, "Execute these changes?"):
            self.discard(changes)
            sys.exit("The stack was not changed.")
        if guard:
            try:
                guard()
            except SystemExit:
                self.discard(changes)
                raise
        before = self.last_event()
        self.client.execute_change_set(StackName=self.name, ChangeSetName=changes["Id"])
        self.finish(changes["ChangeSetType"], before)

    def change(self, parameters, template, tags, role):
        """Creates a change set. None if there is nothing to change."""
        kind = "UPDATE" if self.is_made else "CREATE"
        request = {
            "StackName": self.name, "ChangeSetName": f"{CHANGE_SET}{time.time_ns()}", "ChangeSetType": kind,
            "IncludeNestedStacks": True, "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            "Parameters": self.parameters(template, parameters),
        }
        request |= {"TemplateURL": template} if template else {"UsePreviousTemplate": True}
        if wanted := {name: value for name, value in (self.tags() | tags).items() if value}:
            request["Tags"] = [{"Key": name, "Value": value} for name, value in wanted.items()]
        if role:
            request["RoleARN"] = role
        try:
            made = self.client.create_change_set(**request)
        except ClientError as error:
            if any(words in error.response["Error"]["Message"] for words in NO_CHANGES):
                return None
            raise
        described = self.described_change_set(made["Id"])
        if described["Status"] == "FAILED":
            reason = described.get("StatusReason", "")
            self.discard({**made, "ChangeSetType": kind})
            if any(words in reason for words in NO_CHANGES):
                return None
            sys.exit(f"CloudFormation rejected the change set of {self.name}: {reason}")
        return {**made, "ChangeSetType": kind}

    def described_change_set(self, change_set):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            described = self.client.describe_change_set(StackName=self.name, ChangeSetName=change_set)
            if described["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return described
            if time.monotonic() > deadline:
                sys.exit(f"the change set of {self.name} is still in {described['Status']}")
            time.sleep(POLL_SECONDS)

    def discard(self, changes):
        """Deletes a change set, and the empty stack that it created."""
        self.client.delete_change_set(StackName=self.name, ChangeSetName=changes["Id"])
        if changes["ChangeSetType"] == "CREATE":
            self.client.delete_stack(StackName=changes["StackId"])

    def parameters(self, template, given):
        """Returns the parameters of an update: the given ones; the others keep their values, or have the template's defaults."""
        if template:
            known = {own["ParameterKey"] for own in self.client.get_template_summary(TemplateURL=template)["Parameters"]}
        else:
            known = self.values().keys()
        if unknown := given.keys() - known:
            sys.exit(f"the template has no parameter {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
        kept = (self.values().keys() if self.is_made else set()) & known - given.keys()
        return [
            *({"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)),
            *({"ParameterKey": name, "ParameterValue": value} for name, value in given.items()),
        ]

    def delete(self, role=None):
        # By its id: a deleted stack is not found by its name.
        self.name = self.described["StackId"]
        before = self.last_event()
        self.client.delete_stack(StackName=self.name, **({"RoleARN": role} if role else {}))
        self.finish("DELETE", before)

    # Waiting, and the reasons of a failure.

    def last_event(self):
        return self.client.describe_stack_events(StackName=self.name)["StackEvents"][0]

    def finish(self, what, before):
        """Waits for an operation. Exits if it failed."""
        print(f"waiting for {what.lower()} of {self.name} …", flush=True)
        self.wait(lambda: not self.is_running and self.status != REVIEW and self.last_event()["EventId"] != before["EventId"])
        if self.status != f"{what}_COMPLETE":
            self.print_failures(before["Timestamp"])
            sys.exit(f"{what.lower()} of {self.name} failed: {self.status}")

    def wait(self, is_done):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.described = self.describe()
            if is_done():
                return
            if time.monotonic() > deadline:
                sys.exit(f"{self.name} is still in {self.status}: check its events in the console, then run this command again")
            time.sleep(POLL_SECONDS)

    def print_failures(self, since):
        for line in self.failures(self.name, since):
            print(line, file=sys.stderr)

    def failures(self, name, since):
        """The reasons, in this stack and in those in it; not those of an earlier deployment."""
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


def is_rolled_out(subject):
    """Whether a template has versions that `make deploy` publishes and moves the alias to."""
    return bool(re.search(r"^  LiveVersion:", templates.text_of(subject), re.MULTILINE))
