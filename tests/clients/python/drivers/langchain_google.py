"""LangChain's agent, with its MCP adapter and Google's adapter of the model."""

from langchain.agents import create_agent
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_mcp_adapters.client import MultiServerMCPClient


async def use(server):
    client = MultiServerMCPClient({server.name: {"transport": "streamable_http", "url": server.url}})
    model = ChatGoogleGenerativeAI(model="gemini-2.5-pro", base_url=server.provider, api_key=server.key)
    agent = create_agent(model, await client.get_tools())
    await agent.ainvoke({"messages": [("user", server.prompt)]})
