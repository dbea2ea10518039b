#!/usr/bin/env python3
"""Compiles `mcpl`, its tests included, for Windows and macOS, as far as that needs no linker: part of `make check`.

    python3 scripts/elsewhere.py

Zig, which `cargo lambda` brings, is the C compiler of AWS-LC. Nothing is run: that is for the runners of CI. Where the targets of
the compiler cannot be had the check is skipped, loudly.
"""

import os
import pathlib
import subprocess
import sys

import tools

# By Rust's and by Zig's name.
TARGETS = {"x86_64-pc-windows-gnu": "x86_64-windows-gnu", "aarch64-apple-darwin": "aarch64-macos"}
CARGO = ["cargo", "clippy", "--package", "mcp-cli", "--all-targets", "--locked", "--quiet"]


def main(arguments):
    if arguments[:1] == ["cc"]:
        compile_c(*arguments[1:])
    for target, own in TARGETS.items():
        added = subprocess.run(["rustup", "target", "add", target], cwd=tools.PROJECT, capture_output=True, text=True)
        if added.returncode:
            print(f"SKIPPED: mcpl was not compiled for {target}: {added.stderr.strip()}", file=sys.stderr)
            continue
        print(f"compiling mcpl for {target}", flush=True)
        if code := subprocess.run([*CARGO, "--target", target, "--", "-D", "warnings"], cwd=tools.PROJECT, env=environment(target, own)).returncode:
            sys.exit(code)


def environment(target, own):
    tools.install_lambda()
    # At the same path each time: Cargo compiles anew what another compiler has compiled.
    folder = tools.FOLDER / "elsewhere" / target
    folder.mkdir(parents=True, exist_ok=True)
    script = pathlib.Path(__file__).resolve()
    words = {"cc": f"'{sys.executable}' '{script}' cc {own}", "ar": f"'{zig()}' ar"}
    for name, command in words.items():
        program = folder / name
        text = f'#!/bin/sh\nexec {command} "$@"\n'
        if not program.exists() or program.read_text() != text:
            program.write_text(text)
            program.chmod(0o755)
    suffix = target.replace("-", "_")
    return {
        **os.environ, f"CC_{suffix}": str(folder / "cc"), f"AR_{suffix}": str(folder / "ar"),
        # AWS-LC brings what its assembler would make. Zig has the headers of macOS; the folder of Apple's only has to be there.
        "AWS_LC_SYS_PREBUILT_NASM": "1", "SDKROOT": str(folder),
    }


def zig():
    return next((tools.VENV / "lib").glob("python3*/site-packages/ziglang/zig"))


def compile_c(target, *words):
    """Becomes Zig's C compiler, with the target that it knows by another name."""
    own, words = [], iter(words)
    for word in words:
        if word in ("-target", "-isysroot", "-arch"):
            next(words)
        elif not word.startswith(("--target=", "-mmacosx-version-min=")):
            own.append(word)
    os.execv(zig(), [str(zig()), "cc", "-target", target, *own])


if __name__ == "__main__":
    main(sys.argv[1:])
