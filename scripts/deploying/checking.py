"""The direct invocation of a version, before it serves a request."""

import base64
import json
import time

from botocore.config import Config

import templates
import tools
from deploying.features import needs_auth

REVISION = "2026-07-28"
# Separator between the metadata and the body of a streamed response.
SEPARATOR = b"\0" * 8
REQUESTS = [{"method": "server/discover"}, {"method": "tools/list"}]
# The path of the metadata of an authorization server (RFC 8414), which serves no MCP requests.
METADATA = "/.well-known/oauth-authorization-server"
# In a function's folder: further requests, each {"method": …, "params": {…}, "result": {…}}.
CHECKS = "checks.json"
THROTTLED_SECONDS = 60
# The maximum timeout of a function, and some time for its response.
READ_SECONDS = 900 + 60


class CheckError(Exception):
    """The reason why a version must not serve requests."""


def check(account, function, version, subject, host):
    """Invokes a version with events of a Function URL: server/discover, tools/list and the function's own checks. Of an authorization
    server it reads the metadata."""
    client = account.client("lambda")
    client.get_waiter("published_version_active").wait(FunctionName=function, Qualifier=version)
    configuration = client.get_function_configuration(FunctionName=function, Qualifier=version)
    variables = variables_of(configuration)
    if client.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions") == 0:
        print(f"version {version} was not checked: the function's reserved concurrency is 0, so that no request reaches it")
        return
    if templates.function_of(subject) == tools.AUTHORIZATION_SERVER:
        examine_metadata(response_of(invoke(client, function, version, event_at("GET", METADATA, host))))
        print(f"version {version} answers {METADATA}")
        return
    signer = {"accountId": account.id, "userArn": account.caller, "userId": account.caller}
    requests = [*REQUESTS, *own_checks(subject)]
    for request in requests:
        event = event_of(request, host, signer if variables.get("MCP_AUTH") == "iam" else None)
        try:
            response = response_of(invoke(client, function, version, event))
            examine(request, response, needs_auth(variables.items()))
        except CheckError as error:
            raise CheckError(f"{request['method']}: {error}") from error
    print(f"version {version} answers {', '.join(own['method'] for own in requests)}")


def variables_of(configuration):
    """Returns a version's variables, with those in the lines of MCP_VARIABLES: the rule of crates/mcp-lambda/src/config.rs."""
    own = configuration.get("Environment", {}).get("Variables", {})
    lines = map(templates.ASSIGNED.fullmatch, own.get("MCP_VARIABLES", "").splitlines())
    return {found[1]: found[2] for found in lines if found} | {name: value for name, value in own.items() if value.strip()}


def own_checks(subject):
    path = tools.PROJECT / "functions" / templates.function_of(subject) / CHECKS
    if not path.exists():
        return []
    try:
        checks = json.loads(path.read_text(encoding="utf-8"))
        is_valid = isinstance(checks, list) and all(isinstance(own["method"], str) for own in checks)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise CheckError(f'{path.name} must have the form [{{"method": "tools/call", "params": {{…}}, "result": {{…}}}}]')
    return checks


def event_of(request, host, signer):
    """Returns a request of MCP as the event of a Function URL."""
    method = request["method"]
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "make deploy", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**request.get("params", {}), "_meta": meta}}
    headers = {
        "content-type": "application/json", "accept": "application/json, text/event-stream", "mcp-protocol-version": REVISION,
        "mcp-method": method,
    }
    if name := request.get("params", {}).get("name"):
        headers["mcp-name"] = name
    return event_at("POST", "/mcp", host, headers, json.dumps(message), signer)


def event_at(method, path, host, headers=None, body=None, signer=None):
    """Returns a request as the event of a Function URL (payload version 2.0)."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "make-deploy"}
    headers = {"host": host, "user-agent": "make-deploy", "x-forwarded-proto": "https", **(headers or {})}
    context = {
        "accountId": signer["accountId"] if signer else "anonymous", "apiId": host.partition(".")[0], "domainName": host,
        "domainPrefix": host.partition(".")[0], "http": http, "requestId": "make-deploy", "routeKey": "$default",
        "stage": "$default", "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime()), "timeEpoch": time.time_ns() // 10**6,
    }
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers,
        "requestContext": {**context, **({"authorizer": {"iam": signer}} if signer else {})},
        "isBase64Encoded": False, **({"body": body} if body else {}),
    }


def patient_client(account):
    """A client for invocations that take long, and that are sent once."""
    config = Config(read_timeout=READ_SECONDS, retries={"total_max_attempts": 1}, tcp_keepalive=True)
    return account.client("lambda", config=config)


def invoke(client, function, version, event):
    deadline = time.monotonic() + THROTTLED_SECONDS
    while True:
        try:
            invoked = client.invoke(FunctionName=function, Qualifier=version, Payload=json.dumps(event), LogType="Tail")
        except client.exceptions.TooManyRequestsException as error:
            if time.monotonic() > deadline:
                raise CheckError("throttled: all reserved concurrency is in use") from error
            time.sleep(2)
            continue
        payload = invoked["Payload"].read()
        if invoked.get("FunctionError"):
            log = base64.b64decode(invoked.get("LogResult", "")).decode(errors="replace")
            raise CheckError(f"the invocation failed: {payload[:1000].decode(errors='replace')}\n{log}")
        return payload


def response_of(payload):
    """Returns status, headers and body of a response, buffered or streamed."""
    head, separator, body = payload.partition(SEPARATOR)
    try:
        response = json.loads(head)
        headers = {name.lower(): value for name, value in response.get("headers", {}).items()}
        if not separator:
            body = response.get("body", "").encode()
            body = base64.b64decode(body) if response.get("isBase64Encoded") else body
        return int(response["statusCode"]), headers, body
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckError(f"the result is not a response of HTTP: {payload[:300]!r}") from error


def examine_metadata(response):
    status, _, body = response
    if status != 200:
        raise CheckError(f"{METADATA}: status {status}: {body[:300].decode(errors='replace')}")
    try:
        json.loads(body)["issuer"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckError(f"{METADATA}: no metadata: {body[:300].decode(errors='replace')}") from error


def examine(request, response, needs_token):
    status, headers, body = response
    if status == 401 and needs_token:
        # Expected without a token: the function runs, and verifies tokens.
        if "www-authenticate" not in headers:
            raise CheckError("401 without a challenge (WWW-Authenticate)")
        return
    if status != 200:
        raise CheckError(f"status {status}: {body[:300].decode(errors='replace')}")
    try:
        message = json.loads(message_in(headers, body))
        result = message["result"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckError(f"no result: {body[:300].decode(errors='replace')}") from error
    if not contains(result, request.get("result", {})):
        raise CheckError(f"the result is {json.dumps(result)[:300]}, without {json.dumps(request['result'])}")


def message_in(headers, body):
    """Returns the JSON-RPC response: the body, or the last message of an event stream."""
    if not headers.get("content-type", "").startswith("text/event-stream"):
        return body
    return [line.removeprefix(b"data:") for line in body.splitlines() if line.startswith(b"data:") and b'"jsonrpc"' in line][-1:][0]


def contains(value, part):
    """Whether a JSON value contains all members of another one."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(name in value and contains(value[name], own) for name, own in part.items())
    return value == part
