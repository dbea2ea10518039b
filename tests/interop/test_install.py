"""`mcpl install` and `uninstall`: entries come and go in the files of real programs, and nothing else in them changes."""

import json
import os
import pty
import subprocess
import tomllib

import pytest
import tools
from conftest import PROJECT

# What waits for a FIFO waits forever.
HANG_SECONDS = 120
URL = "https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp"
FLAGS = {
    "--claude": (".config/Claude/claude_desktop_config.json", "mcpServers"),
    "--claude-code": ("project/.mcp.json", "mcpServers"),
    "--cursor": (".cursor/mcp.json", "mcpServers"),
    "--vscode": ("project/.vscode/mcp.json", "servers"),
    "--codex": (".codex/config.toml", "mcp_servers"),
    "--gemini": (".gemini/settings.json", "mcpServers"),
    "--windsurf": (".codeium/windsurf/mcp_config.json", "mcpServers"),
}
ODD_JSON = """{
\t"theme" : "dark",   // as it should be
\t/* servers */
\t"%s": {
\t\t"other": { "command": "npx", "args": ["-y",  "x"] },

\t\t// "off": {},
\t},
\t"z": [1e400,  2,
3]
}"""
ODD_TOML = """# mine
model = "o9"  # the best

[%s.other]
command = 'npx'
args = ["-y",
  "x"] # odd

[tail]
z=1"""


@pytest.fixture
def run(mcpl, tmp_path):
    """Runs the command in a home folder of its own."""
    (tmp_path / "project").mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}

    def run(*words, check=True, program=mcpl, **more):
        finished = subprocess.run(
            [program, *words], cwd=tmp_path / "project", env={**variables, "HOME": str(tmp_path), **more},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=HANG_SECONDS,
        )
        assert finished.returncode == 0 or not check, finished.stderr
        return finished

    run.variables = {**variables, "HOME": str(tmp_path)}
    return run


@pytest.mark.parametrize("flag", FLAGS)
def test_a_file_is_what_it_was_when_the_entry_has_come_and_gone(run, tmp_path, flag):
    path, servers = FLAGS[flag]
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    odd = (ODD_TOML if flag == "--codex" else ODD_JSON) % servers
    for original in (odd, odd.replace("\n", "\r\n"), f"{odd}\n\n"):
        file.write_bytes(original.encode())
        file.chmod(0o640)

        shown = run("install", "greeter", URL, flag, "--dry-run").stdout
        assert file.read_bytes().decode() == original and URL in shown
        run("install", "greeter", URL, flag)
        installed = file.read_bytes().decode()
        again = run("install", "greeter", URL, flag).stdout
        assert file.read_bytes().decode() == installed and "needs no change" in again
        run("uninstall", "greeter", flag)

        assert URL in installed
        kept = [line for line in installed.splitlines(keepends=True) if line in original.splitlines(keepends=True)]
        missing = set(original.splitlines()) - {line.rstrip("\r\n") for line in kept}
        assert not missing, f"{missing} in\n{installed}"
        assert file.read_bytes().decode() == original
        assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("flag", FLAGS)
def test_a_program_that_has_no_file_gets_one(run, tmp_path, flag, mcpl):
    path, servers = FLAGS[flag]
    file = tmp_path / path

    run("install", "greeter", URL, flag)
    read = tomllib.loads if flag == "--codex" else json.loads
    direct = read(file.read_text())[servers]["greeter"]
    run("install", "greeter", URL, flag, "--via-proxy")
    proxied = read(file.read_text())[servers]["greeter"]

    assert URL in direct.values() or flag == "--claude"
    assert proxied["args"] == ["proxy", "greeter", URL] and os.path.samefile(proxied["command"], mcpl)


def test_what_only_an_installation_has_is_no_option_of_uninstall(run, tmp_path):
    refused = run("uninstall", "greeter", "--claude", "--via-proxy", check=False)

    assert refused.returncode == 2 and "--via-proxy" in refused.stderr


