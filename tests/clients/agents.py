"""Agents: programs that give a model the tools of servers. Each is started with the scripted stand-in as its provider and
the three functions as its servers, and goes through `servers.SCRIPT` in one session."""

import dataclasses
import json
import pathlib
import platform
import sys
from collections.abc import Callable

import programs
from providers import MODEL
from servers import DONE

import tools

HERE = pathlib.Path(__file__).parent
FAST = tools.FOLDER / "clients" / "fast" / "node_modules"
ALL = tools.FOLDER / "clients" / "all" / "node_modules"
# As npm packages of binaries are called.
PLATFORM = f"{sys.platform}-{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'x64'}"
PROMPT = "Greet Ada, log that it was deployed, and read how to get a book."


@dataclasses.dataclass(frozen=True)
class Program:
    """`run` takes a provider, the servers and a home, and returns all that the program printed and logged.
    What docs/clients.md says of it: the revision that it speaks and what the model is shown of a result."""

    title: str
    package: str
    run: Callable
    revision: str
    # `text`, `structure` or `both`.
    shows: str
    # What the model is shown of a call that needs a sign-in first.
    unsigned: str
    # The keywords of the servers' schemas that it does not send to the provider.
    drops: frozenset = frozenset()
    # The model is shown a server's instructions.
    is_instructed: bool = False
    is_fast: bool = False
    # It rejects arguments that break a tool's schema itself.
    checks_arguments: bool = False
    # Lines of its own that are no warnings about a server.
    ignored: tuple = ()
    # The model's last turn: some end a conversation by a tool of their own.
    done: object = DONE


# Several leave these out.
BOUNDS = frozenset({"minimum", "maximum", "minLength", "maxLength"})


def session(command, home, env, *logs):
    """Runs a program to its end, which must be a good one; returns its output with the log files that fit patterns."""
    folder = home / "project"
    folder.mkdir(exist_ok=True)
    with programs.daemons_ended(home):
        code, output = programs.run(command, folder, env)
    for pattern in logs:
        output += "".join(path.read_text(errors="replace") for path in sorted(home.glob(pattern)) if path.is_file())
    assert code == 0, f"it ended with {code}:\n{output}"
    return output


def version(package):
    """The pinned version of an npm package."""
    for manifest in (HERE / "node").glob("*/package.json"):
        if found := json.loads(manifest.read_text())["dependencies"].get(package):
            return found
    raise KeyError(package)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))
    return path


def script(name, folder, provider, servers, home, *words, **variables):
    """Runs a script of ours on Node beside the packages of `folder`, where Node looks for them."""
    target = folder.parent / name
    target.write_bytes((HERE / "node" / folder.parent.name / name).read_bytes())
    command = [tools.node(), target, provider.url, MODEL, PROMPT, *(f"{own.name}={own.url}" for own in servers), *words]
    return session(command, home, programs.environment(home, provider.url, **variables))


CLAUDE_CODE = FAST / "@anthropic-ai" / f"claude-code-{PLATFORM}" / "claude"


def claude_code(provider, servers, home):
    entries = {own.name: {"type": "http", "url": own.url} for own in servers}
    config = write(home / "mcp.json", {"mcpServers": entries})
    command = [CLAUDE_CODE, "-p", PROMPT, "--mcp-config", config, "--strict-mcp-config", "--model", MODEL]
    command += ["--allowedTools", ",".join(f"mcp__{own.name}" for own in servers)]
    command += ["--debug", "--debug-file", home / "debug.log"]
    env = programs.environment(home, provider.url, **claude_code_variables(provider))
    return session(command, home, env, "debug.log")


