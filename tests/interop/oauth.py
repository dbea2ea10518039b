"""An issuer of tokens, and the users who sign in there."""

import base64
import contextlib
import hashlib
import html.parser
import http.client
import http.cookiejar
import http.server
import json
import secrets
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import issuer
from issuer import PATIENCE_SECONDS

# No process listens there: a browser that gets this far is done.
REDIRECT_URI = "http://127.0.0.1:9/callback"
RENAMED = "x-amzn-remapped-www-authenticate"
BROWSER = """#!{python}
import sys, urllib.parse, urllib.request
sys.path[:0] = {path}
import oauth
url = sys.argv[-1]
answer = urllib.parse.urlencode(oauth.follow(url, "{name}"))
redirect_uri = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["redirect_uri"][0]
urllib.request.urlopen(redirect_uri + "?" + answer).close()
"""


class Issuer(issuer.Issuer):
    """An issuer that makes tokens at once, for any subject."""

    def __init__(self, sign_in="ada", **options):
        super().__init__(sign_in, **options)

    def tokens(self, resource, *scopes, name=None):
        return sign_in(self.url, resource, *scopes, name=name)

    def token(self, resource, *scopes):
        return self.tokens(resource, *scopes)["access_token"]


def sign_in(issuer_url, resource, *scopes, name=None):
    """What a new client gets that asks for these scopes: the token endpoint's answer. `name` is for the page."""
    metadata = fetch(f"{issuer_url}/.well-known/openid-configuration")
    registration = {
        "redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    }
    client_id = fetch(metadata["registration_endpoint"], json.dumps(registration), "application/json")["client_id"]
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    authorization = {
        "response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT_URI, "scope": " ".join(scopes),
        "resource": resource, "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    answer = follow(f"{metadata['authorization_endpoint']}?{urllib.parse.urlencode(authorization)}", name)
    assert "code" in answer, answer
    grant = {
        "grant_type": "authorization_code", "client_id": client_id, "redirect_uri": REDIRECT_URI,
        "code": answer["code"], "code_verifier": verifier, "resource": resource,
    }
    return fetch(metadata["token_endpoint"], urllib.parse.urlencode(grant), "application/x-www-form-urlencoded")


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, request, response, *_):
        return response

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener(*handlers):
    # Everything is on this machine: ignore its proxy settings.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


def fetch(url, body=None, content_type=None):
    """The JSON at a URL."""
    headers = {"Content-Type": content_type} if content_type else {}
    request = urllib.request.Request(url, body and body.encode(), headers)
    with _opener().open(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def follow(url, name=None):
    """Acts as the browser: from an authorization request to the redirect URI that it names. Returns the query there.
    With a name, a user fills in the pages: the name where one is asked for, and then the first button."""
    redirect_uri = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["redirect_uri"][0]
    # A browser sends cookies with the attribute `Secure` to loopback without TLS.
    cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https")))
    browser = _opener(urllib.request.HTTPCookieProcessor(cookies), _Unfollowed())
    form = None
    for _ in range(10):
        with browser.open(url, form, timeout=PATIENCE_SECONDS) as answer:
            location, page = answer.headers["location"], answer.read().decode()
        if location:
            url, form = urllib.parse.urljoin(url, location), None
        else:
            assert name and form is None, f"a page instead of a redirect at {url}:\n{page}"
            own = Form(page)
            url, form = urllib.parse.urljoin(url, own.action), urllib.parse.urlencode(own.filled(name)).encode()
        if url.startswith(redirect_uri):
            return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    raise AssertionError(f"it redirects for ever, at last to {url}")


class Form(html.parser.HTMLParser):
    """The form of a page."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.button = "", {}, {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        if tag == "form":
            self.action = own.get("action", "")
        elif tag == "input":
            self.fields[own["name"]] = own.get("value", "")
        elif tag == "button" and "name" in own and not self.button:
            self.button = {own["name"]: own["value"]}

    def filled(self, name):
        return {**self.fields, **({"name": name} if "name" in self.fields else {}), **self.button}


def browser(path, name):
    """Writes an executable for BROWSER: a user signs in by this name, and allows what is asked for. Returns its path."""
    path.write_text(BROWSER.format(python=sys.executable, path=[str(own) for own in sys.path], name=name))
    path.chmod(0o755)
    return path


def challenge_of(words):
    """The parameters of a challenge as written in a header, which must be of one scheme, `Bearer`."""
    scheme, _, parameters = words.partition(" ")
    assert scheme == "Bearer", words
    return urllib.request.parse_keqv_list(urllib.request.parse_http_list(parameters))


@contextlib.contextmanager
def restoring_front():
    """A CDN in front of a Function URL that gives the challenge its own name back, as an origin-response function at
    the edge can. Yields it with `origin`, its public name; set `target` before it is used."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            own = {"connection", "content-length", "host"}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
            upstream = http.client.HTTPConnection(urllib.parse.urlsplit(front.target).netloc, timeout=PATIENCE_SECONDS)
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            content = response.read()
            upstream.close()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                    self.send_header("WWW-Authenticate" if name.lower() == RENAMED else name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_OPTIONS = forward

        def log_message(self, *_):
            pass

    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.origin = f"http://127.0.0.1:{front.server_port}"
    front.target = None
    threading.Thread(target=front.serve_forever, daemon=True).start()
    try:
        yield front
    finally:
        front.shutdown()
        front.server_close()
