"""Programs of others sign in at event-logger, whose tools anyone may list and only some may call."""

import oauth
import pytest
import servers as own
import signing_in
from programs import daemons_ended
from providers import Call, Provider

CASE = next(case for case in own.CASES if case.function == "event-logger")


@pytest.fixture(scope="module")
def closed():
    """event-logger with an issuer that has no page, behind what renames its challenges as a Function URL does."""
    # Its clients register: it cannot fetch metadata documents from the internet.
    with oauth.Issuer(register_only=True) as issuer, own.event_logger(OIDC_ISSUER=issuer.url) as url:
        # A recorder would have another URL than the one that tokens are for.
        yield own.Server(CASE, None, url)


@pytest.mark.parametrize("name", signing_in.PROGRAMS)
def test_a_program_signs_in_for_a_call(name, closed, tmp_path):
    with daemons_ended(tmp_path), Provider([Call(CASE.tool, CASE.good), own.DONE]) as provider:
        shown = signing_in.PROGRAMS[name](provider, closed, tmp_path)

    assert "ada@example.com" in shown, shown