def test_an_entry_keeps_the_timeout(run, tmp_path):
    said = run("install", "greeter", URL, "--claude", "--cursor", "--timeout", "60").stdout
    entry = json.loads((tmp_path / FLAGS["--claude"][0]).read_text())["mcpServers"]["greeter"]
    direct = json.loads((tmp_path / FLAGS["--cursor"][0]).read_text())["mcpServers"]["greeter"]
    run("install", "greeter", URL, "--claude", "--timeout", "900")
    usual = json.loads((tmp_path / FLAGS["--claude"][0]).read_text())["mcpServers"]["greeter"]

    assert entry["args"] == ["proxy", "greeter", URL, "--timeout", "60"] and direct == {"url": URL}
    assert "`--timeout` is for `mcpl proxy`" in said and "--timeout 60" in said
    # Then lists have it too.
    assert usual["args"] == ["proxy", "greeter", URL, "--timeout", "900"]


def test_the_proxy_command_installs_itself_as_the_seed_has_it(run, tmp_path):
    run("proxy", "greeter", URL, "--mode", "http", "--claude", "--cursor")

    for flag in ("--claude", "--cursor"):
        assert URL in (tmp_path / FLAGS[flag][0]).read_text()


def test_a_secret_is_kept_apart_from_the_configuration(run, tmp_path):
    secret = ["--client-id", "me", "--client-secret", "hunter2"]
    run("install", "greeter", URL, "--claude", "--cursor", *secret, "--dry-run")
    assert not files_with("hunter2", tmp_path)

    said = run("install", "greeter", URL, "--claude", "--cursor", *secret)

    for flag in ("--claude", "--cursor"):
        entry = json.loads((tmp_path / FLAGS[flag][0]).read_text())["mcpServers"]["greeter"]
        assert entry["args"] == ["proxy", "greeter", URL, "--client-id", "me"]
    [kept] = files_with("hunter2", tmp_path)
    assert str(kept) in said.stdout and kept.stat().st_mode & 0o777 == 0o600
    run("forget", URL)
    assert not files_with("hunter2", tmp_path)


def test_a_secret_in_a_file_stays_there(run, tmp_path):
    (tmp_path / "project" / "secret").write_text("hunter2\n")

    run("install", "greeter", URL, "--claude", "--client-id", "me", "--client-secret-file", "secret")

    entry = json.loads((tmp_path / FLAGS["--claude"][0]).read_text())["mcpServers"]["greeter"]
    assert entry["args"][-2:] == ["--client-secret-file", str(tmp_path / "project" / "secret")]
    assert files_with("hunter2", tmp_path) == [tmp_path / "project" / "secret"]


def files_with(text, folder):
    return [file for file in folder.rglob("*") if file.is_file() and text in file.read_text()]


@pytest.mark.parametrize("flag", FLAGS)
def test_a_file_that_does_not_parse_is_left_alone(run, tmp_path, flag):
    file = tmp_path / FLAGS[flag][0]
    file.parent.mkdir(parents=True, exist_ok=True)
    for broken in ("{", '{"a": 1} x', "[mcp_servers", "\x00"):
        file.write_text(broken)

        refused = run("install", "greeter", URL, flag, "--via-proxy", check=False)

        assert refused.returncode == 1 and "is left as it is" in refused.stderr and str(file) in refused.stderr
        assert refused.stdout == "", "no next step"
        assert file.read_text() == broken


def test_without_a_program_it_says_what_to_write(run):
    refused = run("install", "greeter", URL, check=False)

    assert refused.returncode == 2 and "--claude" in refused.stderr


# 8.6
@pytest.mark.parametrize("odd", ["fifo", "link to a fifo", "device", "folder"])
def test_only_regular_files_are_read(run, tmp_path, odd):
    file = tmp_path / "project" / ".mcp.json"
    place_odd(file, odd)

    installed = run("install", "greeter", URL, "--claude-code", check=False)
    uninstalled = run("uninstall", "greeter", "--claude-code", check=False)

    for refused in (installed, uninstalled):
        assert refused.returncode == 1 and "no regular file" in refused.stderr, refused.stderr
    assert not file.is_file() and not list(file.parent.glob("*.before-mcpl"))


