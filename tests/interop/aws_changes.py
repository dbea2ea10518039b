"""Change sets of CloudFormation for the account of `aws_account`, and updates in place. moto's know no nested stacks and no
replacement, and its updates look at neither conditions nor `Fn::Sub`.

A change set compares the properties of both templates with everything resolved. What must be created anew is what the registry
schemas name (createOnlyProperties), as cfn-lint has them."""

import copy
import functools
import itertools
import json
import re

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from moto.cloudformation import models, parsing, responses
from moto.core.responses import ActionResult, EmptyResult

REGION = "us-east-1"
STACK = "AWS::CloudFormation::Stack"
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."

# How an operation ends, for tests: the status of the next one, and how often a stack is still described as in progress.
next_end, slowness = [], [0]
numbers = itertools.count(1)


def register():
    for name in (
        "create_change_set", "delete_change_set", "describe_change_set", "execute_change_set", "list_change_sets",
        "update_termination_protection",
    ):
        setattr(responses.CloudFormationResponse, name, globals()[name])
    transformers = responses.CloudFormationResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER
    for name in ("Changes", "Parameters"):
        transformers.pop(f"DescribeChangeSetOutput.{name}", None)
    models.Stack.update_from_cloudformation_json = classmethod(update_nested)
    models.CloudFormationBackend.describe_stacks = functools.partialmethod(describe_stacks, models.CloudFormationBackend.describe_stacks)


class Placeholder:
    """A resource that a change set will make: what refers to it has no value yet."""

    def __init__(self, logical_id):
        self.physical_resource_id, self.logical_resource_id = f"new {logical_id}", logical_id

    def get_cfn_attribute(self, name):
        return f"new {self.logical_resource_id}.{name}"


class ChangeSet:
    def __init__(self, backend, stack, name, kind, template, parameters, tags, role):
        self.backend, self.stack, self.name, self.kind = backend, stack, name, kind
        self.template, self.parameters, self.tags, self.role = template, parameters, tags, role
        arn = f"arn:aws:cloudformation:{backend.region_name}:{backend.account_id}:changeSet"
        self.id = f"{arn}/{name}-{next(numbers)}/1"
        backend.change_sets[self.id] = self
        if not hasattr(stack, "resolved"):
            # Made without a change set.
            record(stack)
        self.changes = list(changes_of(self, models.Stack.parse_template(template)))
        self.is_empty = not self.changes and kind == "UPDATE" and tags in (None, stack.tags)

    def describe(self):
        return {
            "ChangeSetId": self.id, "ChangeSetName": self.name, "StackId": self.stack.stack_id, "StackName": self.stack.name,
            "Status": "FAILED" if self.is_empty else "CREATE_COMPLETE", "Changes": self.changes,
            "ExecutionStatus": "UNAVAILABLE" if self.is_empty else "AVAILABLE",
            **({"StatusReason": NO_CHANGES} if self.is_empty else {}),
        }

    def execute(self):
        stack = self.stack
        stack._add_stack_event(f"{self.kind}_IN_PROGRESS")
        stack.pending = slowness[0]
        failed = next_end.pop() if next_end else None
        if failed:
            reason = models.Event(
                stack.stack_id, stack.name, "Broken", "", "AWS::IAM::Role", f"{self.kind}_FAILED", "emulated failure", None,
            )
            stack.events.append(reason)
            stack.status = failed
        elif self.kind == "CREATE":
            stack = self.create()
        else:
            apply(stack, self.template, self.parameters)
            stack.status = "UPDATE_COMPLETE"
        stack.tags = self.tags if self.tags is not None else stack.tags
        stack.role_arn = self.role or stack.role_arn
        stack._add_stack_event(stack.status)
        # All change sets of a stack are obsolete after an update.
        for own in [own for own in self.backend.change_sets.values() if own.stack.stack_id == stack.stack_id]:
            del self.backend.change_sets[own.id]

    def create(self):
        stack = models.Stack(
            stack_id=self.stack.stack_id, name=self.stack.name, template=self.template, parameters=self.parameters,
            account_id=self.backend.account_id, region_name=self.backend.region_name, tags=self.tags,
            cross_stack_resources=self.backend.exports,
        )
        stack.events, stack.pending = self.stack.events, self.stack.pending
        self.backend.stacks[stack.stack_id] = stack
        stack.create_resources()
        record(stack)
        return stack


