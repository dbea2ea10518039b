"""Tokens that are bound to a key of `mcpl` (DPoP, RFC 9449)."""

import base64
import hashlib
import json
import time

import jwt
import pytest
from proxied import BROWSER, LEGACY_CLIENT, Session, words
from test_keychain import keychain, run  # noqa: F401
from test_signing_in import AWAY, RESOURCE_METADATA, Site, own  # noqa: F401


def encoded(digest):
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def opened(request):
    """The claims of a proof, and the thumbprint of its key."""
    proof = request.headers["dpop"]
    header = jwt.get_unverified_header(proof)
    assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256") and set(header["jwk"]) == {"crv", "kty", "x", "y"}
    claims = jwt.decode(proof, jwt.PyJWK(header["jwk"]).key, algorithms=["ES256"])
    thumbprint = json.dumps(header["jwk"], sort_keys=True, separators=(",", ":")).encode()
    return claims, encoded(hashlib.sha256(thumbprint).digest())


class Bound(Site):
    """A server and an issuer that check proofs as RFC 9449 says. `nonce` is what the server wants, and `issuer_nonce` the issuer."""

    def __init__(self, answers=(), kind="DPoP", **options):
        super().__init__(answers, **options)
        self.kind, self.nonce, self.issuer_nonce = kind, None, None
        self.challenge = f'DPoP algs="ES256", resource_metadata="{self.origin}{RESOURCE_METADATA}/mcp"'
        self.keys, self.proofs, self.wrong, self.served = {}, [], [], []

    def proved(self, request, nonce, token=None):
        """The thumbprint of the key; a proof that wants another nonce has none."""
        claims, thumbprint = opened(request)
        target = f"{self.origin}{request.path}"
        expected = {"htm": request.method, "htu": target}
        if token:
            expected["ath"] = encoded(hashlib.sha256(token.encode()).digest())
        if abs(claims["iat"] - time.time()) > 60 or any(claims[name] != value for name, value in expected.items()):
            self.wrong.append((claims, expected))
        with self.lock:
            if claims["jti"] in self.proofs:
                self.wrong.append(("replay", claims))
            self.proofs.append(claims["jti"])
        return thumbprint if nonce is None or claims.get("nonce") == nonce else None

    def token(self, request):
        if self.kind != "DPoP":
            status, token = super().token(request)
            return status, {**token, "token_type": self.kind}
        thumbprint = self.proved(request, self.issuer_nonce)
        if thumbprint is None:
            return 400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", self.issuer_nonce)
        # RFC 9449, section 5: the refresh token of a public client is bound too.
        if request.form["grant_type"] == "refresh_token" and self.keys.get(request.form["refresh_token"]) != thumbprint:
            return 400, {"error": "invalid_grant"}
        status, token = super().token(request)
        self.keys |= {token["access_token"]: thumbprint, token["refresh_token"]: thumbprint} if status == 200 else {}
        return status, {**token, "token_type": "DPoP"}

    def message(self, request):
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "DPoP":
            thumbprint = self.proved(request, self.nonce, token)
            if thumbprint is None:
                return 401, {}, ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'), ("DPoP-Nonce", self.nonce)
            if self.keys.get(token) != thumbprint:
                return 401, {}, ("WWW-Authenticate", self.challenge)
            request.headers["authorization"] = f"Bearer {token}"
            request.is_bound = True
        elif self.kind == "DPoP":
            return 401, {}, ("WWW-Authenticate", self.challenge)
        answered = super().message(request)
        if answered[0] == 200:
            self.served.append(json.loads(request.body)["method"])
        return answered


def at_mcp(site):
    return [own for own in site.requests if own.path == "/mcp" and "authorization" in own.headers]


def proxied(own, site):  # noqa: F811
    proxy = Session(words(own.program, site.url, own.state))
    proxy.send("initialize", LEGACY_CLIENT)
    assert "result" in proxy.read()
    return proxy


def test_a_bound_token_goes_with_a_proof_of_each_request(own):  # noqa: F811
    with Bound() as site:
        own.signed_in(site)

        assert site.wrong == [] and len(set(site.proofs)) == len(site.proofs) == len(at_mcp(site)) + 1
        assert all(request.is_bound for request in at_mcp(site))


def test_a_bound_token_holds_for_other_processes_and_refreshes(own):  # noqa: F811
    with Bound() as site:
        own.signed_in(site)
        own.signed_in(site)
        assert (site.pages(), site.count("/token")) == (1, 1)
        own.expire(site)
        own.signed_in(site)
        own.signed_in(site)

        assert (site.pages(), site.count("/token")) == (1, 2)
        assert site.wrong == [] and len(set(site.keys.values())) == 1


def test_a_token_without_its_key_is_worth_nothing(own):  # noqa: F811
    with Bound() as site:
        own.signed_in(site)
        for key in (None, "AAAA"):
            own.edit(proof_key=key)
            pages = site.pages()
            ended = own.tools(site)
            assert ended.returncode == 0 and site.pages() == pages + 1, ended.stderr


