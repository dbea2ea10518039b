"""The issuer of tokens that development and tests use."""

import base64
import json
import urllib.error
import urllib.parse

import pytest
from oauth import Issuer, fetch

RESOURCE = "http://127.0.0.1:9/mcp"


def test_an_issuer_keeps_what_it_has_granted_between_starts(tmp_path):
    data = tmp_path / "issuer.json"
    with Issuer(data=data, register_only=True, access_token_seconds=7) as issuer:
        tokens, port = issuer.tokens(RESOURCE, "events:read"), issuer.url.rpartition(":")[2]
    assert tokens["expires_in"] == 7

    with Issuer(data=data, register_only=True, port=port) as issuer:
        again = refreshed(issuer, tokens)
        assert key_of(again) == key_of(tokens)
        # A refresh token is used once: a second use ends the grant.
        for used in (tokens, again):
            with pytest.raises(urllib.error.HTTPError):
                refreshed(issuer, used)


def refreshed(issuer, tokens):
    client = part(tokens, 1)["client_id"]
    grant = {"grant_type": "refresh_token", "client_id": client, "refresh_token": tokens["refresh_token"], "resource": RESOURCE}
    return fetch(f"{issuer.url}/token", urllib.parse.urlencode(grant), "application/x-www-form-urlencoded")


def key_of(tokens):
    return part(tokens, 0)["kid"]


def part(tokens, number):
    text = tokens["access_token"].split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
