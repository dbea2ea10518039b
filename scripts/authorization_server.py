"""Variables of the function `authorization-server` on this machine, for `make dev AUTH=…` and tests."""

import base64
import json
import os
import subprocess

import tools

# Prints a private key in PEM, PKCS #8. Python's standard library generates none.
NEW_KEY = """
const encoded = (type) => ({ type, format: 'pem' });
const pair = { modulusLength: 2048, privateKeyEncoding: encoded('pkcs8'), publicKeyEncoding: encoded('spki') };
console.log(require('node:crypto').generateKeyPairSync('rsa', pair).privateKey);
"""


def variables(upstream, provider, client_id, client_secret, resources):
    """`upstream` is the issuer of the identity provider, `provider` its kind, such as `cognito` or `other`. `resources` are the MCP servers
    (docs/authorization-server.md). The state key and the signing key are new ones."""
    return {
        "MCP_STATE_KEY": base64.b64encode(os.urandom(32)).decode(),
        "AUTHORIZATION_UPSTREAM_ISSUER": upstream,
        "AUTHORIZATION_UPSTREAM_PROVIDER": provider,
        "AUTHORIZATION_UPSTREAM_CLIENT_ID": client_id,
        "AUTHORIZATION_UPSTREAM_CLIENT_SECRET": client_secret,
        "AUTHORIZATION_SIGNING_KEYS": json.dumps({"keys": [{"private_key": private_key(), "signs_from": 0}]}),
        "AUTHORIZATION_RESOURCES": json.dumps(resources),
    }


def private_key():
    return subprocess.run([tools.node(), "--eval", NEW_KEY], capture_output=True, text=True, check=True).stdout
