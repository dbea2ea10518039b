"""What `make check` finds in the documentation."""

import documentation


def test_a_variable_is_in_the_table_and_in_the_code(tmp_path):
    source = tmp_path / "crates" / "own" / "src" / "config.rs"
    source.parent.mkdir(parents=True)
    source.write_text('const KEPT: &str = "MCP_KEPT";\npub(crate) const NEW: &str = "MCP_NEW";\nconst TITLE: &str = "MCP";\n')
    (tmp_path / "docs").mkdir()
    tables = "## Own\n\n| Variable | |\n| --- | --- |\n| `MCP_KEPT`, `MCP_GONE` | `MCP_VALUE` |\n\n## Limits\n\n| `MCP_OTHER` | |\n"
    (tmp_path / "docs" / "configuration.md").write_text(tables)

    assert list(documentation.stray_variables(tmp_path)) == [
        "MCP_NEW is read, and not in docs/configuration.md",
        "MCP_GONE is in docs/configuration.md, and read nowhere",
    ]


def test_a_log_line_is_explained(tmp_path):
    source = tmp_path / "functions" / "greeter" / "src" / "main.rs"
    source.parent.mkdir(parents=True)
    source.write_text(
        'tracing::info!(request_id = id, "known");\n'
        'tracing::warn!(\n    field = f(1, "no line"),\n    "try again in {} s, or \\\n        later",\n    COOLDOWN.as_secs()\n);\n'
        'tracing::error!(%error, "unknown");\ntracing::warn!("{error}");\ntracing::debug!("not for operators");\n'
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "operations.md").write_text("| `known` | |\n| `try again in 30 s, or later` | |\n")

    assert list(documentation.unexplained_lines(tmp_path)) == ["docs/operations.md says nothing of 'unknown'"]


def test_a_product_function_documents_itself(tmp_path):
    source = tmp_path / "functions" / "own" / "src" / "main.rs"
    source.parent.mkdir(parents=True)
    source.write_text('const OWN: &str = "OWN_LIMIT";\ntracing::warn!("unknown");\n')
    (tmp_path / "docs").mkdir()
    for name in ("configuration", "operations"):
        (tmp_path / "docs" / f"{name}.md").write_text("")

    assert [*documentation.stray_variables(tmp_path), *documentation.unexplained_lines(tmp_path)] == []


def test_a_quoted_message_is_in_the_code(tmp_path):
    source = tmp_path / "crates" / "mcp-cli" / "src" / "own.rs"
    source.parent.mkdir(parents=True)
    source.write_text(
        """/// "said in a comment alone"
        let quote = '"';
        bail!("could not find {name}: give \\
               `--name \\"NAME\\"`, or {HOST:?} {}");
        const REASON: &str = "it is taken";
#[cfg(test)]
mod tests { const WANTED: &str = "wanted in a test"; }
"""
    )
    (tmp_path / "docs").mkdir()
    known = '| `could not find …: give`, ``give `--name "NAME"`, or …`` (a note) | `no message` |\n| `it is taken` | |\n'
    unknown = "| `it was taken`, `could not find …: take` | |\n| `wanted in a test` | |\n| `said in a comment` | |\n"
    others = "| Error of the issuer | |\n| --- | --- |\n| `invalid_scope` | |\n"
    page = f"`before`\n\n| Message | Cause |\n| --- | --- |\n{known}{unknown}\n{others}"
    (tmp_path / "docs" / "mcpl-troubleshooting.md").write_text(page)

    reported = [line.split("'")[1] for line in documentation.unknown_messages(tmp_path)]

    assert reported == ["it was taken", "could not find …: take", "wanted in a test", "said in a comment"]