def test_the_nonce_of_the_server_may_change_in_a_session(own):  # noqa: F811
    with Bound() as site:
        proxy = proxied(own, site)
        for site.nonce in ("one", "two", "two"):
            proxy.send("tools/list")
            assert "result" in proxy.read()
        assert proxy.close() == 0

        nonces = [opened(request)[0].get("nonce") for request in at_mcp(site) if "tools/list" in request.body]
        assert nonces == [None, "one", "one", "two", "two"]
        assert site.wrong == [] and site.pages() == 1 and site.served.count("tools/list") == 3


def test_a_server_that_wants_another_nonce_each_time_is_not_followed_for_ever(own):  # noqa: F811
    with Bound() as site:
        own.signed_in(site)
        numbers = iter(range(1000))

        def endless(request):
            if "authorization" in request.headers:
                return 401, {}, ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'), ("DPoP-Nonce", f"n{next(numbers)}")

        site.answers["/mcp"] = endless
        ended = own.tools(site)

        assert ended.returncode == 1 and next(numbers) < 40 and site.pages() <= 4, ended.stderr


def test_the_nonce_of_the_issuer_is_followed(own):  # noqa: F811
    with Bound() as site:
        site.issuer_nonce = "one"
        own.signed_in(site)
        own.expire(site)
        site.issuer_nonce = "two"
        own.signed_in(site)

        nonces = [opened(request)[0].get("nonce") for request in site.requests if request.path == "/token"]
        assert nonces == [None, "one", None, "two"] and site.pages() == 1 and site.wrong == []


def test_no_proof_is_sent_twice(own):  # noqa: F811
    """Neither with a request that is tried again, nor with one that is redirected."""
    failures = {"/token": [AWAY, AWAY], "/mcp": [AWAY]}
    with Bound() as site:
        def once(path):
            def answer(request):
                if "dpop" in request.headers and failures[path]:
                    site.proved(request, None, request.headers.get("authorization", "").removeprefix("DPoP "))
                    return failures[path].pop()

            return answer

        def moved(request):
            if "dpop" in request.headers:
                site.proved(request, None, request.headers["authorization"].removeprefix("DPoP "))
                return 307, "", ("Location", "/mcp")

        site.answers = {path: once(path) for path in failures}
        own.signed_in(site)
        assert failures == {"/token": [], "/mcp": []}
        site.url = f"{site.origin}/moved"
        site.answers = {"/moved": moved}
        site.challenge = site.challenge.replace("/mcp", "/moved")
        site.answers[f"{RESOURCE_METADATA}/moved"] = lambda _: (200, {"resource": site.url, "authorization_servers": [site.origin]})
        site.answers["/moved"] = lambda request: moved(request) or (401, {}, ("WWW-Authenticate", site.challenge))
        own.signed_in(site)

        assert site.wrong == [] and site.count("/moved") > 1, site.wrong


@pytest.mark.parametrize("kind", ["Bearer", "bearer"])
def test_a_token_that_is_not_bound_is_sent_as_such(own, kind):  # noqa: F811
    with Bound(kind=kind) as site:
        own.signed_in(site)

        assert all(request.headers["authorization"] == "Bearer t0" and "dpop" not in request.headers for request in at_mcp(site))
        (token,) = [request for request in site.requests if request.path == "/token"]
        assert opened(token)[0]["htm"] == "POST"


@pytest.mark.parametrize("algorithms, is_bound", [(None, True), (["PS256", "ES256"], True), (["PS256"], False), ([], False)])
def test_an_issuer_lists_the_algorithms_that_it_takes(own, algorithms, is_bound):  # noqa: F811
    listed = {} if algorithms is None else {"dpop_signing_alg_values_supported": algorithms}
    with Bound(kind="DPoP" if is_bound else "Bearer", more_metadata=listed) as site:
        own.signed_in(site)

        (token,) = [request for request in site.requests if request.path == "/token"]
        assert ("dpop" in token.headers) == is_bound


def test_metadata_may_require_bound_tokens(own):  # noqa: F811
    with Bound() as site:
        metadata = {"resource": site.url, "authorization_servers": [site.origin], "dpop_bound_access_tokens_required": True}
        site.answers[f"{RESOURCE_METADATA}/mcp"] = lambda _: (200, metadata)
        site.challenge = site.challenge.replace('DPoP algs="ES256",', "Bearer")
        own.signed_in(site)

        assert site.wrong == [] and at_mcp(site)[0].is_bound


def test_the_client_s_own_token_may_be_bound(own):  # noqa: F811
    with Bound() as site:
        own.signed_in(site, "--client-credentials", "--client-id", "c", "--client-secret", "s")

        assert site.wrong == [] and site.pages() == 0 and len(site.proofs) == len(at_mcp(site)) + 1


def test_the_key_is_sealed_with_the_tokens(run, tmp_path):  # noqa: F811
    with Bound() as site, keychain(tmp_path) as bus:
        first = run("tools", site.url, "--open", BROWSER, bus=bus)
        second = run("tools", site.url, "--open", "false", bus=bus)
        [file] = (tmp_path / ".local/state/mcpl").glob("*.json")

        assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
        assert '"sealed"' in file.read_text() and "proof_key" not in file.read_text()
        assert (site.pages(), site.wrong) == (1, [])
