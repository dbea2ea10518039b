"""fastmcp's client."""

from fastmcp import Client


async def use(server):
    async with Client(server.url, auth=server.auth) as client:
        tools = await client.list_tools()
        await client.list_prompts()
        await client.list_resources()
        results = [await client.call_tool(name, arguments, raise_on_error=False) for name, arguments in server.calls]
        return {
            "tools": [{"name": tool.name, "schema": tool.input_schema} for tool in tools],
            "results": ["\n".join(part.text for part in result.content) for result in results],
        }
