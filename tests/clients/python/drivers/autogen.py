"""autogen's chat agent."""

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import StreamableHttpServerParams, mcp_server_tools

INFO = {"vision": False, "function_calling": True, "json_output": True, "family": "unknown", "structured_output": True}


async def use(server):
    tools = await mcp_server_tools(StreamableHttpServerParams(url=server.url))
    model = OpenAIChatCompletionClient(model=server.model, base_url=server.openai, api_key=server.key, model_info=INFO)
    agent = AssistantAgent("agent", model, tools=tools, max_tool_iterations=5)
    await agent.run(task=server.prompt)
    await model.close()
