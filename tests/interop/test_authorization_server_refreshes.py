"""One grant, refreshed from many places at once, over several environments of the authorization server on one Postgres."""

import json
import random
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import pytest
from authorization_servers import ENVIRONMENTS, Servers, claims_of
from client_documents import CLAUDE_CODE
from conftest import build
from signing_person import Person

PATIENCE_SECONDS = 120
# How long a used token returns its successor: `RefreshLifetimes` in crates/mcp-authorization-server.
GRACE_SECONDS = 60
THROTTLED = 429


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    build()
    # Requests beyond these environments are throttled, as by Lambda.
    with Servers("cognito", tmp_path_factory.mktemp("servers"), "--reserved", ENVIRONMENTS) as own:
        yield own


@pytest.fixture
def token(servers, tmp_path, chromium):
    """The refresh token of a new grant."""
    _, answer = servers.sign_in(Person("ada", tmp_path, chromium), CLAUDE_CODE)
    return servers.redeem(answer)["refresh_token"]


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_concurrent_refreshes_of_one_grant_sign_no_client_out(servers, token, count):
    same = at_once(lambda own: refresh(servers, own), [token] * count)
    refreshed = at_once(lambda own: refresh(servers, own["refresh_token"]), same)

    requests = [line for line in (servers.folder / "cognito.log").read_text().splitlines() if '"path":"/token","status":200' in line]
    # The emulator writes the number of the environment before each line.
    assert len(requests) > 2 * count and len({line.partition(" ")[0] for line in requests}) == ENVIRONMENTS
    assert len({tokens["refresh_token"] for tokens in refreshed}) == count
    assert {claims_of(tokens["access_token"])["scope"] for tokens in refreshed} == {"events:read events:write"}
    assert servers.logs_an_event(refreshed[-1]["access_token"]) == 200


@pytest.mark.slow
def test_a_refresh_token_that_is_used_after_the_grace_period_revokes_its_grant(servers, token):
    newest = refresh(servers, token)["refresh_token"]
    used = time.monotonic()
    with pytest.raises(urllib.error.HTTPError) as rejected:
        while time.monotonic() < used + PATIENCE_SECONDS:
            refresh(servers, token)
            time.sleep(0.5)

    # Times are in whole seconds.
    assert time.monotonic() > used + GRACE_SECONDS - 2
    assert json.load(rejected.value)["error"] == "invalid_grant"
    with pytest.raises(urllib.error.HTTPError) as revoked:
        refresh(servers, newest)
    assert json.load(revoked.value)["error"] == "invalid_grant"


def refresh(servers, token):
    """The response of the token endpoint. A client repeats a request that Lambda throttles."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return servers.token(grant_type="refresh_token", client_id=CLAUDE_CODE, refresh_token=token)
        except urllib.error.HTTPError as error:
            if error.code != THROTTLED or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.1, 2))


def at_once(function, values):
    """The results of a function for each value, in as many threads, which begin together."""
    barrier = threading.Barrier(len(values))

    def begin(value):
        barrier.wait()
        return function(value)

    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(begin, values))
