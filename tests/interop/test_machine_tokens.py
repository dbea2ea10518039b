"""Tokens without a person: for an assertion of a workload, and for one of a company's identity provider."""

import base64
import json
import os
import secrets
import subprocess
import sys
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from oauth import PATIENCE_SECONDS
from proxied import LEGACY_CLIENT, Session
from test_signing_in import Mcpl, Site, own  # noqa: F401

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
KEY = ec.generate_private_key(ec.SECP256R1())


def assertion(audience, lifetime=300, kind="JWT", **claims):
    claims = {"iss": "https://workloads.example", "sub": "job", "aud": audience, "exp": int(time.time()) + lifetime, **claims}
    return jwt.encode(claims, KEY, algorithm="ES256", headers={"typ": kind})


def forms(site):
    return [request.form for request in site.requests if request.path == "/token"]


@pytest.fixture
def workload(own, tmp_path):  # noqa: F811
    """Runs with an assertion in a file."""

    class Workload(Mcpl):
        file = tmp_path / "assertion"

        def __init__(self):
            super().__init__(own.program, own.state)

        def tools(self, site, *options, **run):
            return super().tools(site, "--assertion-file", self.file, *options, **run)

    return Workload()


def test_an_assertion_is_traded_for_a_token(workload):
    with Site() as site:
        text = assertion(site.origin)
        workload.file.write_text(f"{text}\n")
        workload.signed_in(site)
        workload.signed_in(site)

        expected = {"grant_type": JWT_BEARER, "assertion": text, "resource": site.url}
        assert forms(site) == [expected], "once, without a client"
        assert (site.pages(), site.count("/register")) == (0, 0)


def test_an_assertion_may_be_in_a_variable_or_printed(own):  # noqa: F811
    with Site() as site:
        text = assertion([site.origin, "https://other.example"])
        ended = own.tools(site, "--assertion-env", "JOB", "--scope", "a", env={**os.environ, "JOB": text})
        assert ended.returncode == 0, ended.stderr
        command = f"{sys.executable} -c 'print(\"{text}\")'"
        own.signed_in(site, "--assertion-command", command)

        assert [(form["assertion"], form.get("scope")) for form in forms(site)] == [(text, "a"), (text, None)]


def test_the_client_authenticates_beside_the_assertion(workload):
    with Site() as site:
        workload.file.write_text(assertion(f"{site.origin}/token"))
        variables = {**os.environ, "MCPL_CLIENT_SECRET": "s"}
        assert workload.tools(site, "--client-id", "c", env=variables).returncode == 0
        (request,) = [request for request in site.requests if request.path == "/token"]

    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"c:s").decode()
    assert "client_id" not in request.form and "client_secret" not in request.form


@pytest.mark.parametrize(
    "text, expected",
    [
        (None, "could not read"),
        ("", "no JWT"),
        ("opaque", "no JWT"),
        ("x" * 70_000, "more than 65536 bytes"),
        (assertion("https://other.example"), "https://other.example, not for the server's issuer"),
        (assertion([]), "no audience, not for the server's issuer"),
    ],
    ids=["missing", "empty", "opaque", "large", "other", "none"],
)
def test_an_assertion_for_another_issuer_is_not_sent(workload, text, expected):
    """A server names its issuer, and could name one that collects assertions."""
    with Site() as site:
        if text is not None:
            workload.file.write_text(text)
        ended = workload.tools(site)

        assert ended.returncode == 1 and expected in ended.stderr and site.count("/token") == 0, ended.stderr
        assert str(workload.file) in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_a_rejected_assertion_is_an_error_and_tried_once(workload):
    with Site({"/token": lambda _: (400, {"error": "invalid_grant", "error_description": "no"})}) as site:
        workload.file.write_text(assertion(site.origin))
        ended = workload.tools(site)
        assert ended.returncode == 1 and f"the issuer {site.origin} gave no token: invalid_grant: no" in ended.stderr, ended.stderr
        assert "expired" not in ended.stderr and (site.count("/token"), site.pages()) == (1, 0)

        workload.file.write_text(assertion(site.origin, lifetime=-60))
        ended = workload.tools(site)
        assert "has expired: put a new one there" in ended.stderr and str(workload.file) in ended.stderr, ended.stderr


def test_an_assertion_that_expired_is_read_anew(workload):
    """By the same process, as when a platform rotates the file."""
    with Site() as site:
        first, second = assertion(site.origin, number=1), assertion(site.origin, number=2)
        workload.file.write_text(first)
        command = [workload.program, "proxy", "s", site.url, "--state-dir", str(workload.state)]
        proxy = Session([*command, "--assertion-file", str(workload.file)])
        proxy.send("initialize", LEGACY_CLIENT)
        assert "result" in proxy.read()
        workload.file.write_text(second)
        site.valid.clear()
        site.refresh_tokens.clear()
        # The issuer of an assertion need not give a refresh token.
        workload.edit(token_response={"access_token": "void", "token_type": "Bearer"})
        proxy.send("tools/list")
        assert "result" in proxy.read()
        assert proxy.close() == 0

        assert [form["assertion"] for form in forms(site)] == [first, second]


