"""`mcpl` in front of servers that mean it no good. Numbers in comments are those of findings."""

import base64
import json
import os
import re
import subprocess

import pytest
from hostile import EVENT_STREAM, Endless, Hostile, Refusal
from proxied import BROWSER, LEGACY_CLIENT, META, session

# What a terminal must never see: C0 but line ends and tabs, DEL and C1, and the controls of bidirectional text.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
EVIL = "a\x1b[2J\x9b31m\u202eb\u2066\u200f\u061c\r\nok      forged\x07"
# A bound of 16 MiB, and what is on its way when it is passed.
READ_BYTES = 64 * 1024 * 1024


@pytest.fixture
def run(mcpl, tmp_path):
    """Runs a command; what it printed, which is printable."""

    def own(*words, **options):
        command = [mcpl, *words, "--state-dir", tmp_path / "state", "--open", BROWSER]
        ended = subprocess.run(
            [str(word) for word in command], capture_output=True, stdin=subprocess.DEVNULL, cwd=tmp_path, **options
        )
        ended.stdout, ended.stderr = ended.stdout.decode(), ended.stderr.decode()
        assert "panicked" not in ended.stderr, ended.stderr
        assert not UNPRINTABLE.search(ended.stdout), repr(ended.stdout)
        assert not UNPRINTABLE.search(ended.stderr), repr(ended.stderr)
        return ended

    own.mcpl = mcpl
    return own


# 8.7
@pytest.mark.parametrize("result", [[], None, "x", 5, [{"tools": []}], {"tools": {}}, {"tools": [], "nextCursor": 1}])
def test_a_result_of_another_type_is_an_error(run, result):
    with Hostile({"tools/list": result}) as server:
        listed = run("tools", server.url)
        called = run("call", server.url, "t")

    assert listed.returncode == called.returncode == 1
    assert re.search("the server('s answer| answered)", listed.stderr), listed.stderr


# 8.7
def test_a_call_s_result_of_another_type_is_an_error(run):
    for result in ([], None, [[]], "x"):
        with Hostile({"tools/call": result}) as server:
            assert run("call", server.url, "t").returncode == 1
    for result in ({"content": {}}, {"content": [1, [], None, {"type": "image"}]}, {}):
        with Hostile({"tools/call": result}) as server:
            run("call", server.url, "t")


# 8.7
def test_a_list_without_an_end_is_an_error(mcpl, run, tmp_path):
    def next_page(request):
        cursor = int(request["params"].get("cursor", 0)) + 1
        return {"tools": [], "nextCursor": str(cursor)}

    def circle(request):
        cursor = int(request["params"].get("cursor", 0)) + 1
        return {"tools": [], "nextCursor": str(cursor % 3)}

    with Hostile({"tools/list": next_page}) as server:
        endless = run("tools", server.url)
        asked = server.count("tools/list")
    with Hostile({"tools/list": circle}) as server:
        repeated = run("tools", server.url)

    # The proxy lists by itself for parameters to mirror, and calls all the same.
    (tmp_path / "proxy").mkdir(mode=0o700)
    with Hostile({"tools/list": circle, "tools/call": {"content": []}}) as server:
        with session(mcpl, server.url, tmp_path / "proxy") as proxy:
            proxy.send("tools/call", {"name": "t", "arguments": {}, "_meta": META})
            called = proxy.read()
        listed = server.count("tools/list")

    assert "result" in called and listed == 4, (called, listed)
    assert (endless.returncode, asked) == (1, 100) and "more than 100 pages" in endless.stderr, endless.stderr
    assert repeated.returncode == 1 and "leads back" in repeated.stderr, repeated.stderr


# 8.7
def test_the_memory_of_all_pages_is_bounded(run):
    def page(request):
        cursor = int(request["params"].get("cursor", 0)) + 1
        return {"tools": [{"name": "t", "x": [0] * 400_000}], **({"nextCursor": str(cursor)} if cursor < 10 else {})}

    with Hostile({"tools/list": page}) as server:
        listed = run("tools", server.url)
        asked = server.count("tools/list")

    assert (listed.returncode, asked) == (1, 4) and "more than 268435456 bytes of memory" in listed.stderr, listed.stderr


