"""The password of the Postgres for development and tests."""

import base64
import hashlib
import hmac
import re

import postgres


def test_a_password_is_verified_with_one_iteration():
    form = r"SCRAM-SHA-256\$1:([\w+/=]+)\$([\w+/=]+):([\w+/=]+)"
    salt, stored, server = (base64.b64decode(own) for own in re.fullmatch(form, postgres.verifier("secret")).groups())

    # RFC 5802: the only iteration is a single HMAC.
    salted = hmac.digest(b"secret", salt + (1).to_bytes(4, "big"), "sha256")
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")
