"""mcp-agent."""

from mcp_agent.agents.agent import Agent
from mcp_agent.app import MCPApp
from mcp_agent.config import LoggerSettings, MCPServerSettings, MCPSettings, OpenAISettings, Settings
from mcp_agent.workflows.llm.augmented_llm_openai import OpenAIAugmentedLLM


async def use(server):
    settings = Settings(
        logger=LoggerSettings(type="console", level="warning"),
        mcp=MCPSettings(servers={server.name: MCPServerSettings(transport="streamable_http", url=server.url)}),
        openai=OpenAISettings(base_url=server.openai, api_key=server.key, default_model=server.model),
    )
    async with MCPApp("clients", settings=settings).run():
        async with Agent(name="agent", server_names=[server.name]) as agent:
            model = await agent.attach_llm(OpenAIAugmentedLLM)
            await model.generate_str(server.prompt)