def test_the_token_of_an_assertion_is_not_that_of_a_sign_in(own, workload):  # noqa: F811
    with Site() as site:
        own.signed_in(site)
        workload.file.write_text(assertion(site.origin))
        workload.signed_in(site)
        assert [form["grant_type"] for form in forms(site)] == ["authorization_code", JWT_BEARER]
        own.signed_in(site)
        assert site.pages() == 2


class IdentityProvider(Site):
    """Trades ID tokens for assertions; `change` are members of its answer, and `claims` and `kind` of the assertion."""

    def __init__(self, kind="oauth-id-jag+jwt", change=(), **claims):
        super().__init__({"/token": self.exchange})
        self.kind, self.change, self.claims = kind, dict(change), claims

    def exchange(self, request):
        own = {"iss": self.origin, "iat": int(time.time()), "jti": secrets.token_hex()}
        claims = {**own, "resource": request.form["resource"], "client_id": "mine", **self.claims}
        text = assertion(claims.pop("aud", request.form["audience"]), kind=self.kind, **claims)
        return 200, {"access_token": text, "issued_token_type": ID_JAG, "token_type": "N_A", "expires_in": 300, **self.change}


def managed(workload, site, provider, *options, **variables):
    workload.file.write_text(assertion("mcpl-at-the-provider"))
    options = ["--idp", provider.origin, "--idp-client-id", "mcpl-at-the-provider", "--client-id", "mine", *options]
    return workload.tools(site, *options, env={**os.environ, "MCPL_CLIENT_SECRET": "s", **variables})


def test_an_identity_provider_decides_for_its_users(workload):
    with Site() as site, IdentityProvider() as provider:
        ended = managed(workload, site, provider, "--scope", "notes:read")
        assert ended.returncode == 0, ended.stderr
        (exchange,), (grant,) = forms(provider), forms(site)

        assert exchange == {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": ID_JAG,
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_token": workload.file.read_text(),
            "audience": site.origin, "resource": site.url, "scope": "notes:read", "client_id": "mcpl-at-the-provider",
        }
        claims = jwt.decode(grant["assertion"], options={"verify_signature": False})
        assert (grant["grant_type"], claims["iss"], claims["aud"]) == (JWT_BEARER, provider.origin, site.origin)
        assert site.pages() == provider.pages() == 0


def test_the_client_has_a_secret_at_each_issuer(workload, tmp_path):
    (tmp_path / "secret").write_text("of a file\n")
    with Site() as site, IdentityProvider() as provider:
        assert managed(workload, site, provider, MCPL_IDP_CLIENT_SECRET="p").returncode == 0
        workload.edit(identity="another")
        assert managed(workload, site, provider, "--idp-client-secret-file", str(tmp_path / "secret")).returncode == 0
        shown = [own.headers["authorization"] for at in (provider, site) for own in at.requests if own.path == "/token"]

    secrets = [base64.b64decode(own.removeprefix("Basic ")).decode() for own in shown]
    assert secrets == ["mcpl-at-the-provider:p", "mcpl-at-the-provider:of+a+file", "mine:s", "mine:s"]


@pytest.mark.parametrize(
    "provider, expected",
    [
        (dict(aud="https://evil.example"), "https://evil.example, not for the server's issuer"),
        (dict(kind="JWT"), "of the type `JWT`, not oauth-id-jag+jwt"),
        (dict(client_id="other"), "check `--client-id`"),
        (dict(change={"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}), "token-type:access_token"),
        (dict(change={"access_token": "opaque"}), "no JWT"),
        (dict(change={"error": "access_denied", "error_description": "not for you"}), "access_denied: not for you"),
    ],
    ids=["audience", "type", "client", "issued", "opaque", "denied"],
)
def test_what_an_identity_provider_gives_is_checked(workload, provider, expected):
    with Site() as site, IdentityProvider(**provider) as provider:
        ended = managed(workload, site, provider)

        assert ended.returncode == 1 and expected in ended.stderr and site.count("/token") == 0, ended.stderr
        assert f"the identity provider {provider.origin} gave no assertion" in ended.stderr, ended.stderr


def test_an_identity_provider_that_is_none_is_named(workload):
    with Site() as site, Site() as provider:
        for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
            provider.answers[path] = lambda _: (404, "")
        ended = managed(workload, site, provider)

        assert ended.returncode == 1 and "check `--idp`" in ended.stderr and provider.count("/token") == 0, ended.stderr


def test_an_entry_keeps_where_the_assertion_is(own, tmp_path):  # noqa: F811
    kept = ["--assertion-file", str(tmp_path / "token"), "--idp", "https://idp.example", "--idp-client-id", "i"]
    kept += ["--idp-client-secret-file", str(tmp_path / "secret")]
    command = [own.program, "install", "s", "https://mcp.example.com/mcp", "--claude", *kept]
    (tmp_path / "secret").write_text("s")
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    subprocess.run(command, env=home, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS)
    (file,) = tmp_path.rglob("claude_desktop_config.json")
    arguments = json.loads(file.read_text())["mcpServers"]["s"]["args"]

    pairs = [*zip(arguments, arguments[1:])]
    assert all(pair in pairs for pair in zip(kept[::2], kept[1::2])), arguments
