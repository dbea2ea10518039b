"""The functions that programs are tried with, and what a session with all of them must show."""

import contextlib
import dataclasses
import json
import pathlib
import re
import sys
import urllib.request

PROJECT = pathlib.Path(__file__).resolve().parents[2]
INTEROP = PROJECT / "tests" / "interop"
sys.path[:0] = [str(PROJECT / "scripts"), str(INTEROP)]

import postgres  # noqa: E402
import recorder  # noqa: E402
import tools  # noqa: E402
from emulated import Emulated  # noqa: E402
from providers import Call, subschemas  # noqa: E402

STATE_KEY = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
PATIENCE_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Case:
    """One function: its tools, a call that succeeds with a word that its result has, and a call that the server rejects."""

    function: str
    tools: tuple
    tool: str
    good: dict
    shows: str
    bad: dict


CASES = (
    Case("greeter", ("personalized_greeting",), "personalized_greeting", {"name": "Ada"}, "Ada", {"name": 101 * "n"}),
    # The schema takes this text, the server does not: a program that checks arguments lets it pass.
    Case(
        "event-logger", ("log_event", "get_latest_events"),
        "log_event", {"event_name": "deployed"}, "deployed", {"event_name": " "},
    ),
    Case(
        "api-docs",
        ("list_operations", "list_schemas", "search", "read_operation", "read_schema", "find_operation"),
        "read_operation", {"operation_id": "getBook"}, "/books/", {"operation_id": "paintHouse"},
    ),
)

# What a scripted model does in one session: a good and a bad call on each function.
SCRIPT = [Call(case.tool, arguments) for case in CASES for arguments in (case.good, case.bad)]
DONE = "That is all."


class Server:
    """A function behind a recorder of its own. `browser` is the program with which a person signs in."""

    def __init__(self, case, record, url=None, browser=None):
        self.case, self.record, self.url, self.browser = case, record, url or record.url, browser

    @property
    def name(self):
        return self.case.function

    @property
    def messages(self):
        """Each request with its response, as (headers, request, response)."""
        found = []
        for headers, body, response_headers, content in self.record.exchanges:
            if body and content:
                for message in recorder.messages(response_headers.get("content-type", ""), content.decode()):
                    found.append((headers, json.loads(body), message))
        return found

    @property
    def revision(self):
        """The revision in which the program listed the tools: the negotiated one, where it negotiates."""
        negotiated = [own["result"]["protocolVersion"] for own in self.responses("initialize") if "result" in own]
        requests = [(request, headers) for headers, request, _ in self.messages if request.get("method") == "tools/list"]
        assert requests, f"no tools of {self.name} were listed"
        request, headers = requests[-1]
        is_modern = "io.modelcontextprotocol/protocolVersion" in ((request.get("params") or {}).get("_meta") or {})
        return recorder.revision_of(request, headers) if is_modern or not negotiated else negotiated[-1]

    def responses(self, method):
        return [message for _, request, message in self.messages if request.get("method") == method]

    @property
    def errors(self):
        """The texts with which it has rejected calls."""
        results = [own.get("result", {}) for own in self.responses("tools/call")]
        return [own["content"][0]["text"] for own in results if own.get("isError")]

    @property
    def listed(self):
        """The tools as this server lists them, in the program's revision, or in an old one before it has listed them."""
        for message in self.responses("tools/list"):
            return {own["name"]: own for own in message["result"]["tools"]}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            return {own["name"]: own for own in json.load(response)["result"]["tools"]}


def build():
    tools.build(*(case.function for case in CASES), "function-url-emulator")


@contextlib.contextmanager
def running():
    """The URLs of the functions, by name."""
    build()
    with contextlib.ExitStack() as stack:
        yield {
            "greeter": stack.enter_context(Emulated("greeter", "buffered", 3)),
            "event-logger": stack.enter_context(event_logger(MCP_AUTH="dangerously-off")),
            "api-docs": stack.enter_context(Emulated("api-docs", "buffered", 3, MCP_STATE_KEY=STATE_KEY)),
        }


@contextlib.contextmanager
def event_logger(**variables):
    """The URL of event-logger, with a database of its own."""
    build()
    with postgres.Postgres() as database:
        with Emulated("event-logger", "buffered", 3, DATABASE_URL=database.url(), **variables) as url:
            yield url


@contextlib.contextmanager
def recorded(urls):
    """A `Server` for each function, in the order of the cases, with nothing recorded yet."""
    with contextlib.ExitStack() as stack:
        records = [stack.enter_context(recorder.Recorder(urls[case.function])) for case in CASES]
        for record in records:
            # A program that ends closes connections as it likes.
            record._server.handle_error = lambda *_: None
        yield [Server(case, record) for case, record in zip(CASES, records)]


