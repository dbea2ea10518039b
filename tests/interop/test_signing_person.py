"""The person who signs in with Chromium, at pages of several providers and behind a page of consent."""

import http.server
import json
import subprocess
import threading
import urllib.parse

import pytest
from oauth import Issuer, fetch
from signing_person import Person
from upstream import CLIENT_ID, KINDS, Upstream

CALLBACK = "http://127.0.0.1:9/callback"
WORDS = {"en": ("Allow", "Deny"), "pt": ("Permitir", "Recusar"), "es": ("Aceptar", "Rechazar")}
PATIENCE_SECONDS = 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_signs_in_at_each_provider(kind, tmp_path, chromium):
    with Upstream(kind) as upstream:
        seen = Person("ada", tmp_path, chromium).opens(request_at(upstream))

    assert query(seen["callback"])["state"] == "s" and "code" in query(seen["callback"])
    assert len(seen["pages"]) == {"cognito": 1, "entra": 3, "google": 3}[kind]
    assert all((tmp_path / f"page-{number}.png").exists() for number in range(1, len(seen["pages"]) + 1))


def test_a_person_signs_in_at_the_issuer_of_development(tmp_path, chromium):
    with Issuer(sign_in=None) as issuer:
        registration = json.dumps({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", "application_type": "native"})
        client = fetch(f"{issuer.url}/reg", registration, "application/json")["client_id"]
        challenge = {"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}
        words = {"response_type": "code", "client_id": client, "redirect_uri": CALLBACK, "scope": "openid", "state": "s", **challenge}
        seen = Person("ada", tmp_path, chromium).opens(f"{issuer.url}/auth?{urllib.parse.urlencode(words)}")

    assert "code" in query(seen["callback"]) and seen["pages"][0]["title"] == "Sign in (development)"


def test_a_browser_with_cookies_is_still_signed_in(tmp_path, chromium):
    with Upstream("cognito") as upstream:
        with_cookies = Person("ada", tmp_path, chromium, cookies=tmp_path / "cookies.json")
        pages = [len(person.opens(request_at(upstream))["pages"]) for person in (with_cookies, with_cookies, Person("ada", tmp_path, chromium))]

    assert pages == [1, 0, 1]


@pytest.mark.parametrize("language", WORDS)
def test_a_person_consents_in_each_language_before_the_provider(language, tmp_path, chromium):
    with Upstream("cognito") as upstream, Consent(language, request_at(upstream)) as consent:
        seen = Person("ada", tmp_path, chromium, language).opens(consent.url)

    assert [page["buttons"] for page in seen["pages"]] == [list(WORDS[language]), ["Sign in", "Cancel"]]
    assert consent.language.startswith(language) and "code" in query(seen["callback"])


def test_a_person_who_denies_never_reaches_the_provider(tmp_path, chromium):
    with Upstream("cognito") as upstream, Consent("en", request_at(upstream)) as consent:
        seen = Person("ada", tmp_path, chromium, denies=True).opens(consent.url)

    assert query(seen["callback"])["error"] == "access_denied"
    assert [page["buttons"] for page in seen["pages"]] == [list(WORDS["en"]), []]


def test_a_page_without_a_known_button_is_a_failure(tmp_path, chromium):
    with Consent("en", CALLBACK, {"en": ("Perhaps", "Later")}) as consent:
        with pytest.raises(AssertionError, match="no button is named"):
            Person("ada", tmp_path, chromium).opens(consent.url)


def test_the_program_of_a_person_is_a_browser_for_clients(tmp_path, chromium):
    with Upstream("cognito") as upstream:
        person = Person("ada", tmp_path, chromium)
        # Some clients end their process group once they have the callback.
        client = ["sh", "-c", '"$0" --new-window "$1"; kill -9 0', str(person.program()), request_at(upstream)]
        subprocess.run(client, timeout=PATIENCE_SECONDS, start_new_session=True)

        assert "code" in query(person.waited()["callback"])


def request_at(upstream):
    words = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": CALLBACK, "scope": "openid", "state": "s"}
    return f"{upstream.metadata()['authorization_endpoint']}?{urllib.parse.urlencode(words)}"


def query(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


class Consent:
    """A page with two buttons; the first leads to the provider, the second to a page with a link to the callback."""

    def __init__(self, language, target, words=WORDS):
        consent, self.language = self, None
        yes, no = words[language]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                consent.language = self.headers["accept-language"]
                page = f'<html lang="{language}"><form method="post"><button name="answer" value="yes">{yes}</button>'
                self.answer(200, f'{page}<button name="answer" value="no">{no}</button></form></html>'.encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if body == b"answer=yes":
                    self.answer(303, b"", target)
                else:
                    link = f'<a href="{CALLBACK}?error=access_denied">Return to the application</a>'
                    self.answer(403, f'<html lang="{language}">{link}</html>'.encode())

            def answer(self, status, content, location=None):
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/authorize?{urllib.parse.urlencode({'redirect_uri': CALLBACK})}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
