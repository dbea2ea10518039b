"""The first generation of the official Python SDK, asked by a server: answers after some seconds. Prints what came of it as JSON."""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent


async def use(url, seconds):
    asked = []

    async def on_elicitation(_, params):
        asked.append(params.message)
        await asyncio.sleep(seconds)
        values = {"name": "Ada", "ok": True}
        return ElicitResult(action="accept", content={name: values[name] for name in params.requestedSchema["properties"]})

    async def on_sampling(_, params):
        await asyncio.sleep(seconds)
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Hi."), model="test")

    callbacks = {"elicitation_callback": on_elicitation, "sampling_callback": on_sampling}
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write, **callbacks) as session:
        await session.initialize()

        async def call(name, **arguments):
            return (await session.call_tool(name, arguments)).content[0].text

        greeted = await call("test_input_required_result_elicitation")
        twice = await call("test_input_required_result_multi_round")
        sampled = await call("test_sampling", prompt="Hello?")
    return {"asked": asked, "greeted": greeted, "twice": twice, "sampled": sampled}


print(json.dumps(asyncio.run(use(sys.argv[1], float(sys.argv[2])))))
