"""AgentScope."""

from agentscope.agent import Agent
from agentscope.credential import OpenAICredential
from agentscope.mcp import HttpMCPConfig, MCPClient
from agentscope.message import UserMsg
from agentscope.model import OpenAIChatModel
from agentscope.permission import PermissionContext, PermissionMode
from agentscope.state import AgentState
from agentscope.tool import Toolkit


async def use(server):
    model = OpenAIChatModel(OpenAICredential(api_key=server.key, base_url=server.openai), server.model)
    client = MCPClient(name=server.name, is_stateful=False, mcp_config=HttpMCPConfig(url=server.url))
    # It asks the person before it calls a tool that writes.
    state = AgentState(permission_context=PermissionContext(mode=PermissionMode.BYPASS))
    agent = Agent("agent", "You help.", model, toolkit=Toolkit(mcps=[client]), state=state)
    await agent.reply(UserMsg("user", server.prompt))
