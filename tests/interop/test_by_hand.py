"""A server by hand: arguments, results, errors, questions at the terminal. Names in comments are those of field cases."""

import base64
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest
from conftest import emulated
from hostile import EVENT_STREAM, Endless, Hostile, send

# What waits for an answer that does not come waits forever.
HANG_SECONDS = 120
TEXT = {"type": "text", "text": "ok"}
FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "Yours"},
        "age": {"type": "integer", "minimum": 0},
        "colour": {"type": "string", "enum": ["red", "blue"], "default": "blue"},
        "news": {"type": "boolean"},
    },
    "required": ["name", "colour"],
}


@pytest.fixture
def run(mcpl, tmp_path):
    """Runs a command."""

    def own(*words, **options):
        options = {"stdin": subprocess.DEVNULL, **options} if "input" not in options else options
        command = [str(word) for word in [mcpl, *words, "--state-dir", tmp_path / "state", "--no-browser"]]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=HANG_SECONDS, **options)

    own.mcpl = mcpl
    return own


def echo(message):
    return {"content": [{"type": "text", "text": json.dumps(message["params"]["arguments"])}]}


def server_of(schema, answer=echo, **methods):
    """A server with one tool, `t`."""
    return Hostile({"tools/list": {"tools": [{"name": "t", "inputSchema": schema}]}, "tools/call": answer, **methods})


# c01
def test_arguments_are_read_by_the_schema(run, tmp_path):
    optional = lambda schema: {"anyOf": [schema, {"type": "null"}]}  # noqa: E731
    schema = {
        "type": "object",
        "properties": {
            "point": {"$ref": "#/$defs/P"},
            "limit": optional({"type": "integer"}),
            "ids": optional({"type": "array", "items": {"type": "integer"}}),
            "exact": optional({"type": "boolean"}),
            "text": {"type": "string"},
            "any": {},
        },
        "$defs": {"P": {"type": "object", "properties": {"x": {"type": "number"}, "at": {"$ref": "#/$defs/P"}}}},
    }
    (tmp_path / "file").write_text("a=b\n")
    with server_of(schema) as server:
        called = run("call", server.url, "t", 'point={"x":1}', "limit=5", "ids=[1,2]", "exact=true", 'any={"a":1}')
        nested = run("call", server.url, "t", "point.x=1", "point.at.x=2.5", "ids=1,2", "text=@file")
        wrong = run("call", server.url, "t", "limit=many")
        twice = run("call", server.url, "t", "limit=1", "limit=2")

    assert json.loads(called.stdout) == {"point": {"x": 1}, "limit": 5, "ids": [1, 2], "exact": True, "any": {"a": 1}}
    assert json.loads(nested.stdout) == {"point": {"x": 1, "at": {"x": 2.5}}, "ids": [1, 2], "text": "a=b\n"}
    assert wrong.returncode == 1 and "must be of type integer or null, not `many`" in wrong.stderr
    assert twice.returncode == 2 and "`limit` is given twice" in twice.stderr


# c02
def test_free_members_and_whole_objects(run, tmp_path):
    whole = {"x": 1, "deep": {"y": [1.5, None]}}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    with server_of({"type": "object", "additionalProperties": True}) as server:
        free = run("call", server.url, "t", "x=1", "y=one")
        inline = run("call", server.url, "t", json.dumps(whole))
        of_file = run("call", server.url, "t", "@whole.json", "more=true")
        of_input = run("call", server.url, "t", "-", input=json.dumps(whole))
        value = run("call", server.url, "t", "x=@-", input="[1]")
        twice = run("call", server.url, "t", "@whole.json", "x=2")
        missing = run("call", server.url, "t", "@none")
        device = run("call", server.url, "t", "@/dev/zero")
        with open("/dev/zero", "rb") as endless:
            too_large = run("call", server.url, "t", "-", stdin=endless)
    with server_of({"type": "object", "properties": {"a": {}}}) as server:
        misspelt = run("call", server.url, "t", "b=1")

    assert json.loads(free.stdout) == {"x": 1, "y": "one"}
    assert json.loads(inline.stdout) == json.loads(of_input.stdout) == whole
    assert json.loads(of_file.stdout) == {**whole, "more": True} and json.loads(value.stdout) == {"x": [1]}
    assert twice.returncode == 2 and "`x` is given twice" in twice.stderr
    for refused, why in [
        (missing, "could not read none"),
        (device, "no regular file"),
        (too_large, "more than 16777216 bytes"),
        (misspelt, "there is no parameter `b`; the tool takes (a?: any)"),
    ]:
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr


