"""The official TypeScript clients of both generations, and MCP Inspector."""

import json

import pytest
import tools

INSPECTOR = tools.NODE_MODULES / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
GREETING = "Hello, Ada! Welcome to the serverless MCP world."


@pytest.mark.parametrize(
    ("script", "mode", "version"),
    [
        ("typescript_client.mjs", "auto", "2026-07-28"),
        ("typescript_client.mjs", "legacy", "2025-11-25"),
        ("typescript_client.mjs", "2026-07-28", "2026-07-28"),
        ("typescript_sdk.mjs", "-", "2025-11-25"),
    ],
)
def test_lists_calls_and_meets_errors(greeter, node, script, mode, version):
    tools.beside_packages(tools.INTEROP / "typescript_use.mjs")

    saw = json.loads(node(script, greeter, mode).stdout)

    is_error, complaint = saw.pop("refused")
    assert is_error is True and "`name`" in complaint
    assert saw == {
        "version": version,
        "server": "greeter",
        "tools": ["personalized_greeting"],
        "greeted": GREETING,
        "unknown": -32602,
        "prompts": ["introduction"],
        "prompt": True,
        "suggested": ["warm"],
        "resources": ["greeter://guide"],
        "guide": "# Greeter",
        # The newer client shows the older revisions' code as its own.
        "missing": -32002 if script == "typescript_sdk.mjs" else -32602,
    }


def test_questions_are_answered_round_by_round(asking, node):
    saw = json.loads(node("typescript_asked.mjs", asking).stdout)

    name = "What is your name?"
    assert saw["asked"] == [name, "Step 1: what is your name?", "Step 2: continue?", name]
    assert saw["greeted"] == "Hello, Ada!"
    assert "Ada" in saw["twice"]
    assert saw["atOnce"].endswith("; Hi.; 1 directories")


def inspect(node, url, *words, check=True):
    return node(INSPECTOR, "--cli", url, "--transport", "http", *words, check=check)


def test_the_inspector_lists_and_calls(greeter, node):
    listed = json.loads(inspect(node, greeter, "--method", "tools/list", "--strict").stdout)
    assert [tool["name"] for tool in listed["tools"]] == ["personalized_greeting"]

    call = ["--method", "tools/call", "--tool-name", "personalized_greeting", "--tool-arg"]
    greeted = json.loads(inspect(node, greeter, *call, "name=Ada").stdout)
    assert greeted["content"][0]["text"] == GREETING


def test_the_inspector_gets_the_prompt_and_reads_the_resource(greeter, node):
    get = ["--method", "prompts/get", "--prompt-name", "introduction", "--prompt-args", "name=Ada"]
    prompt = json.loads(inspect(node, greeter, *get).stdout)
    assert "a warm introduction" in prompt["messages"][0]["content"]["text"]

    guide = json.loads(inspect(node, greeter, "--method", "resources/read", "--uri", "greeter://guide").stdout)
    assert guide["contents"][0]["mimeType"] == "text/markdown"


def test_the_inspector_shows_an_error(greeter, node):
    call = ["--method", "tools/call", "--tool-name", "personalized_greeting", "--tool-arg", "nme=Ada"]

    refused = inspect(node, greeter, *call, check=False)

    assert "unknown field `nme`" in refused.stdout + refused.stderr
