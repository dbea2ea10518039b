"""Enterprise-managed authorization: the company's identity provider exchanges an ID token of its user for an assertion (ID-JAG), for which
the authorization server issues a token, without a page. `mcpl` is the client of both."""

import base64
import hashlib
import json
import os
import subprocess

import jwt
import psycopg
import pytest
from authorization_servers import Servers
from conftest import build
from oauth import PATIENCE_SECONDS
from test_machine_tokens import KEY, IdentityProvider, assertion

CLIENT, SECRET = "portal", "s3cret"


class Company(IdentityProvider):
    """An identity provider that publishes its key. `claims` are those of its assertions."""

    def __init__(self, **claims):
        super().__init__(client_id=CLIENT, sub="ada", **claims)
        key = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        self.more_metadata["jwks_uri"] = f"{self.origin}/jwks"
        self.answers["/jwks"] = lambda _: (200, {"keys": [{**key, "alg": "ES256", "use": "sig"}]})
        self.answers["/.well-known/openid-configuration"] = lambda _: (200, {**self.metadata(), **self.more_metadata})


@pytest.fixture(scope="module")
def company():
    with Company(**{"cognito:groups": ["writers"]}) as own:
        yield own


@pytest.fixture(scope="module")
def servers(company, tmp_path_factory):
    build()
    digest = base64.urlsafe_b64encode(hashlib.sha256(SECRET.encode()).digest()).decode().rstrip("=")
    client = {"id": CLIENT, "name": "Portal", "redirect_uris": ["https://portal.example/callback"], "secret_sha256": digest}
    trusted = {"AUTHORIZATION_ASSERTION_ISSUERS": company.origin, "AUTHORIZATION_CLIENTS": json.dumps([client])}
    with Servers("cognito", tmp_path_factory.mktemp("servers"), own_variables=trusted) as own:
        yield own


@pytest.fixture
def log_event(servers, mcpl, tmp_path):
    """Calls the tool with an ID token for `mcpl` at an identity provider."""

    def called(provider, name):
        id_token = tmp_path / "id-token"
        id_token.write_text(assertion("mcpl-at-the-provider"))
        options = ["--idp", provider.origin, "--idp-client-id", "mcpl-at-the-provider", "--assertion-file", id_token, "--client-id", CLIENT]
        command = [mcpl, "call", servers.resource, "log_event", f"event_name={name}", "--state-dir", tmp_path / "state", *options]
        return subprocess.run(
            [str(word) for word in command], env={**os.environ, "MCPL_CLIENT_SECRET": SECRET}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS,
        )

    return called


def test_a_person_is_signed_in_by_the_company(servers, company, log_event):
    ended = log_event(company, "managed")

    assert ended.returncode == 0 and "Event 'managed' logged" in ended.stdout, ended.stderr
    with psycopg.connect(f"{servers.database.url.rpartition('/')[0]}/events") as connection:
        stored = connection.execute("SELECT issuer, subject FROM events WHERE event_name = 'managed'").fetchall()
    # As after a sign-in of the same person at this provider.
    assert stored == [(servers.issuer, f"{company.origin}#ada")]


def test_the_groups_in_the_assertion_decide_about_scopes(company, log_event):
    company.claims["cognito:groups"] = ["readers"]
    try:
        ended = log_event(company, "not permitted")
    finally:
        company.claims["cognito:groups"] = ["writers"]

    assert ended.returncode == 1 and "invalid_scope" in ended.stderr, ended.stderr


def test_an_assertion_of_another_company_is_rejected(log_event):
    with Company(**{"cognito:groups": ["writers"]}) as other:
        ended = log_event(other, "foreign")

    assert ended.returncode == 1 and "invalid_grant" in ended.stderr, ended.stderr
    assert other.count("/token") == 1, "it has issued one"