# 8.7
def test_the_text_of_all_pages_is_bounded(mcpl, run, tmp_path):
    def long_cursor(_):
        return {"tools": [], "nextCursor": "x" * (16 * 1024 + 1)}

    def long_text(request):
        cursor = int(request["params"].get("cursor", 0)) + 1
        return {"tools": [{"name": "t", "x": "x" * 15 * 1024 * 1024}], **({"nextCursor": str(cursor)} if cursor < 6 else {})}

    (tmp_path / "proxy").mkdir(mode=0o700)
    counts = []
    for answer, error in ((long_cursor, "a cursor of more than 16384 bytes"), (long_text, "more than 67108864 bytes")):
        with Hostile({"tools/list": answer, "tools/call": {"content": []}}) as server:
            listed = run("tools", server.url)
            counts.append(server.count("tools/list"))
            with session(mcpl, server.url, tmp_path / "proxy") as proxy:
                proxy.send("tools/call", {"name": "other", "arguments": {}, "_meta": META})
                assert "result" in proxy.read()
            counts.append(server.count("tools/list"))
        assert listed.returncode == 1 and error in listed.stderr, listed.stderr

    assert counts == [1, 2, 5, 10]


# 8.7
@pytest.mark.parametrize("lifetime", [2**64 - 1, 2**63, 0])
def test_a_token_lives_for_any_time(mcpl, run, tmp_path, lifetime):
    with Hostile(is_closed=True, more_token={"expires_in": lifetime}) as server:
        started = [run("tools", server.url).returncode for _ in range(2)]
        with session(mcpl, server.url, tmp_path / "state") as proxy:
            proxy.send("initialize", LEGACY_CLIENT)
            assert "result" in proxy.read()

    assert started == [0, 0]


# 8.13
@pytest.mark.parametrize("name", ["state", "client_id", "redirect_uri", "code_challenge", "response_type", "st%61te"])
def test_an_issuer_names_no_parameter_that_the_client_sets(run, name):
    with Hostile(is_closed=True) as server:
        server.endpoints = {"authorization_endpoint": f"{server.origin}/authorize?{name}=x"}
        refused = run("tools", server.url)
        pages = server.pages
        server.endpoints = {"authorization_endpoint": f"{server.origin}/authorize?tenant=x"}
        signed_in = run("tools", server.url)

    assert (refused.returncode, pages) == (1, 0) and "authorization_endpoint" in refused.stderr, refused.stderr
    assert signed_in.returncode == 0, signed_in.stderr


# 8.7
@pytest.mark.parametrize(
    "endless",
    [
        lambda: Endless('{"jsonrpc":"2.0","id":1,"result":"'),
        lambda: Endless("data: ", content_type=EVENT_STREAM),
        lambda: Endless("data: ", "x\ndata: ", content_type=EVENT_STREAM),
        lambda: Endless(": ", ":\n", content_type=EVENT_STREAM),
    ],
    ids=["body", "event", "lines", "comments"],
)
def test_an_answer_without_an_end_is_an_error(mcpl, run, tmp_path, endless):
    listed, called = endless(), endless()
    with Hostile({"tools/list": listed, "tools/call": called}) as server:
        ended = run("tools", server.url)
        (tmp_path / "proxy").mkdir(mode=0o700)
        with session(mcpl, server.url, tmp_path / "proxy") as proxy:
            proxy.send("initialize", LEGACY_CLIENT)
            assert "result" in proxy.read()
            answer = proxy.call("t")

    assert ended.returncode == 1 and "more than 16777216 bytes" in ended.stderr, ended.stderr
    assert "more than 16777216 bytes" in answer["error"]["message"], answer
    assert max(listed.sent, called.sent) < READ_BYTES


# 8.7
def test_an_issuer_s_document_without_an_end_is_an_error(run):
    endless = Endless('{"resource":"')
    with Hostile(is_closed=True, metadata=endless) as server:
        ended = run("tools", server.url)
        pages = server.pages

    assert (ended.returncode, pages) == (1, 0)
    assert endless.sent < READ_BYTES


# 8.7
def test_an_issuer_s_document_has_one_reading(run):
    with Hostile(is_closed=True, more_metadata=', "token_endpoint": "http://127.0.0.1:9/token"') as server:
        ended = run("tools", server.url)
        pages, tokens = server.pages, server.tokens

    assert (ended.returncode, pages, tokens) == (1, 0, 0), ended.stderr


