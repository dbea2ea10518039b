"""What `make check` finds in the order of mcp-server's modules."""

import layers
import pytest
import tools

LIB = """//! | Module | What it holds |
//! | --- | --- |
//! | `error`, `items` | the lower ones |
//! | `server` | the builder |

mod error;
mod items;
mod server;

pub use error::CallError;
pub use server::{Server as Builder, Settings};
"""


def crate(tmp_path, **files):
    source = tmp_path / layers.CRATE
    for name, text in {"lib": LIB, "error": "", "items": "mod tool;\nmod names;", "server": "use crate::CallError;"}.items():
        (source / f"{name}.rs").parent.mkdir(parents=True, exist_ok=True)
        (source / f"{name}.rs").write_text(text)
    for name, text in {"items/tool": "use crate::CallError;\n", "items/names": "", **files}.items():
        (source / f"{name}.rs").parent.mkdir(parents=True, exist_ok=True)
        (source / f"{name}.rs").write_text(text)
    return [line.removeprefix(f"{layers.CRATE}/") for line in layers.misplaced(tmp_path)]


def test_a_module_may_use_what_is_below_it(tmp_path):
    assert crate(tmp_path) == []


@pytest.mark.parametrize(
    "use",
    [
        "use crate::server::Settings;",
        "use crate::{CallError, server::{self, Settings}};",
        "pub(crate) use super::super::server::Settings;",
        "fn f(_: &crate::server::Settings) {}",
        # By the name that the root passes on.
        "use crate::{CallError, Settings};",
        "use crate::Builder as Other;",
        "fn f(_: crate::Builder) {}",
    ],
)
def test_a_use_of_what_is_above_is_found_however_it_is_written(tmp_path, use):
    assert crate(tmp_path, **{"items/tool": use}) == ["items/tool.rs uses server, which is above it"]


def test_comments_and_tests_may_name_what_is_above(tmp_path):
    code = "/// See [`Server`](crate::Server).\nfn f() {} // crate::server::Settings\n\n#[cfg(test)]\nmod tests {\n    use crate::Settings;\n}\n"
    assert crate(tmp_path, **{"items/tool": code}) == []


def test_files_that_use_each_other_are_found(tmp_path):
    found = crate(tmp_path, **{"items/tool": "use super::names::Name;", "items/names": "use crate::items::tool::Tool;"})

    assert [line.partition(": ")[2] for line in found] == ["items::names uses items::tool uses items::names"]


@pytest.mark.parametrize("use", ["pub use tool::Tool;", "fn f(_: tool::Tool) {}"])
def test_a_file_may_use_its_children_unless_they_use_it(tmp_path, use):
    assert crate(tmp_path, items=f"mod tool;\nmod names;\n{use}") == []

    found = crate(tmp_path, items=f"mod tool;\nmod names;\n{use}", **{"items/tool": "use super::Name;"})

    assert [line.partition(": ")[2] for line in found] == ["items uses items::tool uses items"]


def test_each_module_is_in_the_table(tmp_path):
    lib = LIB.replace("`server`", "`service`")
    assert crate(tmp_path, lib=lib) == [
        "lib.rs: `server` is not in the table of modules",
        "lib.rs: the table of modules names `service`, which is not there",
    ]


def test_the_modules_of_mcp_server_read_from_the_bottom_up():
    assert len(layers.modules(tools.PROJECT / layers.CRATE)) > 30
    assert list(layers.misplaced(tools.PROJECT)) == []
