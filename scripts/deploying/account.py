"""The AWS account and region of a deployment."""

import functools
import os
import sys

import boto3
import botocore.session


class Account:
    """The account and the region of the AWS SDKs' configuration."""

    def __init__(self):
        # boto3 is the only SDK that does not read this variable; cargo-lambda does.
        self.session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        self.region = self.session.region_name
        if not self.region:
            sys.exit("no region is configured: set AWS_REGION, or a region in the profile")
        identity = self.client("sts").get_caller_identity()
        self.id, self.caller = identity["Account"], identity["Arn"]

    @functools.cache
    def client(self, service, **options):
        """The client of a service. A new one would read the description of the service again."""
        return self.session.client(service, **options)

    @property
    def domain(self):
        """The domain of AWS endpoints in this region, the value of AWS::URLSuffix: `amazonaws.com` in most partitions, another one in
        aws-cn, aws-eusc and those without the internet."""
        name = self.session.get_partition_for_region(self.region)
        partitions = botocore.session.get_session().get_data("endpoints")["partitions"]
        return next(own["dnsSuffix"] for own in partitions if own["partition"] == name)

    def ask(self, arguments, *plan):
        """Prints the account, the region and the planned changes. Exits unless the user confirms."""
        print(f"account  {self.id}, as {self.caller}\nregion   {self.region}")
        for line in plan:
            print(line)
        if not is_confirmed(arguments):
            sys.exit("Nothing was changed.")


def is_confirmed(arguments, question="Go on?"):
    if arguments.yes:
        return True
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    return answer.strip().lower() in ("y", "yes")
