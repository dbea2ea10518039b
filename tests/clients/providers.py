"""A scripted stand-in of the model providers' HTTP APIs on loopback, for programs that need a model.

    with Provider([Call("personalized_greeting", {"name": "Ada"}), "done"]) as provider:
        run_a_program(base_url=provider.url + "/v1")
    provider.requests[0].tools      the tools as the program sent them to the provider
    provider.results                what the model was shown of each call, as the last request has it

Serves Anthropic (`/v1/messages`, `/v1/messages/count_tokens`), OpenAI (`/v1/responses`, `/v1/chat/completions`), Gemini
(`/v1beta/models/MODEL:generateContent`, `:streamGenerateContent`, `:countTokens`) and lists of models, streamed or plain as
requested, below any prefix of the path. The turn is the number of tool results that a request carries: retries and side
requests do not move the script. A request without tools is answered with a short text.

A tool whose schema the real provider refuses is answered 400 with the provider's words; `provider.refusals` keeps them.
"""

import contextlib
import dataclasses
import gzip
import http.server
import itertools
import json
import re
import threading

import jsonschema

MODEL = "stand-in"
# Programs take two responses of one id for the same.
RESPONSES = itertools.count(1)
SIDE_ANSWER = "ok"


@dataclasses.dataclass
class Call:
    """A turn in which the model calls a tool. `tool` is the server's name for it: a program may put a prefix before it."""

    tool: str
    arguments: dict


@dataclasses.dataclass
class Tool:
    """A tool as the program sent it to the provider."""

    name: str
    description: str
    schema: dict
    is_strict: bool
    # Responses API: tools may be grouped.
    namespace: str | None
    raw: dict


@dataclasses.dataclass
class Result:
    """What the model is shown of a call. `text` is all of its text; `is_error` is None where the API has no such mark."""

    text: str
    is_error: bool | None
    raw: object


@dataclasses.dataclass
class Request:
    api: str
    path: str
    headers: dict
    body: dict
    tools: list[Tool]
    results: list[Result]

    @property
    def text(self):
        """The whole request, to look for words in."""
        return json.dumps(self.body, ensure_ascii=False)

    def tool(self, name, server=""):
        """The tool of a server: programs put a prefix before its name."""
        return _named(self.tools, name, server)


class Provider:
    """`script` is a list of turns: a `Call`, a list of them (parallel calls), a text, or a function of the request that
    returns one of these. The last turn is repeated. With `validate=False` no schema is refused."""

    def __init__(self, script, validate=True):
        self.script = script if isinstance(script, list) else [script]
        self.validate = validate
        self.requests = []
        self.refusals = []
        # Calls of tools that the request did not have, by name, with the names that it had.
        self.missing = []
        # Requests that no API has: (method, path).
        self.others = []
        self.lock = threading.Lock()
        self.ids = itertools.count(1)

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"provider": self})
        self.server = _HttpServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def with_tools(self):
        """The requests that carry tools."""
        return [own for own in self.requests if own.tools]

    @property
    def results(self):
        """The results of the longest conversation."""
        return max((own.results for own in self.requests), key=len, default=[])

    def tool(self, name, server=""):
        """A tool as it was sent first."""
        for request in self.requests:
            with contextlib.suppress(KeyError):
                return request.tool(name, server)
        raise KeyError(f"no request has the tool {name}: {sorted({own.name for one in self.requests for own in one.tools})}")

    def turn(self, request):
        """What the model says: a list of calls, as (tool, arguments, id), or a text."""
        if not request.tools:
            return SIDE_ANSWER
        turn = self.script[min(len(request.results), len(self.script) - 1)]
        if callable(turn):
            turn = turn(request)
        if isinstance(turn, str):
            return turn
        calls = []
        for call in turn if isinstance(turn, list) else [turn]:
            try:
                calls.append((request.tool(call.tool), call.arguments, f"call_{next(self.ids):08}"))
            except KeyError as error:
                with self.lock:
                    self.missing.append((call.tool, [own.name for own in request.tools]))
                return f"there is no tool {error}"
        return calls

    def answer(self, api, path, headers, body):
        """The status and either a JSON value or a list of server-sent events."""
        request = Request(api.name, path, headers, body, api.tools(body), api.results(body))
        problems = [problem for tool in request.tools for problem in api.problems(tool)] if self.validate else []
        with self.lock:
            self.requests.append(request)
            self.refusals += problems
        if problems:
            return 400, api.error(problems[0])
        turn = self.turn(request)
        is_streamed = ":streamGenerateContent" in path or body.get("stream") is True
        return 200, (api.streamed if is_streamed else api.plain)(turn, body)