def claude_code_variables(provider):
    return {
        "ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": "sk-ant-api03-none",
        # Otherwise the model may have to find a tool by a search first.
        "ENABLE_TOOL_SEARCH": "false", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def codex(provider, servers, home):
    write_codex_config(provider, servers, home)
    env = programs.environment(home, provider.url, **codex_variables(home))
    return session([codex_program(), "exec", "--skip-git-repo-check", PROMPT], home, env, ".codex/log/*")


def codex_program():
    return next((FAST / "@openai").glob(f"codex-{PLATFORM}/vendor/*/bin/codex"))


def codex_variables(home):
    return {"LOOPBACK_KEY": "none", "RUST_LOG": "warn", "CODEX_HOME": str(home / ".codex")}


def write_codex_config(provider, servers, home):
    lines = [
        f'model = "{MODEL}"', 'model_provider = "loopback"', 'approval_policy = "never"', 'sandbox_mode = "read-only"',
        "check_for_update_on_startup = false", 'mcp_oauth_credentials_store = "file"',
        "[model_providers.loopback]", 'name = "loopback"', f'base_url = "{provider.url}/v1"', 'wire_api = "responses"',
        'env_key = "LOOPBACK_KEY"', "request_max_retries = 0", "stream_max_retries = 0",
        "[analytics]", "enabled = false", "[feedback]", "enabled = false",
    ]
    for own in servers:
        # Only an approved tool is called where there is no person to ask.
        lines += [f'[mcp_servers."{own.name}"]', f'url = "{own.url}"', 'default_tools_approval_mode = "approve"']
    write(home / ".codex" / "config.toml", "\n".join(lines) + "\n")


def gemini_cli(provider, servers, home):
    write_gemini_settings(servers, home)
    return session(GEMINI_CLI, home, programs.environment(home, provider.url, **gemini_variables(provider)))


GEMINI_CLI = [tools.node(), FAST / "@google" / "gemini-cli" / "bundle" / "gemini.js", "--yolo", "--prompt", PROMPT]


def gemini_variables(provider):
    return {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": provider.url, "GEMINI_CLI_TRUST_WORKSPACE": "true"}


def write_gemini_settings(servers, home, **members):
    """With members of each server's entry."""
    entries = {own.name: {"httpUrl": own.url, "trust": True, **members} for own in servers}
    settings = {
        "mcpServers": entries, "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False, "disableAutoUpdate": True}, "model": {"name": "gemini-2.5-pro"},
    }
    write(home / ".gemini" / "settings.json", settings)


def ai_sdk(provider, servers, home):
    return script("ai_sdk.mjs", FAST, provider, servers, home)


def opencode(provider, servers, home):
    options = {"baseURL": f"{provider.url}/v1", "apiKey": "none"}
    config = {
        "autoupdate": False, "share": "disabled", "permission": "allow", "model": f"loopback/{MODEL}",
        "provider": {"loopback": {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {MODEL: {}}}},
        "mcp": {own.name: {"type": "remote", "url": own.url} for own in servers},
    }
    write(home / "project" / "opencode.json", config)
    program = ALL / f"opencode-{PLATFORM}" / "bin" / "opencode"
    env = programs.environment(home, provider.url, OPENCODE_DISABLE_MODELS_FETCH="1", OPENCODE_DISABLE_AUTOUPDATE="1")
    return session([program, "run", "--print-logs", "--log-level", "WARN", PROMPT], home, env)


def cline(provider, servers, home):
    settings = {"provider": "openai-compatible", "apiKey": "none", "model": MODEL, "baseUrl": f"{provider.url}/v1"}
    entry = {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    providers = {"version": 1, "lastUsedProvider": settings["provider"], "modes": {}, "providers": {settings["provider"]: entry}}
    entries = {own.name: {"transport": {"type": "streamableHttp", "url": own.url}} for own in servers}
    write(home / ".cline" / "data" / "settings" / "providers.json", providers)
    write(home / ".cline" / "data" / "settings" / "cline_mcp_settings.json", {"mcpServers": entries})
    program = ALL / "@cline" / f"cli-{PLATFORM}" / "bin" / "cline"
    env = programs.environment(home, provider.url)
    return session([program, "--verbose", "--auto-approve", "true", PROMPT], home, env, ".cline/**/*.log")


def copilot(provider, servers, home):
    entries = {own.name: {"type": "http", "url": own.url, "tools": ["*"]} for own in servers}
    config = write(home / "mcp.json", {"mcpServers": entries})
    program = ALL / "@github" / f"copilot-{PLATFORM}" / "copilot"
    env = programs.environment(
        home, provider.url, COPILOT_PROVIDER_BASE_URL=f"{provider.url}/v1", COPILOT_PROVIDER_API_KEY="none", COPILOT_MODEL=MODEL,
        COPILOT_AUTO_UPDATE="false",
    )
    command = [program, "-p", PROMPT, "--allow-all-tools", "--disable-builtin-mcps", "--disable-client-telemetry"]
    command += ["--additional-mcp-config", f"@{config}", "--log-dir", home / "logs", "--log-level", "warning"]
    return session(command, home, env, "logs/*")


def qwen_code(provider, servers, home):
    entries = {own.name: {"httpUrl": own.url, "trust": True} for own in servers}
    settings = {
        "mcpServers": entries, "privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False, "disableAutoUpdate": True},
        # Otherwise the model finds a tool by a search, and calls it through another tool.
        "tools": {"toolSearch": {"enabled": False}},
    }
    write(home / ".qwen" / "settings.json", settings)
    program = ALL / "@qwen-code" / "qwen-code" / "cli-entry.js"
    command = [tools.node(), program, "--yolo", "--auth-type", "openai", "--openai-api-key", "none", "--model", MODEL]
    command += ["--openai-base-url", f"{provider.url}/v1", PROMPT]
    return session(command, home, programs.environment(home, provider.url))


def continue_cli(provider, servers, home):
    model = {
        "name": MODEL, "provider": "openai", "model": MODEL, "apiBase": f"{provider.url}/v1", "apiKey": "none",
        "roles": ["chat"], "capabilities": ["tool_use"],
    }
    entries = [{"name": own.name, "type": "streamable-http", "url": own.url} for own in servers]
    config = {"name": "clients", "version": "1.0.0", "schema": "v1", "models": [model], "mcpServers": entries}
    # JSON is YAML.
    path = write(home / "config.yaml", config)
    env = programs.environment(home, provider.url, CONTINUE_GLOBAL_DIR=str(home / ".continue"), CONTINUE_TELEMETRY_ENABLED="0")
    program = ALL / "@continuedev" / "cli" / "dist" / "cn.js"
    return session([tools.node(), program, "--config", path, "--auto", "-p", PROMPT], home, env, ".continue/logs/*")


def openai_agents(provider, servers, home):
    return script("openai_agents.mjs", ALL, provider, servers, home)


def langchain(provider, servers, home):
    return script("langchain.mjs", ALL, provider, servers, home)


def mastra(provider, servers, home):
    return script("mastra.mjs", ALL, provider, servers, home, MASTRA_TELEMETRY_DISABLED="1")


def adk(provider, servers, home):
    return script("adk.mjs", ALL, provider, servers, home, GOOGLE_GEMINI_BASE_URL=provider.url, GEMINI_API_KEY="none")


# The server's own words.
TOKEN_NEEDED = "a token is needed for this request"

PROGRAMS = {
    "claude-code": Program(
        "Claude Code", "@anthropic-ai/claude-code", claude_code, "2026-07-28", "structure", "needs you to sign in again",
        is_instructed=True, is_fast=True,
    ),
    "codex": Program(
        "Codex", "@openai/codex", codex, "2025-06-18", "structure", TOKEN_NEEDED, BOUNDS | {"default"}, is_instructed=True,
        is_fast=True, ignored=(r"^mcp: \S+ \(failed\)$",),
    ),
    "gemini-cli": Program(
        "Gemini CLI", "@google/gemini-cli", gemini_cli, "2025-06-18", "text", TOKEN_NEEDED, is_instructed=True, is_fast=True,
        checks_arguments=True, ignored=(r"^Error executing tool mcp_",),
    ),
    "ai-sdk": Program("AI SDK", "@ai-sdk/mcp", ai_sdk, "2026-07-28", "text", TOKEN_NEEDED, is_fast=True),
    "opencode": Program(
        "opencode", "opencode-ai", opencode, "2025-11-25", "text", "Unauthorized", is_instructed=True,
        ignored=(r"^✗ \S+ \{.*\} failed$",),
    ),
    "cline": Program("Cline", "cline", cline, "2025-11-25", "both", "requires OAuth authorization"),
    "copilot": Program("Copilot CLI", "@github/copilot", copilot, "2026-07-28", "both", "Re-authentication required", BOUNDS),
    "qwen-code": Program(
        "Qwen Code", "@qwen-code/qwen-code", qwen_code, "2025-11-25", "both", "Do not retry automatically", is_instructed=True,
        checks_arguments=True,
    ),
    "continue": Program(
        "Continue", "@continuedev/cli", continue_cli, "2025-11-25", "text", TOKEN_NEEDED, frozenset({"additionalProperties"}),
    ),
    "openai-agents-js": Program(
        "OpenAI Agents SDK", "@openai/agents", openai_agents, "2026-07-28", "text", "An error occurred while running the tool",
    ),
    "langchain-js": Program(
        "LangChain.js", "@langchain/mcp-adapters", langchain, "2025-11-25", "both", TOKEN_NEEDED,
        frozenset({"anyOf", "enum"}), checks_arguments=True,
    ),
    "mastra": Program(
        "Mastra", "@mastra/mcp", mastra, "2026-07-28", "text", TOKEN_NEEDED, BOUNDS, checks_arguments=True,
        ignored=(r"^\[LLM\] \[\S+\] Error calling tool: ",),
    ),
    "adk-js": Program(
        "Agent Development Kit", "@google/adk", adk, "2025-11-25", "both", TOKEN_NEEDED,
        BOUNDS | {"additionalProperties", "anyOf", "default"},
    ),
}
