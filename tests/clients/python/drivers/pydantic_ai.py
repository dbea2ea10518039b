"""pydantic-ai."""

from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def use(server):
    model = OpenAIChatModel(server.model, provider=OpenAIProvider(base_url=server.openai, api_key=server.key))
    agent = Agent(model, toolsets=[MCPToolset(server.url, auth=server.auth)])
    async with agent:
        await agent.run(server.prompt)