def _named(tools, name, server):
    for tool in tools:
        if tool.name == name:
            return tool
    # Some replace the hyphens of a server's name. A program may have a tool of its own whose name ends the same.
    ends = [tool for tool in tools if _plain(tool.name).endswith(f"_{_plain(name)}")]
    of_server = [tool for tool in ends if _plain(server) in _plain(f"{tool.namespace}_{tool.name}")]
    for tool in of_server or ends:
        return tool
    raise KeyError(name)


def _plain(name):
    return re.sub(r"\W", "_", name)


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, *_):
        """A program that ends closes connections as it likes."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.content()
        path = self.path.partition("?")[0]
        for api in APIS:
            if api.counts(path):
                return self.reply(200, api.count())
            if api.serves(path):
                try:
                    parsed = json.loads(body)
                except ValueError as error:
                    return self.reply(400, api.error(f"invalid JSON: {error}"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                return self.reply(*self.provider.answer(api, self.path, headers, parsed))
        self.other()

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/models"):
            return self.reply(200, _models())
        if re.search(r"/models/[^/]+$", path):
            return self.reply(200, _models()["data"][0])
        self.other()

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_CONNECT(self):
        # As a proxy it reaches nothing.
        self.other()

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST

    def other(self):
        with self.provider.lock:
            self.provider.others.append((self.command, self.path))
        self.reply(403 if self.command == "CONNECT" else 404, {"error": {"message": "not served", "type": "not_found_error"}})

    def content(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def reply(self, status, content):
        if isinstance(content, list):
            kind, body = "text/event-stream", "".join(content).encode()
        else:
            kind, body = "application/json", json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def _models():
    """In the shapes of all three."""
    names = [MODEL, "claude-sonnet-4-5", "gpt-5", "gemini-2.5-pro"]
    data = [
        {"id": name, "object": "model", "type": "model", "display_name": name, "created": 1, "owned_by": MODEL,
         "created_at": "2026-01-01T00:00:00Z"}
        for name in names
    ]
    models = [
        {"name": f"models/{name}", "displayName": name, "inputTokenLimit": 200000, "outputTokenLimit": 8192,
         "supportedGenerationMethods": ["generateContent", "countTokens"]}
        for name in names
    ]
    return {"object": "list", "data": data, "models": models, "has_more": False, "first_id": names[0], "last_id": names[-1]}


def _event(data, name=None):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n"


def _texts(content):
    """All text of a result, by any of its names."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_texts(part) for part in content)
    if "structuredContent" in content:
        return json.dumps(content, ensure_ascii=False)
    for key in ("text", "output", "content"):
        if key in content and isinstance(content[key], str | list):
            return _texts(content[key])
    return json.dumps(content, ensure_ascii=False)


