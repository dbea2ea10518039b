"""Agents of others with the three functions, each with a scripted stand-in of its model's provider."""

import agents
import pytest
import servers as own
from providers import Call, Provider

NAMES = [pytest.param(name, marks=[pytest.mark.fast] * program.is_fast) for name, program in agents.PROGRAMS.items()]


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_lists_and_calls_and_warns_of_nothing(name, servers, tmp_path):
    program = agents.PROGRAMS[name]
    with Provider([*own.SCRIPT, program.done]) as provider:
        output = program.run(provider, servers, tmp_path)

    own.check_session(provider, servers, output, program.checks_arguments, program.ignored)
    assert {server.revision for server in servers} == {program.revision}
    assert own.shown(provider.results[2].text) == program.shows
    assert own.dropped(provider, servers) == program.drops
    assert own.is_instructed(provider, servers) == program.is_instructed


# Of the example document two operations fit.
QUESTION = Call("find_operation", {"query": "list"})
CHOICES = ["listBooks", "listOrders"]


@pytest.mark.parametrize("name", agents.PROGRAMS)
def test_a_model_is_shown_the_choices_of_a_question_and_what_a_call_lacks(name, servers, closed, tmp_path):
    program = agents.PROGRAMS[name]
    asking = next(server for server in servers if server.name == "api-docs")
    with Provider([QUESTION, Call(closed.case.tool, closed.case.good), program.done]) as provider:
        program.run(provider, [asking, closed], tmp_path)

    question, unsigned = (result.text for result in provider.results)
    assert all(choice in question for choice in CHOICES), question
    assert program.unsigned in unsigned, unsigned
