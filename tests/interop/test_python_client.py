"""The official Python client."""

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

VERSIONS = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}


@pytest.mark.parametrize("mode", VERSIONS)
def test_lists_calls_and_meets_errors(greeter, mode):
    async def use():
        async with Client(greeter, mode=mode) as client:
            assert client.protocol_version == VERSIONS[mode]
            # A pinned client asks nobody who the server is.
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