def test_items_of_lists_are_given_one_by_one(run, tmp_path):
    line = {"type": "object", "properties": {"a": {"type": "integer"}, "shade": {"enum": ["dark", "light"]}}}
    properties = {"lines": {"type": "array", "items": line}, "colours": {"type": "array", "items": {"type": "string"}}}
    (tmp_path / "colours").write_text("red, dark\n\nblue\n")
    with server_of({"type": "object", "properties": properties}) as server:
        called = run("call", server.url, "t", "lines.0.a=1", "lines.1.a=2", "colours=@colours")
        gap = run("call", server.url, "t", "lines.1.a=1")
        no_index = run("call", server.url, "t", "lines.a=1")
        unknown = run("call", server.url, "t", "lines.0.b=1")
        choice = run("call", server.url, "t", "lines.0.shade=dim")

    assert json.loads(called.stdout) == {"lines": [{"a": 1}, {"a": 2}], "colours": ["red, dark", "blue"]}
    for refused, why in [
        (gap, "`lines.0` is missing"),
        (no_index, "`lines` is a list: write `lines.0` for its first item"),
        (unknown, '`lines.0` takes (a?: integer, shade?: "dark"|"light")'),
        (choice, "`lines.0.shade` must be one of dark, light, not `dim`"),
    ]:
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr


def test_a_wrong_command_line_ends_with_two_and_reaches_no_server(run, tmp_path):
    asked = []
    with server_of({}, {"content": [TEXT]}) as server:
        post = server.post

        def noted(handler, body):
            asked.append(body)
            post(handler, body)

        server.post = noted
        for words, why in [
            (["t", "x"], "`x` is not written NAME=VALUE"),
            (["t", "x=1", "x=2"], "`x` is given twice"),
            (["t", "-", "text=@-"], "standard input is given twice"),
            (["t", "--save-to", "nodir"], "`--save-to`: nodir is no folder"),
            (["t", "--nonsense"], "--nonsense"),
            (["t", "--token-command", "echo 'x"], "does not end"),
            (["t", "--header", "Authorization"], "`--header` is written NAME: VALUE"),
            (["t", "--timeout", "0"], "--timeout"),
        ]:
            refused = run("call", server.url, *words, input="text")
            assert refused.returncode == 2 and why in refused.stderr, refused.stderr
        read = run("read", server.url, "x://a", "--save-to", "nodir")
        proxy = run("proxy", "t", server.url, "--mode", "sse")

    assert read.returncode == proxy.returncode == 2 and "leave `--mode` out" in proxy.stderr
    assert asked == [] and not (tmp_path / "nodir").exists()


# A reader that has ended is no failure; a full disk is one.
@pytest.mark.parametrize("words", [["tools"], ["tools", "--json"], ["call", "t"], ["doctor"]])
def test_what_cannot_be_printed_is_a_failure(run, words):
    with server_of({}, {"content": [TEXT]}) as server:
        command = [run.mcpl, words[0], server.url, *words[1:]]
        with open("/dev/full", "w") as full:
            not_written = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=HANG_SECONDS)
        reader, writer = os.pipe()
        os.close(reader)
        unread = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=HANG_SECONDS)
        os.close(writer)

    assert not_written.returncode == 1 and "could not write to standard output: No space left" in not_written.stderr
    assert "standard output" not in unread.stderr and (unread.returncode == 0 or words == ["doctor"]), unread.stderr


@pytest.mark.parametrize("words", [["completions", "bash"], ["--help"], ["call", "--help"], ["--version"]])
def test_a_text_of_its_own_that_cannot_be_printed_is_a_failure(run, words):
    with open("/dev/full", "w") as full:
        not_written = subprocess.run([run.mcpl, *words], stdout=full, stderr=subprocess.PIPE, text=True)

    assert not_written.returncode == 1 and "could not write to standard output" in not_written.stderr


