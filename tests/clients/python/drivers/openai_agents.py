"""openai-agents, with schemas made strict."""

from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI

set_tracing_disabled(True)


async def use(server):
    model = OpenAIResponsesModel(server.model, AsyncOpenAI(base_url=server.openai, api_key=server.key))
    async with MCPServerStreamableHttp({"url": server.url}, name=server.name) as mcp:
        agent = Agent("agent", model=model, mcp_servers=[mcp], mcp_config={"convert_schemas_to_strict": True})
        await Runner.run(agent, server.prompt)