# 8.6
@pytest.mark.parametrize("odd", ["fifo", "link to a fifo", "device", "folder"])
def test_a_backup_that_is_no_regular_file_is_not_read(run, tmp_path, odd):
    file = tmp_path / "project" / ".mcp.json"
    run("install", "greeter", URL, "--claude-code")
    backup = file.with_name(".mcp.json.before-mcpl")
    backup.unlink(missing_ok=True)
    place_odd(backup, odd)

    run("uninstall", "greeter", "--claude-code")

    assert "greeter" not in file.read_text()


def place_odd(file, odd):
    match odd:
        case "fifo":
            os.mkfifo(file)
        case "link to a fifo":
            os.mkfifo(file.with_name("fifo"))
            file.symlink_to("fifo")
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()


# 8.6
def test_a_file_that_is_too_large_is_left_alone(run, tmp_path):
    file = tmp_path / "project" / ".mcp.json"
    file.write_text("{}" + " " * 16 * 1024 * 1024)

    refused = run("install", "greeter", URL, "--claude-code", check=False)

    assert refused.returncode == 1 and "more than 16777216 bytes" in refused.stderr, refused.stderr


# 8.6
def test_a_file_elsewhere_is_backed_up_where_it_is(run, tmp_path):
    private = tmp_path / "private.json"
    original = '{"key": "hunter2",   "mcpServers": {}}'
    private.write_text(original)
    link = tmp_path / "project" / ".mcp.json"
    link.symlink_to(private)

    run("install", "greeter", URL, "--claude-code")
    backups = set(files_with("hunter2", tmp_path)) - {private, link}
    run("uninstall", "greeter", "--claude-code")

    assert backups == {tmp_path / "private.json.before-mcpl"}
    assert link.is_symlink() and private.read_text() == original


# 8.6
@pytest.mark.parametrize("name", ["-v", "--sigv4", "-"])
def test_a_name_is_no_option(run, tmp_path, name):
    refused = run("install", "--claude", "--", name, URL, check=False)

    assert refused.returncode == 2 and "begin with `-`" in refused.stderr, refused.stderr
    assert not (tmp_path / FLAGS["--claude"][0]).exists()


# 8.6
@pytest.mark.parametrize(
    "text",
    [
        '{"mcpServers":{},"mcpServers":{"greeter":{"url":"x"}}}',
        '{"mcpServers":{"greeter":{"url":"x"}},"mcp\\u0053ervers":{}}',
        '{"mcpServers":{"greeter":{"url":"x","url":"y"}}}',
        '{"mcpServers":{"greeter":{"command":"x","c\\u006fmmand":"y"}}}',
    ],
)
def test_a_file_with_two_members_of_one_name_is_left_alone(run, tmp_path, text):
    file = tmp_path / FLAGS["--cursor"][0]
    file.parent.mkdir()
    file.write_text(text)

    refused = run("install", "greeter", URL, "--cursor", check=False)

    assert refused.returncode == 1 and "twice" in refused.stderr and "is left as it is" in refused.stderr
    assert file.read_text() == text


# i01
@pytest.mark.parametrize("flag", ["--cursor", "--codex"])
def test_a_byte_order_mark_stays(run, tmp_path, flag):
    file = tmp_path / FLAGS[flag][0]
    file.parent.mkdir()
    original = b"\xef\xbb\xbf" + (b"# mine\r\n" if flag == "--codex" else b'{"mcpServers": {}}\r\n')
    file.write_bytes(original)

    shown = run("install", "greeter", URL, flag)
    installed = file.read_bytes()
    run("uninstall", "greeter", flag)

    assert installed.startswith(original[:3]) and installed.count(original[:3]) == 1 and URL.encode() in installed
    assert "\ufeff" not in shown.stdout
    assert file.read_bytes() == original