def test_json_may_come_before_the_command(run, mcpl):
    with server_of({}, {"content": [TEXT]}) as server:
        before = subprocess.run([mcpl, "--json", "call", server.url, "t"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        after = run("call", server.url, "t", "--json")
    elsewhere = subprocess.run([mcpl, "completions", "bash", "--json"], capture_output=True, text=True)

    assert before.stdout == after.stdout and json.loads(after.stdout) == {"content": [TEXT]}
    assert elsewhere.returncode == 2 and "`--json` is for" in elsewhere.stderr


def test_help_has_the_own_options_of_a_command_first(mcpl):
    shown = subprocess.run([mcpl, "call", "--help"], capture_output=True, text=True).stdout
    places = [shown.index(part) for part in ("Options:", "--save-to", "Sign-in:", "--client-id", "Connection:", "--timeout", "Output:", "--json")]

    assert shown.count("Sign-in:") == 1 and places[0] < places[1] < min(places[2:])


def test_steps_and_requests_are_logged_without_secrets(run):
    secret = ["--header", "Authorization: Bearer hunter2"]
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    with server_of(schema, {"content": [TEXT]}) as server:
        plain = run("call", server.url, "t", *secret)
        steps = run("-v", "call", server.url, "t", *secret)
        requests = run("-vvv", "call", f"{server.url}?key=hunter2", "t", "text=hunter2", *secret)

    assert plain.stderr == ""
    assert "INFO the server speaks revision" in steps.stderr and "DEBUG" not in steps.stderr
    assert re.search(r"DEBUG POST \S+/mcp \(tools/call\), \d+ bytes: 200 OK after \d+ ms", requests.stderr), requests.stderr
    assert "hunter2" not in requests.stderr


def test_one_cause_is_named_when_an_answer_is_late(run):
    held = Held()
    with server_of({}, held) as server:
        late = run("call", server.url, "t", "--timeout", "1")
        held.end.set()

    assert late.returncode == 1
    assert late.stderr == "ERROR the answer took longer than 1s, and it is not known whether `tools/call` was carried out\n"


def test_one_tool_is_shown_with_its_parameters(run):
    schema = {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "blue"], "default": "red", "description": "Of the \x1b[2Jline"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 9},
            "points": {"type": "array", "items": {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}}},
        },
    }
    with server_of(schema) as server:
        listed, shown = run("tools", server.url), run("tools", server.url, "t")
        as_json, unknown = run("tools", server.url, "t", "--json"), run("tools", server.url, "u")

    assert listed.stdout == 't(colour?: "red"|"blue", limit?: integer, points?: object[])\n'
    assert shown.stdout == listed.stdout + (
        '  colour: "red"|"blue", default "red"\n      Of the [2Jline\n  limit: integer, at least 1, at most 9\n'
        "  points: object[]\n  points.0.x: number, required\n"
    )
    assert json.loads(as_json.stdout) == {"name": "t", "inputSchema": schema}
    assert unknown.returncode == 1 and "there is no tool `u`; there are t" in unknown.stderr


# c03
def test_numbers_and_order_are_the_server_s(run, mcpl):
    text = '{"order":123456789012345678901,"price":1.10}'
    result = f'{{"structuredContent":{text},"content":[{{"type":"text","text":{json.dumps(text)}}}]}}'
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}

    def answer(message):
        return f'{{"jsonrpc":"2.0","id":{message["id"]},"result":{result}}}'

    with server_of(schema, answer) as server:
        called = run("call", server.url, "t")
        as_json = run("call", server.url, "t", "--json")
        code, shown, _ = at_terminal([mcpl, "call", server.url, "t"], "", stdout="terminal")

    assert called.stdout == f"{text}\n"
    for part in ('"order": 123456789012345678901', '"price": 1.10', '"content": [\n'):
        assert part in as_json.stdout, as_json.stdout
    assert as_json.stdout.index("structuredContent") < as_json.stdout.index("content\"")
    assert code == 0 and '"order": 123456789012345678901,\r\n' in shown, shown