def test_a_link_leads_to_a_file_and_to_a_heading_of_it(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# `MCP_AUTH`, and more\n\n```sh\n# No heading\n```\n")
    good = "[a](docs/other.md) [b](docs/other.md#mcp_auth-and-more) [c](https://example.com/x) [d](#own) [e](docs)"
    bad = "[f](other.md) [g](docs/other.md#no-heading) [h](#elsewhere)"
    (tmp_path / "README.md").write_text(f"## Own\n\n{good}\n\n```text\n[i](nowhere)\n```\n\n{bad}\n")

    assert list(documentation.dead_links(tmp_path)) == [
        "README.md: other.md leads nowhere",
        "README.md: docs/other.md#no-heading names no heading there",
        "README.md: #elsewhere names no heading there",
    ]


def test_a_rule_has_tests_that_exist_or_a_reason(tmp_path):
    source = tmp_path / "crates" / "own" / "src" / "lib.rs"
    source.parent.mkdir(parents=True)
    source.write_text("#[test]\n#[ignore]\nfn one() {}\n#[tokio::test(start_paused = true)]\npub(crate) async fn two() {}\nfn helper() {}\n")
    (tmp_path / "tests" / "interop").mkdir(parents=True)
    (tmp_path / "tests" / "interop" / "test_own.py").write_text("def test_three():\n    pass\ndef helper():\n    pass\n")
    (tmp_path / "docs").mkdir()
    entries = {
        "1.1 | MUST": "test: `one`, `two`, `test_three`",
        "1.2 | MUST": "not applicable because there is none.",
        "1.3 | SHOULD": "deviates because of something.",
        "1.4 | MUST": "test: `one`, `helper`",
        "1.5 | MUST": "",
        "1.6 | MUST": "test: somewhere",
        "1.7 | MUST NOT": "deviates because of something.",
        "1.8 | SHOULD": "deviates because",
        "1.9 | MUST": "test: `one` one day",
    }
    table = "".join(f"| {rule} | r | {entry} |\n" for rule, entry in entries.items())
    page = f"| Other |\n| --- |\n| x |\n\n| Clause | Level | Rule | Entry |\n| --- | --- | --- | --- |\n{table}| 2.1 |\n"
    (tmp_path / "docs" / "authorization-server-conformance.md").write_text(page)

    assert list(documentation.unproven_rules(tmp_path)) == [
        "clause 1.4 (r) names the test helper, which does not exist",
        "clause 1.5 (r) has neither tests nor a reason",
        "clause 1.6 (r) has neither tests nor a reason",
        "clause 1.7 (r) is MUST NOT, and not followed",
        "clause 1.8 (r) has neither tests nor a reason",
        "clause 1.9 (r) has neither tests nor a reason",
        "clause 2.1 () has neither tests nor a reason",
    ]


def test_each_rule_of_a_document_has_a_row(tmp_path):
    for folder in ("docs", "scripts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "scripts" / "rules_of_oauth.json").write_text('{"RFC 1": {"1": [2, 0], "2": [3, 1], "3": [1, 1], "4": [1, 0]}, "RFC 2": {"1": [1, 0]}}')
    table = "| Clause | Level | Rule | Entry |\n| --- | --- | --- | --- |\n"
    rows = {"RFC 1": ["1", "1", "2", "5"], "RFC 2": ["1"], "As a client": ["RFC 1, 2", "Draft, a section"]}
    sections = [f"\n## {name}\n\n{table}" + "".join(f"| {clause} | MUST | r | e |\n" for clause in own) for name, own in rows.items()]
    (tmp_path / "docs" / "authorization-server-conformance.md").write_text("# Rules\n" + "".join(sections))

    assert list(documentation.missing_rules(tmp_path)) == [
        "RFC 1, clause 4: 0 rows, 1 rules",
        "RFC 1 has no rules in clause 5",
    ]


def test_a_row_belongs_to_a_table(tmp_path):
    table = "| Alarm | |\n| --- | --- |\n| `Errors` | |\n"
    (tmp_path / "README.md").write_text(f"{table}\n| `Faults` | |\n\n```text\n| drawn |\n```\n\n{table}")

    assert list(documentation.torn_tables(tmp_path)) == ["README.md: a row without a table: | `Faults` | |"]


def test_an_error_is_explained_by_a_part_of_it():
    page = (
        "| Reason | Cause |\n| --- | --- |\n| `Connection refused` | |\n\n| Status | |\n| --- | --- |\n| `502`, `503` | |\n\n"
        "| Message | |\n| --- | --- |\n| `port … is taken` | `not this` |\n\n`nor this`\n"
    )

    for text in ["mcpl: could not reach URL: Connection refused", "the server answered 503 Service Unavailable", "port 8400 is taken"]:
        assert documentation.explains(page, text), text
    for text in ["", "mcpl: not this", "nor this", "the server answered 500", "after 503 s", "port 8400"]:
        assert not documentation.explains(page, text), text
