"""The quirks of the upstream providers that `upstream.mjs` imitates: facts that the authorization server has to cope with."""

import base64
import html.parser
import http.cookiejar
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
from oauth import PATIENCE_SECONDS, fetch
from upstream import CLIENT_ID, CLIENT_SECRET, KINDS, Upstream

CALLBACK = "http://127.0.0.1:9/callback"
SCOPE = "openid email profile"
GROUPS = {"ada": {"groups": ["writers", "readers"], "roles": ["admin"]}}


@pytest.fixture(scope="module", params=KINDS)
def upstream(request):
    with Upstream(request.param, GROUPS) as running:
        yield running


def test_the_metadata_is_at_the_issuer_alone_and_none_of_rfc_8414(upstream):
    metadata = upstream.metadata()

    assert metadata["issuer"] == upstream.url
    assert ("code_challenge_methods_supported" in metadata) == (upstream.kind == "google")
    path = upstream.url.removeprefix(upstream.origin)
    for missing in [f"{upstream.origin}/.well-known/oauth-authorization-server{path}", f"{upstream.url}/.well-known/oauth-authorization-server"]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(missing)
        assert refused.value.code == 404
    for feature in ["registration_endpoint", "client_id_metadata_document_supported", "authorization_response_iss_parameter_supported"]:
        assert feature not in metadata
    keys = fetch(metadata["jwks_uri"])["keys"]
    assert ["alg" in key for key in keys] == [upstream.kind != "entra"]


def test_an_id_token_names_the_client_and_the_person(upstream):
    claims = part(tokens(upstream, nonce="n-1")["id_token"])

    assert (claims["iss"], claims["aud"], claims["nonce"]) == (upstream.url, CLIENT_ID, "n-1")
    expected = {
        "cognito": {"token_use": "id", "cognito:username": "ada", "cognito:groups": ["writers", "readers"], "email": "ada@example.com"},
        "entra": {"ver": "2.0", "groups": ["writers", "readers"], "roles": ["admin"], "preferred_username": "ada@example.com"},
        "google": {"azp": CLIENT_ID, "hd": "example.com", "email": "ada@example.com", "email_verified": True},
    }[upstream.kind]
    assert expected.items() <= claims.items(), claims
    assert ("tid" in claims) == (upstream.kind == "entra")
    if upstream.kind == "google":
        assert not {"groups", "roles"} & set(claims)


def test_an_access_token_is_in_the_shape_of_the_provider(upstream):
    token = tokens(upstream)["access_token"]
    if upstream.kind == "google":
        assert token.count(".") != 2, "it is opaque"
        return

    header, claims = part(token, 0), part(token)

    if upstream.kind == "cognito":
        assert "aud" not in claims and (claims["token_use"], claims["client_id"]) == ("access", CLIENT_ID)
        assert set(claims["scope"].split()) == set(SCOPE.split()) and "typ" not in header
    else:
        assert (claims["aud"], claims["azp"]) == (CLIENT_ID, CLIENT_ID)
        assert set(claims["scp"].split()) == set(SCOPE.split()) and "scope" not in claims and header["typ"] == "JWT"


def test_offline_access_is_a_scope_of_entra_alone(upstream):
    if upstream.kind == "entra":
        assert "refresh_token" not in tokens(upstream)
        assert "refresh_token" in tokens(upstream, scope=f"{SCOPE} offline_access")
        return

    answer = authorize(upstream, scope=f"{SCOPE} offline_access")

    assert answer["error"] == "invalid_scope"
    # Cognito always issues a refresh token, Google for a parameter of its own.
    assert ("refresh_token" in tokens(upstream)) == (upstream.kind == "cognito")
    assert "refresh_token" in tokens(upstream, access_type="offline", prompt="consent")


