"""chuk-mcp."""

from chuk_mcp.protocol.messages import (
    send_initialize, send_prompts_list, send_resources_list, send_tools_call, send_tools_list,
)
from chuk_mcp.transports.http import StreamableHTTPParameters, http_client


async def use(server):
    async with http_client(StreamableHTTPParameters(url=server.url)) as (read, write):
        initialized = await send_initialize(read, write)
        tools = (await send_tools_list(read, write)).tools
        results = []
        for name, arguments in server.calls:
            result = await send_tools_call(read, write, name, arguments)
            results.append("\n".join(part["text"] for part in result.content))
        return {
            "revision": initialized.protocolVersion,
            "tools": [{"name": tool.name, "schema": tool.inputSchema} for tool in tools],
            "results": results,
        }
