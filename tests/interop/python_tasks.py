"""The first generation of the official Python SDK, which knows no tasks: a short call of a tool, one that takes four seconds, and its
result. Prints (is_error, text, structured) of each as JSON."""

import asyncio
import json
import re
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def use(url, tool):
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        # From here on it checks results against output schemas.
        await session.list_tools()

        async def call(name, **arguments):
            result = await session.call_tool(name, arguments)
            return result.isError, result.content[0].text, result.structuredContent

        quick, handle = await call(tool, seconds=0.1), await call(tool, seconds=4)
        task_id = re.search("task_id `([^`]+)`", handle[1])[1]
        for _ in range(60):
            result = await call("get_task_result", task_id=task_id)
            if not result[0]:
                break
            await asyncio.sleep(0.5)
        return quick, handle, result


print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