# c03
def test_numbers_go_to_the_server_as_they_were_typed(run):
    taken = []

    def answer(message):
        taken.append(message["params"]["arguments"])
        return {"content": []}

    with server_of({"type": "object", "properties": {"n": {"type": "integer"}}}, answer) as server:
        assert run("call", server.url, "t", "n=123456789012345678901").returncode == 0

    assert taken == [{"n": 123456789012345678901}]


# c04
def test_structured_content_alone_is_shown(run):
    with server_of({}, {"content": [], "structuredContent": {"answer": 42}}) as server:
        alone = run("call", server.url, "t")
    with server_of({}, {"content": [TEXT], "structuredContent": {"answer": 42}}) as server:
        beside = run("call", server.url, "t")

    assert json.loads(alone.stdout) == {"answer": 42} and beside.stdout == "ok\n"


# c05, c07, and section 9, "Base64 with line ends"
def test_base64_may_have_line_ends_and_files_get_free_names(run, tmp_path):
    (tmp_path / "t-1.png").write_text("mine")
    lines = base64.encodebytes(b"\x89PNG" + b"x" * 200).decode()
    with server_of({}, {"content": [{"type": "image", "mimeType": "image/png", "data": lines}]}) as server:
        saved = run("call", server.url, "t")

    assert saved.returncode == 0 and "(204 bytes) saved to ./t-2.png" in saved.stdout, saved.stderr
    assert (tmp_path / "t-1.png").read_text() == "mine" and (tmp_path / "t-2.png").stat().st_size == 204


class Held(Endless):
    """An answer that comes when it is asked for."""

    def __init__(self):
        self.begun, self.end = threading.Event(), threading.Event()

    def write(self, handler):
        self.begun.set()
        self.end.wait(HANG_SECONDS)


class Welcome(Endless):
    """An answer to `initialize` that begins a session."""

    def __init__(self):
        pass

    def write(self, handler):
        result = Hostile.welcome(None)
        send(handler, 200, {"jsonrpc": "2.0", "id": 2, "result": result}, ("Mcp-Session-Id", "s1"))


# c08
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_call_that_is_interrupted_is_cancelled(run, mcpl, tmp_path, number, code):
    held, cancelled, ended = Held(), [], []
    with server_of({}, held, initialize=Welcome()) as server:
        post = server.post

        def noted(handler, body):
            message = json.loads(body)
            if message.get("method") == "notifications/cancelled":
                cancelled.append(message["params"]["requestId"])
            if message.get("method") == "tools/call":
                ended.append(("called", message["id"]))
            post(handler, body)

        def delete(handler):
            ended.append(("deleted", handler.headers["mcp-session-id"]))
            send(handler, 200, "")

        server.post = noted
        server.server.RequestHandlerClass.do_DELETE = delete
        command = [mcpl, "call", server.url, "t", "--state-dir", str(tmp_path / "state")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert held.begun.wait(HANG_SECONDS)
        process.send_signal(number)
        _, said = process.communicate(timeout=HANG_SECONDS)
        held.end.set()

    assert process.returncode == code and said == b"", said
    assert [("called", *cancelled), ("deleted", "s1")] == ended


# c10
def test_a_home_that_cannot_be_written_is_no_obstacle_to_a_call(mcpl):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    with server_of({}, {"content": [TEXT]}) as server:
        called = subprocess.run(
            [mcpl, "call", server.url, "t"], env={**variables, "HOME": "/proc/none"}, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    assert (called.returncode, called.stdout) == (0, "ok\n"), called.stderr


# c12
def test_a_url_without_a_scheme_is_named_and_one_with_spaces_is_trimmed(run):
    with server_of({}, {"content": [TEXT]}) as server:
        bare = run("call", server.url.removeprefix("http://"), "t")
        spaced = run("call", f" {server.url}\n", "t")
        doctor = subprocess.run([run.mcpl, "doctor", server.url.removeprefix("http://")], capture_output=True, text=True)

    assert doctor.returncode == 2 and f"write {server.url}" in doctor.stderr, doctor.stderr
    assert bare.returncode == 2 and f"write {server.url}" in bare.stderr, bare.stderr
    assert spaced.returncode == 0, spaced.stderr


# c13
def test_an_error_shows_what_came_with_it(run):
    error = {"code": -32602, "message": "Invalid params", "data": {"issues": ["text is too long"]}}

    def fail(message):
        return json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error})

    class Broken(Endless):
        def __init__(self):
            pass

        def write(self, handler):
            send(handler, 500, {"message": "the reason"})

    with server_of({}, fail) as server:
        refused = run("call", server.url, "t")
        as_json = run("call", server.url, "t", "--json")
    with server_of({}, Broken()) as server:
        broken = run("call", server.url, "t")
    away = run("tools", "http://127.0.0.1:1/mcp", "--json")

    assert refused.returncode == 1 and 'Invalid params: {"issues":["text is too long"]}' in refused.stderr.replace(": [", ":[")
    assert as_json.returncode == 1 and json.loads(as_json.stdout) == {"source": "server", "error": error}
    assert broken.returncode == 1 and "500" in broken.stderr and "the reason" in broken.stderr
    told = json.loads(away.stdout)
    assert away.returncode == 1 and told["source"] == "mcpl" and set(told["error"]) == {"message"}
    assert "could not reach" in told["error"]["message"]


