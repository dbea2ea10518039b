"""Python frameworks sign in at event-logger, whose tools anyone may list and only some may call."""

import frameworks
import pytest
import signing_in
from providers import Call, Provider
from servers import DONE


@pytest.mark.parametrize("name", ["fastmcp", "mcp_use", "pydantic_ai"])
def test_a_framework_signs_in_for_a_call(name, closed, tmp_path):
    with Provider([Call(closed.case.tool, closed.case.good), DONE]) as provider:
        (seen,), output = frameworks.run(name, [closed], [provider], tmp_path, signing_in.environment, auth="oauth")

    assert "ada@example.com" in seen.results[0], output
