"""strands-agents."""

from strands import Agent
from strands.models.openai import OpenAIModel
from strands.tools.mcp import MCPClient
from mcp.client.streamable_http import streamable_http_client


def use(server):
    arguments = {"base_url": server.openai, "api_key": server.key}
    model = OpenAIModel(client_args=arguments, model_id=server.model)
    with MCPClient(lambda: streamable_http_client(server.url)) as client:
        agent = Agent(model=model, tools=client.list_tools_sync(), callback_handler=None)
        agent(server.prompt)
