"""huggingface_hub's agent."""

from huggingface_hub import Agent


async def use(server):
    servers = [{"type": "http", "url": server.url}]
    async with Agent(model=server.model, base_url=server.openai, api_key=server.key, servers=servers) as agent:
        await agent.load_tools()
        async for _ in agent.run(server.prompt):
            pass