# c14
def test_it_is_said_that_there_is_nothing(run):
    with Hostile({"tools/list": {"tools": []}}) as server:
        tools, call = run("tools", server.url), run("call", server.url, "x")
        resources, prompts = run("resources", server.url), run("prompts", server.url)
        as_json = [run(command, server.url, "--json") for command in ("tools", "resources", "prompts")]

    assert (tools.returncode, tools.stdout, tools.stderr) == (0, "", "the server has no tools\n")
    assert call.returncode == 1 and "there is no tool `x`; the server has no tools\n" in call.stderr
    assert (resources.returncode, resources.stderr) == (0, "the server has no resources\n")
    assert (prompts.returncode, prompts.stderr) == (0, "the server has no prompts\n")
    assert [json.loads(own.stdout) for own in as_json] == [[], {"resources": [], "resourceTemplates": []}, []]


# Section 9, "what comes into a pipe is what the server sent"
def test_a_resource_is_written_into_a_pipe_as_it_is(run, tmp_path):
    image = b"\x89PNG\r\n\x1a\n\0"
    text = "a\r\n\u009b b\u202e"
    blob = {"uri": "x://image.png", "blob": base64.encodebytes(image).decode(), "mimeType": "image/png"}
    contents = {"x://image.png": [blob], "x://text": [{"uri": "x://text", "text": text}], "x://broken": [{"uri": "x://b", "blob": "?"}]}
    terminal, inner = pty.openpty()
    with Hostile({"resources/read": lambda message: {"contents": contents[message["params"]["uri"]]}}) as server:
        command = [run.mcpl, "read", server.url, "--state-dir", tmp_path / "state"]
        read = lambda uri, **options: subprocess.run([*command, uri], cwd=tmp_path, timeout=HANG_SECONDS, **options)  # noqa: E731
        piped, written = read("x://image.png", capture_output=True), read("x://text", capture_output=True)
        broken = read("x://broken", capture_output=True)
        with open("/dev/full", "wb") as full:
            not_written = read("x://text", stdout=full, stderr=subprocess.PIPE)
        assert not list(tmp_path.glob("*.png"))
        shown = read("x://image.png", stdout=inner, stderr=subprocess.PIPE)
    os.close(inner)

    assert (piped.stdout, written.stdout) == (image, text.encode()), piped.stderr + written.stderr
    assert broken.returncode == 1 and b"not Base64" in broken.stderr
    assert not_written.returncode == 1 and b"could not write the resource" in not_written.stderr
    assert shown.returncode == 0 and b"saved to ./image-1.png" in os.read(terminal, 1000)
    assert (tmp_path / "image-1.png").read_bytes() == image
    os.close(terminal)


