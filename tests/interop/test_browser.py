"""`mcpl proxy` opens a real browser, in which a user signs in."""

import json
import os
import time

import postgres
import pytest
import tools
from conftest import emulated
from oauth import PATIENCE_SECONDS, Issuer
from proxied import LEGACY_CLIENT, LOGGED, Session


@pytest.fixture
def browser(chromium, tmp_path):
    """The command that opens Chromium, and the variables that it needs."""
    script = tools.beside_packages(tools.INTEROP / "browser.mjs")
    return f"{tools.node()} {script} ada {tmp_path}", chromium


def test_a_user_signs_in_in_chromium(mcpl, browser, tmp_path):
    command, variables = browser
    with postgres.Postgres() as server, Issuer(sign_in=None) as issuer:
        settings = {"DATABASE_URL": server.url(), "OIDC_ISSUER": issuer.url}
        with emulated("event-logger", "buffered", 1, **settings) as url:
            words = [mcpl, "proxy", "events", url, "--state-dir", str(tmp_path / "state"), "--open", command]
            session = Session(words, env={**os.environ, **variables})
            session.send("initialize", LEGACY_CLIENT)
            assert "result" in session.read()
            logged = session.text("log_event", event_name="login")
            assert session.close() == 0

    assert logged == LOGGED
    seen = tmp_path / "page.json"
    end = time.monotonic() + PATIENCE_SECONDS
    # The answer can be there before the browser is done.
    while not seen.exists() and time.monotonic() < end:
        time.sleep(0.05)
    page = json.loads(seen.read_text())
    assert page["asked"]["title"].startswith("Sign in") and "mcpl asks for" in page["asked"]["text"]
    assert page["shown"]["title"] == "Signed in – mcpl"
    assert "You can close this page. Your client goes on from here." in page["shown"]["text"]
    assert page["errors"] == []
    assert (tmp_path / "picture.png").stat().st_size > 1000