def changes_of(change_set, template):
    """The changes of a change set as DescribeChangeSet lists them."""
    stack = change_set.stack
    resources = future(stack, template, change_set.parameters)
    existing, wanted = own_resources(stack), wanted_resources(resources, template)
    for logical_id in [own for own in existing if own not in wanted]:
        yield listed("Remove", logical_id, existing[logical_id].cf_resource_type, existing[logical_id])
    modified = {}
    for logical_id in in_order(wanted):
        definition, kind = wanted[logical_id], wanted[logical_id]["Type"]
        if logical_id not in existing:
            yield listed("Add", logical_id, kind)
            continue
        properties = properties_of(definition, resources)
        if kind == STACK:
            nested = nested_change_set(change_set, existing[logical_id], properties)
            modified[logical_id] = "False"
            yield listed("Modify", logical_id, kind, existing[logical_id], Replacement="False", ChangeSetId=nested.id)
            continue
        details = list(details_of(kind, stack.resolved.get(logical_id, {}), properties, definition, modified))
        if details:
            recreated = {own["Evaluation"] for own in details if own["Target"]["RequiresRecreation"] == "Always"}
            replacement = "True" if "Static" in recreated else "Conditional" if recreated else "False"
            modified[logical_id] = replacement
            yield listed("Modify", logical_id, kind, existing[logical_id], Replacement=replacement, Details=details)


def details_of(kind, before, after, definition, modified):
    once = create_only(kind)
    for name in sorted({*before, *after}):
        recreation = "Always" if name in once else "Never"
        target = {"Attribute": "Properties", "Name": name, "RequiresRecreation": recreation}
        if before.get(name) != after.get(name):
            yield {"Target": target, "Evaluation": "Static", "ChangeSource": "DirectModification"}
            continue
        for entity, attribute in references(definition.get("Properties", {}).get(name)):
            # Known only when the other resource has been changed.
            if attribute and entity in modified:
                cause = f"{entity}.{attribute}"
                yield {"Target": target, "Evaluation": "Dynamic", "ChangeSource": "ResourceAttribute", "CausingEntity": cause}


def listed(action, logical_id, kind, resource=None, **more):
    physical = {"PhysicalResourceId": resource.physical_resource_id} if resource else {}
    return {"Type": "Resource", "ResourceChange": {
        "Action": action, "LogicalResourceId": logical_id, "ResourceType": kind, **physical, **more,
    }}


@functools.cache
def create_only(kind):
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return {path.split("/")[2] for path in schema.get("createOnlyProperties", [])}


def nested_change_set(change_set, stack, properties):
    template = models.get_stack_from_s3_url(properties["TemplateURL"], account_id=change_set.backend.account_id, partition="aws")
    parameters = {name: str(value) for name, value in properties.get("Parameters", {}).items()}
    return ChangeSet(change_set.backend, stack, f"{change_set.name}-nested", "UPDATE", template, parameters, None, None)


def future(stack, template, parameters):
    """The resources of a stack as its next template sees them; nothing is made."""
    resources = parsing.ResourceMap(
        stack.stack_id, stack.name, parameters, {}, stack.region_name, stack.account_id, template, stack.cross_stack_resources,
    )
    resources.load()
    existing = own_resources(stack)
    for logical_id in wanted_resources(resources, template):
        resources._parsed_resources[logical_id] = existing.get(logical_id) or Placeholder(logical_id)
    return resources


def own_resources(stack):
    known = stack.resource_map._resource_json_map
    return {name: own for name, own in stack.resource_map._parsed_resources.items() if name in known and own is not None}


def wanted_resources(resources, template):
    def is_wanted(definition):
        condition = definition.get("Condition")
        return not condition or resources.lazy_condition_map[condition]

    return {name: definition for name, definition in template["Resources"].items() if is_wanted(definition)}


def properties_of(definition, resources):
    return parsing.clean_json(copy.deepcopy(definition.get("Properties", {})), resources)


def references(node):
    """The resources that a value refers to, each with its attribute or ""."""
    if isinstance(node, list):
        for own in node:
            yield from references(own)
    elif isinstance(node, dict):
        if "Ref" in node:
            yield node["Ref"], ""
        elif isinstance(node.get("Fn::GetAtt"), list):
            yield tuple(node["Fn::GetAtt"][:2])
        elif "Fn::Sub" in node:
            text, more = (node["Fn::Sub"], {}) if isinstance(node["Fn::Sub"], str) else node["Fn::Sub"]
            for found in re.findall(r"\$\{([A-Za-z0-9.]+)\}", text):
                yield tuple(found.partition(".")[::2])
            yield from references(list(more.values()))
        else:
            yield from references(list(node.values()))


def in_order(definitions):
    """Logical ids: what is referred to comes first."""
    ordered, open_ones = [], set()

    def visit(name):
        if name in definitions and name not in ordered and name not in open_ones:
            open_ones.add(name)
            depends = definitions[name].get("DependsOn", [])
            for other in [*([depends] if isinstance(depends, str) else depends), *(own for own, _ in references(definitions[name]))]:
                visit(other)
            ordered.append(name)

    for name in definitions:
        visit(name)
    return ordered


def record(stack):
    """Remembers the properties that the resources of a stack, and of those nested in it, have."""
    stack.resolved = {
        name: properties_of(stack.resource_map._resource_json_map[name], stack.resource_map) for name in own_resources(stack)
    }
    for own in own_resources(stack).values():
        if isinstance(own, models.Stack) and not hasattr(own, "resolved"):
            record(own)


