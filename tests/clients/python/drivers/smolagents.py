"""smolagents."""

from smolagents import MCPClient, OpenAIServerModel, ToolCallingAgent


def use(server):
    model = OpenAIServerModel(server.model, api_base=server.openai, api_key=server.key)
    # With structured output it warns about each tool whose result is a text.
    parameters = {"url": server.url, "transport": "streamable-http"}
    with MCPClient(parameters, structured_output=False) as tools:
        ToolCallingAgent(tools=tools, model=model, max_steps=4).run(server.prompt)
