"""The Anthropic SDK's helpers for MCP."""

from anthropic import AsyncAnthropic
from anthropic.lib.tools.mcp import async_mcp_tool
from mcp import Client


async def use(server):
    async with AsyncAnthropic(base_url=server.provider, api_key=server.key) as model, Client(server.url) as client:
        tools = [async_mcp_tool(tool, client) for tool in (await client.list_tools()).tools]
        message = {"role": "user", "content": server.prompt}
        # Each request has the whole conversation.
        options = {"model": server.model, "max_tokens": 1000, "thread": False}
        runner = model.beta.messages.tool_runner(messages=[message], tools=tools, **options)
        await runner.until_done()