def test_a_refresh_asks_whether_the_person_still_may(upstream):
    offline = {"scope": f"{SCOPE} offline_access"} if upstream.kind == "entra" else {"access_type": "offline", "prompt": "consent"}
    refresh_token = tokens(upstream, **offline)["refresh_token"]
    again = token_request(upstream, grant_type="refresh_token", refresh_token=refresh_token)
    assert ("refresh_token" in again and again["refresh_token"] != refresh_token) == (upstream.kind == "entra")
    refresh_token = again.get("refresh_token", refresh_token)

    upstream.fail(503)
    with pytest.raises(urllib.error.HTTPError) as failed:
        token_request(upstream, grant_type="refresh_token", refresh_token=refresh_token)
    upstream.fail(None)
    upstream.block("ada")
    with pytest.raises(urllib.error.HTTPError) as blocked:
        token_request(upstream, grant_type="refresh_token", refresh_token=refresh_token)
    upstream.block()

    assert (failed.value.code, blocked.value.code) == (503, 400)
    assert json.load(blocked.value)["error"] == "invalid_grant"


def test_the_client_is_confidential(upstream):
    code = authorize(upstream)["code"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        token_request(upstream, "wrong", grant_type="authorization_code", code=code, redirect_uri=CALLBACK)
    assert refused.value.code == 401


def test_a_person_can_cancel(upstream):
    assert authorize(upstream, press="cancel")["error"] == "access_denied"


def test_entra_replaces_more_than_200_groups_by_a_reference():
    with Upstream("entra", {"ada": {"groups": [f"g{number}" for number in range(201)]}}) as upstream:
        claims = part(tokens(upstream)["id_token"])

    assert "groups" not in claims and claims["_claim_names"] == {"groups": "src1"}


def test_a_google_account_outside_a_workspace_has_no_hosted_domain():
    with Upstream("google") as upstream:
        claims = part(tokens(upstream, name="eve@gmail.test")["id_token"])

    assert "hd" not in claims and claims["email"] == "eve@gmail.test"


def tokens(upstream, **parameters):
    code = authorize(upstream, **parameters)["code"]
    return token_request(upstream, grant_type="authorization_code", code=code, redirect_uri=CALLBACK)


def token_request(upstream, secret=CLIENT_SECRET, **parameters):
    basic = base64.b64encode(f"{CLIENT_ID}:{secret}".encode()).decode()
    request = urllib.request.Request(
        upstream.metadata()["token_endpoint"], urllib.parse.urlencode(parameters).encode(), {"Authorization": f"Basic {basic}"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def authorize(upstream, name="ada", press=None, scope=SCOPE, **parameters):
    """Signs a person in, page by page; with `press`, on the button of that name. Returns the query of the redirect."""
    query = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": CALLBACK, "scope": scope, "state": "s", **parameters}
    url = f"{upstream.metadata()['authorization_endpoint']}?{urllib.parse.urlencode(query)}"
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), Unfollowed(),
    )
    body = None
    for _ in range(20):
        with browser.open(url, body, timeout=PATIENCE_SECONDS) as answer:
            location, page = answer.headers["location"], answer.read().decode()
        if location:
            url, body = urllib.parse.urljoin(url, location), None
            if url.startswith(CALLBACK):
                return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
            continue
        fields = Fields(page)
        values = {"username": name, "password": "secret"}
        form = {field: value or values[field] for field, value in fields.first.items()}
        body = urllib.parse.urlencode({press: "1"} if press else form).encode()
    raise AssertionError(f"it does not end, at last at {url}")


class Unfollowed(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, request, response, *_):
        return response

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class Fields(html.parser.HTMLParser):
    """The fields of a page's first form."""

    def __init__(self, page):
        super().__init__()
        self.first, self.forms = {}, 0
        self.feed(page)
        assert self.forms, page

    def handle_starttag(self, tag, attributes):
        self.forms += tag == "form"
        own = dict(attributes)
        if tag == "input" and self.forms == 1:
            self.first[own["name"]] = own.get("value")


def part(token, number=1):
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
