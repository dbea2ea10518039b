#!/usr/bin/env python3
"""`make verify-account`: tests in a real AWS account the parts of a deployment that no emulator covers. Prints each step.

    verify_account.py --lambda-dir FOLDER [--change NAME=VALUE] [--database dsql] [--yes]

It deploys greeter to a new stack, sets an alarm during a canary, deploys a zip that cannot start, rolls back, and promotes the zip
to a second stack. It destroys both stacks, also after a failure. `--change` is a parameter whose change leads to a new version.

With `--database dsql` it deploys event-logger with tasks on Aurora DSQL, with all migrations, executes each statement of the function and
of the store, and one statement of each class of errors on the cluster (scripts/verify_dsql.py), deploys a change, and deletes stack and cluster.
"""

import argparse
import json
import pathlib
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import build
import tools
import verify_dsql
from deploying.account import Account
from deploying.checking import event_of
from deploying.rollout import traffic_of
from deploying.stack import Stack
from move_events import Cluster

COMMAND = [sys.executable, tools.PROJECT / "scripts" / "deploy.py"]
FUNCTION = "greeter"


def main():
    parser = argparse.ArgumentParser(description="Verifies deployments in an AWS account.")
    parser.add_argument("--lambda-dir", type=pathlib.Path, required=True, help="folder with the zips of `make build` for arm64")
    parser.add_argument("--change", default="Metrics=off", metavar="NAME=VALUE", help="a parameter whose change leads to a new version")
    parser.add_argument("--database", choices=["dsql"], help="verify event-logger on Aurora DSQL instead")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    arguments = parser.parse_args()
    account = Account()
    name = f"verify-{secrets.token_hex(3)}"
    stacks = f"stack    {name} and its cluster" if arguments.database else f"stacks   {name} and {name}-2"
    account.ask(arguments, f"{stacks} will be created, and destroyed at the end; the bucket with the zips is kept")
    verification = (DsqlVerification if arguments.database else Verification)(account, name, arguments)
    try:
        verification.run()
    finally:
        left = verification.destroy()
    if left:
        commands = "".join(f"\n  make destroy STACK={verification.subject} NAME={own}" for own in left)
        sys.exit(f"all steps were as expected, but stacks were not destroyed, for the reasons above:{commands}")
    print("verified")


