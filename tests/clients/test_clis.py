"""Command lines and bridges of others with each of the three functions."""

import json

import clis
import programs
import pytest
import servers as own

FUNCTIONS = [case.function for case in own.CASES]
# They have no provider: what does not go to loopback ends here.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(params=FUNCTIONS)
def server(servers, request):
    return next(server for server in servers if server.name == request.param)


@pytest.mark.parametrize("name", clis.CLIS)
def test_a_command_line_lists_and_calls_and_warns_of_nothing(name, server, tmp_path):
    cli, case = clis.CLIS[name], server.case
    env = programs.environment(tmp_path, NOWHERE)
    outputs = []

    def run(words, expected=0):
        code, output = programs.run([*cli.prepare(server, tmp_path), *words], tmp_path, env)
        assert code == expected, f"it ended with {code}:\n{output}"
        outputs.append(output)
        return output

    with programs.daemons_ended(tmp_path):
        for words in cli.before(server):
            run(words)
        listed = run(cli.listing(server))
        good = run(cli.calling(server, case.tool, case.good))
        bad = run(cli.calling(server, case.tool, case.bad), cli.error_code)

    for tool in case.tools:
        assert tool in listed
    own.check_calls(server, good, bad)
    own.assert_no_warnings("\n".join(outputs), cli.ignored, [server])
    server.record.check(least=3)
    assert server.revision == cli.revision
    if case.function == "event-logger":
        assert own.shown(good) == cli.shows


@pytest.mark.parametrize("name", clis.BRIDGES)
def test_a_bridge_passes_all_on(name, server, tmp_path):
    case = server.case
    env = programs.environment(tmp_path, NOWHERE)
    with clis.Bridge(clis.BRIDGES[name](server.url), tmp_path, env) as bridge:
        listed = bridge.request("tools/list", {})["tools"]
        good = bridge.request("tools/call", {"name": case.tool, "arguments": case.good})
        bad = bridge.request("tools/call", {"name": case.tool, "arguments": case.bad})

    assert {tool["name"] for tool in listed} == set(case.tools)
    own.check_calls(server, json.dumps(good), json.dumps(bad))
    assert not good.get("isError") and bad["isError"]
    own.assert_no_warnings(bridge.log.read_text(), (), [server])
    server.record.check(least=3)
    assert server.revision == "2025-11-25"
