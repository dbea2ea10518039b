"""LangChain's agent, with its MCP adapter and OpenAI's adapter of the model."""

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI


async def use(server):
    client = MultiServerMCPClient({server.name: {"transport": "streamable_http", "url": server.url}})
    model = ChatOpenAI(model=server.model, base_url=server.openai, api_key=server.key)
    agent = create_agent(model, await client.get_tools())
    await agent.ainvoke({"messages": [("user", server.prompt)]})
