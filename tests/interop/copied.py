"""A copy of the workspace, for tests that write into one."""

import contextlib
import shutil

import tools

# Where the binaries are that are built there: those in Cargo's folder are used by other tests at the same time.
TARGET = tools.target_folder() / "copied"
LEFT_OUT = [".git", ".tools", ".dev", "target", "node_modules", "__pycache__", "artifacts"]


@contextlib.contextmanager
def workspace(name):
    """The copy, in which a function of this name is made. No crate has it, so that nothing in the shared target folder is
    replaced; what was built of the function is taken out again."""
    # Always in the same place, so that Cargo knows its crates again the next time.
    copy = tools.target_folder() / "scaffold"
    with tools.locked(copy.with_suffix(".lock")):
        shutil.rmtree(copy, ignore_errors=True)
        # A reader who has followed the README has one of this name.
        shutil.copytree(tools.PROJECT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT, name, f"{name}.yaml"))
        try:
            yield copy
        finally:
            shutil.rmtree(copy)
            forget(name)


def forget(name):
    """Takes what was built of a function out of Cargo's folder."""
    built = tools.target_folder() / "debug"
    for folder in (TARGET / "debug", built / "deps", built / ".fingerprint"):
        for path in {*folder.glob(f"*{name}*"), *folder.glob(f"*{name.replace('-', '_')}*")}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def environment(**variables):
    """For what is run there: what is compiled in Cargo's folder already, and the same tools."""
    own = {"TOOLS_DIR": str(tools.FOLDER), "MAKEFLAGS": ""}
    # As in this workspace, so that nothing is built twice.
    own["CARGO_PROFILE_DEV_DEBUG"] = "line-tables-only"
    return tools.environment({**tools.building_into(TARGET), **own, **variables})
