"""The authorization server as a function: people sign in with Chromium at a provider without registration, and event-logger accepts their
tokens by OIDC_ISSUER alone. Each function runs in several environments, on one Postgres."""

import json
import subprocess
import urllib.error

import conformance
import postgres
import pytest
import tools
from authorization_servers import ENVIRONMENTS, Servers, claims_of
from client_documents import CLAUDE, CLAUDE_CODE
from conftest import build
from signing_person import Person
from upstream import CLIENT_SECRET

# All that the official suite checks of an authorization server.
CHECKS = ["authorization-server-metadata", "authorization-server-metadata-cimd", "authorization-code-grant"]


@pytest.fixture(scope="module", params=["cognito", "entra", "google"])
def servers(request, tmp_path_factory):
    build()
    with Servers(request.param, tmp_path_factory.mktemp("servers")) as own:
        yield own


def test_a_client_with_a_metadata_document_gets_tokens_that_event_logger_accepts(servers, tmp_path, chromium):
    seen, answer = servers.sign_in(Person("ada", tmp_path, chromium), CLAUDE_CODE)
    tokens = servers.redeem(answer)

    consent = seen["pages"][0]
    assert "claude.ai" in consent["text"] and "Event logger" in consent["text"] and "Log events" in consent["text"]
    # Then the pages of the provider.
    assert [page["url"].startswith(servers.issuer) for page in seen["pages"][:2]] == [True, False]
    claims = claims_of(tokens["access_token"])
    assert (claims["iss"], claims["aud"], claims["client_id"]) == (servers.issuer, servers.resource, CLAUDE_CODE)
    assert claims["sub"].startswith(f"{servers.upstream.url}#") and claims["scope"] == "events:read events:write"
    assert servers.logs_an_event(tokens["access_token"]) == 200
    assert servers.logs_an_event("x") == 401


def test_a_registered_client_gets_tokens_and_refreshes_them(servers, tmp_path, chromium):
    client_id = servers.register()
    _, answer = servers.sign_in(Person("ada", tmp_path, chromium), client_id)
    tokens = servers.redeem(answer)

    # More often than there are environments.
    for _ in range(ENVIRONMENTS + 1):
        refreshed = servers.token(grant_type="refresh_token", client_id=client_id, refresh_token=tokens["refresh_token"])
        assert refreshed["refresh_token"] != tokens["refresh_token"]
        assert servers.logs_an_event(refreshed["access_token"]) == 200
        tokens = refreshed
    with pytest.raises(urllib.error.HTTPError) as refused:
        servers.redeem(answer)
    assert json.load(refused.value)["error"] == "invalid_grant", "a code is valid once"


def test_a_person_without_the_group_gets_no_scope_for_it(servers, tmp_path, chromium):
    _, answer = servers.sign_in(Person("bob", tmp_path, chromium), CLAUDE_CODE)
    tokens = servers.redeem(answer)

    assert claims_of(tokens["access_token"])["scope"] == "events:read"
    assert servers.logs_an_event(tokens["access_token"]) == 403


def test_a_person_who_denies_returns_to_the_application_by_a_link(servers, tmp_path, chromium):
    seen, answer = servers.sign_in(Person("ada", tmp_path, chromium, denies=True), CLAUDE_CODE)

    assert answer["error"] == "access_denied" and "code" not in answer
    # The identity provider shows no page.
    assert [page["url"].startswith(servers.issuer) for page in seen["pages"]] == [True, True]


def test_a_browser_remembers_a_client_but_none_on_loopback(servers, tmp_path, chromium):
    person = Person("ada", tmp_path, chromium, cookies=tmp_path / "cookies.json")
    hosted = [servers.sign_in(person, CLAUDE, "https://claude.ai/api/mcp/auth_callback") for _ in range(2)]
    # Any program can be the client there.
    on_loopback = [servers.sign_in(person, CLAUDE_CODE) for _ in range(2)]

    consents = [[page for page in seen["pages"] if page["url"].startswith(servers.issuer)] for seen, _ in hosted + on_loopback]
    assert [len(pages) for pages in consents] == [1, 0, 1, 1]


def test_the_log_has_each_request_and_no_secret(servers, tmp_path, chromium):
    _, answer = servers.sign_in(Person("ada", tmp_path, chromium), CLAUDE_CODE)
    tokens = servers.redeem(answer)

    log = (servers.folder / f"{servers.kind}.log").read_text()
    for path in ["/.well-known/oauth-authorization-server", "/authorize", "/callback", "/token"]:
        assert f'"path":"{path}"' in log, path
    for secret in [answer["code"], answer["state"], answer["verifier"], tokens["access_token"], tokens["refresh_token"], CLIENT_SECRET]:
        assert secret not in log


@pytest.mark.parametrize("client", ["document", "registered"])
def test_the_official_conformance_suite_passes(servers, client, tmp_path, chromium):
    client_id = CLAUDE_CODE if client == "document" else servers.register("http://127.0.0.1/callback")
    command = [
        tools.node(), conformance.SUITE, "authorization", "--url", servers.issuer, "--client-id", client_id,
        "--resource", servers.resource, "--port", postgres.free_port(), "-o", tmp_path / "results",
    ]
    suite = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = ""
    for line in suite.stdout:
        output += line
        if line.startswith(f"{servers.issuer}/authorize?"):
            Person("ada", tmp_path, chromium).opens(line.strip())

    assert suite.wait() == 0, output
    checks = [check for file in (tmp_path / "results").glob("**/checks.json") for check in json.loads(file.read_text())]
    assert {check["id"]: check["status"] for check in checks} == dict.fromkeys(CHECKS, "SUCCESS"), output
