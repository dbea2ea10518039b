#!/usr/bin/env python3
"""A small client for the official client suite: it speaks stdio to `mcpl proxy`, which speaks HTTP to the suite.

    python3 client_driver.py URL       what the suite starts, with its variables in the environment
    python3 client_driver.py open URL  the browser: follows redirects, where an issuer asks no questions

It lists what there is and uses all of it; a few scenarios say what they want beyond that. The proxy is found in MCPL.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

PATIENCE_SECONDS = 25
SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
# What the suite's server speaks, if the proxy is not to translate for another.
VERSION = os.environ.get("DRIVER_VERSION") or os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2026-07-28")
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
IS_MODERN = VERSION >= "2026-07-28"
CAPABILITIES = {"elicitation": {"form": {}}} if IS_MODERN else {"elicitation": {}}
INFO = {"name": "interop", "version": "1.0.0"}
CLIENT_METADATA_URL = "https://conformance-test.local/client-metadata.json"


def main(arguments):
    if arguments[0] == "open":
        return follow(arguments[1])
    with tempfile.TemporaryDirectory() as state:
        client = Client(arguments[0], state)
        try:
            use(client)
        finally:
            client.close()


def follow(url):
    try:
        # Everything is on this machine: ignore its proxy settings.
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()]
        urllib.request.build_opener(*handlers).open(url, timeout=PATIENCE_SECONDS).read()
    except urllib.error.HTTPError:
        pass


class Refused(Exception):
    """An error in answer to a request."""


class Client:
    """One session over stdio."""

    def __init__(self, url, state):
        command = [os.environ["MCPL"], "proxy", "suite", url, "--state-dir", state]
        command += ["--open", f"{sys.executable} {os.path.abspath(__file__)} open"]
        command += ["--client-metadata-url", CLIENT_METADATA_URL]
        if SCENARIO.startswith("auth/client-credentials"):
            command.append("--client-credentials")
        if "private_key_pem" in CONTEXT:
            key = os.path.join(state, "key.pem")
            with open(key, "w", encoding="utf-8") as file:
                file.write(CONTEXT["private_key_pem"])
            command += ["--private-key", key, "--signing-algorithm", CONTEXT["signing_algorithm"]]
        variables = dict(os.environ)
        if "valid_jwt" in CONTEXT:
            variables["WORKLOAD_JWT"] = CONTEXT["valid_jwt"]
            command += ["--assertion-env", "WORKLOAD_JWT"]
        if "idp_id_token" in CONTEXT:
            id_token = os.path.join(state, "id_token")
            with open(id_token, "w", encoding="utf-8") as file:
                file.write(CONTEXT["idp_id_token"])
            command += ["--assertion-file", id_token, "--idp", CONTEXT["idp_issuer"]]
            command += ["--idp-client-id", CONTEXT["idp_client_id"]]
        if "client_id" in CONTEXT:
            variables["MCPL_CLIENT_ID"] = CONTEXT["client_id"]
            variables["MCPL_CLIENT_SECRET"] = CONTEXT.get("client_secret", "")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        self.next_id = 0
        self.answers = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "method" in message and "id" in message:
                self.send({"id": message["id"], "result": answer_to(message["method"], message.get("params", {}))})
            elif "id" in message:
                self.answers.put(message)
        self.answers.put(None)

    def send(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def notify(self, method):
        self.send({"method": method})

    def request(self, method, **params):
        """A result; with `input_required` the questions are answered, and the request is sent again."""
        while True:
            self.next_id += 1
            if IS_MODERN:
                keys = {"protocolVersion": VERSION, "clientCapabilities": CAPABILITIES, "clientInfo": INFO}
                params["_meta"] = {f"io.modelcontextprotocol/{key}": value for key, value in keys.items()}
            self.send({"id": self.next_id, "method": method, "params": params})
            message = self.answers.get(timeout=PATIENCE_SECONDS)
            if message is None:
                raise SystemExit("the proxy has ended")
            assert message["id"] == self.next_id, message
            if "error" in message:
                raise Refused(f"{method}: {message['error']}")
            result = message["result"]
            if not IS_MODERN or result.get("resultType") != "input_required":
                return result
            params.pop("requestState", None)
            asked = result.get("inputRequests", {})
            params["inputResponses"] = {key: answer_to(own["method"], own["params"]) for key, own in asked.items()}
            if "requestState" in result:
                params["requestState"] = result["requestState"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=PATIENCE_SECONDS)


def answer_to(method, params):
    if method == "elicitation/create":
        return {"action": "accept", "content": example(params.get("requestedSchema", {}))}
    if method == "ping":
        return {}
    return {"roots": []}


def use(client):
    if IS_MODERN:
        attempt(client, "server/discover")
    else:
        client.request("initialize", protocolVersion=VERSION, capabilities=CAPABILITIES, clientInfo=INFO)
        client.notify("notifications/initialized")
    tools = attempt(client, "tools/list").get("tools", [])
    calls = [(own["name"], own["arguments"]) for own in CONTEXT.get("toolCalls", [])]
    for name, arguments in calls or [(tool["name"], example(tool["inputSchema"])) for tool in tools]:
        attempt(client, "tools/call", name=name, arguments=arguments)
    if SCENARIO == "json-schema-2020-12-preservation":
        schema = next(tool["inputSchema"] for tool in tools if tool["name"] == "json_schema_2020_12_tool")
        attempt(client, "tools/call", name="json_schema_echo", arguments={"schema": schema})
    if SCENARIO == "http-standard-headers":
        for resource in attempt(client, "resources/list").get("resources", []):
            attempt(client, "resources/read", uri=resource["uri"])
        for prompt in attempt(client, "prompts/list").get("prompts", []):
            attempt(client, "prompts/get", name=prompt["name"], arguments={})


def attempt(client, method, **params):
    try:
        return client.request(method, **params)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return {}


def example(schema):
    """Something that fits a schema, as far as the suite needs it."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: example(own) for name, own in schema.get("properties", {}).items()}
    return {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": []}.get(kind)


if __name__ == "__main__":
    main(sys.argv[1:])
