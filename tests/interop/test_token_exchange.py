"""Token exchange (RFC 8693) at a real OpenID provider: a function calls another one for its caller, with a token of the other's."""

import json
import subprocess
import urllib.error
import urllib.request

import boto3
import jwt
import pytest
from conftest import PROJECT, build
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from emulated import Emulated
from moto.server import ThreadedMotoServer
from oauth import PATIENCE_SECONDS, Issuer

SECRET = "a secret: of 100% characters+"
BASIC = {"client_id": "the first server", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "eu-west-1"}


@pytest.fixture(scope="module", autouse=True)
def built():
    build()
    features = ["--features", "https,token-exchange", "--example", "call_as_caller"]
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--package", "mcp-lambda", *features], cwd=PROJECT, check=True)


def server(issuer, **variables):
    return Emulated("examples/call_as_caller", "buffered", 1, OIDC_ISSUER=issuer.url, **variables)


def call(url, tool, token=None):
    """A tool's text."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    headers = {
        "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25", **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)["result"]["content"][0]["text"]


def status(url, tool, token):
    with pytest.raises(urllib.error.HTTPError) as raised:
        call(url, tool, token)
    return raised.value.code


def test_the_other_server_accepts_the_exchanged_token_and_not_the_callers():
    secret = {"OIDC_EXCHANGE_CLIENT_ID": BASIC["client_id"], "OIDC_EXCHANGE_CLIENT_SECRET": SECRET}
    with Issuer(exchange_client=json.dumps(BASIC)) as issuer, server(issuer) as second:
        with server(issuer, UPSTREAM_URL=second, **secret) as first:
            token = issuer.token(first, "notes:read")

            assert json.loads(call(first, "whoami", token)) == {"subject": "ada", "scopes": ["notes:read"]}
            for _ in range(2):
                there = json.loads(call(first, "whoami_upstream", token))
                assert there == {"subject": "ada", "scopes": ["identity:read"]}
            assert status(second, "whoami", token) == 401
            # Nor does the first accept a token of the second.
            assert status(first, "whoami_upstream", issuer.token(second, "notes:read")) == 401
            assert status(first, "whoami_upstream", None) == 401


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_client_with_a_key_in_secrets_manager_is_accepted(algorithm, monkeypatch):
    is_rsa = algorithm == "RS256"
    key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    kind = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
    public = {**kind.to_jwk(key.public_key(), as_dict=True), "kid": "k1", "alg": algorithm, "use": "sig"}
    client = {"client_id": "first", "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [public]}}
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        endpoint = "http://{}:{}".format(*moto.get_host_and_port())
        manager = boto3.client("secretsmanager", region_name="eu-west-1", endpoint_url=endpoint)
        arn = manager.create_secret(Name=f"exchange-{algorithm}", SecretString=pem)["ARN"]
        variables = {
            "OIDC_EXCHANGE_CLIENT_ID": "first", "OIDC_EXCHANGE_PRIVATE_KEY_ARN": arn, "OIDC_EXCHANGE_KEY_ID": "k1",
            "AWS_ENDPOINT_URL": endpoint, **CREDENTIALS,
        }
        with Issuer(exchange_client=json.dumps(client)) as issuer, server(issuer) as second:
            with server(issuer, UPSTREAM_URL=second, **variables) as first:
                there = json.loads(call(first, "whoami_upstream", issuer.token(first, "notes:read")))
    finally:
        moto.stop()

    assert there == {"subject": "ada", "scopes": ["identity:read"]}


@pytest.mark.parametrize(
    ("upstream", "secret", "expected"),
    [
        ("https://unknown.example/mcp", SECRET, "issues no token for the service"),
        ("http://127.0.0.1:9/mcp", "another secret", "The tool failed"),
    ],
    ids=["target", "client"],
)
def test_an_exchange_that_the_issuer_rejects_is_an_error_without_secrets(upstream, secret, expected, tmp_path):
    variables = {"OIDC_EXCHANGE_CLIENT_ID": BASIC["client_id"], "OIDC_EXCHANGE_CLIENT_SECRET": secret}
    log = tmp_path / "log"
    with Issuer(exchange_client=json.dumps(BASIC)) as issuer, log.open("w") as file:
        with server(issuer, UPSTREAM_URL=upstream, stderr=file, **variables) as first:
            token = issuer.token(first, "notes:read")
            text = call(first, "whoami_upstream", token)

    logged = log.read_text()
    assert expected in text and "whoami_upstream" in logged, text
    assert ("invalid_client" in logged) is (secret != SECRET), logged
    assert not any(hidden in text + logged for hidden in (token, SECRET, secret))