# Section 9, "Missing: `mcpl resources`, `prompts`, `read`, `prompt`"
def test_resources_and_prompts_are_listed_and_read(run, tmp_path):
    contents = [{"uri": "notes://a", "text": "Buy milk"}, {"uri": "notes://a", "blob": "iVBORw==", "mimeType": "image/png"}]
    message = {"role": "user", "content": {"type": "text", "text": "Sum up \x1b[2Ja note"}}
    asked = []

    def get(request):
        asked.append(request["params"])
        return {"messages": [message]}

    methods = {
        "resources/list": {"resources": [{"uri": "notes://a", "name": "a", "mimeType": "text/plain", "description": "A\nnote"}]},
        "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "notes://{name}", "name": "note"}]},
        "resources/read": {"contents": contents},
        "prompts/list": {"prompts": [{"name": "sum", "arguments": [{"name": "note", "required": True}, {"name": "size"}]}]},
        "prompts/get": get,
    }
    with Hostile(methods) as server:
        resources, prompts = run("resources", server.url), run("prompts", server.url)
        read = run("read", server.url, "notes://a", "--save-to", ".")
        read_json = run("read", server.url, "notes://a", "--json")
        prompt = run("prompt", server.url, "sum", "note=5")
        prompt_json = run("prompt", server.url, "sum", "note=5", "--json")
        unknown, misspelt = run("prompt", server.url, "add"), run("prompt", server.url, "sum", "nota=5")

    assert resources.stdout == "notes://a  a  text/plain\n    A note\nnotes://{name}  note\n"
    assert prompts.stdout == "sum(note: string, size?: string)\n"
    assert read.stdout == "Buy milk\nimage/png (4 bytes) saved to ./a-1.png\n"
    assert (tmp_path / "a-1.png").read_bytes() == b"\x89PNG" and json.loads(read_json.stdout)["contents"] == contents
    assert prompt.stdout == "user: Sum up [2Ja note\n" and json.loads(prompt_json.stdout) == {"messages": [message]}
    assert asked[0]["name"] == "sum" and asked[0]["arguments"] == {"note": "5"}
    assert unknown.returncode == 1 and "there is no prompt `add`; there are sum\n" in unknown.stderr
    assert misspelt.returncode == 1 and "the prompt takes (note: string, size?: string)" in misspelt.stderr


# Section 9, "Commands in options are split as a shell does"
def test_a_command_in_an_option_may_have_quotes(run):
    seen = []
    with server_of({}, {"content": [TEXT]}) as server:
        post = server.post

        def noted(handler, body):
            seen.append(handler.headers["authorization"])
            post(handler, body)

        server.post = noted
        called = run("call", server.url, "t", "--token-command", f"'{sys.executable}' -c 'print(\"a\" + \"b\")'")
        unended = run("call", server.url, "t", "--token-command", "echo 'x")

    assert called.returncode == 0 and set(seen) == {"Bearer ab"}, called.stderr
    assert unended.returncode == 2 and "does not end" in unended.stderr


def at_terminal(command, typed, stdout="pipe"):
    """Runs a command at a terminal, where lines are typed ahead; its exit code, output, and what the terminal shows."""
    terminal, inner = pty.openpty()
    os.write(terminal, typed.encode())
    output = inner if stdout == "terminal" else subprocess.PIPE
    process = subprocess.Popen([str(word) for word in command], stdin=inner, stdout=output, stderr=inner)
    os.close(inner)
    shown = []

    def read():
        try:
            while part := os.read(terminal, 4096):
                shown.append(part)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    written, _ = process.communicate(timeout=HANG_SECONDS)
    reader.join(HANG_SECONDS)
    os.close(terminal)
    shown = b"".join(shown).decode()
    return process.returncode, shown if stdout == "terminal" else written.decode(), shown


