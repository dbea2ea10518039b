"""A product function in this workspace: the framework's tests and checks of functions and templates do not apply to it."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import tools

# Tests that compare a table or a list with the functions, and need no built function.
TESTS = ["tests/scripts/test_functions.py", "tests/scripts/test_regions.py", "tests/scripts/test_chosen.py"]
OF_TEMPLATES = "stand_ins or passes_on_is or make_build or secret_in_a or wildcard or role_is_for or within_the_boundary or kept or its_policies"
# Of the framework's checks those that read the code, the pages and the templates of functions.
CHECKS = ["regions", "variables", "log lines", "JSON of others", "vague words"]
# No test has the function as a parameter.
PLUGIN = '''
def pytest_collection_modifyitems(items):
    assert not [item.name for item in items if "bookshelf" in getattr(getattr(item, "callspec", None), "id", "")]
'''
# What the framework's own functions may not have. The word is put together, because the check reads this file, too.
CODE = '''
/// ''' + "some" + '''body
fn shelf(text: &str) -> Option<mcp_server::JsonObject> {
    tracing::error!("the shelf is open");
    std::env::var("BOOKSHELF_SHELF").ok().and_then(|_| serde_json::from_str(text).ok())
}
'''
RESOURCES = '''
  Ledger:
    Type: AWS::QLDB::Ledger
    Properties: { Name: bookshelf, PermissionsMode: ALLOW_ALL }
  ReadRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: { Version: "2012-10-17", Statement: [{ Effect: Allow, Principal: "*", Action: "*" }] }
'''


@pytest.fixture
def workspace(tmp_path):
    """A repository with the tracked files of this one and a function that is tracked, too."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=tools.PROJECT, capture_output=True, text=True)
    if names.returncode:
        pytest.skip("a copy of the sources has no repository")
    folder = tmp_path / "workspace"
    for name in filter(None, names.stdout.split("\0")):
        if (tools.PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tools.PROJECT / name, folder / name)
    product = folder / "functions" / "bookshelf"
    shutil.copytree(folder / "functions" / "greeter", product)
    for path in (path for path in product.rglob("*") if path.is_file()):
        path.write_text(path.read_text().replace("greeter", "bookshelf"))
    manifest = product / "Cargo.toml"
    manifest.write_text(re.sub(r"(?m)^(mcp-lambda.*)$", r"\1" + '\nmcp-server = { path = "../../crates/mcp-server" }', manifest.read_text(), count=1))
    with (product / "src" / "lib.rs").open("a") as source:
        source.write(CODE)
    stack = product / "stack.yaml"
    stack.write_text(stack.read_text().replace("\nResources:\n", f"\nResources:{RESOURCES}"))
    run(folder, "cargo", "metadata", "--offline", "--format-version", "1")
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    return folder


def test_a_product_function_is_not_checked_as_one_of_the_framework(workspace):
    assert "functions/bookshelf/stack.yaml" in run(workspace, "git", "ls-files")
    (workspace / "selection.py").write_text(PLUGIN)

    pytest_command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "selection"]
    run(workspace, *pytest_command, *TESTS, PYTHONPATH=str(workspace))
    of_templates = run(workspace, *pytest_command, "tests/interop/test_infra.py", "-k", OF_TEMPLATES, PYTHONPATH=str(workspace))
    assert int(re.search(r"(\d+) passed", of_templates)[1]) >= 38
    run(workspace, sys.executable, "scripts/check.py", *CHECKS)


def run(folder, *command, **variables):
    environment = {**os.environ, "TOOLS_DIR": str(tools.FOLDER), **variables}
    environment.pop("WORKSPACE_DIR", None)
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
