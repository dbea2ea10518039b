"""fastmcp's command line with each of the three functions: no model is involved."""

import json

import programs
import pytest
import servers as own

import tools

# What does not go to loopback ends here.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(params=[case.function for case in own.CASES])
def server(servers, request):
    return next(server for server in servers if server.name == request.param)


def test_fastmcp_lists_and_calls_and_warns_of_nothing(server, tmp_path):
    case, outputs = server.case, []

    def run(*words, expected=0):
        command = [tools.CLIENTS_FOLDER / "fastmcp" / "bin" / "fastmcp", *words]
        code, output = programs.run(command, tmp_path, programs.environment(tmp_path, NOWHERE, COLUMNS="200"))
        assert code == expected, f"it ended with {code}:\n{output}"
        outputs.append(output)
        return output

    def call(arguments, *options, **expected):
        return run("call", server.url, case.tool, "--input-json", json.dumps(arguments), *options, **expected)

    listed = json.loads(run("list", server.url, "--prompts", "--resources", "--json"))
    good = call(case.good)
    structured = json.loads(call(case.good, "--json"))
    bad = call(case.bad, expected=1)

    assert {tool["name"] for tool in listed["tools"]} == set(case.tools)
    assert not structured["is_error"]
    own.check_calls(server, good, bad)
    own.assert_no_warnings("\n".join(outputs), (), [server])
    server.record.check(least=4)
    assert server.revision == "2026-07-28"
    if case.function == "event-logger":
        assert own.shown(good) == "structure"
