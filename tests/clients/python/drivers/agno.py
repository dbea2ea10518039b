"""agno."""

from agno.agent import Agent
from agno.models.openai import OpenAILike
from agno.tools.mcp import MCPTools


async def use(server):
    model = OpenAILike(id=server.model, base_url=server.openai, api_key=server.key)
    async with MCPTools(url=server.url, transport="streamable-http") as tools:
        await Agent(model=model, tools=[tools], telemetry=False).arun(server.prompt)
