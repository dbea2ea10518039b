"""The greeter with AWS Labs' mcp-lambda-handler, as in its example."""

from awslabs.mcp_lambda_handler import MCPLambdaHandler

mcp = MCPLambdaHandler(name="greeter", version="1.0.0")


@mcp.tool()
def personalized_greeting(name: str) -> str:
    """Generates a friendly greeting for a name.

    Args:
        name: Name of the person to greet.
    """
    return f"Hello, {name}! Welcome to the serverless MCP world."


def handler(event, context):
    return mcp.handle_request(event, context)
