"""CAMEL."""

from camel.agents import ChatAgent
from camel.models import ModelFactory
from camel.toolkits import MCPToolkit
from camel.types import ModelPlatformType
from camel.utils import BaseTokenCounter


class Counter(BaseTokenCounter):
    """In place of one that downloads its vocabulary."""

    def count_tokens_from_messages(self, messages):
        return len(str(messages))

    def encode(self, text):
        return list(text.encode())

    def decode(self, token_ids):
        return bytes(token_ids).decode()


async def use(server):
    options = {"url": server.openai, "api_key": server.key, "token_counter": Counter()}
    model = ModelFactory.create(ModelPlatformType.OPENAI_COMPATIBLE_MODEL, server.model, **options)
    async with MCPToolkit(config_dict={"mcpServers": {server.name: {"url": server.url, "mode": "streamable-http"}}}) as toolkit:
        agent = ChatAgent(model=model, tools=toolkit.get_tools())
        await agent.astep(server.prompt)