class Asking(Endless):
    """A stream with a question of the server, which ends with what was answered."""

    def __init__(self, method, params):
        self.question = {"jsonrpc": "2.0", "id": "q1", "method": method, "params": params}
        self.answer, self.is_answered, self.capabilities = None, threading.Event(), None

    def take(self, message):
        self.answer = message
        self.is_answered.set()
        return ""

    def write(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Type", EVENT_STREAM)
        handler.send_header("Connection", "close")
        handler.end_headers()
        self.event(handler, self.question)
        assert self.is_answered.wait(HANG_SECONDS)
        text = json.dumps(self.answer.get("result", self.answer.get("error")))
        self.event(handler, {"jsonrpc": "2.0", "id": 4, "result": {"content": [{"type": "text", "text": text}]}})
        handler.close_connection = True

    @staticmethod
    def event(handler, message):
        handler.wfile.write(f"data: {json.dumps(message)}\n\n".encode())

    def server(self):
        def welcome(message):
            self.capabilities = message["params"]["capabilities"]
            return Hostile.welcome(message)

        tools = {"tools": [{"name": "t", "inputSchema": {}}]}
        return Hostile({"tools/list": tools, "tools/call": self, "initialize": welcome, None: self.take})


# Section 9, "a question of the server is asked at the terminal in `mcpl call`"
def test_a_question_of_a_legacy_server_is_asked_at_the_terminal(mcpl):
    asking = Asking("elicitation/create", {"message": "Who are \x1b[2Jyou?", "requestedSchema": FORM})
    with asking.server() as server:
        code, written, shown = at_terminal([mcpl, "call", server.url, "t"], "Ada\nold\n36\n\n\nY\n")

    assert code == 0, shown
    assert json.loads(written) == {"action": "accept", "content": {"name": "Ada", "age": 36, "colour": "blue"}}
    assert asking.capabilities == {"elicitation": {"form": {}, "url": {}}}
    assert "The server asks: Who are [2Jyou?" in shown and "\x1b[2J" not in shown
    for part in ("name (text): Yours", "That must be a whole number", "1) red", "[blue] > ", "news (yes or no, optional)", "Send?"):
        assert part in shown, shown


def test_a_question_is_declined_or_cancelled(mcpl):
    for typed, action in (("Ada\n\n\n\nn\n", "decline"), ("Ada\n\n\n\nc\n", "cancel"), ("Ada\n\x04", "cancel")):
        asking = Asking("elicitation/create", {"message": "Who?", "requestedSchema": FORM})
        with asking.server() as server:
            code, written, shown = at_terminal([mcpl, "call", server.url, "t"], typed)
        assert (code, json.loads(written)) == (0, {"action": action}), shown


# Section 9, "and a link for URL questions"
def test_a_link_is_shown_at_the_terminal(mcpl):
    asking = Asking("elicitation/create", {"mode": "url", "message": "Pay", "url": "https://pay.example/1", "elicitationId": "1"})
    with asking.server() as server:
        _, written, shown = at_terminal([mcpl, "call", server.url, "t"], "\n")

    assert json.loads(written) == {"action": "accept"} and "  https://pay.example/1\r\n" in shown


# h06
def test_without_a_terminal_a_question_is_refused_and_a_ping_is_answered(run):
    asking = Asking("elicitation/create", {"message": "Who?", "requestedSchema": FORM})
    with asking.server() as server:
        refused = run("call", server.url, "t")
    ping = Asking("ping", {})
    with ping.server() as server:
        answered = run("call", server.url, "t")

    assert json.loads(refused.stdout)["code"] == -32601 and asking.capabilities == {}, refused.stderr
    assert json.loads(answered.stdout) == {}, answered.stderr


def test_a_question_of_a_modern_server_is_asked_at_the_terminal(mcpl, run, tmp_path):
    key = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
    with emulated("conformance", "buffered", 1, MCP_STATE_KEY=key) as url:
        state = ["--state-dir", tmp_path / "state"]
        tool = [mcpl, "call", url, "test_input_required_result_multi_round", *state]
        code, written, shown = at_terminal(tool, "Ada\nY\nyes\nY\n")
        prompt = [mcpl, "prompt", url, "test_input_required_result_prompt", *state]
        prompted, messages, _ = at_terminal(prompt, "bread\n\n")
        without = run("call", url, "test_input_required_result_elicitation")

    assert code == 0 and "Ada" in written and "Step 1" in shown and "Step 2" in shown, shown
    assert prompted == 0 and "bread" in messages
    assert without.returncode == 1 and without.stderr, without.stderr
