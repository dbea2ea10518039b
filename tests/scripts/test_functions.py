"""What an author has to know: one crate of ours, and few files."""

import tomllib

import new
import pytest
import tools

OURS = {path.parent.name for path in (tools.PROJECT / "crates").glob("*/Cargo.toml")}
FUNCTIONS = [tools.PROJECT / "functions" / name for name in sorted(tools.SHIPPED)]
# An authorization server is no MCP server: its endpoints, and the secrets that they need, are no part of mcp-lambda.
NAMED = {tools.AUTHORIZATION_SERVER: {"mcp-authorization-server", "mcp-aws", "mcp-lambda"}}


@pytest.mark.parametrize("folder", [*FUNCTIONS, tools.PROJECT / "bench" / "subject"], ids=lambda folder: folder.name)
def test_a_function_names_one_crate_of_ours_and_has_a_version_of_its_own(folder):
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())

    assert OURS & manifest["dependencies"].keys() == NAMED.get(folder.name, {"mcp-lambda"})
    assert OURS & manifest.get("dev-dependencies", {}).keys() <= {"dsql-emulator", "function-url-emulator", "mcp-testing"}
    if folder in FUNCTIONS:
        assert isinstance(manifest["package"]["version"], str)


@pytest.mark.parametrize("folder", ["functions/greeter", "templates/function"])
def test_a_function_without_state_has_few_source_files(folder):
    sources = list((tools.PROJECT / folder / "src").rglob("*.rs"))

    assert 0 < len(sources) <= 6
    assert "config.rs" not in {path.name for path in sources}


@pytest.mark.parametrize("kind", sorted(new.KINDS))
def test_a_new_function_has_at_most_six_source_files(kind):
    sources = list((tools.PROJECT / "templates" / new.KINDS[kind][0]).rglob("*.rs"))

    assert 0 < len(sources) <= 6
