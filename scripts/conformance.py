#!/usr/bin/env python3
"""`make conformance`: the official suite against functions/conformance behind the emulator, and against `mcpl proxy`.

    python3 scripts/conformance.py [--environments N]

Each revision's requirement set for servers is run in both invoke modes, the newest also under `lambda_runtime::run`, each
invocation in another of N frozen environments (3 unless given). What may fail is listed in tests/interop/conformance/, and
fails the run when it starts to pass. That for clients is run with a small client of that revision (tests/interop/client_driver.py) on the other side of
the proxy's standard input and output.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import postgres
import tools
from emulated import CREDENTIALS, Emulated

SUITE = tools.NODE_MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
EXPECTED = tools.INTEROP / "conformance"
# The function under `mcp_lambda::main`, and with a `main` of its own under `lambda_runtime::run`.
OWN_LOOP, LAMBDA_RUNTIME = "conformance", "conformance-lambda-runtime"
RUNS = [
    (OWN_LOOP, "2026-07-28", "stream"),
    (OWN_LOOP, "2026-07-28", "buffered"),
    (OWN_LOOP, "2025-11-25", "stream"),
    (OWN_LOOP, "2025-11-25", "buffered"),
    (LAMBDA_RUNTIME, "2026-07-28", "stream"),
    (LAMBDA_RUNTIME, "2026-07-28", "buffered"),
]
# They wait for streams and tasks most of the time. Those for clients compute.
AT_ONCE = 3

# Of the extension `io.modelcontextprotocol/tasks`: all but the one for notifications, which are not served.
TASKS = {
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-wire-fields",
}
# The function that runs tasks: each third wake-up arrives twice.
WORKER = "conformance-tasks"
# Scenarios that are not scored and have to pass all the same.
ALSO = {
    "2026-07-28": {"json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation", *TASKS},
    "2025-11-25": {"json-schema-2020-12", "server-session-lifecycle"},
}
# Scored scenarios, all of which have to pass.
SCORED = {"2026-07-28": 37, "2025-11-25": 30}
WARNINGS = {
    # The scenario answers a question that no round has asked: such answers do not count here.
    "2026-07-28": {"sep-2322-ignore-unexpected-params"},
    # The suite would like a session here; there is none.
    "2025-11-25": {"server-sse-multiple-streams-session", "server-sse-polling-session"},
}

# Without a session there is nothing for these to check: the suite notes that, and goes on.
IDLE = {"2026-07-28": set(), "2025-11-25": {"server-sse-multiple-streams", "server-session-lifecycle"}}

# Scenarios for clients that are scored, all of which have to pass; and those that are not.
CLIENT_SCORED = {"2026-07-28": 32, "2025-11-25": 18}
CLIENT_ALSO = {
    "json-schema-2020-12-preservation",
    "auth/client-credentials-basic",
    "auth/client-credentials-jwt",
    "auth/enterprise-managed-authorization",
    "auth/wif-jwt-bearer",
    "auth/dpop",
    "auth/dpop-nonce",
}
# Who drives the proxy: a client of the suite's own revision, or one that the proxy has to translate for.
CLIENTS = [("2026-07-28", None), ("2025-11-25", None), ("2026-07-28", "2025-11-25")]
# What no legacy client passes, though the proxy speaks 2026-07-28 with the server from the second request on: the suite looks for
# what only that revision has in the first one too, the client's `initialize` (`handlePost` of the one, `handleRequest` of the
# other). The proxy could ask for the server's era first, at the price of a request more with every legacy server.
BEYOND_BRIDGING = {
    "http-standard-headers": "ClientMcpMethodHeader_initialize: no `Mcp-Method` before 2026-07-28",
    "request-metadata": "ClientSendsVersionHeader, ClientPopulatesMeta: no version in `initialize` before 2026-07-28",
}


def main():
    parser = argparse.ArgumentParser(description="Runs the official conformance suite.")
    parser.add_argument("--environments", type=int, default=3)
    arguments = parser.parse_args()
    tools.install_test()
    tools.build(OWN_LOOP, LAMBDA_RUNTIME, "function-url-emulator", "mcpl")
    lines, problems = [], []
    databases = ["-".join(own) for own in RUNS]
    with postgres.Postgres(settings={"max_connections": 100}, databases=databases) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, *own, arguments.environments, server.url(name)) for own, name in zip(RUNS, databases)]
        for own, (line, found) in zip(RUNS, (ran.result() for ran in runs)):
            lines.append(line)
            problems += [f"{' '.join(own)}: {problem}" for problem in found]
    for revision, driver in CLIENTS:
        line, found = run_client(revision, driver)
        lines.append(line)
        problems += found
    for problem in problems:
        print(problem, file=sys.stderr)
    print("\n".join(lines))
    sys.exit(1 if problems else 0)


def run(binary, revision, mode, environments, database):
    """One run, with the database of this URL to itself: its line, and what is wrong."""
    with contextlib.ExitStack() as started:
        port = postgres.free_port()
        variables = {
            **CREDENTIALS, "MCP_STATE_KEY": base64.b64encode(secrets.token_bytes(32)).decode(), "DATABASE_URL": database,
            "MCP_TASKS_FUNCTION": WORKER, "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
            # A line for each of hundreds of calls would hide what is wrong.
            "AWS_LAMBDA_LOG_LEVEL": "WARN",
        }
        options = ["--asynchronous", "--name", WORKER, "--port", port, "--duplicate-every", 3, "--retry-after", 1]
        started.enter_context(Emulated(OWN_LOOP, "buffered", 1, *options, MCP_ROLE="tasks", **variables))
        url = started.enter_context(Emulated(binary, mode, environments, **variables))
        folder = started.enter_context(tempfile.TemporaryDirectory())
        command = ["server", "--url", url, "--requirements", revision, "-o", folder]
        command += ["--expected-failures", EXPECTED / f"expected-failures-{revision}.yaml"]
        ran = suite(*command)
        results = read_results(pathlib.Path(folder))
    passed = {name for name, checks in results.items() if not any(check["status"] == "FAILURE" for check in checks)}
    scored = required(revision)
    line = (
        f"{binary} {revision} {mode}: {environments} environments, "
        f"{len(scored & passed)} of {len(scored)} scenarios passed"
    )
    warned = {check["id"] for checks in results.values() for check in checks if check["status"] == "WARNING"}
    total = SCORED[revision]
    problems = [f"{len(scored)} scenarios are scored, not {total}"] if len(scored) != total else []
    if len(scored & passed) < total:
        problems.append(f"fewer than {total} scenarios passed")
    problems += [f"did not run: {name}" for name in sorted((scored | ALSO[revision]) - set(results))]
    problems += [f"failed: {name}" for name in sorted(ALSO[revision] - passed)]
    succeeded = {name for name, checks in results.items() if any(check["status"] == "SUCCESS" for check in checks)}
    problems += [f"did nothing: {name}" for name in sorted((scored | ALSO[revision]) - succeeded - IDLE[revision])]
    problems += [f"warned: {name}" for name in sorted(warned - WARNINGS.get(revision, set()))]
    if ran.returncode:
        summary = ran.stdout[max(ran.stdout.find("=== SUMMARY"), 0):]
        problems.append(f"the suite ended with {ran.returncode}:\n{summary}{ran.stderr}")
    return line, problems


def run_client(revision, driver=None):
    """One run against the proxy: its line, and what is wrong. The driver may speak another revision than the suite."""
    with tempfile.TemporaryDirectory() as folder:
        results = client_results(revision, driver, None, pathlib.Path(folder) / "all")
        scored = required(revision, "Client")
        wanted = (scored | CLIENT_ALSO) - BEYOND_BRIDGING.keys() if driver else scored | CLIENT_ALSO
        # The suite starts all scenarios at once, which is too much for some machines: those alone count for a failure
        # that also fail alone.
        for name in sorted(wanted - passing(results)):
            results |= client_results(revision, driver, name, pathlib.Path(folder) / "again")
    passed = passing(results)
    who = f"{revision} client" + (f" that speaks {driver}" if driver else "")
    line = f"conformance {who}: {len(scored & passed)} of {len(scored)} scenarios passed"
    line += f", and {len(CLIENT_ALSO & passed)} of {len(CLIENT_ALSO)} that are not scored"
    total = CLIENT_SCORED[revision]
    problems = [f"{len(scored)} scenarios are scored, not {total}"] if len(scored) != total else []
    surplus = BEYOND_BRIDGING.keys() & passed if driver else set()
    problems += [f"passed, and is expected to fail: {name}" for name in sorted(surplus)]
    for name in sorted(wanted - passed):
        bad = [check for check in results.get(name, []) if check["status"] in ("FAILURE", "WARNING")]
        problems.append(f"failed: {name}: {json.dumps(bad)[:1000]}")
    return line, [f"{who}: {problem}" for problem in problems]


def passing(results):
    """The scenarios in which something succeeded, and nothing failed or warned."""
    good = {"SUCCESS", "INFO", "SKIPPED"}
    statuses = {name: {check["status"] for check in checks} for name, checks in results.items()}
    return {name for name, own in statuses.items() if "SUCCESS" in own and own <= good}


def client_results(revision, driver, scenario, folder):
    # The suite cuts the command at spaces, so that the driver is started by a script without any in its path.
    script = folder.parent / "driver"
    variables = {"MCPL": str(tools.target_folder() / "debug" / "mcpl"), "DRIVER_VERSION": driver or ""}
    quoted = " ".join(shlex.quote(str(word)) for word in [tools.BIN / "python", tools.INTEROP / "client_driver.py"])
    script.write_text(f"#!/bin/sh\nexec {quoted} \"$@\"\n")
    script.chmod(0o755)
    which = ["--scenario", scenario, "--spec-version", revision, "--force"] if scenario else ["--requirements", revision]
    suite("client", "--command", script, *which, "-o", folder, variables=variables)
    return read_results(folder)


def suite(*words, variables=None):
    command = [tools.node(), SUITE, *words]
    environment = {**os.environ, **(variables or {})}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)


def required(revision, side="Server"):
    """The names of the scenarios that a revision's conformance is made of."""
    listed = suite("list", "--requirements", revision).stdout
    section = listed.split(f"{side} scenarios", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"^  - (\S+)", section, re.MULTILINE))


def read_results(folder):
    """The checks of each scenario."""
    results = {}
    for file in folder.glob("**/checks.json"):
        path = str(file.parent.relative_to(folder)).removeprefix("server-")
        results[re.fullmatch(r"(.+)-\d{4}-\d\d-\d\dT.*", path)[1]] = json.loads(file.read_text())
    return results


if __name__ == "__main__":
    main()
