"""DSPy's ReAct."""

import dspy
from mcp import Client


async def use(server):
    model = dspy.LM(f"openai/{server.model}", api_base=server.openai, api_key=server.key, cache=False)
    async with Client(server.url) as client:
        tools = [dspy.Tool.from_mcp_tool(client, tool) for tool in (await client.list_tools()).tools]
        results = []
        for name, arguments in server.calls:
            tool = next(tool for tool in tools if tool.name == name)
            try:
                results.append(str(await tool.acall(**arguments)))
            except Exception as error:
                # As ReAct shows it to the model.
                results.append(f"Execution error in {name}: {error}")
        given = [{"name": tool.name, "schema": {"type": "object", "properties": tool.args}} for tool in tools]
        return {"tools": given, "results": results}
