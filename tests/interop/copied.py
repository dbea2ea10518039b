"""A copy of the workspace, for tests that write into one."""

import contextlib
import os
import shutil

import tools

LEFT_OUT = [".git", ".tools", ".dev", "target", "node_modules", "__pycache__", "artifacts"]


@contextlib.contextmanager
def workspace(name):
    """The copy, in which a function of this name is made. No crate has it, so that nothing in the shared target folder is
    replaced; what was built of the function is taken out again."""
    # Always in the same place, so that Cargo knows its crates again the next time.
    copy = tools.target_folder() / "scaffold"
    shutil.rmtree(copy, ignore_errors=True)
    # Whoever has followed the README has one of this name.
    shutil.copytree(tools.PROJECT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT, name, f"{name}.yaml"))
    try:
        yield copy
    finally:
        shutil.rmtree(copy)
        forget(name)


def forget(name):
    """Takes what was built of a function out of Cargo's folder."""
    for built in ("debug", "debug/deps", "debug/.fingerprint"):
        folder = tools.target_folder() / built
        for path in {*folder.glob(f"*{name}*"), *folder.glob(f"*{name.replace('-', '_')}*")}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def environment(**variables):
    """For what is run there: Cargo's folder, where everything else is built already, and the same tools."""
    own = {"TOOLS_DIR": str(tools.FOLDER), "CARGO_TARGET_DIR": str(tools.target_folder()), "MAKEFLAGS": ""}
    # As in this workspace, so that nothing is built twice.
    return tools.environment({**os.environ, **own, "CARGO_PROFILE_DEV_DEBUG": "line-tables-only", **variables})
