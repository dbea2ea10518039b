"""A sign-in that the person lets fail: several `mcpl` for one server share the failure, as they share a token."""

import json
import re
import subprocess
import threading

from oauth import PATIENCE_SECONDS
from proxied import BROWSER, LEGACY_CLIENT, session
from test_signing_in import Site, own, refuse  # noqa: F401

INSTANCES = 5


class Instance:
    """`mcpl tools`, whose standard error is read as it comes."""

    def __init__(self, own, site):
        command = [own.program, "tools", site.url, "--state-dir", str(own.state), "--open", BROWSER]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.errors = ""

    def read_until(self, words):
        for line in self.process.stderr:
            self.errors += line
            if words in line:
                return
        raise AssertionError(f"it ended without `{words}`:\n{self.errors}")

    def ended(self):
        self.errors += self.process.stderr.read()
        return self.process.wait(timeout=PATIENCE_SECONDS)


def all_denied(own, site):
    """One instance opens a page, the others wait for it, then the page is answered."""
    opened, answered = threading.Event(), threading.Event()

    def authorize(request):
        opened.set()
        assert answered.wait(PATIENCE_SECONDS)
        return refuse(request)

    site.answers["/authorize"] = authorize
    instances = [Instance(own, site)]
    assert opened.wait(PATIENCE_SECONDS)
    instances += [Instance(own, site) for _ in range(INSTANCES - 1)]
    for waiting in instances[1:]:
        waiting.read_until("waiting for it")
    answered.set()
    return [(instance.ended(), instance.errors) for instance in instances]


def test_a_denied_sign_in_is_one_page_for_all_who_wait(own):
    with Site() as site:
        ended = all_denied(own, site)

        assert site.pages() == 1
        assert [code for code, _ in ended] == [1] * INSTANCES, ended
        assert all("access_denied: no" in errors and "after 30 s" in errors for _, errors in ended), ended


def test_a_new_page_opens_after_a_while_or_when_the_failure_is_forgotten(own):
    with Site({"/authorize": refuse}) as site:
        assert own.tools(site).returncode == 1
        del site.answers["/authorize"]
        soon = own.tools(site)
        assert soon.returncode == 1 and "access_denied" in soon.stderr and site.pages() == 1, soon.stderr

        # By a clock that was set back it would last too long.
        for at in (0, 1 << 40):
            (file,) = own.state.glob("*.json")
            kept = json.loads(file.read_text())
            kept["sign_in_failure"]["page_ended_at"] = at
            file.write_text(json.dumps(kept))
            pages = site.pages()
            own.signed_in(site)
            assert site.pages() == pages + 1 and json.loads(file.read_text())["sign_in_failure"] is None
            site.valid.clear()
            site.refresh_tokens.clear()
            site.answers["/authorize"] = refuse
            assert own.tools(site).returncode == 1
            del site.answers["/authorize"]

        subprocess.run([own.program, "forget", site.url, "--state-dir", own.state], check=True, capture_output=True)
        own.signed_in(site)


def test_the_failure_is_that_of_one_server(own):
    with Site({"/authorize": refuse}) as site, Site() as other:
        assert own.tools(site).returncode == 1
        own.signed_in(other)


def test_a_client_that_goes_on_asking_opens_no_further_page(own):
    with Site({"/authorize": refuse}) as site, session(own.program, site.url, own.state) as proxy:
        answers = []
        for method in ("initialize", "initialize", "tools/list"):
            proxy.send(method, LEGACY_CLIENT if method == "initialize" else {})
            answers.append(proxy.read())

        assert site.pages() == 1
        assert all("access_denied" in answer["error"]["message"] for answer in answers), answers


def test_what_the_failure_says_is_bounded(own):
    def authorize(request):
        status, body, (name, location) = refuse(request)
        return status, body, (name, location.replace("description=no", "description=" + "x" * 20_000))

    with Site({"/authorize": authorize}) as site:
        assert own.tools(site).returncode == 1
        (file,) = own.state.glob("*.json")

        assert re.search("x{400}", file.read_text()) and len(json.loads(file.read_text())["sign_in_failure"]["reason"]) < 1_000


def more(granted=None):
    """A server whose tools take the scope `more`, and an issuer that grants others."""

    def message(request):
        is_list = json.loads(request.body)["method"] == "tools/list" if request.method == "POST" else False
        if is_list and request.headers.get("authorization"):
            challenge = 'Bearer error="insufficient_scope", scope="more", error_description="tools need more"'
            return 403, {"error": "insufficient_scope"}, ("WWW-Authenticate", challenge)

    site = Site({"/mcp": message})
    if granted:
        site.answers["/token"] = lambda request: (200, {**site.token(request)[1], "scope": granted})
    return site


def test_a_scope_that_is_not_granted_opens_one_page_and_is_named(own):
    with more(granted="less") as site, session(own.program, site.url, own.state) as proxy:
        proxy.send("initialize", LEGACY_CLIENT)
        assert "result" in proxy.read()
        messages = []
        for _ in range(2):
            proxy.send("tools/list")
            messages.append(proxy.read()["error"]["message"])

        assert site.pages() == 2, "the sign-in, and one for the scope"
        for message in messages:
            assert message.startswith("mcpl: the server rejects the token (insufficient_scope: tools need more)"), message
            assert "requires the scope `more`, which the issuer did not grant" in message


def test_a_denied_scope_is_an_error_that_says_why(own):
    with more() as site, session(own.program, site.url, own.state) as proxy:
        proxy.send("initialize", LEGACY_CLIENT)
        assert "result" in proxy.read()
        site.answers["/authorize"] = refuse
        proxy.send("tools/list")
        message = proxy.read()["error"]["message"]

        assert message.startswith("mcpl: ") and "signing in failed: access_denied: no" in message, message


def test_an_error_of_oauth_is_one_of_json_rpc(own):
    body = {"jsonrpc": "2.0", "id": 1, "error": "forbidden", "error_description": "not from here"}
    with Site({"/mcp": lambda _: (403, body)}) as site, session(own.program, site.url, own.state) as proxy:
        proxy.send("initialize", LEGACY_CLIENT)
        answer = proxy.read()
        by_hand = own.tools(site)

    assert answer["error"] == {"code": 403, "message": "mcpl: the server answered 403 Forbidden: forbidden: not from here"}
    assert by_hand.returncode == 1 and "the server answered 403 Forbidden: forbidden: not from here" in by_hand.stderr


def test_the_page_and_the_error_show_a_page_in_place_of_a_token(own):
    page = (200, "<html>sign in at the gateway", ("Content-Type", "text/html"))
    with Site({"/token": lambda _: page}) as site:
        ended = own.tools(site)

    assert ended.returncode == 1
    assert re.search(r"has no token: http://127\.0\.0\.1:\d+/token answered HTTP 200 OK with ", ended.stderr), ended.stderr


def test_a_store_that_is_broken_is_kept_aside(own):
    with Site() as site:
        own.signed_in(site)
        (file,) = own.state.glob("*.json")
        file.write_text("")
        ended = own.tools(site)

        assert ended.returncode == 0 and f"the store of tokens at {file} is broken" in ended.stderr, ended.stderr
        assert file.with_suffix(".broken").read_text() == "" and site.pages() == 2
