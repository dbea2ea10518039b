"""Two versions of one server behind one URL, at 50:50, as in the middle of a deployment. What `mcpl contract diff` calls compatible fails
no client with the old list, and what it calls breaking fails those that reach the new version."""

import json
import subprocess

import anyio
import pytest
import tools
from conftest import build, emulated
from mcp import Client
from mcp.shared.exceptions import MCPError
from splitter import Splitter

ENVIRONMENTS_OF_EACH = 3
OLD, NEW = range(2)
# Each client's mode, and the revision that it speaks.
CLIENTS = {
    "typescript-1": ("first", "2025-11-25"),
    "typescript-2-legacy": ("legacy", "2025-11-25"),
    "typescript-2": ("2026-07-28", "2026-07-28"),
    "python-legacy": ("legacy", "2025-11-25"),
    "python": ("2026-07-28", "2026-07-28"),
}
# 200 with five clients and two sources of lists; 10,000 in a soak.
PAIRS = [20, pytest.param(1000, marks=pytest.mark.slow)]
PAIRS_OF_ONE_PROCESS = 200
METERS, FEET, NAME = 2, 6.56168, "convert"


@pytest.fixture(scope="module")
def versions():
    """The URL of each version, which has three environments."""
    build()
    example = ["cargo", "build", "--quiet", "--locked", "--package", "mcp-contract", "--example", "versions"]
    subprocess.run(example, cwd=tools.PROJECT, check=True)
    reserved, running = ["--reserved", ENVIRONMENTS_OF_EACH], {}
    try:
        for name in ("old", "new", "narrowed", "removed"):
            running[name] = emulated("examples/versions", "buffered", ENVIRONMENTS_OF_EACH, *reserved, VERSION=name)
        yield {name: own.url for name, own in running.items()}
    finally:
        for own in running.values():
            own.stop()


@pytest.fixture
def pairs(node, versions):
    """Lists the tools and calls one, `count` times. Returns for each pair its failure, or None, and the version that the call reached.
    `lists` is the version that the lists come from; with None, lists are split as calls are."""

    def run(client, new, count, lists, *options):
        mode, revision = CLIENTS[client]
        failures = []
        with Splitter([versions["old"], versions[new]], lists) as splitter:
            if client.startswith("python"):
                failures = anyio.run(pairs_of_python, splitter.url, mode, count, *options)
            else:
                while len(failures) < count:
                    part = min(PAIRS_OF_ONE_PROCESS, count - len(failures))
                    failures += json.loads(node("typescript_pairs.mjs", splitter.url, mode, str(part), *options).stdout)
        sources, reached = splitter.reached("tools/list"), splitter.reached("tools/call")
        assert len(failures) == len(sources) == len(reached) == count
        assert set(reached) == {OLD, NEW} and set(sources) == ({OLD, NEW} if lists is None else {lists})
        assert {headers["mcp-protocol-version"] for headers, body, *_ in splitter.exchanges if b'"tools/call"' in body} == {revision}
        return failures, reached

    return run


async def pairs_of_python(url, mode, count, wants_new=""):
    return [await pair_of_python(url, mode, wants_new) for _ in range(count)]


async def pair_of_python(url, mode, wants_new):
    async with Client(url, mode=mode) as client:
        try:
            (tool,) = [own for own in (await client.list_tools()).tools if own.name == NAME]
            more = {"digits": 5} if wants_new and "digits" in tool.input_schema["properties"] else {}
            result = await client.call_tool(NAME, {"meters": METERS, **more})
        except (MCPError, RuntimeError) as error:
            return str(error)
    if result.is_error:
        return result.content[0].text
    return None if result.structured_content["feet"] == FEET else str(result.structured_content)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("new", {
            "instructions:text": "wording",
            "tools.convert.input.digits:member-added": "compatible, one-way",
            "tools.convert.input.meters:schema-text": "wording",
            "tools.convert.output.inches:member-added": "compatible",
            "tools.list_units:item-added": "compatible, one-way",
        }),
        ("narrowed", {
            "tools.convert.input.digits:required-member-added": "breaking",
            "tools.convert.output.inches:member-added": "compatible",
        }),
        ("removed", {
            "tools.convert.output.feet:member-removed": "breaking",
            "tools.convert.output.inches:member-added": "compatible, one-way",
        }),
    ],
)
def test_the_versions_differ_by_changes_of_these_classes(mcpl, versions, tmp_path, name, expected):
    old = tmp_path / "old.json"
    old.write_text(subprocess.run([mcpl, "contract", "print", versions["old"]], capture_output=True, text=True, check=True).stdout)

    compared = subprocess.run([mcpl, "contract", "diff", old, versions[name], "--json"], capture_output=True, text=True)

    changes = json.loads(compared.stdout)
    # A breaking change is one-way, too.
    one_way = {own["name"] for own in changes if own["class"] == "compatible" and own["oneWay"]}
    found = {own["name"]: own["class"] + ", one-way" * (own["name"] in one_way) for own in changes}
    assert found == expected, compared.stderr
    assert compared.returncode == ("breaking" in expected.values())


@pytest.mark.parametrize("count", PAIRS)
@pytest.mark.parametrize("lists", [OLD, None], ids=["old-lists", "lists-of-both"])
@pytest.mark.parametrize("client", CLIENTS)
def test_compatible_changes_fail_no_call_with_arguments_of_the_old_list(pairs, client, lists, count):
    failures, _ = pairs(client, "new", count, lists)

    assert failures == [None] * count


@pytest.mark.parametrize("new", ["narrowed", "removed"])
@pytest.mark.parametrize("client", CLIENTS)
def test_breaking_changes_fail_each_call_that_reaches_the_new_version(pairs, client, new):
    """Otherwise the test above could not fail. The client itself notices a missing member of a result."""
    failures, reached = pairs(client, new, 8, OLD)

    assert [failure is not None for failure in failures] == [version == NEW for version in reached], failures
    reason = "digits" if new == "narrowed" else "feet"
    assert all(reason in failure for failure in failures if failure)


@pytest.mark.parametrize("client", CLIENTS)
def test_one_way_changes_fail_a_client_with_the_new_list_at_the_old_version_alone(pairs, client):
    failures, reached = pairs(client, "new", 8, NEW, "new")

    assert [failure is not None for failure in failures] == [version == OLD for version in reached], failures
