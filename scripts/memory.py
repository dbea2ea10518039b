#!/usr/bin/env python3
"""Hostile bodies of up to 6 MB against the functions as they are deployed: built for release, with the memory of their stacks.

    python3 scripts/memory.py [--seconds N] [--seed N]

Each function runs behind `function-url-emulator` with RLIMIT_DATA at the memory that its stack gives it. It is sent
the bodies that once killed it, and generated ones for `--seconds`. Every request must be answered, by the same process, within one
second of its processor time. Part of `make soak`.
"""

import argparse
import contextlib
import http.client
import os
import pathlib
import random
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.parse

import postgres
import processes
import tools
from emulated import Emulated

LIMIT_SECONDS = 1.0
# What an event may have, less what is around the body.
MAX_EVENT_BYTES = 6 * 1024 * 1024 - 16 * 1024
MODERN = "2026-07-28"
# A tool of each function, and arguments of it.
TOOLS = {
    "greeter": ("personalized_greeting", ["name"]),
    "event-logger": ("log_event", ["event_name", "idempotency_key"]),
    "api-docs": ("find_operation", ["query", "what"]),
}


class Released(Emulated):
    profile = "release"


def main():
    parser = argparse.ArgumentParser(description="Sends hostile bodies to the functions with their deployed memory.")
    parser.add_argument("--seconds", type=float, default=60, help="of generated bodies, for each function")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    if not pathlib.Path("/proc/self/stat").exists():
        print("SKIPPED: hostile bodies were not sent, since processor time is read from /proc", file=sys.stderr)
        return
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    tools.build("function-url-emulator", *TOOLS, options=("--quiet", "--locked", "--release"))
    for function in TOOLS:
        with started(function) as (url, emulator):
            print(attack(function, url, emulator, arguments.seconds, random.Random(f"{seed} {function}"), seed), flush=True)


@contextlib.contextmanager
def started(function):
    """The function with its deployed memory; its URL, and the emulator that runs it."""
    megabytes = deployed_memory(function)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        program = pathlib.Path(folder) / function
        binary = tools.target_folder() / "release" / function
        program.write_text(f"#!/bin/sh\nulimit -d {megabytes * 1024}\nexec {shlex.quote(str(binary))} \"$@\"\n")
        program.chmod(0o755)
        variables = {"RUST_LOG": "warn", "MCP_STATE_KEY": "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ="}
        if function == "event-logger":
            server = stack.enter_context(postgres.Supervised())
            variables |= {"DATABASE_URL": server.url, "MCP_AUTH": "dangerously-off"}
        emulated = Released(program, "buffered", 1, "--timeout", 60, "--memory", megabytes, **variables)
        try:
            yield emulated.url, emulated.process.pid
        finally:
            emulated.stop()


def deployed_memory(function):
    template = (tools.PROJECT / "functions" / function / "stack.yaml").read_text()
    return int(re.search(r"^ +MemorySize: (\d+)$", template, re.MULTILINE)[1])