class Anthropic:
    name = "anthropic"

    def serves(self, path):
        return path.endswith("/messages")

    def counts(self, path):
        return path.endswith("/messages/count_tokens")

    def count(self):
        return {"input_tokens": 100}

    def error(self, message):
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}

    def tools(self, body):
        # A tool that the provider runs itself has a type and no schema.
        return [
            Tool(own["name"], own.get("description", ""), own["input_schema"], own.get("strict") is True, None, own)
            for own in body.get("tools") or [] if "input_schema" in own
        ]

    def results(self, body):
        parts = [part for own in body["messages"] if isinstance(own["content"], list) for part in own["content"]]
        return [
            Result(_texts(part.get("content")), bool(part.get("is_error")), part)
            for part in parts if part["type"] == "tool_result"
        ]

    def problems(self, tool):
        yield from anthropic_problems(tool)

    def content(self, turn):
        if isinstance(turn, str):
            return [{"type": "text", "text": turn}]
        return [{"type": "tool_use", "id": f"toolu_{id}", "name": own.name, "input": input} for own, input, id in turn]

    def message(self, turn, body):
        return {
            "id": f"msg_{next(RESPONSES):08}", "type": "message", "role": "assistant", "model": body.get("model", MODEL),
            "content": self.content(turn), "stop_reason": "end_turn" if isinstance(turn, str) else "tool_use",
            "stop_sequence": None, "usage": {"input_tokens": 100, "output_tokens": 10},
        }

    plain = message

    def streamed(self, turn, body):
        message = self.message(turn, body)
        events = [{"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}]
        for index, block in enumerate(message["content"]):
            if block["type"] == "text":
                start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                start = {**block, "input": {}}
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events += [
                {"type": "content_block_start", "index": index, "content_block": start},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            ]
        stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        events += [{"type": "message_delta", "delta": stop, "usage": message["usage"]}, {"type": "message_stop"}]
        return [_event(own, own["type"]) for own in events]


class OpenAi:
    """What both of its APIs have."""

    def counts(self, path):
        return False

    def error(self, message):
        kind = {"type": "invalid_request_error", "param": "tools[0].function.parameters", "code": "invalid_function_parameters"}
        return {"error": {"message": message, **kind}}

    def problems(self, tool):
        yield from openai_problems(tool)


class OpenAiChat(OpenAi):
    name = "openai-chat"

    def serves(self, path):
        return path.endswith("/chat/completions")

    def tools(self, body):
        found = []
        for own in body.get("tools") or []:
            if own.get("type") == "function":
                function = own["function"]
                schema = function.get("parameters", {"type": "object", "properties": {}})
                is_strict = function.get("strict") is True
                found.append(Tool(function["name"], function.get("description") or "", schema, is_strict, None, own))
        return found

    def results(self, body):
        return [Result(_texts(own["content"]), None, own) for own in body["messages"] if own["role"] == "tool"]

    def calls(self, turn):
        return [
            {"id": id, "type": "function", "function": {"name": own.name, "arguments": json.dumps(arguments)}}
            for own, arguments, id in turn
        ]

    def head(self, body, kind):
        return {"id": f"chatcmpl-{next(RESPONSES):08}", "object": kind, "created": 1, "model": body.get("model", MODEL)}

    def usage(self):
        return {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}

    def plain(self, turn, body):
        if isinstance(turn, str):
            message, reason = {"role": "assistant", "content": turn, "refusal": None}, "stop"
        else:
            message, reason = {"role": "assistant", "content": None, "tool_calls": self.calls(turn)}, "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return {**self.head(body, "chat.completion"), "choices": [choice], "usage": self.usage()}

    def streamed(self, turn, body):
        head = self.head(body, "chat.completion.chunk")

        def chunk(delta, reason=None):
            return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

        if isinstance(turn, str):
            chunks = [chunk({"role": "assistant", "content": turn}), chunk({}, "stop")]
        else:
            calls = [{"index": index, **call} for index, call in enumerate(self.calls(turn))]
            chunks = [chunk({"role": "assistant", "content": None, "tool_calls": calls}), chunk({}, "tool_calls")]
        # Some read the usage though they did not ask for it; it does no harm.
        chunks.append({**head, "choices": [], "usage": self.usage()})
        return [*map(_event, chunks), "data: [DONE]\n\n"]


class OpenAiResponses(OpenAi):
    name = "openai-responses"

    def serves(self, path):
        return path.endswith("/responses")

    def tools(self, body):
        return list(self.functions(body.get("tools") or [], None))

    def functions(self, tools, namespace):
        for own in tools:
            if own["type"] == "function":
                schema = own.get("parameters") or {"type": "object", "properties": {}}
                yield Tool(own["name"], own.get("description") or "", schema, own.get("strict") is True, namespace, own)
            elif own["type"] == "namespace":
                yield from self.functions(own["tools"], own["name"])

    def results(self, body):
        items = body["input"] if isinstance(body["input"], list) else []
        # Items without a type are messages.
        return [
            Result(_texts(own["output"]), None, own) for own in items
            if own.get("type", "").endswith("_output") and "output" in own
        ]

    def items(self, turn):
        if isinstance(turn, str):
            content = [{"type": "output_text", "text": turn, "annotations": []}]
            head = {"type": "message", "id": f"msg_{next(RESPONSES):08}", "role": "assistant", "status": "completed"}
            return [{**head, "content": content}]
        return [
            {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": own.name, "status": "completed",
             "arguments": json.dumps(arguments), **({"namespace": own.namespace} if own.namespace else {})}
            for own, arguments, id in turn
        ]

    def plain(self, turn, body):
        usage = {
            "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 110,
        }
        return {
            "id": f"resp_{next(RESPONSES):08}", "object": "response", "created_at": 1, "status": "completed", "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "model": body.get("model", MODEL),
            "output": self.items(turn), "parallel_tool_calls": True, "temperature": 1, "tool_choice": "auto", "tools": [],
            "top_p": 1, "usage": usage,
        }

    def streamed(self, turn, body):
        response = self.plain(turn, body)
        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        events = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]
        for index, item in enumerate(response["output"]):
            where = {"output_index": index, "item_id": item["id"]}
            is_call = item["type"] == "function_call"
            empty = {**item, "status": "in_progress", **({"arguments": ""} if is_call else {"content": []})}
            events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
            if is_call:
                kind = "response.function_call_arguments"
                events.append({"type": f"{kind}.delta", **where, "delta": item["arguments"]})
                events.append({"type": f"{kind}.done", **where, "arguments": item["arguments"], "name": item["name"]})
            else:
                where["content_index"] = 0
                (part,) = item["content"]
                events += [
                    {"type": "response.content_part.added", **where, "part": {**part, "text": ""}},
                    {"type": "response.output_text.delta", **where, "delta": part["text"], "logprobs": []},
                    {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []},
                    {"type": "response.content_part.done", **where, "part": part},
                ]
            events.append({"type": "response.output_item.done", "output_index": index, "item": item})
        events.append({"type": "response.completed", "response": response})
        return [_event({**own, "sequence_number": number}, own["type"]) for number, own in enumerate(events)]


class Gemini:
    name = "gemini"

    def serves(self, path):
        return path.endswith((":generateContent", ":streamGenerateContent"))

    def counts(self, path):
        return path.endswith(":countTokens")

    def count(self):
        return {"totalTokens": 100}

    def error(self, message):
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}

    def tools(self, body):
        found = []
        for group in body.get("tools") or []:
            for own in group.get("functionDeclarations") or group.get("function_declarations") or []:
                schema = _either(own, "parameters", "parametersJsonSchema", "parameters_json_schema") or {}
                found.append(Tool(own["name"], own.get("description") or "", schema, False, None, own))
        return found

    def results(self, body):
        found = []
        for content in body["contents"] if isinstance(body["contents"], list) else [body["contents"]]:
            for part in content.get("parts") or []:
                if isinstance(part, dict) and (own := _either(part, "functionResponse", "function_response")):
                    response = own.get("response") or {}
                    text = _texts(response)
                    found.append(Result(text, "error" in response or response.get("isError") is True or None, own))
        return found

    def problems(self, tool):
        yield from gemini_problems(tool)

    def plain(self, turn, body):
        if isinstance(turn, str):
            parts = [{"text": turn}]
        else:
            parts = [{"functionCall": {"id": id, "name": own.name, "args": arguments}} for own, arguments, id in turn]
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
        head = {"modelVersion": MODEL, "responseId": f"response-{next(RESPONSES):08}"}
        return {**head, "candidates": [candidate], "usageMetadata": usage}

    def streamed(self, turn, body):
        return [_event(self.plain(turn, body))]