class Verification:
    subject = FUNCTION

    def __init__(self, account, name, arguments):
        self.account, self.name, self.arguments = account, name, arguments

    def run(self):
        up = ["up", FUNCTION, "--name", self.name, "--lambda-dir", self.arguments.lambda_dir, "--no-doctor"]
        change = ["--parameter", self.arguments.change]
        self.step("deploy", [*up], live="1")
        alarm = threading.Thread(target=self.raise_alarm, daemon=True)
        alarm.start()
        self.step("a canary whose alarm goes off", [*up, *change, "--canary", "0.1", "--minutes", "5"], live="1", succeeds=False)
        with tempfile.TemporaryDirectory() as folder:
            bad = [*up, "--lambda-dir", broken_zip(pathlib.Path(folder))]
            self.step("a zip that cannot start", bad, live="1", succeeds=False)
        self.step("deploy the change", [*up, *change])
        self.step("rollback", ["rollback", FUNCTION, "--name", self.name], live="1")
        key = self.values(self.name)["CodeKey"]
        digest = key.rpartition("/")[2].removesuffix(".zip")
        promoted = ["up", FUNCTION, "--name", f"{self.name}-2", "--digest", digest, "--no-doctor"]
        self.step("promotion by digest", promoted, live="1", name=f"{self.name}-2")

    def step(self, what, words, live=None, succeeds=True, name=None):
        began = time.monotonic()
        ended = subprocess.run([str(word) for word in [*COMMAND, *words, "--yes"]])
        serving = self.values(name or self.name).get("LiveVersion")
        traffic = traffic_of(self.account.client("lambda"), name or self.name)
        if (ended.returncode == 0) != succeeds or (live and serving != live) or traffic != {serving: 1}:
            sys.exit(
                f"{what}: exit code {ended.returncode}, version {serving} is live, and the alias serves {traffic}; expected version "
                f"{live or 'of the change'} alone"
            )
        self.call(name or self.name)
        print(f"STEP {what}: as expected, version {serving} answers at the URL, {time.monotonic() - began:.0f} s", flush=True)

    def call(self, name):
        """Sends a request to the Function URL, as a client does."""
        url = Stack(self.account, name).outputs()["Url"]
        event = event_of({"method": "server/discover"}, url.split("/")[2], None)
        request = urllib.request.Request(url, event["body"].encode(), event["headers"])
        with urllib.request.urlopen(request, timeout=30) as response:
            if "result" not in json.load(response):
                sys.exit(f"{url} has no result")

    def raise_alarm(self):
        """Sets an alarm of the function as soon as a canary serves requests."""
        cloudwatch = self.account.client("cloudwatch")
        while not self.values(self.name).get("CanaryVersion"):
            time.sleep(1)
        stack = Stack(self.account, self.name)
        alarm = stack.outputs()["AlarmNames"].split(",")[0]
        while stack.values().get("CanaryVersion"):
            cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="make verify-account")
            time.sleep(2)
            stack = Stack(self.account, self.name)
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="make verify-account")

    def values(self, name):
        return Stack(self.account, name).values()

    def destroy(self):
        """Destroys both stacks. Returns those that are left."""
        left = []
        for name in (self.name, f"{self.name}-2"):
            if Stack(self.account, name).exists:
                ended = subprocess.run([str(word) for word in [*COMMAND, "down", self.subject, "--name", name, "--yes"]])
                print(f"STEP destroy {name}: exit code {ended.returncode}", flush=True)
                left += [name] if ended.returncode else []
        return left


class DsqlVerification(Verification):
    subject = "event-logger-dsql"

    def run(self):
        up = ["up", self.subject, "--name", self.name, "--lambda-dir", self.arguments.lambda_dir, "--no-doctor"]
        # No token of it exists: the function rejects every caller, and is checked by its challenge. With tasks it has the store.
        self.step("deploy, with all migrations", [*up, "--parameter", "Issuer=https://id.example.com", "--parameter", "Tasks=on"], live="1")
        for what, seen in verify_dsql.verify(self.connect, verify_dsql.statements()):
            print(f"STEP {what}: {seen}", flush=True)
        self.step("deploy a change, without migrations", [*up, "--parameter", "Metrics=off"], live="2")
        self.step("rollback", ["rollback", self.subject, "--name", self.name], live="1")
        self.step("without protection", [*up, "--parameter", "DatabaseDeletionProtection=false"])

    def call(self, name):
        """The function is closed."""

    def connect(self, region=None, **others):
        host = Stack(self.account, self.name).outputs()["ClusterEndpoint"]
        cluster = Cluster(self.account.session, host, 5432, "system", **others)
        cluster.region = region or cluster.region
        return cluster.connect()

    def destroy(self):
        outputs = Stack(self.account, self.name).outputs() if Stack(self.account, self.name).exists else {}
        left = super().destroy()
        if arn := outputs.get("ClusterArn"):
            # It stays after its stack.
            client, identifier = self.account.client("dsql"), arn.rpartition("/")[2]
            client.update_cluster(identifier=identifier, deletionProtectionEnabled=False)
            client.delete_cluster(identifier=identifier)
            print(f"STEP delete the cluster {identifier}", flush=True)
        return left


def broken_zip(folder):
    """Writes a zip without a program into a folder, with the record of a valid build. Returns the folder."""
    path = build.archive_in(folder, FUNCTION, [])
    path.parent.mkdir(parents=True)
    # The end record of an empty archive.
    path.write_bytes(b"PK\5\6" + bytes(18))
    build.record(path, "arm64", FUNCTION, [])
    return folder


if __name__ == "__main__":
    main()