# i03
def test_installations_at_the_same_time_wait_for_each_other(mcpl, run, tmp_path):
    file = tmp_path / FLAGS["--cursor"][0]
    file.parent.mkdir()
    names = [f"server{number}" for number in range(40)]
    # Large enough that one is still reading while the next one writes.
    file.write_text(json.dumps({"mcpServers": {}, "notes": ["x" * 60] * 5000}))

    command = [mcpl, "install", "NAME", URL, "--cursor"]
    started = [
        subprocess.Popen([name if word == "NAME" else word for word in command], env=run.variables, cwd=tmp_path, stdout=subprocess.DEVNULL)
        for name in names
    ]
    codes = {process.wait(HANG_SECONDS) for process in started}

    assert codes == {0} and list(json.loads(file.read_text())["mcpServers"].keys() ^ set(names)) == []


# i04
def test_codex_has_its_files_where_its_variable_says(run, tmp_path):
    other = tmp_path / "codex"
    other.mkdir()
    (other / "config.toml").write_text('model = "o9"\n')

    run("install", "greeter", URL, "--codex", CODEX_HOME=str(other))

    assert "greeter" in tomllib.loads((other / "config.toml").read_text())["mcp_servers"]
    assert not (tmp_path / ".codex").exists()


# i05
def test_the_command_is_named_as_path_has_it(mcpl, run, tmp_path):
    real = tmp_path / "Cellar" / "mcpl" / "0.1.0" / "mcpl"
    real.parent.mkdir(parents=True)
    os.link(mcpl, real) if os.stat(mcpl).st_dev == os.stat(tmp_path).st_dev else real.write_bytes(open(mcpl, "rb").read())
    real.chmod(0o755)
    linked = tmp_path / "bin" / "mcpl"
    linked.parent.mkdir()
    linked.symlink_to(real)

    run("install", "greeter", URL, "--claude", program=str(linked), PATH=f"{linked.parent}:{os.environ['PATH']}")

    entry = json.loads((tmp_path / FLAGS["--claude"][0]).read_text())["mcpServers"]["greeter"]
    assert entry["command"] == str(linked)


# i07, c12
def test_spaces_around_a_url_are_left_out_and_others_are_refused(run, tmp_path):
    run("install", "greeter", f" {URL}\t", "--cursor")
    spaced = run("install", "greeter", URL.replace("/mcp", "/m cp"), "--cursor", check=False)
    bare = run("install", "greeter", URL.removeprefix("https://"), "--cursor", check=False)

    assert json.loads((tmp_path / FLAGS["--cursor"][0]).read_text())["mcpServers"]["greeter"] == {"url": URL}
    assert spaced.returncode == 2 and "must be an https URL" in spaced.stderr, spaced.stderr
    assert bare.returncode == 2 and f"has no scheme: write {URL}" in bare.stderr, bare.stderr


# i08
def test_a_header_is_not_left_out_silently(run, tmp_path):
    refused = run("install", "greeter", URL, "--claude", "--header", "X-Api-Key: hunter2", check=False)

    assert refused.returncode == 2 and "--token-command" in refused.stderr, refused.stderr
    assert not (tmp_path / FLAGS["--claude"][0]).exists() and not files_with("hunter2", tmp_path)