def _either(value, *keys):
    return next((value[key] for key in keys if key in value), None)


APIS = [Anthropic(), OpenAiResponses(), OpenAiChat(), Gemini()]


# What providers refuse. Messages are the providers' own, as users report them.

UNIONS = ("oneOf", "anyOf", "allOf")
# A schema, a list of schemas, or schemas by name.
ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedProperties")
MANY = (*UNIONS, "prefixItems")
BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def subschemas(schema, path=()):
    """A schema and all within it, each with the path to it."""
    yield path, schema
    if not isinstance(schema, dict):
        return
    for key in ONE:
        if isinstance(schema.get(key), dict):
            yield from subschemas(schema[key], (*path, key))
    for key in MANY:
        for index, own in enumerate(schema[key] if isinstance(schema.get(key), list) else []):
            yield from subschemas(own, (*path, key, str(index)))
    for key in BY_NAME:
        for name, own in (schema[key] if isinstance(schema.get(key), dict) else {}).items():
            yield from subschemas(own, (*path, key, name))


def _is_2020_12(schema):
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError:
        return False
    return True


def anthropic_problems(tool):
    place = f"tools.{tool.name}.custom"
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool.name):
        yield f"{place}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
    if tool.schema.get("type") != "object":
        yield f"{place}.input_schema.type: Input should be 'object'"
    if any(key in tool.schema for key in UNIONS):
        yield f"{place}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
    if not _is_2020_12(tool.schema):
        yield f"{place}.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12"
    for _, schema in subschemas(tool.schema):
        for name in schema.get("properties", {}) if isinstance(schema, dict) else []:
            if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name):
                yield f"{place}.input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{{1,64}}$'"
        if tool.is_strict and isinstance(schema, dict):
            if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
                yield f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false"
            for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "maxItems"):
                if key in schema:
                    yield f"{place}: property '{key}' is not supported"


# `default` was refused until 2025, and is no more: a maintainer's test in openai-agents-python issue 4390.
OPENAI_STRICT_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
OPENAI_STRICT_REFUSED = (
    "allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "unevaluatedProperties", "propertyNames", "minProperties", "maxProperties", "contains", "uniqueItems", "prefixItems",
)