def apply(stack, body, parameters):
    """Updates a stack in place: what is new or replaced is made, what changed is updated, what is gone is deleted at the end."""
    template = models.Stack.parse_template(body)
    before, resources = own_resources(stack), stack.resource_map
    old_definitions = resources._resource_json_map
    resources._template, resources.input_parameters = template, parameters
    resources.resolved_parameters = {}
    resources.load_mapping()
    resources.load_parameters()
    resources.load_conditions()
    wanted = wanted_resources(resources, template)
    resources._resource_json_map = template["Resources"]
    for logical_id in before.keys() - wanted.keys():
        del resources._parsed_resources[logical_id]
    for logical_id in in_order(wanted):
        definition = wanted[logical_id]
        where = {"account_id": stack.account_id, "region_name": stack.region_name}
        if logical_id not in before:
            resources[logical_id]
            continue
        old, new = stack.resolved.get(logical_id, {}), properties_of(definition, resources)
        changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        if changed & create_only(definition["Type"]):
            del resources._parsed_resources[logical_id]
            resources[logical_id]
        elif changed or definition["Type"] == STACK:
            resources._parsed_resources[logical_id] = parsing.parse_and_update_resource(logical_id, definition, resources, **where)
    for logical_id in [own for own in reversed(in_order(old_definitions)) if own in before and own not in wanted]:
        if old_definitions[logical_id].get("DeletionPolicy") != "Retain":
            resources._delete_resource(before[logical_id], old_definitions[logical_id])
    stack.template, stack.template_dict, stack.parameters = body, template, parameters
    stack.output_map = stack._create_output_map()
    record(stack)


def update_nested(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
    properties = cloudformation_json["Properties"]
    body = models.get_stack_from_s3_url(properties["TemplateURL"], account_id=account_id, partition="aws")
    apply(original_resource, body, {name: str(value) for name, value in properties.get("Parameters", {}).items()})
    return original_resource


def describe_stacks(self, original, name_or_stack_id):
    found = original(self, name_or_stack_id)
    for stack in found:
        if getattr(stack, "pending", 0):
            stack.pending -= 1
            running = copy.copy(stack)
            running.status = "UPDATE_IN_PROGRESS"
            return [running]
    return found


# The operations, in place of moto's.


def create_change_set(self):
    backend, name = self.cloudformation_backend, self._get_param("StackName")
    kind, url = self._get_param("ChangeSetType", "UPDATE"), self._get_param("TemplateURL")
    if kind == "CREATE":
        stack = next((own for own in backend.stacks.values() if own.name == name), None)
        if stack is None:
            stack_id = models.generate_stack_id(name, backend.region_name, backend.account_id)
            stack = models.Stack(stack_id, name, {}, {}, backend.account_id, backend.region_name)
            stack.status = "REVIEW_IN_PROGRESS"
            stack._add_stack_event(stack.status)
            backend.stacks[stack_id] = stack
        elif stack.status != "REVIEW_IN_PROGRESS":
            raise models.ValidationError(name, message=f"Stack [{name}] already exists and cannot be created again with the changeSet.")
    else:
        stack = backend.get_stack(name)
    body = stack.template if self._get_bool_param("UsePreviousTemplate", False) else self._get_stack_from_s3_url(url)
    given = self._get_param("Parameters", [])
    parameters = {
        own["ParameterKey"]: stack.parameters[own["ParameterKey"]] if own.get("UsePreviousValue") else own["ParameterValue"]
        for own in given if own["ParameterKey"] in stack.parameters or not own.get("UsePreviousValue")
    }
    tags = {own["Key"]: own["Value"] for own in self._get_param("Tags", [])} or None
    made = ChangeSet(backend, stack, self._get_param("ChangeSetName"), kind, body, parameters, tags, self._get_param("RoleARN"))
    return ActionResult({"Id": made.id, "StackId": stack.stack_id})


def find(self):
    name = self._get_param("ChangeSetName")
    if name not in self.cloudformation_backend.change_sets:
        raise models.ValidationError(name, message=f"ChangeSet [{name}] does not exist")
    return self.cloudformation_backend.change_sets[name]


def describe_change_set(self):
    return ActionResult(json.loads(json.dumps(find(self).describe())))


def list_change_sets(self):
    name = self._get_param("StackName")
    found = [own.describe() for own in self.cloudformation_backend.change_sets.values() if name in (own.stack.name, own.stack.stack_id)]
    shown = {"ChangeSetId", "ChangeSetName", "StackId", "StackName", "Status"}
    return ActionResult({"Summaries": [{key: value for key, value in own.items() if key in shown} for own in found]})


def delete_change_set(self):
    made = find(self)
    for own in [own for own in self.cloudformation_backend.change_sets.values() if own.name.startswith(made.name)]:
        del self.cloudformation_backend.change_sets[own.id]
    return EmptyResult()


def execute_change_set(self):
    find(self).execute()
    return EmptyResult()


def update_termination_protection(self):
    stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
    stack.enable_termination_protection = self._get_bool_param("EnableTerminationProtection")
    return ActionResult({"StackId": stack.stack_id})
