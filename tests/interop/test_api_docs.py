"""api-docs with other people's OpenAPI documents, used by the official Python client."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import tempfile
import threading

import anyio
import boto3
import pytest
import yaml
from aws_account import REGION, account
from botocore.exceptions import ClientError
from conftest import build, emulated
from mcp import Client
from mcp.types import ElicitResult, ResourceTemplateReference
from moto.core import enable_iam_authentication
from recorder import Recorder

import tools

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
MOST_BYTES = 48 * 1024
STATE_KEY = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
# What is looked for by words, with the operation that is best; and words that mean several.
QUESTIONS = {
    "gitbook": ("get the authenticated user", "getAuthenticatedUser", "get space"),
    "kubernetes": ("read core v1 node status", "readCoreV1NodeStatus", "list secret"),
    "stripe": ("POST /v1/customers", "PostCustomers", "refund charge"),
}


class Document:
    """A document as Python reads it, and api-docs with the same one."""

    def __init__(self, name, url):
        self.name, self.url = name, url
        self.root = yaml.load(tools.DOCUMENTS[name].read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.operations = {
            own["operationId"]: (method.upper(), path)
            for path, item in self.root["paths"].items() for method, own in item.items() if method in METHODS
        }

    def target(self, reference):
        value = self.root
        for part in reference.removeprefix("#/").split("/"):
            value = value[part.replace("~1", "/").replace("~0", "~")]
        return value


@pytest.fixture(scope="module", params=list(tools.DOCUMENTS))
def document(request):
    """Each comes from another kind of place."""
    assert tools.DOCUMENTS[request.param].stat().st_size > 1_000_000
    place = {"gitbook": from_its_zip, "kubernetes": from_s3, "stripe": from_a_url}[request.param]
    with place(tools.DOCUMENTS[request.param]) as (program, variables):
        # The memory of its stack, by which the document is bounded.
        running = emulated(program, "buffered", 2, "--memory", 512, MCP_STATE_KEY=STATE_KEY, **variables)
        try:
            with Recorder(running.url) as recorder:
                yield Document(request.param, recorder.url)
            recorder.check(least=10)
        finally:
            running.stop()


@contextlib.contextmanager
def from_its_zip(path):
    build()
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "api-docs"
        shutil.copy(tools.target_folder() / "debug" / program.name, program)
        shutil.copy(path, folder)
        yield program, {"OPENAPI_SOURCE": f"file:{path.name}"}


@contextlib.contextmanager
def from_s3(path):
    bucket, key = "documents.example", "api v1/openapi.json"
    with account():
        s3, iam = boto3.client("s3"), boto3.client("iam")
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        iam.create_user(UserName="function")
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/{key}"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="function", PolicyName="document", PolicyDocument=policy)
        credentials = iam.create_access_key(UserName="function")["AccessKey"]
        # moto verifies signatures and policies from here on.
        with enable_iam_authentication():
            with pytest.raises(ClientError, match="InvalidAccessKeyId"):
                s3.get_object(Bucket=bucket, Key=key)
            yield "api-docs", {
                "OPENAPI_SOURCE": f"s3://{bucket}/{key}",
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL_S3": os.environ["AWS_ENDPOINT_URL"],
                "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            }


@contextlib.contextmanager
def from_a_url(path):
    with Origin(path.read_bytes()) as origin:
        yield "api-docs", {"OPENAPI_SOURCE": origin.url}


class Origin:
    """A web server of one document, which knows its ETag."""

    def __init__(self, content):
        self.content, self.version, self.sent = content, 1, 0
        own = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                etag = f'"{own.version}"'
                if self.headers.get("if-none-match") == etag:
                    self.send_response(304)
                    self.end_headers()
                    return
                own.sent += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(own.content)))
                self.send_header("ETag", etag)
                self.end_headers()
                self.wfile.write(own.content)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/openapi.json"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def all_of(client, tool, member):
    found, skip = [], 0
    while skip is not None:
        page = await call(client, tool, skip=skip, limit=200)
        found += page[member]
        skip = page.get("next_skip")
    assert len(found) == page["total"]
    return found


def test_everything_is_listed(document):
    async def use():
        async with Client(document.url) as client:
            operations = await all_of(client, "list_operations", "operations")
            listed = {own["operation_id"]: (own["method"], own["path"]) for own in operations}
            assert listed == document.operations
            schemas = await all_of(client, "list_schemas", "schemas")
            assert {own["name"] for own in schemas} == set(document.root["components"]["schemas"])

    anyio.run(use)


def test_what_is_read_is_what_the_document_says(document):
    async def use():
        async with Client(document.url) as client:
            names = [("read_operation", "operation_id", name) for name in document.operations]
            names += [("read_schema", "name", name) for name in document.root["components"]["schemas"]]
            cut = 0
            for tool, argument, name in names[:: len(names) // 120]:
                read = await call(client, tool, **{argument: name})
                size = len(json.dumps(read["definition"], separators=(",", ":"), ensure_ascii=False).encode())
                assert size <= MOST_BYTES, (name, size)
                left = compare(document, read["definition"])
                # The answer names what is missing.
                assert left == 0 or "note" in read, name
                cut += left > 0
            assert cut, "a document of this size has what does not fit"

    anyio.run(use)


def compare(document, value):
    """Compares what stands for a reference with what the document has there; returns how much was left out."""
    if isinstance(value, list):
        return sum(compare(document, item) for item in value)
    if not isinstance(value, dict):
        return 0
    if "x-cut" in value or isinstance(value.get("$ref"), str):
        return 1
    if "x-ref" in value:
        target = document.target(value["x-ref"])
        while isinstance(target.get("$ref"), str):
            target = document.target(target["$ref"])
        assert set(target) <= set(value), value["x-ref"]
        for key, own in target.items():
            if isinstance(own, bool | int) or key in ("type", "format", "in", "name"):
                assert value[key] == own, (value["x-ref"], key)
    return sum(compare(document, own) for own in value.values())


def test_what_was_left_out_is_read_on(document):
    async def use():
        async with Client(document.url) as client:
            for name in document.operations:
                read = await call(client, "read_operation", operation_id=name)
                pointer = pointer_of(read["definition"])
                if pointer:
                    on = await call(client, "read_operation", operation_id=name, pointer=pointer)
                    assert "$ref" not in on["definition"], (name, pointer)
                    return
            raise AssertionError("nothing was left out")

    anyio.run(use)


def pointer_of(value, pointer=""):
    """Where a reference was left."""
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        return pointer
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        if found := pointer_of(member, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"):
            return found
    return None


def test_words_find_it_and_a_person_chooses_among_several(document):
    words, expected, ambiguous = QUESTIONS[document.name]

    async def use():
        asked = []

        async def on_elicitation(_, params):
            (field,) = params.requested_schema["properties"].values()
            asked.append([option["const"] for option in field["oneOf"]])
            return ElicitResult(action="accept", content={"operation": asked[-1][-1]})

        async with Client(document.url, elicitation_callback=on_elicitation) as client:
            found = await call(client, "search", query=words, kind="operations")
            assert expected == found["operations"][0]["operation_id"]
            assert (await call(client, "find_operation", query=words))["operation_id"] == expected
            assert not asked

            chosen = await call(client, "find_operation", query=ambiguous)
            assert chosen["operation_id"] == asked[0][-1]
            assert len(asked) == 1 and set(asked[0]) <= set(document.operations)

        # An older client gets the list of what exists.
        async with Client(document.url, mode="legacy") as client:
            told = await client.call_tool("find_operation", {"query": ambiguous})
            assert told.is_error
            assert all(f"`{name}`" in told.content[0].text for name in asked[0])

    anyio.run(use)


def test_operations_are_resources_and_their_ids_are_completed(document):
    async def use():
        async with Client(document.url) as client:
            (template,) = (await client.list_resource_templates()).resource_templates
            assert template.uri_template == "openapi://operations/{operationId}"
            some = sorted(document.operations)[len(document.operations) // 2]
            reference = ResourceTemplateReference(type="ref/resource", uri=template.uri_template)
            suggested = await client.complete(reference, {"name": "operationId", "value": some[:-1]})
            assert some in suggested.completion.values
            read = await client.read_resource(f"openapi://operations/{some}")
            assert json.loads(read.contents[0].text) == await call(client, "read_operation", operation_id=some)

    anyio.run(use)


@pytest.mark.parametrize("mode", ["buffered", "stream"])
def test_a_document_that_has_changed_is_read_with_progress(mode):
    async def use(origin, url):
        seen = []

        async def on_progress(progress, total, message):
            seen.append((progress, total, message))

        async with Client(url) as client:
            for version in (1, 2):
                if version == 2:
                    origin.content = origin.content.replace(b"Stripe API", b"Striped API")
                    origin.version = 2
                listed = await client.call_tool("list_operations", {"limit": 1}, progress_callback=on_progress)
                assert listed.structured_content["api"] == ("Stripe API" if version == 1 else "Striped API")
                assert bool(seen) == (version == 2)
            assert {(total, message) for _, total, message in seen} == {(len(origin.content), "downloading the document")}
            # It was sent at the start and when it had changed, and is known from then on.
            await client.call_tool("list_operations", {"limit": 1})
            assert origin.sent == 2

    with Origin(tools.DOCUMENTS["stripe"].read_bytes()) as origin:
        variables = {"OPENAPI_SOURCE": origin.url, "OPENAPI_MAX_AGE_SECONDS": "0", "MCP_STATE_KEY": STATE_KEY}
        with emulated("api-docs", mode, 1, **variables) as url:
            anyio.run(use, origin, url)
