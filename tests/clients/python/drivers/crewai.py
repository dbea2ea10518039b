"""CrewAI with crewai-tools' adapter."""

import os

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", OTEL_SDK_DISABLED="true")

from crewai import LLM, Agent
from crewai_tools import MCPServerAdapter


def use(server):
    llm = LLM(model=f"openai/{server.model}", base_url=server.openai, api_key=server.key)
    with MCPServerAdapter({"url": server.url, "transport": "streamable-http"}) as tools:
        agent = Agent(role="helper", goal="help", backstory="A helper.", tools=tools, llm=llm)
        agent.kickoff(server.prompt)
