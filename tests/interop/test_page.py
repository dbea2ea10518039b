"""The page that a browser is shown, in Chromium."""

import json
import urllib.error
import urllib.request

import pytest
from conftest import emulated


@pytest.fixture(scope="module", params=["buffered", "stream"])
def seen(request, node, chromium, tmp_path_factory):
    """What a user saw who opened greeter's page, and its URL."""
    folder = tmp_path_factory.mktemp("page")
    with emulated("greeter", request.param, 3) as url:
        printed = node("page.mjs", url, str(folder), **chromium).stdout
    return {**json.loads(printed), "url": url, "folder": folder}


def test_the_page_is_accessible_in_light_and_dark_and_on_a_phone(seen):
    for name, look in seen["looks"].items():
        assert (look["violations"], look["undecided"]) == ([], []), name
        assert look["passed"] > 20, "it was looked at"
        assert (seen["folder"] / f"{name}.png").stat().st_size > 10_000
    assert seen["looks"]["light"]["background"] != seen["looks"]["dark"]["background"]


def test_a_phone_does_not_scroll_sideways(seen):
    assert seen["looks"]["phone"]["width"] == 320


def test_a_tool_is_called_by_keyboard(seen):
    keyboard = seen["keyboard"]
    names = [name for _, name, _ in keyboard["stops"]]

    assert names[0] == "Copy the URL" and names[-1] == "name"
    assert {"Add to Cursor", "Add to VS Code", "Codex"} <= set(names)
    assert all(outline != "none" for _, _, outline in keyboard["stops"]), "where the focus is shows"
    assert keyboard["answer"] == "Hello, Ada! Welcome to the serverless MCP world."
    assert keyboard["focused"] == "INPUT", "the next name can be typed at once"


def test_a_refused_call_says_why(seen):
    assert "name" in seen["refused"] and "100" in seen["refused"]


def test_a_click_copies(seen):
    assert seen["copied"] == seen["url"]


def test_without_script_everything_but_the_form_is_there(seen):
    assert "claude mcp add" in seen["withoutScript"] and "Enable JavaScript" in seen["withoutScript"]


def test_nothing_goes_wrong_and_nothing_is_asked_elsewhere(seen):
    assert seen["errors"] == []
    assert [url for url in seen["elsewhere"] if not url.startswith("data:")] == []


def test_it_can_be_switched_off():
    with emulated("greeter", "buffered", 1, MCP_PAGE="off") as url:
        request = urllib.request.Request(url, headers={"Accept": "text/html"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)

    assert refused.value.code == 405
