"""The authorization server as a function: people sign in with Chromium at a provider without registration, and event-logger accepts their
tokens by OIDC_ISSUER alone. Each function runs in several environments, on one Postgres."""

import base64
import hashlib
import json
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request

import postgres
import pytest
from client_documents import CLAUDE, CLAUDE_CODE, ClientDocuments
from conftest import emulated
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from oauth import PATIENCE_SECONDS, fetch
from signing_person import Person
from upstream import CLIENT_ID, CLIENT_SECRET, Upstream

ENVIRONMENTS = 3
LOOPBACK = "http://localhost:9/callback"
# Only writers may log events.
ACCOUNTS = {"ada": {"groups": ["writers"]}}
SCOPES = [{"name": "events:read", "text": "Read events"}, {"name": "events:write", "text": "Log events"}]
MAPPING = {
    "cognito": [{"claim": "cognito:groups", "value": "writers", "scopes": ["events:write"]}],
    "entra": [{"claim": "groups", "value": "writers", "scopes": ["events:write"]}],
    # Google has no groups.
    "google": [{"claim": "email", "value": "ada@example.com", "scopes": ["events:write"]}],
}


class Servers:
    """An identity provider, the authorization server and event-logger."""

    def __init__(self, kind, folder):
        self.kind, self.folder, self.running = kind, folder, []
        self.database = postgres.Supervised(databases=["authorization", "events"])
        self.documents, self.upstream = ClientDocuments(), Upstream(kind, ACCOUNTS)
        port = postgres.free_port()
        self.resource = f"http://127.0.0.1:{port}/mcp"
        self.log = (folder / f"{kind}.log").open("w+")
        resources = [{
            "url": self.resource, "name": "Event logger", "scopes": SCOPES, "everyone": ["events:read"], "claims": MAPPING[kind],
        }]
        own = self.start(
            "authorization-server", "authorization", MCP_STATE_KEY=base64.b64encode(os.urandom(32)).decode(),
            AUTHORIZATION_UPSTREAM_ISSUER=self.upstream.url, AUTHORIZATION_UPSTREAM_PROVIDER=kind,
            AUTHORIZATION_UPSTREAM_CLIENT_ID=CLIENT_ID, AUTHORIZATION_UPSTREAM_CLIENT_SECRET=CLIENT_SECRET,
            AUTHORIZATION_SIGNING_KEYS=json.dumps({"keys": [{"private_key": private_key(), "signs_from": 0}]}),
            AUTHORIZATION_RESOURCES=json.dumps(resources), stderr=self.log, **self.documents.variables,
        )
        self.issuer = own.removesuffix("/mcp")
        self.start("event-logger", "events", "--port", port, OIDC_ISSUER=self.issuer)

    def start(self, function, database, *options, **variables):
        url = f"{self.database.url.rpartition('/')[0]}/{database}"
        self.running.append(emulated(function, "buffered", ENVIRONMENTS, *options, DATABASE_URL=url, **variables))
        return self.running[-1].url

    def close(self):
        for running in [*reversed(self.running), self.upstream]:
            running.stop()
        self.documents.__exit__()
        self.database.close()
        self.log.close()

    def metadata(self):
        """What a client finds that knows only event-logger."""
        resource, path = self.resource.removesuffix("/mcp"), "/.well-known/oauth-protected-resource/mcp"
        [issuer] = fetch(resource + path)["authorization_servers"]
        return fetch(f"{issuer}/.well-known/oauth-authorization-server")

    def register(self):
        words = {"client_name": "An old client", "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none"}
        return fetch(self.metadata()["registration_endpoint"], json.dumps(words), "application/json")["client_id"]

    def sign_in(self, person, client_id, redirect_uri=LOOPBACK):
        """What a person sees, and the parameters of the callback with the client's own verifier."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        request = {
            "response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "resource": self.resource, "state": state,
            "scope": "events:read events:write", "code_challenge": challenge, "code_challenge_method": "S256",
        }
        seen = person.opens(f"{self.metadata()['authorization_endpoint']}?{urllib.parse.urlencode(request)}")
        answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(seen["callback"]).query))
        assert (answer["iss"], answer["state"]) == (self.issuer, state)
        # A browser reports the status of the page after a denial.
        assert not seen["errors"] or "error" in answer, seen
        return seen, {**answer, "verifier": verifier, "redirect_uri": redirect_uri, "client_id": client_id}

    def redeem(self, answer):
        return self.token(
            grant_type="authorization_code", client_id=answer["client_id"], code=answer["code"], code_verifier=answer["verifier"],
            redirect_uri=answer["redirect_uri"], resource=self.resource,
        )

    def token(self, **form):
        return fetch(self.metadata()["token_endpoint"], urllib.parse.urlencode(form), "application/x-www-form-urlencoded")

    def logs_an_event(self, token):
        """The status of a call that needs the scope events:write."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "log_event", "arguments": {"event_name": "signed in"}}}
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25",
            "Authorization": f"Bearer {token}",
        }
        request = urllib.request.Request(self.resource, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                assert not json.load(response)["result"].get("isError")
                return response.status
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module", params=["cognito", "entra", "google"])
def servers(request, tmp_path_factory):
    own = Servers(request.param, tmp_path_factory.mktemp("servers"))
    try:
        yield own
    finally:
        own.close()


def private_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


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