# i09
def test_a_program_without_the_variables_of_this_shell_finds_what_is_kept(run, tmp_path):
    secret = ["--client-id", "me", "--client-secret", "hunter2"]
    state = tmp_path / "state"

    run("install", "greeter", URL, "--claude", *secret, XDG_STATE_HOME=str(state))
    entry = json.loads((tmp_path / FLAGS["--claude"][0]).read_text())["mcpServers"]["greeter"]
    # What the program starts, asked for what it keeps.
    own = entry["args"][entry["args"].index("--state-dir") :]
    [kept] = files_with("hunter2", tmp_path)
    run("forget", URL, *own)

    assert own == ["--state-dir", str(state / "mcpl")] and kept.parent == state / "mcpl"
    assert not files_with("hunter2", tmp_path)
    run("install", "greeter", URL, "--claude", XDG_STATE_HOME=str(tmp_path / ".local" / "state"))
    entry = json.loads((tmp_path / FLAGS["--claude"][0]).read_text())["mcpServers"]["greeter"]
    assert entry["args"] == ["proxy", "greeter", URL], "the usual folder needs no option"


# 7, and section 9, "after installing"
def test_it_is_said_what_comes_next(run):
    proxied = run("install", "greeter", URL, "--claude", "--claude-code", "--gemini", "--scope", "a b").stdout
    direct = run("install", "other", URL, "--cursor", "--gemini").stdout
    dry = run("install", "third", URL, "--claude", "--claude-code", "--gemini", "--dry-run").stdout

    assert f"sign in first: mcpl login {URL} --scope 'a b'\n" in proxied
    for own in (["--sigv4"], ["--token-command", "x"], ["--header-env", "Authorization=X"], ["--client-credentials", "--client-id", "me"]):
        assert "sign in first" not in run("install", "fourth", URL, "--claude", *own).stdout, own
    assert "Claude Code asks for approval" in proxied and "trust the folder" in proxied
    assert "sign in first" not in direct and "approval" not in direct and "trust the folder" in direct
    assert "sign in first" not in dry and "approval" not in dry and "trust the folder" not in dry


