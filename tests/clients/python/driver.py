"""Runs a framework's driver, in the framework's own environment, against each server; writes one JSON document.

    python driver.py NAME TASK RESULT

`drivers/NAME.py` has `use(server)`, async or not: it connects as the framework's documentation shows, and has the framework's
agent run with the model at `server.provider`, the base URL of a stand-in that makes the calls. TASK is a JSON list of servers,
each with `name`, `url`, `provider`, and `calls`: those that the model makes, for what has no model. `use` returns what a
model would see then, as `tools` and `results`. `server.auth` is "oauth" where a person signs in.
"""

import asyncio
import importlib.util
import inspect
import json
import logging
import os
import pathlib
import sys
import types

KEY = "no-key"


def main(name, task, result):
    # Each warning and each log record of that level is one line on standard error, which the test reads.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    logging.captureWarnings(True)
    # Frameworks look for keys in the environment too.
    os.environ.update(OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=KEY, GOOGLE_API_KEY=KEY)
    use = loaded(name).use
    servers = [server(**own) for own in json.loads(pathlib.Path(task).read_text())]
    if inspect.iscoroutinefunction(use):
        document = asyncio.run(use_all(use, servers))
    else:
        document = {own.name: use(own) or {} for own in servers}
    pathlib.Path(result).write_text(json.dumps(document))


def server(provider, auth=None, **members):
    constants = {"openai": f"{provider}/v1", "model": "stand-in", "key": KEY, "prompt": "Do what the tools allow."}
    return types.SimpleNamespace(provider=provider, auth=auth, **constants, **members)


async def use_all(use, servers):
    # In one event loop: connections that a framework leaves open end with it.
    return {own.name: await use(own) or {} for own in servers}


def loaded(name):
    """The driver, under a name that is not the framework's."""
    path = pathlib.Path(__file__).parent / "drivers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"driver_of_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
