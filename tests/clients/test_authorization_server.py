"""Programs of others sign in to event-logger through the authorization server, in Chromium and with no client id that a person enters."""

import pytest
import servers as own
import signing_in
from programs import daemons_ended
from providers import Call, Provider
from servers import DONE
from signing_person import Person, chromium


@pytest.mark.parametrize("name", signing_in.PROGRAMS)
def test_a_program_signs_in(name, authorization, tmp_path):
    signs_in(name, signing_in.PROGRAMS[name], authorization, tmp_path)


def test_gemini_cli_signs_in_at_a_server_that_requires_a_token(closed_authorization, tmp_path):
    signs_in("gemini-cli", signing_in.gemini_cli, closed_authorization, tmp_path)


def signs_in(name, run, authorization, home):
    case = next(case for case in own.CASES if case.function == "event-logger")
    person = Person("ada", home, chromium())
    server = own.Server(case, None, authorization.resource, person.program())
    with daemons_ended(home), Provider([Call(case.tool, case.good), DONE]) as provider:
        shown = run(provider, server, home)
        seen = person.waited()

    assert case.shows in shown, shown
    authorization.check_sign_in(seen, signing_in.DOCUMENTS[name], signing_in.PAGES)
