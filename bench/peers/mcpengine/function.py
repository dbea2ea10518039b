"""The greeter with MCPEngine, as in its tutorial."""

from mcpengine import MCPEngine

engine = MCPEngine("greeter")


@engine.tool()
def personalized_greeting(name: str) -> str:
    """Generates a friendly greeting for a name."""
    return f"Hello, {name}! Welcome to the serverless MCP world."


handler = engine.get_lambda_handler()
