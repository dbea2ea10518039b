"""google-genai: its client of the model, with tools as an MCP session lists them."""

from google import genai
from google.genai import types
from mcp import Client


async def use(server):
    model = genai.Client(api_key=server.key, http_options=types.HttpOptions(base_url=server.provider)).aio
    async with Client(server.url) as client, model:
        declarations = [
            types.FunctionDeclaration(name=tool.name, description=tool.description, parameters_json_schema=tool.input_schema)
            for tool in (await client.list_tools()).tools
        ]
        config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=declarations)])
        chat = model.chats.create(model="gemini-2.5-pro", config=config)
        response = await chat.send_message(server.prompt)
        while response.function_calls:
            parts = []
            for call in response.function_calls:
                result = await client.call_tool(call.name, call.args)
                parts.append(types.Part.from_function_response(name=call.name, response=answer(result)))
            response = await chat.send_message(parts)


def answer(result):
    return {"error" if result.is_error else "result": "\n".join(part.text for part in result.content if part.type == "text")}
