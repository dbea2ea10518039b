"""Haystack's agent."""

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
from haystack_integrations.tools.mcp import MCPToolset, StreamableHttpServerInfo


def use(server):
    model = OpenAIChatGenerator(Secret.from_token(server.key), server.model, api_base_url=server.openai)
    tools = MCPToolset(StreamableHttpServerInfo(url=server.url))
    try:
        agent = Agent(chat_generator=model, tools=tools)
        agent.run(messages=[ChatMessage.from_user(server.prompt)])
    finally:
        tools.close()
