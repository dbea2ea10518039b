"""Programs of others sign in at event-logger, whose tools anyone may list and only some may call."""

import pytest
import signing_in
from programs import daemons_ended
from providers import Call, Provider
from servers import DONE


@pytest.mark.parametrize("name", signing_in.PROGRAMS)
def test_a_program_signs_in_for_a_call(name, closed, tmp_path):
    with daemons_ended(tmp_path), Provider([Call(closed.case.tool, closed.case.good), DONE]) as provider:
        shown = signing_in.PROGRAMS[name](provider, closed, tmp_path)

    assert "ada@example.com" in shown, shown
