"""llm, by its plugin llm-tools-mcp."""

import json
import pathlib

import llm
from llm.default_plugins.openai_models import Chat
from llm_tools_mcp.register_tools import MCP


def use(server):
    config = pathlib.Path(f"{server.name}.json")
    config.write_text(json.dumps({"mcpServers": {server.name: {"type": "http", "url": server.url}}}))
    model = Chat(server.model, api_base=server.openai, supports_tools=True)
    model.key = server.key
    model.chain(server.prompt, tools=[MCP(str(config))]).text()
