"""Frameworks of others with the three functions: what their models are given, with a scripted stand-in for the model."""

import contextlib
import dataclasses
import re

import frameworks
import pytest
import servers as own
from providers import Call, Provider

NAMES = [pytest.param(name, marks=[pytest.mark.fast] * own.is_fast) for name, own in frameworks.FRAMEWORKS.items()]


def script(framework, case):
    turns = [Call(case.tool, case.good), Call(case.tool, case.bad), framework.done]
    if not framework.results_follow:
        return turns
    # The provider counts results, of which such a conversation has none.
    return [lambda request: turns[min(len(frameworks.messages(framework, request)), len(turns) - 1)]]


@pytest.mark.parametrize("name", NAMES)
def test_a_framework_gives_its_model_tools_results_and_errors_and_warns_of_nothing(name, servers, tmp_path):
    framework = frameworks.FRAMEWORKS[name]
    for server in servers:
        server.case = dataclasses.replace(server.case, **framework.cases.get(server.name, {}))
    with contextlib.ExitStack() as stack:
        providers = [stack.enter_context(Provider(script(framework, server.case))) for server in servers]
        seen, output = frameworks.run(name, servers, providers, tmp_path)

    listed, given = set(), set()
    for server, provider, model in zip(servers, providers, seen):
        assert not provider.refusals, "the provider refuses the tools:\n" + "\n".join(provider.refusals)
        assert not provider.missing, f"the model was not given the tool: {provider.missing}"
        assert set(model.schemas) == set(server.case.tools)
        good, bad = model.results
        own.check_calls(server, good, bad, framework.checks_arguments)
        server.record.check(least=3)
        listed |= frameworks.keywords(tool["inputSchema"] for tool in server.listed.values())
        given |= frameworks.keywords(model.schemas.values())
    assert_nothing_is_logged(output, framework.ignored, servers)
    # The bad call of greeter breaks the schema, and the others do not.
    assert framework.checks_arguments == (not servers[0].errors)
    assert {server.revision for server in servers} == {framework.revision}
    assert own.shown(seen[1].results[0].replace("'event_name'", '"event_name"')) == framework.shows
    assert own.is_instructed(providers[2], servers) == framework.is_instructed
    assert listed - given == framework.drops & listed


def assert_nothing_is_logged(output, ignored, servers):
    """No warning, logged or raised, but about the calls that had to be rejected."""
    own.assert_no_warnings(output, ignored, servers)
    expected = [own.plain(text) for server in servers for text in server.errors]
    lines = [line for line in output.splitlines() if re.match(r"(WARNING|ERROR|CRITICAL) |Traceback", line)]
    logged = [
        line[:500] for line in lines
        if not any(re.search(one, line) for one in ignored) and not any(text in own.plain(line) for text in expected)
    ]
    assert not logged, "it logs:\n" + "\n".join(logged)
