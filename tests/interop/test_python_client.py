"""The official Python client."""

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, PromptReference, Root, TextContent

VERSIONS = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}


@pytest.mark.parametrize("mode", VERSIONS)
def test_lists_calls_and_meets_errors(greeter, mode):
    async def use():
        async with Client(greeter, mode=mode) as client:
            assert client.protocol_version == VERSIONS[mode]
            # A client with a pinned version sends no discovery request.
            assert mode == "2026-07-28" or client.server_info.name == "greeter"

            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["personalized_greeting"]
            assert tools[0].annotations.read_only_hint is True

            greeted = await client.call_tool("personalized_greeting", {"name": "Ada"})
            assert not greeted.is_error
            assert greeted.content[0].text == "Hello, Ada! Welcome to the serverless MCP world."

            refused = await client.call_tool("personalized_greeting", {"name": ""})
            assert refused.is_error
            assert "`name`" in refused.content[0].text

            prompts = (await client.list_prompts()).prompts
            assert [argument.name for argument in prompts[0].arguments] == ["name", "tone"]
            prompt = await client.get_prompt("introduction", {"name": "Ada", "tone": "funny"})
            assert "a funny introduction" in prompt.messages[0].content.text
            reference = PromptReference(type="ref/prompt", name="introduction")
            suggested = await client.complete(reference, {"name": "tone", "value": "w"})
            assert suggested.completion.values == ["warm"]

            resources = (await client.list_resources()).resources
            assert [str(resource.uri) for resource in resources] == ["greeter://guide"]
            guide = await client.read_resource("greeter://guide")
            assert guide.contents[0].text.startswith("# Greeter")
            with pytest.raises(MCPError, match="resource not found"):
                await client.read_resource("greeter://other")

            with pytest.raises(MCPError, match="unknown tool"):
                await client.call_tool("no_such_tool", {})

    anyio.run(use)


@pytest.mark.parametrize("mode", VERSIONS)
def test_progress_arrives_before_the_result_of_a_tool_that_takes_its_time(countdown, mode):
    async def use():
        seen = []

        async def on_progress(progress, total, message):
            seen.append((progress, total, message))

        async with Client(countdown, mode=mode) as client:
            result = await client.call_tool("countdown", {"from": 3}, progress_callback=on_progress)

        assert result.content[0].text == "Lift-off!"
        assert seen == [(1, 3, "2 to go"), (2, 3, "1 to go"), (3, 3, "0 to go")]

    anyio.run(use)


@pytest.mark.parametrize("mode", ["auto", "2026-07-28"])
def test_questions_are_answered_round_by_round(asking, mode):
    async def use():
        asked = []

        async def on_elicitation(_, params):
            asked.append(params.message)
            fields = params.requested_schema["properties"]
            values = {"name": "Ada", "ok": True, "context": "tides"}
            return ElicitResult(action="accept", content={name: values[name] for name in fields})

        async def on_sampling(_, params):
            asked.append(params.messages[0].content.text)
            return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Hi."), model="test")

        async def on_roots(_):
            return ListRootsResult(roots=[Root(uri="file:///home/ada")])

        callbacks = {
            "elicitation_callback": on_elicitation, "sampling_callback": on_sampling, "list_roots_callback": on_roots
        }
        async with Client(asking, mode=mode, **callbacks) as client:
            greeted = await client.call_tool("test_input_required_result_elicitation", {})
            assert greeted.content[0].text == "Hello, Ada!"

            asked.clear()
            twice = await client.call_tool("test_input_required_result_multi_round", {})
            assert not twice.is_error
            assert asked == ["Step 1: what is your name?", "Step 2: continue?"]

            at_once = await client.call_tool("test_input_required_result_multiple_inputs", {})
            assert at_once.content[0].text.endswith("; Hi.; 1 directories")

            prompt = await client.get_prompt("test_input_required_result_prompt")
            assert prompt.messages[0].content.text == "Tell me about tides."

    anyio.run(use)
