"""Microsoft's agent-framework."""

from agent_framework import Agent, MCPStreamableHTTPTool
from agent_framework.openai import OpenAIChatCompletionClient
from openai import AsyncOpenAI


async def use(server):
    openai = AsyncOpenAI(base_url=server.openai, api_key=server.key)
    client = OpenAIChatCompletionClient(server.model, async_client=openai)
    # The model is shown no error's text otherwise.
    client.function_invocation_configuration["include_detailed_errors"] = True
    async with openai, MCPStreamableHTTPTool(server.name, server.url) as tool, Agent(client=client, tools=tool) as agent:
        await agent.run(server.prompt)
