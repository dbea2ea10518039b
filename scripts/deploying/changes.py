"""A change set of a stack and of the stacks nested in it, and the resources that it would replace or remove."""

STACK = "AWS::CloudFormation::Stack"
# Kinds of resources whose replacement or removal breaks clients or deletes data. Other stacks may use a VPC.
PROTECTED = {
    "AWS::ApiGateway::DomainName", "AWS::ApiGatewayV2::DomainName", "AWS::CloudFront::Distribution", "AWS::Cognito::UserPool",
    "AWS::Cognito::UserPoolClient", "AWS::Cognito::UserPoolDomain", "AWS::DSQL::Cluster", "AWS::DynamoDB::Table", "AWS::EC2::VPC",
    "AWS::KMS::Key", "AWS::Lambda::Alias", "AWS::Lambda::Function", "AWS::Lambda::Url", "AWS::RDS::DBCluster", "AWS::RDS::DBInstance",
    "AWS::Route53::RecordSet", "AWS::S3::Bucket", "AWS::SecretsManager::Secret",
}


# Attributes of a resource that is not replaced which stay as they are. The last one is that of the stack Function, whose role has a
# generated name.
STABLE = ("", "Arn", "Outputs.RoleArn")


class Change:
    """A change of one resource. `path` has the logical ids of the nested stacks, and its own."""

    def __init__(self, path, described, siblings):
        self.path, self.kind, self.action = path, described["ResourceType"], described["Action"]
        self.physical_id = described.get("PhysicalResourceId")
        self.is_replaced = is_replaced(described, siblings)

    @property
    def name(self):
        return "/".join(self.path)

    @property
    def loses(self):
        """Whether the resource that exists is replaced or removed."""
        return self.action == "Remove" or self.is_replaced

    def line(self):
        action = "REPLACE" if self.is_replaced else "REMOVE" if self.action == "Remove" else self.action.lower()
        return f"  {action:8} {self.name}  {self.kind}"


def is_replaced(described, siblings):
    """Whether a change replaces its resource. CloudFormation returns `Conditional` if it depends on a value that is known only
    after another change. The name and the ARN of a resource that is not replaced stay as they are."""
    if described.get("Replacement") != "Conditional":
        return described.get("Replacement") == "True"
    decisive = [own for own in described.get("Details", []) if own.get("Target", {}).get("RequiresRecreation") != "Never"]
    return not decisive or not all(is_stable(own, siblings) for own in decisive)


def is_stable(detail, siblings):
    cause, _, attribute = detail.get("CausingEntity", "").partition(".")
    return (
        detail.get("Evaluation") == "Dynamic" and detail.get("ChangeSource") in ("ResourceReference", "ResourceAttribute")
        and attribute in STABLE and siblings.get(cause) == "False"
    )


def read(client, change_set, path=()):
    """Returns all changes of a change set and of the change sets of its nested stacks."""
    described = [own["ResourceChange"] for own in pages(client, change_set) if own.get("ResourceChange")]
    siblings = {own["LogicalResourceId"]: own.get("Replacement") for own in described}
    for own in described:
        change = Change((*path, own["LogicalResourceId"]), own, siblings)
        yield change
        if change.kind == STACK and change.loses and change.physical_id:
            yield from removed(client, change.physical_id, change.path)
        elif own.get("ChangeSetId"):
            yield from read(client, own["ChangeSetId"], change.path)


def pages(client, change_set):
    request = {"ChangeSetName": change_set}
    while True:
        page = client.describe_change_set(**request)
        yield from page.get("Changes", [])
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]


def removed(client, stack, path):
    """Returns the resources of a nested stack that is removed. Its change set does not list them."""
    for page in client.get_paginator("list_stack_resources").paginate(StackName=stack):
        for own in page["StackResourceSummaries"]:
            described = {"ResourceType": own["ResourceType"], "Action": "Remove", "PhysicalResourceId": own.get("PhysicalResourceId")}
            change = Change((*path, own["LogicalResourceId"]), described, {})
            yield change
            if change.kind == STACK and change.physical_id:
                yield from removed(client, change.physical_id, change.path)


def lost(changes, allowed):
    """Returns the protected resources that would be replaced or removed, and that REPLACE names neither by id nor by path."""
    return [own for own in changes if own.kind in PROTECTED and own.loses and not {own.path[-1], own.name} & allowed]
