"""LlamaIndex's agent."""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec


async def use(server):
    model = OpenAILike(
        model=server.model, api_base=server.openai, api_key=server.key, is_chat_model=True, is_function_calling_model=True
    )
    tools = await McpToolSpec(client=BasicMCPClient(server.url)).to_tool_list_async()
    await FunctionAgent(tools=tools, llm=model).run(server.prompt)
