"""google-adk."""

from google.adk.agents import LlmAgent
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StreamableHTTPConnectionParams
from google.genai import types


async def use(server):
    tools = McpToolset(connection_params=StreamableHTTPConnectionParams(url=server.url))
    model = Gemini(model="gemini-2.5-pro", base_url=server.provider)
    runner = InMemoryRunner(agent=LlmAgent(name="agent", model=model, tools=[tools]), app_name="clients")
    session = await runner.session_service.create_session(app_name="clients", user_id="user")
    message = types.Content(role="user", parts=[types.Part(text=server.prompt)])
    async for _ in runner.run_async(user_id="user", session_id=session.id, new_message=message):
        pass
    await runner.close()
