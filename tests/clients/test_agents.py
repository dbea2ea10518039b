"""Agents of others with the three functions, each with a scripted stand-in of its model's provider."""

import agents
import pytest
import servers as own
from providers import Provider

NAMES = [pytest.param(name, marks=[pytest.mark.fast] * program.is_fast) for name, program in agents.PROGRAMS.items()]


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_lists_and_calls_and_warns_of_nothing(name, servers, tmp_path):
    program = agents.PROGRAMS[name]
    with Provider([*own.SCRIPT, program.done]) as provider:
        output = program.run(provider, servers, tmp_path)

    own.check_session(provider, servers, output, program.checks_arguments, program.ignored)
    assert {server.revision for server in servers} == {program.revision}
    assert own.shown(provider.results[2].text) == program.shows
