"""Passwords and versions of the Postgres for development and tests."""

import base64
import hashlib
import hmac
import re

import postgres
import pytest


def test_a_password_is_verified_with_one_iteration():
    form = r"SCRAM-SHA-256\$1:([\w+/=]+)\$([\w+/=]+):([\w+/=]+)"
    salt, stored, server = (base64.b64decode(own) for own in re.fullmatch(form, postgres.verifier("secret")).groups())

    # RFC 5802: the only iteration is a single HMAC.
    salted = hmac.digest(b"secret", salt + (1).to_bytes(4, "big"), "sha256")
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")


def test_versions_are_those_of_packages_and_wheel(monkeypatch):
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    monkeypatch.setenv("POSTGRES_VERSION", "13")

    with pytest.raises(SystemExit, match=r"POSTGRES_VERSION is 13: choose from 14, 15, 16, 17, 18"):
        postgres.binaries()


def test_data_of_another_version_is_kept_and_its_binaries_are_asked_for(tmp_path):
    data = tmp_path / "postgres"
    data.mkdir()
    (data / "superuser-password").write_text("secret")
    (data / "PG_VERSION").write_text("9\n")

    with pytest.raises(SystemExit, match=r"has the data of Postgres 9, and .* has Postgres \d\d\. .* POSTGRES_VERSION=9"):
        postgres.Postgres(data)

    assert (data / "PG_VERSION").exists()
