"""The harness: what it must notice."""

import pytest
import servers
from providers import Tool, anthropic_problems, gemini_problems, openai_problems


def tool(schema, name="tool", is_strict=False, raw=None):
    return Tool(name, "", schema, is_strict, None, raw or {"parameters": schema})


UNION_AT_THE_ROOT = {"type": "object", "oneOf": [{"type": "object", "properties": {}}]}
OPTIONAL = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def of(schema):
    return {"type": "object", "properties": {"one": schema}, "required": ["one"], "additionalProperties": False}


REFUSED = [
    (openai_problems, tool(UNION_AT_THE_ROOT), "at the top level"),
    (openai_problems, tool({"type": "object"}), "missing properties"),
    (openai_problems, tool(of(True)), "not of type"),
    (openai_problems, tool(of({"type": "array"})), "missing items"),
    (openai_problems, tool(of({"type": "integer", "format": "int64"}), is_strict=True), "not a valid format"),
    (openai_problems, tool({**of(OPTIONAL), "required": []}, is_strict=True), "Missing 'one'"),
    (openai_problems, tool({**of(OPTIONAL), "additionalProperties": True}, is_strict=True), "to be false"),
    (anthropic_problems, tool(UNION_AT_THE_ROOT), "at the top level"),
    (anthropic_problems, tool({"properties": {}}), "type"),
    (anthropic_problems, tool({"type": "object", "properties": {"größe": {"type": "string"}}}), "Property keys"),
    (anthropic_problems, tool(of({"type": "text"})), "draft 2020-12"),
    (anthropic_problems, tool(of({}), name="a.b"), "name"),
    (gemini_problems, tool(of({})), "additionalProperties"),
    (gemini_problems, tool(of({"enum": ["a", None]}), raw={"parametersJsonSchema": {}}), "null"),
    (gemini_problems, tool({"type": "OBJECT", "properties": {"one": {"type": ["string", "null"]}}}), "not repeating"),
    (gemini_problems, tool({"type": "OBJECT", "properties": {"one": {"type": "STRING", "format": "uri"}}}), "format"),
    (gemini_problems, tool({"type": "OBJECT", "properties": {"one": {"type": "INTEGER", "enum": [1]}}}), "enum"),
]


@pytest.mark.parametrize("problems, refused, words", REFUSED, ids=[words for *_, words in REFUSED])
def test_a_provider_refuses_what_the_real_one_refuses(problems, refused, words):
    assert any(words in problem for problem in problems(refused)), list(problems(refused))


@pytest.mark.parametrize("problems", [openai_problems, anthropic_problems, gemini_problems])
def test_a_provider_takes_a_plain_tool(problems):
    schema = {"type": "object", "properties": {"name": {"type": "string", "description": "Who."}}, "required": ["name"]}
    assert not list(problems(tool(schema)))


def test_openai_takes_an_optional_argument_in_strict_mode():
    assert not list(openai_problems(tool(of(OPTIONAL), is_strict=True)))


WARNINGS = [
    'unknown format "uint8" ignored in schema at path "#/properties/skip"',
    "[WARN] greeter: tool personalized_greeting has an invalid input",
    "Error discovering prompts from event-logger: Method not found",
]


@pytest.mark.parametrize("line", WARNINGS)
def test_a_warning_about_a_server_is_noticed(line):
    assert servers.warnings(f"starting\n{line}\ndone\n") == [line]


def test_other_lines_are_no_warnings():
    assert not servers.warnings("(node:1) DeprecationWarning: punycode\nconnected to greeter\nerror: no telemetry\n")