def check_session(provider, servers, output, checks_arguments=False, ignored=()):
    """A program went through `SCRIPT` with all servers. `output` is all that it printed and logged; lines that match one of
    `ignored` are no warnings. `checks_arguments`: it rejects arguments that break a schema itself, so that the server sees
    fewer bad calls."""
    assert not provider.refusals, "the provider refuses the tools:\n" + "\n".join(provider.refusals)
    assert not provider.missing, f"the model was not given the tool: {provider.missing}"
    for server in servers:
        for name in server.case.tools:
            provider.tool(name, server.name)
    results = provider.results
    assert len(results) == len(SCRIPT), f"{len(results)} results:\n{results}\n{output}"
    for server, good, bad in zip(servers, results[::2], results[1::2]):
        check_calls(server, good.text, bad.text, checks_arguments)
        server.record.check(least=3)
    assert_no_warnings(output, ignored, servers)


def check_calls(server, good, bad, checks_arguments=False):
    """What the model, or a person, was shown of a good and a bad call."""
    case = server.case
    assert case.shows in good, f"the result of {case.tool} is not shown:\n{good}"
    if checks_arguments and not server.errors:
        assert case.shows not in bad and bad.strip(), bad
        return
    assert server.errors, f"{case.function} has rejected no call; the model was shown:\n{bad}"
    text = server.errors[-1]
    assert plain(text) in plain(bad), f"the error is not shown:\n{text}\nbut:\n{bad}"


def shown(result):
    """What a program shows the model of a result that has text and structure, told by event-logger's."""
    has_text, has_structure = "Event 'deployed" in result, '"event_name"' in result.replace("\\", "")
    return {(True, True): "both", (True, False): "text", (False, True): "structure"}[has_text, has_structure]


def dropped(provider, servers):
    """The keywords of the servers' schemas that no tool has any more which the provider was sent."""
    def keywords(schemas):
        return {key for schema in schemas for _, own in subschemas(schema) if isinstance(own, dict) for key in own}

    listed = [(server.name, tool) for server in servers for tool in server.listed.values()]
    given = keywords(provider.tool(tool["name"], name).schema for name, tool in listed)
    return keywords(tool["inputSchema"] for _, tool in listed) - given


def is_instructed(provider, servers):
    """Whether the model is shown what a server says of itself."""
    server = next(server for server in servers if server.name == "api-docs")
    (message, *_) = [*server.responses("server/discover"), *server.responses("initialize")]
    instructions = plain(message["result"]["instructions"])
    return any(instructions in plain(request.text) for request in provider.with_tools)


def plain(text):
    """Without what escaping and wrapping do to a text."""
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    return re.sub(r"[\s\\]+", "", text)


def strings(value):
    """The strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for own in value.values() if isinstance(value, dict) else value:
            yield from strings(own)


TROUBLE = re.compile(
    r"warn|deprecat|unsupported|unknown format|invalid schema|not (?:supported|valid|found)|fail|error|exception|traceback|"
    r"could not|cannot|missing|ignor", re.IGNORECASE,
)


def warnings(output, ignored=(), servers=()):
    """The lines of a program's output that complain about the servers: with a word of trouble and one of ours. Lines that
    match one of `ignored` are left out, those about the calls that had to be rejected, and the servers' own words."""
    ours = {word for case in CASES for word in (case.function, case.function.replace("-", "_"), *case.tools)}
    ours |= {"schema", "format", "prompts/", "resources/", "resources_", "prompts_", "MCP error", "-32601", "Method not found"}
    expected = [plain(text) for server in servers for text in server.errors]
    texts = {plain(text) for server in servers for *_, message in server.messages for text in strings(message) if len(text) > 20}
    said = plain("".join(json.dumps(message, ensure_ascii=False) for server in servers for *_, message in server.messages))
    found = []
    for line in output.splitlines():
        if not TROUBLE.search(line) or not any(word.lower() in line.lower() for word in ours):
            continue
        own = plain(line)
        rest = own
        for text in texts:
            rest = rest.replace(text, "")
        # The word of trouble is the server's own.
        if not re.search(TROUBLE.pattern.replace(" ", ""), rest, re.IGNORECASE):
            continue
        if own.strip(",") not in said and not any(text in own for text in expected):
            if not any(re.search(pattern, line) for pattern in ignored):
                found.append(line[:500])
    return found


def assert_no_warnings(output, ignored=(), servers=()):
    found = warnings(output, ignored, servers)
    assert not found, "the program warns about a server:\n" + "\n".join(found)
