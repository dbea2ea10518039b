"""Python frameworks that give a model the tools of servers: what docs/clients.md says of each, and how each is started."""

import dataclasses
import json
import pathlib
import re

import programs
from providers import Call, subschemas
from servers import DONE

import tools

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Framework:
    """`drivers/NAME.py` in the environment of `requirements/NAME.txt`."""

    # The revision that it speaks.
    revision: str
    # What the model is shown of a result that has both: `text`, `structure` or `both`.
    shows: str
    # Keywords of the tools' schemas that the model is not given.
    drops: frozenset = frozenset()
    # The model is shown the server's instructions.
    is_instructed: bool = False
    # It rejects arguments that break a tool's schema itself.
    checks_arguments: bool = False
    # It tells results to the model as messages of the user, which have this before them.
    results_follow: str | None = None
    # The model's last turn: some end a conversation by a tool of their own.
    done: object = DONE
    # What the model does otherwise than in `servers.CASES`, by function.
    cases: dict = dataclasses.field(default_factory=dict)
    # Lines of its own that are no warnings about a server, and why.
    ignored: tuple = ()
    is_fast: bool = False


def drops(*keywords):
    return frozenset(keywords)


BOUNDS = ("minLength", "maxLength", "minimum", "maximum")

FRAMEWORKS = {
    "ag2": Framework("2025-11-25", "text"),
    "agent_framework": Framework(
        "2026-07-28", "structure",
        # It logs each call that is an error.
        ignored=(r"Function \S+ failed \(ToolExecutionException\)", "raised an exception; returning an error result"),
    ),
    "agentscope": Framework("2026-07-28", "text", checks_arguments=True),
    "agno": Framework("2025-11-25", "text"),
    "anthropic": Framework("2026-07-28", "text"),
    "autogen": Framework("2025-11-25", "text", checks_arguments=True),
    "camel": Framework("2025-11-25", "text", drops("default"), ignored=("Unknown model 'stand-in'",)),
    "chuk_mcp": Framework("2025-06-18", "text"),
    # What it draws is no warning: it draws all results.
    "crewai": Framework(
        "2025-11-25", "text", drops("default"), checks_arguments=True, ignored=("approximate input token count", "^│"),
    ),
    "dspy": Framework("2026-07-28", "text", drops("additionalProperties", "required"), checks_arguments=True),
    "fastmcp": Framework("2026-07-28", "text"),
    "google_adk": Framework("2025-11-25", "both", ignored=("Failed to configure mTLS using AsyncAuthorizedSession",)),
    "google_genai": Framework("2026-07-28", "text"),
    "haystack": Framework("2025-11-25", "both"),
    "huggingface_hub": Framework("2025-11-25", "text"),
    "inspect_ai": Framework("2025-11-25", "text", checks_arguments=True),
    "langchain_google": Framework(
        "2025-11-25", "text", drops("additionalProperties", "anyOf", "default", *BOUNDS), is_fast=True,
        # Gemini has no such keyword; OpenAI's strict mode requires it.
        ignored=("Key 'additionalProperties' is not supported in schema, ignoring",),
    ),
    "langchain_openai": Framework("2025-11-25", "text"),
    "llama_index": Framework("2025-11-25", "both", drops(*BOUNDS)),
    "llm": Framework("2025-11-25", "text"),
    "mcp_agent": Framework("2025-11-25", "text"),
    "mcp_use": Framework(
        "2025-11-25", "text", drops("additionalProperties", "enum", *BOUNDS),
        # It looks for an issuer first, and logs an error where a server is open; and it logs all results.
        ignored=("Failed to discover OAuth/OIDC metadata", "INFO.* Tool result: "),
    ),
    "openai_agents": Framework("2026-07-28", "text"),
    "pydantic_ai": Framework("2026-07-28", "structure"),
    "semantic_kernel": Framework("2025-11-25", "text", drops("additionalProperties")),
    "smolagents": Framework(
        "2025-11-25", "text", drops("additionalProperties", "anyOf"), results_follow=r"(Observation|Error):\n",
        done=Call("final_answer", {"answer": DONE}),
        # It requires the arguments that may be left out, and takes them for strings: those that are integers cannot be given.
        cases={
            "event-logger": {
                "good": {"event_name": "deployed", "idempotency_key": "one"},
                "bad": {"event_name": " ", "idempotency_key": "two"},
            },
            "api-docs": {"tool": "find_operation", "good": {"query": "getBook"}, "bad": {"query": "paintHouse"}},
        },
    ),
    "strands": Framework("2026-07-28", "text"),
}


@dataclasses.dataclass
class Seen:
    """What the model saw of one server: the schemas of its tools by name, and the results of the calls."""

    schemas: dict
    results: list


def run(name, servers, providers, home, environment=programs.environment, **members):
    """Runs a framework's driver with all servers, each with its provider; `members` are for the driver, too. Returns what the
    model saw of each, and all that was printed and logged."""
    task, result = home / "task.json", home / "result.json"
    given = [
        {"name": own.name, "url": own.url, "provider": provider.url, "calls": calls(own.case), **members}
        for own, provider in zip(servers, providers)
    ]
    task.write_text(json.dumps(given))
    python = tools.CLIENTS_FOLDER / name / "bin" / "python"
    env = environment(home, providers[0].url)
    with programs.daemons_ended(home):
        code, output = programs.run([python, HERE / "driver.py", name, task, result], home, env)
    assert code == 0, f"it ended with {code}:\n{output}"
    document = json.loads(result.read_text())
    return [seen(FRAMEWORKS[name], own, provider, document[own.name]) for own, provider in zip(servers, providers)], output


def calls(case):
    return [(case.tool, case.good), (case.tool, case.bad)]


def seen(framework, server, provider, document):
    if document:
        return Seen({tool["name"]: tool["schema"] for tool in document["tools"]}, document["results"])
    schemas = {name: provider.tool(name).schema for name in server.case.tools}
    if framework.results_follow:
        results = max((messages(framework, request) for request in provider.with_tools), key=len)
    else:
        results = [result.text for result in provider.results]
    # What ends a conversation may have a result too.
    return Seen(schemas, results[:2])


def messages(framework, request):
    """The results in a conversation that has them as messages of the user."""
    texts = [part["text"] for message in request.body["messages"] for part in message["content"] if part["type"] == "text"]
    return [text for text in texts if re.search(framework.results_follow, text)]


def keywords(schemas):
    """All keywords that some schemas use."""
    return {key for schema in schemas for _, own in subschemas(schema) if isinstance(own, dict) for key in own}
