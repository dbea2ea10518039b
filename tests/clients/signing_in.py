"""Programs of others at a server that takes a token: each signs in by the server's browser, or by that of `browser.py`, and logs an event.

Each function takes a provider, a server and a home, and returns what the model or a person is shown of the call.
"""

import json
import stat
import sys

import agents
import clis
import programs
from client_documents import CLAUDE_CODE, CODEX
from postgres import free_port

BROWSER = agents.HERE / "browser.py"


def environment(home, nowhere, browser=None, **variables):
    """With a browser, by all the names under which programs look for one."""
    command = f'"{browser}"' if browser else f'"{sys.executable}" "{BROWSER}"'
    script = f'#!/bin/sh\nexec {command} "$1" >>"{home}/browser.log" 2>&1\n'
    for name in ("xdg-open", "x-www-browser", "sensible-browser"):
        path = agents.write(home / "bin" / name, script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    env = programs.environment(home, nowhere, BROWSER=str(home / "bin" / "xdg-open"), **variables)
    # Some open none where there is no display.
    return {**env, "PATH": f"{home / 'bin'}:{env['PATH']}", "DISPLAY": ":9"}


def run(command, home, env):
    code, output = programs.run(command, home, env)
    assert code == 0, f"it ended with {code}:\n{output}"
    return output


def call(cli, server):
    return cli.calling(server, server.case.tool, server.case.good)


def mcp_remote(provider, server, home):
    with clis.Bridge(clis.BRIDGES["mcp-remote"](server.url), home, environment(home, provider.url, server.browser)) as bridge:
        params = {"name": server.case.tool, "arguments": server.case.good}
        return json.dumps(bridge.request("tools/call", params))


def mcporter(provider, server, home):
    # Without `auth` it takes a server that lists its tools to anyone for one that has no sign-in.
    entry = {"baseUrl": server.url, "auth": "oauth"}
    config = agents.write(home / "mcporter.json", {"mcpServers": {server.name: entry}})
    command = [*clis.node("mcporter", "dist", "cli.js"), "--config", config]
    return run([*command, *call(clis.MCPORTER, server)], home, environment(home, provider.url, server.browser))


def mcpc(provider, server, home):
    env = environment(home, provider.url, server.browser)
    command = clis.mcpc(server, home)
    run([*command, "login", server.url], home, env)
    run([*command, "connect", server.url, "@session"], home, env)
    return run([*command, *call(clis.MCPC, server)], home, env)


def inspector(provider, server, home):
    env = environment(home, provider.url, server.browser, MCP_AUTO_OPEN_ENABLED="true")
    callback = f"http://127.0.0.1:{free_port()}/oauth/callback"
    command = [*clis.inspector(server, home), "--callback-url", callback]
    return run([*command, *call(clis.INSPECTOR, server)], home, env)


def claude_code(provider, server, home):
    env = environment(home, provider.url, server.browser, **agents.claude_code_variables(provider))
    command = [agents.CLAUDE_CODE]
    run([*command, "mcp", "add", "--transport", "http", server.name, server.url], home, env)
    # It signs in at a terminal only.
    code, output = programs.run_in_terminal([*command, "mcp", "login", server.name], home, {**env, "TERM": "xterm"})
    assert code == 0, output
    run([*command, "-p", agents.PROMPT, "--model", agents.MODEL, "--allowedTools", f"mcp__{server.name}"], home, env)
    return provider.results[0].text


def codex(provider, server, home):
    env = environment(home, provider.url, server.browser, **agents.codex_variables(home))
    agents.write_codex_config(provider, [server], home)
    run([agents.codex_program(), "mcp", "login", server.name], home, env)
    run([agents.codex_program(), "exec", "--skip-git-repo-check", agents.PROMPT], home, env)
    return provider.results[0].text


def gemini_cli(provider, server, home):
    """It signs in when it connects, and so only at a server that requires a token for `initialize`."""
    # Function URLs rename the challenge: without this member it does not look for the issuer.
    agents.write_gemini_settings([server], home, oauth={"enabled": True})
    env = environment(home, provider.url, server.browser, **agents.gemini_variables(provider))
    # It opens no browser in CI.
    del env["CI"]
    # Whether it may open the browser.
    code, output = programs.run_in_terminal(agents.GEMINI_CLI, home, env, typed=b"y\n")
    assert code == 0 and provider.results, output
    return provider.results[0].text


PROGRAMS = {
    "claude-code": claude_code, "codex": codex, "inspector": inspector, "mcp-remote": mcp_remote, "mcpc": mcpc,
    "mcporter": mcporter,
}
# The metadata documents with which they identify themselves to an authorization server. `None`: they register.
DOCUMENTS = {
    "claude-code": CLAUDE_CODE, "codex": CODEX, "gemini-cli": None, "inspector": None, "mcp-remote": None, "mcpc": None, "mcporter": None,
}
# Those of the first sign-in: a page of consent, and one of the identity provider.
PAGES = 2