# 8.7
@pytest.mark.parametrize(
    "result", ['{"tools":[],"tools":[{"name":"evil"}]}', '{"tools":[{"name":"a","name":"b"}]}', "[" * 1000 + "]" * 1000]
)
def test_json_has_one_reading_and_a_bounded_depth(mcpl, run, tmp_path, result):
    def answer(request):
        return f'{{"jsonrpc":"2.0","id":{json.dumps(request["id"])},"result":{result}}}'

    with Hostile({"tools/list": answer}) as server:
        listed = run("tools", server.url)
        (tmp_path / "proxy").mkdir(mode=0o700)
        with session(mcpl, server.url, tmp_path / "proxy") as proxy:
            proxy.send("initialize", LEGACY_CLIENT)
            proxy.read()
            proxy.send("tools/list")
            relayed = proxy.read()

    assert listed.returncode == 1
    assert relayed["error"]["message"].startswith("mcpl: "), relayed
    assert re.search("duplicate field|deeper than 100", relayed["error"]["message"] + listed.stderr)


# 8.8: a sign-in for each new scope, without end.
def test_sign_ins_are_counted_until_a_request_succeeds(mcpl, tmp_path):
    wanted = []

    def call(_):
        wanted.append(f"s{len(wanted)}")
        return Refusal(wanted[-1])

    with Hostile({"tools/call": call}, is_closed=True) as server:
        (tmp_path / "proxy").mkdir(mode=0o700)
        with session(mcpl, server.url, tmp_path / "proxy") as proxy:
            proxy.send("initialize", LEGACY_CLIENT)
            assert "result" in proxy.read()
            before = server.pages
            answers = [proxy.call("t") for _ in range(4)]
            refused = server.pages
            # It begins again after a request that succeeds; the client's own pings prove nothing.
            server.methods["ping"] = {}
            proxy.send("ping")
            proxy.read()
            proxy.call("t")
            after_ping = server.pages
            proxy.send("tools/list")
            assert "result" in proxy.read()
            proxy.call("t")
            after_success = server.pages

    assert all("error" in answer for answer in answers)
    assert (before, refused, after_ping, after_success) == (1, 3, 3, 6)


# 8.9
def test_nothing_that_a_server_says_moves_the_cursor(run):
    tool = {"name": EVIL, "description": EVIL, "inputSchema": {"properties": {EVIL: {"type": EVIL}}}}

    def call(_):
        return {"content": [
            {"type": "text", "text": EVIL},
            {"type": "text", "text": json.dumps({"x": EVIL}, ensure_ascii=False)},
            {"type": "text", "text": json.dumps([{EVIL: EVIL}], ensure_ascii=False)},
            {"type": "resource_link", "name": EVIL, "uri": EVIL},
            {"type": EVIL},
            {"type": "audio", "mimeType": f"audio/{EVIL}", "data": "AAAA"},
        ]}

    with Hostile({"tools/list": {"tools": [tool, {"name": "t"}]}, "tools/call": call}) as server:
        listed, as_json = run("tools", server.url), run("tools", server.url, "--json")
        called, called_json = run("call", server.url, "t"), run("call", server.url, "t", "--json")
        missing = run("call", server.url, "missing")

    assert listed.returncode == called.returncode == 0, listed.stderr + called.stderr
    assert not any(line.startswith("ok ") for line in listed.stdout.splitlines()), listed.stdout
    assert json.loads(as_json.stdout)[0] == tool
    assert json.loads(called_json.stdout)["content"][0]["text"] == EVIL
    assert len(missing.stderr.splitlines()) == 1, missing.stderr


# 8.9
def test_an_error_is_one_printable_line(run):
    error = json.dumps({"code": -32603, "message": EVIL}, ensure_ascii=False)

    def fail(request):
        progress = {"progressToken": request["params"]["_meta"]["progressToken"], "progress": 1, "message": EVIL}
        event = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}, ensure_ascii=False)
        return f'data: {event}\n\ndata: {{"jsonrpc":"2.0","id":{request["id"]},"error":{error}}}\n\n'.encode()

    with Hostile({"tools/list": fail}) as server:
        listed = run("tools", server.url)
        server.methods["server/discover"] = {"supportedVersions": [EVIL]}
        # It takes no options about tokens.
        examined = subprocess.run([run.mcpl, "doctor", server.url], capture_output=True, text=True).stdout

    assert listed.returncode == 1
    assert len(listed.stderr.splitlines()) == 2, listed.stderr
    assert not UNPRINTABLE.search(examined) and "forged" in examined, repr(examined)
    assert not any(line.startswith("ok      forged") for line in examined.splitlines())


