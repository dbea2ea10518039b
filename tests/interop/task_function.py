"""The function `conformance`, with tools whose calls become tasks, and a second function that runs them, as on Lambda."""

import contextlib

import postgres
from emulated import CREDENTIALS, Emulated

KEY = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
WORKER = "conformance-tasks"


@contextlib.contextmanager
def running():
    """The URL of the function, in three frozen environments. Each third wake-up of a task arrives twice."""
    port = postgres.free_port()
    with postgres.Supervised(fsync="off") as database:
        variables = {
            **CREDENTIALS, "MCP_STATE_KEY": KEY, "DATABASE_URL": database.url, "MCP_TASKS_FUNCTION": WORKER,
            "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}", "AWS_LAMBDA_LOG_LEVEL": "WARN",
        }
        options = ["--asynchronous", "--name", WORKER, "--port", port, "--duplicate-every", 3, "--retry-after", 1]
        with Emulated("conformance", "buffered", 1, *options, MCP_ROLE="tasks", **variables):
            with Emulated("conformance", "buffered", 3, **variables) as url:
                yield url
