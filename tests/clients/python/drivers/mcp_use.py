"""mcp-use, with LangChain's adapter of the model."""

import os

os.environ["MCP_USE_ANONYMIZED_TELEMETRY"] = "false"

from langchain_openai import ChatOpenAI
from mcp_use import MCPAgent, MCPClient


async def use(server):
    model = ChatOpenAI(model=server.model, base_url=server.openai, api_key=server.key)
    # It asks for no scopes of its own accord.
    auth = {"auth": {"scope": "openid email events:write"}} if server.auth else {}
    client = MCPClient(config={"mcpServers": {server.name: {"url": server.url, **auth}}})
    agent = MCPAgent(llm=model, client=client, max_steps=10)
    await agent.run(server.prompt)
    await client.close_all_sessions()