# 8.9
def test_a_saved_file_is_new_and_stays_in_its_folder(run, tmp_path):
    image = {"content": [{"type": "image", "mimeType": "image/png/../../x", "data": base64.b64encode(b"image").decode()}]}
    names = ["../escaped", "chart", "/tmp/escaped", f"{tmp_path}/escaped", "a\nb\x1b[2J"]
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "chart-1.png").symlink_to(tmp_path / "target")
    (folder / "chart-2.png").write_text("mine")
    with Hostile({"tools/list": {"tools": [{"name": name} for name in names]}, "tools/call": image}) as server:
        for name in names:
            called = run("call", server.url, name, "--save-to", folder)
            assert called.returncode == 0, called.stderr

    assert not (tmp_path / "target").exists() and (folder / "chart-2.png").read_text() == "mine"
    assert (folder / "chart-3.png").read_bytes() == b"image"
    assert not list(tmp_path.glob("escaped*")) and len(list(folder.iterdir())) == 2 + len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.png", file.name) for file in folder.iterdir())


# 8.6
def test_what_is_secret_is_for_its_owner_with_any_umask(run, tmp_path):
    state = tmp_path / "state"
    with Hostile(is_closed=True) as server:
        first = run("tools", server.url, umask=0)
        (file,) = state.glob("*.json")
        modes = (state.stat().st_mode & 0o777, file.stat().st_mode & 0o777)
        file.chmod(0o644)
        forgotten = json.loads(file.read_text())
        forgotten["credentials"] = None
        file.write_text(json.dumps(forgotten))
        again = run("tools", server.url, umask=0)
        again_mode = file.stat().st_mode & 0o777
        state.chmod(0o755)
        open_to_others = run("tools", server.url)

    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert (modes, again_mode) == ((0o700, 0o600), 0o600)
    assert all(own.stat().st_mode & 0o077 == 0 for own in state.iterdir())
    assert open_to_others.returncode == 1 and "chmod 700" in open_to_others.stderr, open_to_others.stderr


# 8.6
def test_the_usual_folder_is_closed_to_others(mcpl, tmp_path):
    usual = tmp_path / ".local" / "state" / "mcpl"
    usual.mkdir(parents=True)
    usual.chmod(0o777)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    with Hostile() as server:
        subprocess.run([mcpl, "tools", server.url], env={**variables, "HOME": str(tmp_path)}, check=True)

    assert usual.stat().st_mode & 0o777 == 0o700


# 8.6
def test_a_configuration_that_is_a_link_stays_one(mcpl, tmp_path):
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / ".cursor").mkdir()
    link, target = tmp_path / ".cursor" / "mcp.json", tmp_path / "dotfiles" / "new" / "mcp.json"
    link.symlink_to("../dotfiles/new/mcp.json")
    command = [mcpl, "install", "greeter", "https://mcp.example.com/mcp", "--cursor"]
    for _ in range(2):
        subprocess.run(command, env={**os.environ, "HOME": str(tmp_path)}, check=True, stdin=subprocess.DEVNULL)

    assert link.is_symlink() and "mcp.example.com" in target.read_text()
    assert not list(tmp_path.rglob(".mcpl-*"))


# 8.6
def test_manual_pages_follow_no_links(mcpl, tmp_path):
    pages, mine = tmp_path / "pages", tmp_path / "mine"
    pages.mkdir()
    mine.write_text("mine")
    (pages / "mcpl.1").symlink_to(mine)

    subprocess.run([mcpl, "man", pages], check=True)

    assert mine.read_text() == "mine" and "mcpl" in (pages / "mcpl.1").read_text()
    assert all(page.suffix == ".1" for page in pages.iterdir())


# 8.7
def test_the_questions_of_a_round_are_bounded(mcpl, tmp_path):
    questions = {str(number): {"method": "roots/list"} for number in range(101)}
    (tmp_path / "proxy").mkdir(mode=0o700)
    methods = {
        "initialize": lambda request: error(request, -32022),
        "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
        "tools/call": {"resultType": "input_required", "inputRequests": questions, "requestState": "s"},
    }
    with Hostile(methods) as server, session(mcpl, server.url, tmp_path / "proxy") as proxy:
        proxy.send("initialize", LEGACY_CLIENT)
        assert "result" in proxy.read()
        answer = proxy.call("t")

    assert "more than 100 questions" in answer["error"]["message"], answer


def error(request, code):
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}})
