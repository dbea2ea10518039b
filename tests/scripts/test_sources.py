"""What `make check` finds in the code."""

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
