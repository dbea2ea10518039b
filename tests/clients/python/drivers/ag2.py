"""AG2."""

from ag2 import Agent
from ag2.config import OpenAIConfig
from ag2.tools import MCPToolkit


async def use(server):
    config = OpenAIConfig(model=server.model, base_url=server.openai, api_key=server.key)
    agent = Agent("agent", config=config, tools=[MCPToolkit(server.url)])
    await agent.ask(server.prompt)
