"""Inspect's agent (inspect-ai)."""

from inspect_ai import Task, eval_async
from inspect_ai.agent import react
from inspect_ai.dataset import Sample
from inspect_ai.model import get_model
from inspect_ai.tool import mcp_server_http


async def use(server):
    tools = mcp_server_http(name=server.name, url=server.url)
    model = get_model(f"openai/{server.model}", base_url=server.openai, api_key=server.key, responses_api=False)
    task = Task(dataset=[Sample(server.prompt)], solver=react(tools=[tools], submit=False))
    (log,) = await eval_async(task, model=model, log_dir="logs")
    assert log.status == "success", log.error
