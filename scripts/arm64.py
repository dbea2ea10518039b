#!/usr/bin/env python3
"""The zips for arm64, as they are deployed: each function is unpacked and called by the official client, behind a Function
URL. Part of `make soak`.

    .tools/venv/bin/python scripts/arm64.py

On another processor they run under qemu, which is downloaded from Debian's or Ubuntu's own archive, with the C library
that it needs, and unpacked: nothing is installed. Elsewhere the check is skipped, loudly.
"""

import pathlib
import platform
import shlex
import struct
import subprocess
import sys
import tempfile
import zipfile

import anyio
from mcp import Client

import build
import debian
import postgres
import tools
from emulated import Emulated

ARCHITECTURE = "arm64"
AARCH64 = 183  # e_machine in ELF
OPEN = {"MCP_AUTH": "dangerously-off"}


def main():
    try:
        emulator = [] if platform.machine() in ("aarch64", "arm64") else qemu()
    except debian.Unavailable as reason:
        print(f"SKIPPED: the zips for arm64 were not run, since {reason}", file=sys.stderr)
        return
    tools.build("function-url-emulator")
    build.prepare()
    zips = {function: build.build(ARCHITECTURE, function) for function in tools.FUNCTIONS}
    with tempfile.TemporaryDirectory() as folder:
        functions = {name: unpack(path, pathlib.Path(folder) / name, emulator) for name, path in zips.items()}
        calls = greet(functions["greeter"]) + read(functions["api-docs"])
        with postgres.Supervised() as server:
            calls += log(functions["event-logger"], server.url)
    how = "under qemu" if emulator else "on this machine"
    print(f"arm64: {len(zips)} zips answered {calls} calls {how}")


def qemu():
    """The command that runs a program for arm64 on another processor."""
    libraries = "usr/aarch64-linux-gnu"
    # Which of the two packages has the binary, and under which name, depends on the release.
    for package, binary in (("qemu-user-static", "usr/bin/qemu-aarch64-static"), ("qemu-user", "usr/bin/qemu-aarch64")):
        packages = [package, "libc6-arm64-cross", "libgcc-s1-arm64-cross"]
        root = debian.unpacked(package, packages, only=[binary, libraries])
        if (root / binary).exists() and subprocess.run([root / binary, "--version"], capture_output=True).returncode == 0:
            return [root / binary, "-L", root / libraries]
    raise debian.Unavailable("Debian's qemu does not start here")


def unpack(archive, folder, emulator):
    """A program of the function's name that runs what the zip holds."""
    with zipfile.ZipFile(archive) as opened:
        [member] = opened.infolist()
        assert member.filename == "bootstrap", member.filename
        assert member.external_attr >> 16 & 0o111 == 0o111, f"{archive} holds a file that not everyone can execute"
        bootstrap = pathlib.Path(opened.extract(member, folder))
    bootstrap.chmod(0o755)
    [machine] = struct.unpack_from("<H", bootstrap.read_bytes(), 18)
    assert machine == AARCH64, f"{archive} is for the machine {machine}"
    assert (folder / copied_by_the_dockerfile()).samefile(bootstrap)
    program = folder / archive.parent.name
    # `exec`: what the emulator freezes and ends is the function.
    program.write_text(f'#!/bin/sh\nexec {shlex.join([*map(str, emulator), str(bootstrap)])} "$@"\n')
    program.chmod(0o755)
    return program


def copied_by_the_dockerfile():
    """What container/Dockerfile takes from a folder like this."""
    lines = (tools.PROJECT / "container" / "Dockerfile").read_text().splitlines()
    [copied] = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    source, destination = copied
    assert destination == "/var/runtime/bootstrap", destination
    return source


def greet(program):
    async def call(url):
        async with Client(url) as client:
            result = await client.call_tool("personalized_greeting", {"name": "Ada"})
            assert result.content[0].text == "Hello, Ada! Welcome to the serverless MCP world.", result

    for mode in ("buffered", "stream"):
        with Emulated(program, mode, 2) as url:
            anyio.run(call, url)
    return 2


def read(program):
    async def call(url):
        async with Client(url) as client:
            read = await client.call_tool("find_operation", {"query": "cancel an order"})
            assert read.structured_content["operation_id"] == "cancelOrder", read

    with Emulated(program, "buffered", 2, MCP_STATE_KEY="c29hayB0ZXN0cyBhbmQgbm90aGluZyBidXQgc29hayE=") as url:
        anyio.run(call, url)
    return 1


def log(program, database_url):
    async def call(url):
        async with Client(url) as client:
            logged = await client.call_tool("log_event", {"event_name": "built for arm64"})
            assert not logged.is_error, logged
            listed = await client.call_tool("get_latest_events", {})
            assert "built for arm64" in listed.content[0].text, listed

    with Emulated(program, "buffered", 2, DATABASE_URL=database_url, **OPEN) as url:
        anyio.run(call, url)
    return 2


if __name__ == "__main__":
    main()
