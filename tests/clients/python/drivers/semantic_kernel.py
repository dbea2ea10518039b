"""semantic-kernel."""

from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.connectors.mcp import MCPStreamableHttpPlugin


async def use(server):
    client = AsyncOpenAI(base_url=server.openai, api_key=server.key)
    # A plugin's name may have no hyphen.
    async with client, MCPStreamableHttpPlugin(server.name.replace("-", "_"), server.url) as plugin:
        service = OpenAIChatCompletion(server.model, async_client=client)
        agent = ChatCompletionAgent(service=service, name="agent", plugins=[plugin])
        await agent.get_response(server.prompt)
