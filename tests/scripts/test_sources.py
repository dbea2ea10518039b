"""What `make check` finds in the code."""

import subprocess

import sources


def test_json_is_read_within_a_budget_or_with_a_reason(tmp_path, capsys):
    source = tmp_path / "crates" / "own" / "src" / "read.rs"
    source.parent.mkdir(parents=True)
    source.write_text(
        "use serde_json::{Value, from_slice};\n"
        "let a = json::read::<Value>(text, budget)?;\n"
        "let b = serde_json::from_str::<Value>(text);\n"
        "// serde_json::from_str is named here\n"
        "// Unbounded JSON: written by the operator.\n"
        "let c: Vec<Issuer> =\n    serde_json::from_slice(bytes);\n"
        "let d = json::borrow::<Text<'_>>(text);\n"
        "let e = json::borrow::<HashMap<String, Value>>(text);\n"
        "\n#[cfg(test)]\nmod tests {\n    serde_json::from_str(text);\n}\n"
    )

    found = [line.partition(" reads")[0] for line in sources.unexplained_readers(tmp_path)]

    assert found == ["crates/own/src/read.rs:3", "crates/own/src/read.rs:1", "crates/own/src/read.rs:9"]
    assert "read.rs:7: written by the operator" in capsys.readouterr().out


def test_mcp_server_names_no_transport_no_platform_and_no_variable(tmp_path):
    source = tmp_path / sources.SERVER / "handler" / "context.rs"
    source.parent.mkdir(parents=True)
    source.write_text(
        "//! `mcp-lambda` carries it.\n/// Lambda's request id.\nlet a = \"MCP_STATE_KEY must be set\";\n"
        "fn xray_trace_id() {}\n// Answered with HTTP 403.\nlet b = MAX_STATE_BYTES;\n"
        "// Rejected with 403, as Aurora DSQL does.\n// `mcp-postgres` stores at most 500.\n"
    )

    found = [line.partition("context.rs:")[2] for line in sources.foreign_words(tmp_path)]

    assert [line.partition(", ")[0] for line in found] == [
        "2 says `Lambda`", "3 says `MCP_STATE_KEY`", "4 says `xray`", "5 says `HTTP`", "7 says `403`",
    ]


def test_a_file_of_mcp_server_has_an_end(tmp_path):
    source = tmp_path / sources.SERVER / "policy.rs"
    source.parent.mkdir(parents=True)
    comments = "// a comment\n\n" * 400
    tests = "#[cfg(test)]\nmod tests {\n" + "let a = 1;\n" * 500 + "}\n"
    for lines, is_long in [(450, False), (451, True)]:
        source.write_text(comments + "let a = 1;\n" * lines + tests)

        assert bool(list(sources.long_files(tmp_path))) == is_long


def test_an_example_is_short_without_imports_and_tests(tmp_path):
    source = tmp_path / sources.EXAMPLES / "search.rs"
    source.parent.mkdir(parents=True)
    imports = "//! A search.\n\nuse std::{\n    fs,\n    io,\n};\n\n" + "use garde::Validate;\n" * 30
    tests = "#[cfg(test)]\nmod tests {\n    use super::*;\n" + "let a = 1;\n" * 90 + "}\n"
    for lines, is_long in [(45, False), (46, True)]:
        source.write_text(imports + "/// A line of its own.\n\n" * 2 + "let a = 1;\n" * (lines - 2) + tests)

        assert bool(list(sources.long_examples(tmp_path))) == is_long


def test_an_example_in_the_documentation_names_the_crate_of_authors(tmp_path):
    source = tmp_path / "crates/mcp-server/src/tool.rs"
    source.parent.mkdir(parents=True)
    source.write_text("/// # use mcp_server as mcp_lambda;\n/// use mcp_lambda::Tool;\n    //! use mcp_server::Tool;\nuse mcp_protocol::Tool;\n")

    assert [line.partition(" imports")[0] for line in sources.examples_of_other_crates(tmp_path)] == ["crates/mcp-server/src/tool.rs:3"]


def test_vague_words_are_found_in_texts_and_names_of_tracked_files(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "README.md").write_text("Nobody reads this.\nThe account `nobody` of the system.\nAmendments are welcome.\n")
    (tmp_path / "lib.rs").write_text("fn what_nobody_asks() {}\n")
    (tmp_path / "data.json").write_text('"nobody"\n')
    (tmp_path / "notes.md").write_text("whoever\n")
    subprocess.run(["git", "add", "README.md", "lib.rs", "data.json"], cwd=tmp_path, check=True)

    found = [line.partition(":")[0] for line in sources.vague_words(tmp_path)]

    assert found == ["README.md", "lib.rs"]
