#!/usr/bin/env python3
"""`make dev`: runs the functions on this machine behind `cargo lambda watch`, which rebuilds them on each change.

    python3 scripts/dev.py [--functions NAME,NAME] [--port PORT] [--no-reload] [--data FOLDER] [--auth FUNCTION] [--database dsql] [--tasks FUNCTION]

`--functions` (`make dev FUNCTION=greeter`) runs these alone. Everyone may do everything there; with `--auth event-logger`
(`make dev AUTH=event-logger`) that one alone is run, closed, behind the function authorization-server, whose identity provider on this
machine signs anyone in. With `--database dsql` (`make dev DATABASE=dsql`) event-logger runs on the
emulator of Aurora DSQL; its schema is migrated once, at the start. With `--tasks event-logger` (`make dev TASKS=event-logger`) that one alone is run, with its
feature `tasks`, and a second process runs its tasks, as the second function on Lambda does. Variables such as MCP_INVOKE_MODE reach the functions. Ctrl-C ends everything
that was started.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import authorization_server
import emulated
import issuer
import postgres
import processes
import tools

# The first build of cryptography takes minutes on a busy machine.
STARTUP_SECONDS = 600
DATA = tools.PROJECT / ".dev" / "postgres"
DSQL = "dsql"
TASKS = "tasks"
# The variables that a function reads.
OF_FUNCTIONS = ("AWS_", "COGNITO_", "DATABASE_URL", "DB_", "GOOGLE_", "MCP_", "OIDC_")
FUNCTION_OF_DSQL = "event-logger"


def main():
    parser = argparse.ArgumentParser(description="Runs the functions on this machine.")
    parser.add_argument("--port", type=int, help="default: 9000, or a free port if that is taken")
    parser.add_argument("--no-reload", action="store_true", help="do not rebuild on changes")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--functions", default="", metavar="NAMES", help=f"some of {', '.join(tools.MCP_FUNCTIONS)}, separated by commas")
    chosen.add_argument("--auth", choices=tools.MCP_FUNCTIONS, help="run this one alone, closed, behind the authorization server, which signs anyone in")
    chosen.add_argument("--tasks", choices=tools.MCP_FUNCTIONS, help="run this one alone, and a second function that runs its tasks")
    parser.add_argument("--database", choices=[DSQL], help=f"run {FUNCTION_OF_DSQL}, or the one that is named, on the emulator of Aurora DSQL")
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="where Postgres keeps its data, unless DATABASE_URL is set")
    arguments = parser.parse_args()

    of_dsql = FUNCTION_OF_DSQL if arguments.database and FUNCTION_OF_DSQL in tools.MCP_FUNCTIONS else ""
    functions = tools.chosen(arguments.auth or arguments.tasks or arguments.functions or of_dsql, tools.MCP_FUNCTIONS)
    if arguments.database and len(functions) > 1:
        sys.exit(f"a cluster of Aurora DSQL has one database: choose one of {', '.join(functions)}")
    if arguments.tasks and TASKS not in tools.features(arguments.tasks):
        sys.exit(f"{arguments.tasks} has no feature {TASKS}: add it to its Cargo.toml (docs/state.md)")
    tools.install_lambda()
    if arguments.auth:
        tools.install_test()
    # As the watcher will, which has little time for the first call.
    tools.build(*functions, options=["--manifest-path", str(manifest(functions)), *features(arguments)])
    further = [
        *(["dsql-emulator"] if arguments.database else []), *(["function-url-emulator"] if arguments.tasks or arguments.auth else []),
        *([tools.AUTHORIZATION_SERVER] if arguments.auth else []),
    ]
    for program in further:
        command, environment = tools.of_framework("build", "--quiet", "--locked", "--package", program)
        if code := subprocess.run(command, cwd=tools.PROJECT, env=environment).returncode:
            sys.exit(code)
    data = postgres.reachable(arguments.data)
    with contextlib.ExitStack() as started:
        database = cluster = None
        if "DATABASE_URL" not in os.environ:
            own = [f"{functions[0]}-{DSQL}"] if arguments.database else []
            own += [tools.AUTHORIZATION_SERVER] if arguments.auth else []
            database = started.enter_context(postgres.Supervised(data, [*functions, *own]))
        if arguments.database:
            backend = f"{database.url.rpartition('/')[0]}/{functions[0]}-{DSQL}" if database else os.environ["DATABASE_URL"]
            cluster = started.enter_context(emulated.Dsql(backend, started.enter_context(tempfile.TemporaryDirectory())))
            cluster.migrate(functions[0])
        serve(arguments, functions, database, cluster, started)


def features(arguments):
    return ["--features", TASKS] if arguments.tasks else []


def serve(arguments, functions, database, cluster, started):
    port = arguments.port or (9000 if is_free(9000) else postgres.free_port())
    server = AuthorizationServer(started) if arguments.auth else None
    if server:
        # The watcher serves no metadata at the root of the host: clients find the issuer by the challenge of their first request.
        variables = {"MCP_ANONYMOUS": "deny", **os.environ, "OIDC_ISSUER": server.url, "MCP_AUTH": "required"}
    else:
        # For this machine alone: every caller of these functions may do everything.
        # The key is for api-docs, which asks: a question lasts no longer than the functions run.
        key = base64.b64encode(os.urandom(32)).decode()
        variables = {"MCP_AUTH": "dangerously-off", "MCP_STATE_KEY": kept_key(arguments.data) if arguments.tasks else key, **os.environ}
    script = os.path.relpath(tools.FRAMEWORK / "scripts" / "start_function.sh", tools.PROJECT)
    variables |= {runner(): f"sh {script}", "DEV_URL": f"http://127.0.0.1:{port}/lambda-url"}
    variables["DEV_DATABASE_SERVER"] = database.url.rpartition("/")[0] if database and not cluster else ""
    if cluster:
        variables = emulated.without_database(variables) | cluster.variables()
    if arguments.tasks:
        variables |= start_tasks(arguments.tasks, variables, started)
    watch = start_watch(port, arguments, variables, functions)
    # SIGINT too: a process that a script starts in the background ignores it otherwise.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)
    try:
        for function in functions:
            wait_until_answering(watch, endpoint(port, function))
        if server:
            server.start(functions[0], endpoint(port, functions[0]), database)
        introduce(port, functions, database, cluster, server, variables)
        watch.wait()
    except KeyboardInterrupt:
        print("\nstopping", file=sys.stderr)
    finally:
        stop(watch)
    sys.exit(0 if watch.returncode in (0, -signal.SIGINT, -signal.SIGTERM) else 1)


def kept_key(data):
    """The state key of tasks, which outlive `make dev` in the database as they outlive an environment on Lambda."""
    path = data.parent / "state-key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(base64.b64encode(os.urandom(32)).decode())
    return path.read_text()


def start_tasks(function, variables, started):
    """Starts the second function, which runs tasks; returns the variables by which the first one wakes it. An environment of it ends two
    seconds after its last run, so that the next one has the code of the last build."""
    port, name = postgres.free_port(), f"{function}-tasks"
    waking = {
        **emulated.CREDENTIALS, "MCP_TASKS_FUNCTION": name, "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
    }
    own = {key: value for key, value in variables.items() if key.startswith(OF_FUNCTIONS)} | waking
    if server := variables["DEV_DATABASE_SERVER"]:
        own["DATABASE_URL"] = f"{server}/{function}"
    options = ["--asynchronous", "--name", name, "--port", port, "--timeout", 900, "--idle-timeout", 2, "--retry-after", 5]
    started.enter_context(emulated.Emulated(function, "buffered", 0, *options, **{**own, "MCP_ROLE": "tasks"}))
    return waking


class AuthorizationServer:
    """The function authorization-server and its identity provider. They end with `started`."""

    def __init__(self, started):
        self.started, self.port = started, postgres.free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, function, resource, database):
        """Starts both, for a function that runs already: the scopes that it names are those of everyone."""
        provider = self.started.enter_context(issuer.Issuer())
        client = provider.register(f"{self.url}/callback")
        scopes = scopes_of(resource)
        described = [{"name": scope, "text": scope} for scope in scopes]
        resources = [{"url": resource, "name": function, "scopes": described, "everyone": scopes}]
        variables = authorization_server.variables(provider.url, "other", client["client_id"], client["client_secret"], resources)
        url = f"{database.url.rpartition('/')[0]}/{tools.AUTHORIZATION_SERVER}" if database else os.environ["DATABASE_URL"]
        options = ["--port", self.port]
        self.started.enter_context(emulated.Emulated(tools.AUTHORIZATION_SERVER, "buffered", 1, *options, DATABASE_URL=url, **variables))


def scopes_of(resource):
    """The scopes in the metadata of a closed function (RFC 9728)."""
    url = urllib.parse.urlsplit(resource)
    metadata = f"{url.scheme}://{url.netloc}{url.path.removesuffix('/mcp')}/.well-known/oauth-protected-resource/mcp"
    with urllib.request.urlopen(metadata, timeout=STARTUP_SECONDS) as response:
        return json.load(response).get("scopes_supported", [])


def interrupt(*_):
    raise KeyboardInterrupt


def manifest(functions):
    """What the watcher is about: one function, or the workspace. It builds a function of a workspace at its first call."""
    return tools.PROJECT.joinpath(*(["functions", *functions] if len(functions) == 1 else []), "Cargo.toml")


def runner():
    """The variable that says what `cargo run` starts programs with."""
    about = subprocess.run(["rustc", "-vV"], cwd=tools.PROJECT, capture_output=True, text=True, check=True).stdout
    host = next(line.partition(": ")[2] for line in about.splitlines() if line.startswith("host: "))
    return f"CARGO_TARGET_{host.upper().replace('-', '_')}_RUNNER"


def start_watch(port, arguments, variables, functions):
    command = ["cargo", "lambda", "watch", "--invoke-address", "127.0.0.1", "--invoke-port", str(port), "--disable-cors"]
    command += ["--manifest-path", str(manifest(functions)), *features(arguments)]
    if arguments.no_reload:
        command.append("--ignore-changes")
    # A session of its own: Ctrl-C reaches this process alone, which then ends the whole group.
    return subprocess.Popen(
        command, cwd=tools.PROJECT, env=tools.environment(variables), stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def endpoint(port, function):
    return f"http://127.0.0.1:{port}/lambda-url/{function}/mcp"


def wait_until_answering(watch, url):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    deadline = time.monotonic() + STARTUP_SECONDS
    problem = "nothing listens"
    while time.monotonic() < deadline:
        if watch.poll() is not None:
            sys.exit(f"cargo lambda watch ended with {watch.returncode}")
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=STARTUP_SECONDS) as response:
                if json.load(response).get("result") == {}:
                    return
        except urllib.error.HTTPError as error:
            if error.code == 401:
                # It wants to know who asks.
                return
            problem = f"{error.code}: {error.read(500).decode(errors='replace')}"
        except (OSError, json.JSONDecodeError) as error:
            problem = str(error)
        time.sleep(0.2)
    sys.exit(f"{url} did not answer within {STARTUP_SECONDS} s; the last try: {problem}")


def wait_until_listening(process, port):
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def introduce(port, functions, database, cluster, server, variables):
    if database:
        print(f"\nPostgres is running at {database.url}; it keeps its data, in a database for each function", flush=True)
    if cluster:
        print(f"\nThe emulator of Aurora DSQL is running at {cluster.host}:{cluster.port}, in front of Postgres", flush=True)
    if "MCP_TASKS_FUNCTION" in variables:
        print(f"\n{variables['MCP_TASKS_FUNCTION']} runs tasks; they stay in the database until they expire", flush=True)
    if server:
        print(f"\nThe authorization server is running at {server.url}; its identity provider signs in anyone, by any name", flush=True)
    else:
        mode = variables["MCP_AUTH"]
        example = "event-logger" if "event-logger" in tools.MCP_FUNCTIONS else functions[0]
        print(f"\nMCP_AUTH={mode}: `make dev AUTH={example}` has authorization on", flush=True)
    for function in functions:
        url = endpoint(port, function)
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, separators=(",", ":"))
        # curl cannot sign in.
        listing = f"mcpl tools {url}" if server else f"curl -s {url} -H 'content-type: application/json' -d '{message}'"
        print(
            f"\n{function} is running at {url}\n\n"
            f"  try it       {listing}\n"
            f"  Inspector    npx @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list\n"
            f"  Claude Code  claude mcp add --transport http {function} {url}",
            flush=True,
        )
        if server:
            print("               then /mcp in Claude Code to sign in; no client id is entered", flush=True)
    print("\nCtrl-C stops it.", flush=True)


def stop(watch):
    """Ends the watcher and the processes that it started: first politely, then for certain. cargo-lambda puts functions into
    groups of their own, so that they are found by their parents."""
    started = [watch.pid, *descendants(watch.pid)]
    for name, seconds in ((signal.SIGINT, 5), (signal.SIGTERM, 2), (signal.SIGKILL, 2)):
        alive = [pid for pid in started if lives(watch, pid)]
        for pid in alive:
            try:
                os.kill(pid, name)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(lives(watch, pid) for pid in alive):
            time.sleep(0.05)
    watch.wait()


def descendants(pid):
    """The processes below one."""
    children = {}
    for child, parent, _ in processes.listed():
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def lives(watch, pid):
    if pid == watch.pid:
        return watch.poll() is None
    return any(pid == other and not state.startswith("Z") for other, _, state in processes.listed())


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()