def attack(function, url, emulator, seconds, rng, seed):
    """Sends the bodies; raises when one is not answered, or takes too long; returns a line of figures."""
    parts = urllib.parse.urlsplit(url)
    send(parts, *call(function, '{"name":"Ada"}'))
    process = environment(emulator)
    slowest, count, generated = (0.0, ""), 0, 0.0
    known = [(name, *request) for name, request in found(function)]
    while known or generated < seconds:
        name, revision, body = known.pop() if known else made_up(function, rng)
        if 2 * len(body) > MAX_EVENT_BYTES and len(escaped(body)) > MAX_EVENT_BYTES:
            body = body[: MAX_EVENT_BYTES // 2]
        before = processor_seconds(process)
        status = send(parts, revision, body)
        spent = processor_seconds(process) - before
        count, slowest = count + 1, max(slowest, (spent, name))
        generated += 0 if known else max(spent, 0.005)
        where = f"{function}, {name}, {len(body)} bytes, --seed {seed}"
        if environment(emulator) != process:
            raise SystemExit(f"the environment died of {where}")
        if status >= 500:
            raise SystemExit(f"{status} for {where}")
        if spent > LIMIT_SECONDS:
            raise SystemExit(f"{spent:.2f} s of processor time for {where}")
    peak = peak_megabytes(process)
    return (
        f"memory: {function} with {deployed_memory(function)} MB answered {count} hostile bodies (--seed {seed}), peak {peak:.0f} MB, "
        f"slowest {slowest[0]:.2f} s of processor time ({slowest[1]})"
    )


def escaped(body):
    return body.replace("\\", "\\\\").replace('"', '\\"')


def environment(emulator):
    children = [pid for pid, parent, _ in processes.listed() if parent == emulator]
    assert len(children) == 1, f"the emulator has {len(children)} environments"
    return children[0]


def processor_seconds(process):
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(process):
    return int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{process}/status").read_text())[1]) / 1024


def send(parts, revision, body):
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if revision:
        headers["mcp-protocol-version"] = revision
    if match := re.search(r'"method":"([\w/]+)"', body[:200]):
        headers["mcp-method"] = match[1]
    if match := re.search(r'"name":"(\w+)"', body[:400]):
        headers["mcp-name"] = match[1]
    try:
        connection.request("POST", parts.path.rstrip("/") + "/mcp", body.encode(), headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


MODERN_META = (
    '"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},'
    '"io.modelcontextprotocol/clientInfo":{"name":"memory","version":"1"}'
)


def call(function, arguments, more=""):
    name, _ = TOOLS[function]
    params = f'{{"name":"{name}","_meta":{{{MODERN_META}}},"arguments":{arguments}{more}}}'
    return MODERN, f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'


def found(function):
    """The bodies that a first version died of, as large as they may be."""
    size = 5_900_000
    nested = '{"":' * 80 + "0" + "}" * 80
    _, arguments = TOOLS[function]
    meta = ",".join(["[]", nested] * (55_000 // len(nested)))
    message = f'{{"jsonrpc":"2.0","id":%d,"method":"tools/list","params":{{"_meta":{{"x":[{meta}]}}}}}}'
    yield "_meta of each message of a batch", ("2025-03-26", f"[{','.join(message % index for index in range(95))}]")
    items = ",".join(['""'] * (size // 8))
    yield "a list of invalid items", call(function, f'{{"{arguments[0]}":[{items}]}}')
    yield "answers that nothing asked for", call(function, "{}", f',"inputResponses":{{"x":[{items}]}}')
    yield "arguments that are not known", call(function, f'{{"x":[{",".join([nested] * (size // 2 // len(nested)))}]}}')
    yield "capabilities", (MODERN, call(function, "{}")[1].replace('{"elicitation":{}}', f'{{"experimental":[{items}]}}'))
    yield "a text that messages escape", call(function, f'{{"{arguments[-1]}":"{chr(0x7F) * (size // 2)}"}}')
    yield "depth", (None, '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":' + "[" * (size - 100))


def made_up(function, rng):
    """A request whose filling is drawn by chance."""
    size = int(rng.choice([2_900_000, 1_000_000, 300_000, 50_000]) * rng.uniform(0.5, 1))
    value = filling(rng, size)
    _, arguments = TOOLS[function]
    places = {
        "arguments": lambda: call(function, value),
        "an argument": lambda: call(function, f'{{"{rng.choice(arguments)}":{value}}}'),
        "an unknown argument": lambda: call(function, f'{{"x":{value}}}'),
        "answers": lambda: call(function, "{}", f',"inputResponses":{value}'),
        "state": lambda: call(function, "{}", f',"requestState":{value}'),
        "_meta": lambda: (MODERN, call(function, "{}")[1].replace('"_meta":{', f'"_meta":{{"x":{value},', 1)),
        "a whole body": lambda: (rng.choice([None, MODERN, "2025-03-26"]), value),
        "a batch": lambda: ("2025-03-26", f"[{call(function, value)[1]}]"),
        "parameters": lambda: (None, f'{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{value}}}'),
        "an id": lambda: (None, f'{{"jsonrpc":"2.0","id":{value},"method":"ping"}}'),
        "a method": lambda: (None, f'{{"jsonrpc":"2.0","id":1,"method":{value}}}'),
        "a URI": lambda: (None, f'{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":{value}}}}}'),
        "a prompt's arguments": lambda: (
            None, f'{{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{{"name":"introduction","arguments":{value}}}}}'
        ),
        "a completion": lambda: (None, f'{{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{value}}}'),
    }
    place = rng.choice(sorted(places))
    return place, *places[place]()


def filling(rng, size):
    """JSON of about so many bytes, built of small pieces that cost much, some of it spoilt."""
    scalars = ["0", "null", "true", "1.5", '""', '"a"', "1e400", '"\\u0001"', '"\\ud800"', '"\u0e31"', f'"{chr(0x7F)}"']
    kind = rng.randrange(6)
    if kind == 0:
        element = piece(rng, scalars, 4)
        value = f"[{','.join([element] * (size // (len(element) + 1)))}]"
    elif kind == 1:
        pieces = [piece(rng, scalars, 4) for _ in range(20)]
        value, length = [], 0
        while length < size:
            value.append(rng.choice(pieces))
            length += len(value[-1]) + 1
        value = f"[{','.join(value)}]"
    elif kind == 2:
        value = "{" + ",".join(f'"{index:x}":{rng.choice(scalars)}' for index in range(size // 12)) + "}"
    elif kind == 3:
        text = rng.choice(["a", chr(0x7F), "\u0e31", "\\n", "\\u0000", '\\"', "\U0001f600"])
        value = f'"{text * (size // len(text.encode()))}"'
    elif kind == 4:
        opening, closing = rng.choice([("[", "]"), ('{"":', "}"), ('[{"a":', "}]")])
        depth = rng.choice([90, 1000, size // (len(opening) + len(closing))])
        value = opening * depth + "0" + closing * depth
    else:
        value = rng.choice(["1", "9"]) * size
    if rng.random() < 0.1:
        value = value[: rng.randrange(1, len(value))]
    return value


def piece(rng, scalars, depth):
    kind = rng.randrange(4) if depth else 0
    if kind < 2:
        return rng.choice(scalars)
    parts = [piece(rng, scalars, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 2:
        return f"[{','.join(parts)}]"
    return "{" + ",".join(f'"{chr(97 + index)}":{part}' for index, part in enumerate(parts)) + "}"


if __name__ == "__main__":
    main()