# Section 9, "one broken file does not stop the others"
def test_a_broken_file_stops_no_other(run, tmp_path):
    broken = [tmp_path / FLAGS[flag][0] for flag in ("--claude-code", "--cursor")]
    for file in broken:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{")

    installed = run("install", "greeter", URL, "--claude-code", "--cursor", "--gemini", "--codex", check=False)
    entries = [(tmp_path / FLAGS[flag][0]).read_text() for flag in ("--gemini", "--codex")]
    removed = run("uninstall", "greeter", "--cursor", "--gemini", "--claude-code", "--codex", check=False)

    assert "trust the folder" in installed.stdout and "approval" not in installed.stdout
    for ended in (installed, removed):
        assert ended.returncode == 1 and all(ended.stderr.count(f"{file} is left as it is") == 1 for file in broken)
    assert all(URL in entry for entry in entries)
    assert not any((tmp_path / FLAGS[flag][0]).exists() for flag in ("--gemini", "--codex"))


@pytest.mark.parametrize("flag", FLAGS)
def test_secrets_of_an_entry_for_another_server_do_not_stay(run, tmp_path, flag):
    path, servers = FLAGS[flag]
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if flag == "--codex":
        original = f'[{servers}.notes]\nurl = "https://old.example/mcp"\ncwd = "/x"\nhttp_headers = {{ Authorization = "hunter2" }}\n'
    else:
        entry = {"url": "https://old.example/mcp", "headers": {"Authorization": "hunter2"}, "env": {"K": "hunter2"}, "disabled": True}
        original = json.dumps({servers: {"notes": entry}})
    file.write_text(original)

    installed = run("install", "notes", URL, flag)
    kept = file.read_text()
    again = run("install", "notes", URL.replace("/mcp", "/other"), flag)

    assert URL in kept and not any(word in kept for word in ("hunter2", "old.example", "disabled", "cwd")), kept
    assert "is replaced: it was for another server (https://old.example), whose `" in installed.stderr
    assert "hunter2" in installed.stdout, "the difference shows what is left out"
    assert "is replaced" not in again.stderr
    # The first backup stays.
    assert file.with_name(f"{file.name}.before-mcpl").read_text() == original


def test_what_was_added_to_an_entry_for_the_same_origin_stays(run, tmp_path):
    file = tmp_path / FLAGS["--cursor"][0]
    file.parent.mkdir()
    added = {"headers": {"X-Api-Key": "mine"}, "disabled": True}
    file.write_text(json.dumps({"mcpServers": {"notes": {"url": URL, **added}}}))

    installed = run("install", "notes", URL.replace("/mcp", "/other"), "--cursor")

    entry = json.loads(file.read_text())["mcpServers"]["notes"]
    assert entry == {"url": URL.replace("/mcp", "/other"), **added} and installed.stderr == ""


def test_the_first_backup_stays_until_the_file_is_as_it_was(run, tmp_path):
    file = tmp_path / FLAGS["--cursor"][0]
    backup = file.with_name("mcp.json.before-mcpl")
    file.parent.mkdir()
    original = '{"mcpServers": {"mine": {"url": "https://x.example"}}}'
    file.write_text(original)

    run("install", "one", URL, "--cursor")
    first = backup.read_text()
    run("install", "two", URL, "--cursor")
    second = backup.read_text()
    run("uninstall", "two", "--cursor")
    assert backup.exists()
    run("uninstall", "one", "--cursor")

    assert first == second == original
    assert file.read_text() == original and not backup.exists()


def test_a_file_that_mcpl_has_made_goes_with_its_last_entry(run, tmp_path):
    file = tmp_path / "project" / ".mcp.json"
    usual = tmp_path / "usual"
    usual.touch()

    run("install", "one", URL, "--claude-code")
    mode = file.stat().st_mode
    run("install", "two", URL, "--claude-code")
    run("uninstall", "two", "--claude-code")
    assert list(json.loads(file.read_text())["mcpServers"]) == ["one"]
    dry = run("uninstall", "one", "--claude-code", "--dry-run")
    assert file.exists() and "needs no change" not in dry.stdout
    said = run("uninstall", "one", "--claude-code").stdout

    assert not file.exists() and "is removed: nothing else was in it" in said and not list(file.parent.glob("*before-mcpl*"))
    assert mode == usual.stat().st_mode, "others work on the project too"
    run("install", "one", URL, "--cursor")
    assert (tmp_path / FLAGS["--cursor"][0]).stat().st_mode & 0o777 == 0o600


def test_an_entry_that_is_not_there_is_named_with_those_that_are(run, tmp_path):
    run("install", "events", URL, "--claude", "--codex")
    for flag in ("--claude", "--codex"):
        before = (tmp_path / FLAGS[flag][0]).read_text()
        misspelt = run("uninstall", "eventz", flag, check=False)
        assert misspelt.returncode == 1 and "there is no entry `eventz`; there are events" in misspelt.stderr
        assert (tmp_path / FLAGS[flag][0]).read_text() == before
    none = run("uninstall", "events", "--cursor", check=False)

    assert none.returncode == 1 and "there is no entry `events`; it has no entries" in none.stderr


def test_claude_desktop_has_two_names_and_the_proxy_says_what_it_changes(run, tmp_path):
    run("install", "greeter", URL, "--claude-desktop")
    shown = run("proxy", "--help").stdout

    assert URL in (tmp_path / FLAGS["--claude"][0]).read_text() and not (tmp_path / "project" / ".mcp.json").exists()
    heading = shown.index("Changes the configuration of a program instead, as `mcpl install` does:")
    assert heading < shown.index("--claude-code")


@pytest.mark.parametrize("typed", ["3,5\n", "3 5\n"])
def test_programs_are_chosen_in_a_menu(mcpl, run, tmp_path, typed):
    terminal, inner = pty.openpty()
    os.write(terminal, typed.encode())
    ended = subprocess.run(
        [mcpl, "install", "greeter", URL], env=run.variables, cwd=tmp_path, stdin=inner, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    os.close(inner)
    os.close(terminal)

    assert ended.returncode == 0 and "3  Cursor" in ended.stdout, ended.stderr
    assert all(URL in (tmp_path / FLAGS[flag][0]).read_text() for flag in ("--cursor", "--codex"))