def openai_problems(tool):
    head = f"Invalid schema for function '{tool.name}': "
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name):
        yield f"Invalid 'tools[0].function.name': string does not match pattern '^[a-zA-Z0-9_-]+$': {tool.name}"
    if tool.schema.get("type") != "object":
        yield f"""{head}schema must be a JSON Schema of 'type: "object"', got 'type: "{tool.schema.get("type")}"'."""
    elif any(key in tool.schema for key in (*UNIONS, "enum", "not")):
        yield f"{head}schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
    elif "properties" not in tool.schema:
        yield f"{head}In context=(), object schema missing properties."
    for path, schema in subschemas(tool.schema):
        context = f"In context={path!r}, "
        if isinstance(schema, bool):
            yield f"{head}{context}{schema} is not of type 'object'."
            continue
        kinds = schema.get("type", [])
        if "array" in ([kinds] if isinstance(kinds, str) else kinds) and "items" not in schema:
            yield f"{head}{context}array schema missing items."
        if tool.is_strict:
            yield from (f"{head}{context}{problem}" for problem in _openai_strict_problems(schema))


def _openai_strict_problems(schema):
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            yield "'additionalProperties' is required to be supplied and to be false."
        optional = set(schema.get("properties", {})) - set(schema.get("required", []))
        if optional:
            yield (
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{min(optional)}'."
            )
    if not any(key in schema for key in ("type", "$ref", "enum", "const", *UNIONS)):
        yield "schema must have a 'type' key."
    if "$ref" in schema and len(schema) > 1:
        yield f"$ref cannot have keywords {set(schema) - {'$ref'}}."
    for key in OPENAI_STRICT_REFUSED:
        if key in schema:
            yield f"'{key}' is not permitted."
    if "format" in schema and schema["format"] not in OPENAI_STRICT_FORMATS:
        yield f"'{schema['format']}' is not a valid format."


GEMINI_FIELDS = {
    "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
    "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering", "default",
    "items", "minimum", "maximum",
}


def gemini_problems(tool):
    """The rules of `parameters`, an OpenAPI schema. `parametersJsonSchema` takes more."""
    place = f"tools[0].function_declarations[{tool.name}].parameters"
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", tool.name):
        yield f"* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid function name: {tool.name}"
    is_openapi = "parameters" in tool.raw
    if tool.schema and str(tool.schema.get("type")).upper() != "OBJECT":
        yield f"* GenerateContentRequest.{place}: parameters schema should be of type OBJECT."
    for path, schema in subschemas(tool.schema):
        where = ".".join([place, *path])
        if not isinstance(schema, dict):
            if is_openapi:
                yield f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Schema), {schema}"
            continue
        if None in (schema.get("enum") or []):
            yield f"Invalid value at '{where}.enum' (TYPE_STRING), null"
        if is_openapi:
            yield from _gemini_openapi_problems(schema, where)


def _gemini_openapi_problems(schema, where):
    for key in sorted(set(map(_camel, schema)) - GEMINI_FIELDS):
        yield f"Invalid JSON payload received. Unknown name \"{key}\" at '{where}': Cannot find field."
    kind = schema.get("type", "")
    if isinstance(kind, list):
        yield f"Invalid JSON payload received. Unknown name \"type\" at '{where}': Proto field is not repeating, cannot start list."
        return
    kind = kind.upper()
    if kind == "NULL" and where.endswith(".parameters"):
        yield f"* GenerateContentRequest.{where}: invalid type NULL"
    if any(not isinstance(own, str) for own in schema.get("enum") or []):
        yield f"Invalid value at '{where}.enum[0]' (TYPE_STRING)"
    if schema.get("enum") and kind not in ("", "STRING"):
        yield f"* GenerateContentRequest.{where}.enum: only allowed for STRING type"
    if kind == "STRING" and schema.get("format") not in (None, "", "enum", "date-time"):
        yield f"* GenerateContentRequest.{where}.format: only 'enum' and 'date-time' are supported for STRING type"
    if kind in ("NUMBER", "INTEGER") and schema.get("format") not in (None, "", "float", "double", "int32", "int64"):
        yield f"* GenerateContentRequest.{where}.format: only 'float', 'double', 'int32' and 'int64' are supported"
    if kind == "OBJECT" and schema.get("properties") == {}:
        yield f"* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type"
    if kind == "ARRAY" and "items" not in schema:
        yield f"* GenerateContentRequest.{where}.items: missing field."
    for index, name in enumerate(schema.get("required") or []):
        if name not in (schema.get("properties") or {}):
            yield f"* GenerateContentRequest.{where}.required[{index}]: property is not defined"


def _camel(key):
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest)
