"""The first generation of the official Python SDK over a rate limit. Prints what it got as JSON."""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def use(url):
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()

        async def call(name):
            result = await session.call_tool(name)
            return {"isError": result.isError, "text": result.content[0].text}

        called = [await call("render") for _ in range(3)]
        requested = [await call("status") for _ in range(20)]
    return {"called": called, "requested": requested}


print(json.dumps(asyncio.run(use(sys.argv[1]))))
