"""Versions of a function: publish, check, canary, switch, rollback. Requests reach the alias `live`, which parameters of the stack
move. They never reach `$LATEST`, which an update of the stack changes."""

import datetime
import sys
import time

from deploying import rights, urls
from deploying import stack as stacks
from deploying.checking import CheckError, check, variables_of
from deploying.features import has_tasks
from deploying.tasks import Tasks

# Number of versions that are kept, in addition to those that serve requests or whose code has live tasks.
KEPT = 10
ALIAS = "live"
# The parameter with the version that `make rollback` returns to.
PREVIOUS = "PreviousVersion"
# CloudWatch shows invocations with a delay.
METRIC_DELAY_SECONDS = 300
# Lambda can return an alias as it was before its update.
ALIAS_SECONDS = 60
# A canary is promoted after requests in this number of minutes, of which this part may have failed, as the alarm Errors permits.
LEAST_SERVED_MINUTES, MOST_FAILED = 3, 0.01


class CanaryError(Exception):
    """The reason why a canary ended."""


class TrafficMoved(SystemExit):
    """Another command has moved the alias: this one leaves it as it is."""


class Rollout:
    def __init__(self, account, stack, arguments):
        self.account, self.stack, self.arguments = account, stack, arguments
        self.client = account.client("lambda")
        outputs = stack.outputs()
        self.function = outputs["FunctionName"]
        self.alarms = [name for name in outputs.get("AlarmNames", "").split(",") if name]
        self.host = outputs.get("FunctionUrlHost") or f"check.lambda-url.{account.region}.on.aws"
        values = stack.values()
        self.tasks = Tasks(account, self.function, values["TasksAlias"]) if has_tasks(values) else None
        # The versions that this command found, or set itself: (live, canary).
        self.traffic = (self.live, self.canary)
        # The version of the first update of this deployment.
        self.published = None

    @property
    def live(self):
        return self.stack.values()["LiveVersion"]

    @property
    def canary(self):
        return self.stack.values()["CanaryVersion"]

    def deploy(self, lambda_digest):
        """Publishes a version, and moves the alias to it. Unchanged code and configuration are not published again."""
        if self.tasks:
            # Before a version wakes it.
            self.tasks.publish(lambda_digest)
        # With the digest, because another deployment may have changed the function in the meantime.
        version = self.client.publish_version(FunctionName=self.function, CodeSha256=lambda_digest)["Version"]
        self.published = version
        if version == self.live and not self.canary:
            if not rights.of_new_version(self.stack.values()).items() <= self.stack.values().items():
                # Of a parameter that is no variable, or after a version that failed.
                self.switch(version)
            print(f"version {version} serves all requests already")
            return self.prune()
        try:
            self.check(version)
        except SystemExit:
            # A rollback must not find it. Without it the same code and configuration get another number.
            self.withdraw(version)
            raise
        if self.arguments.canary and self.live:
            self.try_canary(version)
        self.switch(version, previous=self.live)
        print(f"version {version} serves all requests")
        self.prune()

    def rollback(self, version=None):
        """Moves the alias to an earlier version, or returns the traffic of a canary to the live version."""
        if not self.live:
            sys.exit(f"{self.stack.name} serves no version yet: deploy one first")
        wanted = version or (self.live if self.canary else self.previous())
        if int(wanted) not in self.versions():
            sys.exit(f"{self.function} has no version {wanted}; it has {', '.join(map(str, self.versions()))}")
        if (wanted, "") == (self.live, self.canary):
            sys.exit(f"version {wanted} serves all requests already")
        if wanted == self.live:
            self.switch(wanted)
        else:
            variables, live_variables = map(self.variables, (wanted, self.live))
            url = urls.of_version(wanted, variables, live_variables, self.stack.values())
            if not self.arguments.no_check:
                self.check(wanted)
            # No version before it is known to be good.
            self.switch(wanted, previous=wanted, url=url)
        print(f"version {wanted} serves all requests")

    def previous(self):
        """Returns the version that served all requests before the live one. Of a stack whose last deployment did not record it, the
        version with the next lower number."""
        recorded, versions = self.stack.values().get(PREVIOUS), self.versions()
        earlier = [own for own in versions if own < int(self.live)]
        if recorded == self.live or not recorded and not earlier:
            sys.exit(f"no version before {self.live} is known: name one with VERSION=…; {self.function} has {', '.join(map(str, versions))}")
        return recorded or str(earlier[-1])

    def check(self, version):
        try:
            check(self.account, self.function, version, self.arguments.subject, self.host)
        except CheckError as error:
            served = f"version {self.live} serves all requests" if self.live else "no version serves requests yet"
            sys.exit(f"version {version} failed its check, and serves nothing: {error}\n{served}.")

    def try_canary(self, version):
        """Routes a part of the requests to a version for some minutes. Returns if no alarm fires; otherwise exits."""
        before, weight = self.live, self.arguments.canary
        try:
            # An alarm that is already in the state ALARM could not report a fault of the canary.
            self.refuse_alarms()
        except CanaryError as error:
            sys.exit(f"no canary: {error}. Version {before} serves all requests. Remove the cause, or deploy without CANARY=.")
        try:
            self.switch(before, version, weight)
            print(f"version {version} serves {weight} of the requests for {self.arguments.minutes} minutes …", flush=True)
            self.watch()
        except TrafficMoved:
            raise
        except CanaryError as error:
            self.switch_back(before, version)
            sys.exit(f"version {version} was withdrawn: {error}. Version {before} serves all requests.")
        except BaseException:
            self.switch_back(before, version)
            raise

    def watch(self):
        """Raises if an alarm fires, if too few requests reached the canary or too many of them failed, or if another command moves the
        alias."""
        begin = datetime.datetime.now(datetime.UTC)
        deadline = time.monotonic() + 60 * self.arguments.minutes
        while (remaining := deadline - time.monotonic()) > 0:
            self.refuse_alarms()
            self.refuse_moved_traffic()
            time.sleep(min(stacks.POLL_SECONDS, remaining))
        deadline = time.monotonic() + METRIC_DELAY_SECONDS
        while len(served := self.counts("Invocations", self.canary, begin)) < LEAST_SERVED_MINUTES:
            if time.monotonic() > deadline:
                raise CanaryError(
                    f"it served requests in {len(served)} of {self.arguments.minutes} minutes, which is too few to judge it: "
                    f"{LEAST_SERVED_MINUTES} are needed. Deploy with a larger CANARY or more MINUTES, or without a canary"
                )
            self.refuse_moved_traffic()
            time.sleep(stacks.POLL_SECONDS)
        self.refuse_alarms()
        # The alarms count the requests of both versions, and need three minutes with failures in five.
        failed = sum(self.counts("Errors", self.canary, begin))
        if failed > MOST_FAILED * sum(served):
            raise CanaryError(f"{failed:.0f} of its {sum(served):.0f} requests failed")
        print(f"version {self.canary} served {sum(served):.0f} requests without an alarm; {failed:.0f} failed")

    def counts(self, metric, version, begin):
        """Returns the sums of a metric of a version behind the alias, for each minute since a time in which it was not 0."""
        dimensions = {"FunctionName": self.function, "Resource": f"{self.function}:{ALIAS}", "ExecutedVersion": version}
        found = self.account.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda", MetricName=metric, Statistics=["Sum"], Period=60,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=begin - datetime.timedelta(minutes=1), EndTime=datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1),
        )
        return [own["Sum"] for own in found["Datapoints"] if own["Sum"]]

    def refuse_alarms(self):
        if not self.alarms:
            raise CanaryError("the stack has no alarms")
        cloudwatch, found = self.account.client("cloudwatch"), {}
        for page in cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNames=self.alarms, AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        ):
            found |= {own["AlarmName"]: own for own in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]}
        if missing := set(self.alarms) - found.keys():
            raise CanaryError(f"the alarm {', '.join(sorted(missing))} does not exist")
        if on := [own for own in found.values() if own["StateValue"] == "ALARM"]:
            reasons = "; ".join(f"{own['AlarmName']}: {own.get('StateReason', '')}" for own in on)
            raise CanaryError(f"an alarm is on ({reasons})")

    def refuse_moved_traffic(self):
        """Exits if the alias serves other versions than those that this command found, or set itself."""
        self.stack.described = self.stack.describe()
        found = (self.stack.values().get("LiveVersion"), self.stack.values().get("CanaryVersion"))
        if found != self.traffic:
            live, canary = found
            also = f" and version {canary} as a canary" if canary else ""
            raise TrafficMoved(
                f"another command has moved the alias of {self.stack.name}: it serves {f'version {live}' if live else 'no version'}{also}. "
                "This command leaves it so, and ends."
            )

    def switch_back(self, version, canary):
        """Returns the traffic of a canary to a version, and withdraws the canary."""
        print(f"returning all traffic to version {version}", file=sys.stderr)
        try:
            self.stack.settle()
            # If the command was interrupted, the update that began the canary has ended or has not begun.
            if (self.live, self.canary) != (version, ""):
                self.traffic = (version, canary)
                self.switch(version)
        except TrafficMoved:
            raise
        except BaseException:
            print(f"traffic is still split: run `make rollback STACK={self.arguments.subject}`", file=sys.stderr)
            raise
        self.withdraw(canary, has_served=True)

    def compare_alias(self, wanted):
        """Exits if the alias does not serve the versions that the update of the stack has set, with their parts of the requests."""
        deadline = time.monotonic() + ALIAS_SECONDS
        while (found := traffic_of(self.client, self.function)) != {version: round(part, 4) for version, part in wanted.items()}:
            if time.monotonic() > deadline:
                sys.exit(
                    f"the alias {ALIAS} of {self.function} serves {parts(found)}, in place of {parts(wanted)}, although the update of the "
                    f"stack succeeded. Correct it by\n  aws lambda update-alias --function-name {self.function} --name {ALIAS} "
                    "--function-version VERSION --routing-config AdditionalVersionWeights={}"
                )
            time.sleep(stacks.POLL_SECONDS)

    def variables(self, version):
        return variables_of(self.client.get_function_configuration(FunctionName=self.function, Qualifier=version))

    def switch(self, version, canary="", weight="0", previous=None, url=None):
        """Runs the second update of a deployment, which changes only the alias, its URL and rights. `previous` is the version that a
        rollback returns to, `url` has the parameters of the URL for an earlier version."""
        parameters = {"LiveVersion": version, "CanaryVersion": canary, "CanaryWeight": weight}
        added = (url or {}) | ({} if previous is None else {PREVIOUS: previous})
        # Templates of earlier versions do not have them.
        parameters |= {name: value for name, value in added.items() if name in self.stack.values()}
        if version == self.published:
            parameters |= rights.of_new_version(self.stack.values())
        if self.tasks:
            parameters["LiveTasksAlias"] = self.tasks.woken_by(version)
            # Tasks of these versions live on for some time.
            self.tasks.mark({self.live, self.canary, version, canary} - {""})
        self.stack.update(self.arguments, parameters, ask=False, role=self.arguments.role_arn, guard=self.refuse_moved_traffic)
        self.traffic = (version, canary)
        self.compare_alias({version: 1 - float(weight), canary: float(weight)} if canary else {version: 1})

    def versions(self):
        pages = self.client.get_paginator("list_versions_by_function").paginate(FunctionName=self.function)
        return sorted(int(own["Version"]) for page in pages for own in page["Versions"] if own["Version"] != "$LATEST")

    def prune(self):
        """Deletes old versions. A failure does not fail the deployment: the next deployment tries again."""
        serving = {self.live, self.canary, self.stack.values().get(PREVIOUS)}
        for alias in aliases(self.client, self.function):
            serving |= {alias["FunctionVersion"], *weights_of(alias)}
        if self.tasks:
            serving |= self.tasks.versions_with_tasks()
        for version in self.versions()[:-KEPT]:
            if str(version) not in serving:
                self.delete(str(version))
        if self.tasks:
            self.tasks.prune()

    def withdraw(self, version, has_served=False):
        """Deletes a version that serves no request, and what was published for its tasks."""
        self.delete(version)
        if self.tasks:
            self.tasks.withdraw(has_served)

    def delete(self, version):
        try:
            self.client.delete_function(FunctionName=self.function, Qualifier=version)
        except self.client.exceptions.ClientError as error:
            print(f"could not delete version {version}: {error}", file=sys.stderr)


def traffic_of(client, function):
    """Returns the versions that the alias `live` serves, each with its part of the requests. Empty without an alias."""
    for alias in aliases(client, function):
        if alias["Name"] == ALIAS:
            weights = weights_of(alias)
            return {alias["FunctionVersion"]: round(1 - sum(weights.values()), 4), **weights}
    return {}


def aliases(client, function):
    return [own for page in client.get_paginator("list_aliases").paginate(FunctionName=function) for own in page["Aliases"]]


def weights_of(alias):
    return (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}


def parts(traffic):
    return ", ".join(f"{100 * part:g} % by version {version}" for version, part in traffic.items()) or "no version"
