"""Versions, aliases with weights, URLs of aliases and invocations of functions for the account of `aws_account`: moto's numbers are not
Lambda's after a deletion, it publishes what did not change, and it invokes functions in Docker alone."""

import base64
import copy
import json

import boto3
from moto.awslambda import models
from moto.awslambda.exceptions import GenericResourcNotFound, InvalidParameterValueException
from moto.core.exceptions import JsonRESTError

# What belongs to a version, for the comparison with the one before.
VERSIONED = ("CodeSha256", "Environment", "Handler", "MemorySize", "Role", "Runtime", "Timeout", "TracingConfig", "VpcConfig")

# Invoked in place of a function, with the configuration and the event; `None` answers as a function does that has no fault.
answering = [None]
# The same in place of a function that migrates a schema.
migrating = [None]
# The same in place of a function that runs tasks.
running_tasks = [None]
# The same for the deletion of a person's rows by a function that serves requests.
deleting = [None]
# The same for commands to an authorization server.
commanding = [None]
# Whether updates of an alias do not change its weights.
keeps_weights = [False]
# Each invocation: the version, and the method of JSON-RPC, or the path of a request without a body.
invocations = []


def register():
    models.LambdaStorage.publish_version = publish_version
    models.LambdaBackend.invoke = invoke
    update = models.LambdaFunction.update_from_cloudformation_json.__func__

    def update_function(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
        properties = cloudformation_json["Properties"]
        original_resource.reserved_concurrency = properties.get("ReservedConcurrentExecutions")
        original_resource.tracing_config = properties.get("TracingConfig", original_resource.tracing_config)
        return update(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name)

    models.LambdaFunction.update_from_cloudformation_json = classmethod(update_function)
    read_parameters()
    change_urls()


def change_urls():
    """moto changes no invoke mode of a URL, and deletes no permission."""
    update, create = models.FunctionUrlConfig.update, models.Permission.create_from_cloudformation_json.__func__

    def update_url(self, config):
        update(self, config)
        self.config |= {"InvokeMode": config.get("InvokeMode", self.config.get("InvokeMode"))}

    def create_permission(cls, resource_name, cloudformation_json, account_id, region_name, **own):
        made = create(cls, resource_name, cloudformation_json, account_id, region_name, **own)
        backend = models.lambda_backends[account_id][region_name]
        made.policy = backend.get_function(cloudformation_json["Properties"]["FunctionName"]).policy
        made.statement = made.policy.statements[-1]
        made.physical_resource_id = made.statement["Sid"]
        return made

    models.FunctionUrlConfig.update = update_url
    models.Permission.create_from_cloudformation_json = classmethod(create_permission)
    models.Permission.delete = lambda own, *_: own.policy.statements.remove(own.statement)


def read_parameters():
    from moto.awslambda.responses import LambdaResponse

    original = LambdaResponse.publish_version

    def publish(self):
        name = self.path.split("/")[-2]
        wanted, has = self.json_body.get("CodeSha256"), self.backend.get_function(name).get_configuration()["CodeSha256"]
        if wanted and wanted != has:
            raise InvalidParameterValueException(f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({has}).")
        return original(self)

    LambdaResponse.publish_version = publish
    call = LambdaResponse.invoke

    def invoke_version(self):
        # moto reads the parameter in lower case, which no SDK sends.
        self.querystring["qualifier"] = self.querystring.get("Qualifier", [None])
        return call(self)

    LambdaResponse.invoke = invoke_version
    for operation in ("create", "get", "update"):
        qualify(LambdaResponse, f"{operation}_function_url_config")


def qualify(responses, operation):
    """moto does not read the qualifier of a URL: one on an alias is found for the function itself."""
    original = getattr(responses, operation)

    def with_qualifier(self):
        function = self.backend.get_function(self.path.split("/")[-2])
        qualifier = self.querystring.get("Qualifier", [None])[0]
        if operation.startswith("create"):
            function.url_qualifier = qualifier
        elif function.url_config and function.url_qualifier != qualifier:
            raise GenericResourcNotFound()
        return original(self)

    setattr(responses, operation, with_qualifier)


def publish_version(self, name_or_arn, description=""):
    latest = self.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
    versions = self._functions[latest.function_name]["versions"]
    if versions and versioned(versions[-1]) == versioned(latest):
        return versions[-1]
    published = copy.copy(latest)
    # moto updates it in place.
    published.code = copy.deepcopy(latest.code)
    # A number is never used again.
    latest.published = getattr(latest, "published", 0) + 1
    published.set_version(latest.published)
    versions.append(published)
    self._arns[published.function_arn] = published
    return published


def versioned(function):
    configuration = function.get_configuration()
    return {name: configuration.get(name) for name in VERSIONED}


class Throttled(JsonRESTError):
    code = 429

    def __init__(self):
        super().__init__("TooManyRequestsException", "Rate Exceeded.")


def invoke(self, function_name, qualifier, body, headers, response_headers):
    function = self.get_function(function_name, qualifier)
    if str(function.reserved_concurrency) == "0":
        raise Throttled()
    event = json.loads(body)
    if function.environment_vars.get("MCP_ROLE") == "migrate":
        invocations.append((str(function.version), "migrate"))
        payload = (migrating[0] or migrate)(function, event)
    elif function.environment_vars.get("MCP_ROLE") == "tasks":
        invocations.append((str(function.version), *event))
        payload = (running_tasks[0] or run_tasks)(function, event)
    elif "mcpDeleteSubject" in event:
        invocations.append((str(function.version), *event))
        payload = deleting[0](function, event)
    elif "mcpAuthorizationServer" in event:
        invocations.append((str(function.version), *event))
        payload = commanding[0](function, event)
    else:
        invocations.append((str(function.version), json.loads(event["body"])["method"] if "body" in event else event["rawPath"]))
        payload = (answering[0] or answer)(function, event)
    if isinstance(payload, Exception):
        response_headers["x-amz-function-error"] = "Unhandled"
        response_headers["x-amz-log-result"] = base64.b64encode(b"the log of the function").decode()
        payload = json.dumps({"errorType": "Runtime.ExitError", "errorMessage": str(payload)}).encode()
    response_headers["Content-Length"] = str(len(payload))
    return payload


def migrate(function, event):
    """A response of a function whose migrations succeed."""
    return b'{"applied": []}'


def run_tasks(function, event):
    """A response of a function that runs tasks, of which none is due."""
    return b'{"woken": 0}'


def answer(function, event, status=200, result=None):
    """A response of a function without a fault: closed, if it has an issuer."""
    variables = function.environment_vars
    headers = {"content-type": "application/json"}
    message = json.loads(event["body"])
    if variables.get("OIDC_ISSUER") or variables.get("OIDC_ISSUERS") or variables.get("MCP_AUTH") == "required":
        return json.dumps({"statusCode": 401, "headers": {**headers, "www-authenticate": "Bearer"}, "body": "{}"}).encode()
    body = {"jsonrpc": "2.0", "id": message["id"], "result": result or {}}
    return json.dumps({"statusCode": status, "headers": headers, "body": json.dumps(body)}).encode()


def alias(properties):
    """Makes or moves an alias, by the properties of AWS::Lambda::Alias; returns its ARN."""
    client = boto3.client("lambda")
    request = {"FunctionName": properties["FunctionName"], "Name": properties["Name"], "FunctionVersion": properties["FunctionVersion"]}
    # Weights that the properties leave out stay.
    weights = properties.get("RoutingConfig", {}).get("AdditionalVersionWeights")
    if weights is not None and not keeps_weights[0]:
        routing = {own["FunctionVersion"]: float(own["FunctionWeight"]) for own in weights}
        request["RoutingConfig"] = {"AdditionalVersionWeights": routing}
    try:
        return client.update_alias(**request)["AliasArn"]
    except client.exceptions.ResourceNotFoundException:
        return client.create_alias(**request)["AliasArn"]


def traffic(function, name="live"):
    """The versions that an alias serves, each with its part of the requests."""
    found = boto3.client("lambda").get_alias(FunctionName=function, Name=name)
    weights = (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return {found["FunctionVersion"]: round(1 - sum(weights.values()), 4), **weights}
