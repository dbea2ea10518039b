"""`mcpl login`, `mcpl logins` and `mcpl forget` (`logout`), at a server whose issuer is on the same origin."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.parse

import pytest
from oauth import PATIENCE_SECONDS
from proxied import BROWSER, LEGACY_CLIENT, Session, words
from test_signing_in import Site, own, refuse  # noqa: F401


def run(own, *words):
    words = [own.program, *words, "--state-dir", own.state]
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS
    )


def login(own, site, *options):
    return run(own, "login", site.url, "--open", BROWSER, *options)


def logins(own):
    return json.loads(run(own, "logins", "--json").stdout)


def open_site(**options):
    """A server that requires a token for the list of tools, and none before."""

    def message(request):
        is_early = request.method == "POST" and json.loads(request.body)["method"] != "tools/list"
        if is_early and "authorization" not in request.headers:
            site.valid.add("")
            usual = site.message(request)
            site.valid.discard("")
            return usual

    site = Site({"/mcp": message}, **options)
    return site


def anonymous_site(**options):
    """A server that answers lists without a token, and requires one for calls."""

    def message(request):
        sent = json.loads(request.body) if request.method == "POST" else {}
        if sent.get("method") != "tools/call":
            site.issuer.valid.add("")
            usual = site.message(request)
            site.issuer.valid.discard("")
            return usual
        status, *usual = site.message(request)
        if status == 401:
            return status, *usual
        return 200, {"jsonrpc": "2.0", "id": sent["id"], "result": {"content": [{"type": "text", "text": "done"}]}}

    site = Site({"/mcp": message}, **options)
    return site


def revoking(status=200, body=""):
    site = Site({"/revoke": lambda _: (status, body)})
    site.more_metadata["revocation_endpoint"] = f"{site.origin}/revoke"
    return site


@pytest.mark.parametrize("make", [Site, open_site], ids=["401-at-once", "401-later"])
def test_login_signs_in_before_a_request_requires_it(own, make):
    with make() as site:
        signed_in, again = login(own, site), login(own, site)
        tools = own.tools(site, "--no-browser")

        assert signed_in.returncode == 0, signed_in.stderr
        expected = f"{site.url}: signed in, issuer {site.origin}, client client-0, the token expires in 59 min and is refreshed\n"
        assert signed_in.stdout.replace("60 min", "59 min") == expected
        assert again.returncode == 0 and again.stdout.startswith(f"{site.url}: signed in"), again.stderr
        assert tools.returncode == 0 and site.pages() == 1, tools.stderr


def test_login_requests_scopes_that_the_kept_token_lacks(own):
    with open_site() as site:
        site.answers["/token"] = lambda request: (200, {**site.token(request)[1], "scope": site.requests[-2].query["scope"]})
        first = login(own, site, "--scope", "a")
        more = login(own, site, "--scope", "b", "--json")
        same = login(own, site, "--scope", "a", "--scope", "b")

    assert (first.returncode, more.returncode, same.returncode) == (0, 0, 0), more.stderr
    assert json.loads(more.stdout)["scopes"] == ["a", "b"] and site.pages() == 2


def test_login_refreshes_or_replaces_a_token_that_has_expired(own):
    with open_site() as site:
        assert login(own, site).returncode == 0
        own.expire(site)
        assert login(own, site).returncode == 0 and site.pages() == 1
        own.expire(site)
        site.refresh_tokens.clear()
        assert login(own, site).returncode == 0 and site.pages() == 2


def test_login_that_fails_ends_with_1(own):
    with Site({"/authorize": refuse}) as site:
        denied = login(own, site, "--json")
    with open_site() as site:
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"):
            site.answers[path] = lambda _: (404, "")
        without = login(own, site)

    assert denied.returncode == 1 and "access_denied" in json.loads(denied.stdout)["error"]["message"]
    assert without.returncode == 1 and "the server has not asked for a sign-in" in without.stderr, without.stderr
    assert logins(own) == []
    assert "nor for another server" in run(own, "forget", "https://mcp.example.com/mcp").stderr


@pytest.mark.parametrize("place, path", [("/mcp", "/mcp"), ("", ""), ("", "/mcp")], ids=["path", "root-of-origin", "root-of-path"])
def test_login_reads_metadata_without_a_challenge(own, place, path):
    with Site() as issuer, anonymous_site(issuer=issuer) as site:
        metadata = {"resource": f"{site.origin}{path}", "authorization_servers": [issuer.origin], "scopes_supported": ["s"]}
        site.answers["/.well-known/oauth-authorization-server"] = lambda _: (404, "")
        site.answers["/.well-known/oauth-protected-resource/mcp"] = lambda _: (404, "")
        site.answers[f"/.well-known/oauth-protected-resource{place}"] = lambda _: (200, metadata)
        signed_in = login(own, site)
        (page,) = [own for own in issuer.requests if own.path == "/authorize"]

    assert signed_in.returncode == 0 and signed_in.stdout.startswith(f"{site.url}: signed in, issuer {issuer.origin}")
    assert (page.query["resource"], page.query["scope"]) == (f"{site.origin}{path}", "s")


def test_login_at_a_server_whose_calls_alone_name_the_issuer(own):
    with Site() as issuer, anonymous_site(issuer=issuer) as site:
        metadata = {"resource": site.url, "authorization_servers": [issuer.origin], "scopes_supported": ["s"]}
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"):
            site.answers[path] = lambda _: (404, "")
        site.answers["/meta"] = lambda _: (200, metadata)
        site.challenge = f'Bearer resource_metadata="{site.origin}/meta"'

        before = login(own, site)
        called = run(own, "call", site.url, "t", "--open", BROWSER)
        kept = login(own, site)
        own.edit(token_received_at=0)
        refreshed = login(own, site)
        own.edit(token_received_at=0)
        issuer.refresh_tokens.clear()
        again = login(own, site)
        pages = [own for own in issuer.requests if own.path == "/authorize"]

    assert before.returncode == 1 and "run `mcpl call URL TOOL` with it, which signs in" in before.stderr, before.stderr
    assert called.returncode == 0 and called.stdout == "done\n", called.stderr
    for ended in (kept, refreshed, again):
        assert ended.returncode == 0 and ended.stdout.startswith(f"{site.url}: signed in"), ended.stderr
    assert len(pages) == 2, "the issuer of the stored sign-in is used"
    assert [(own.query["resource"], own.query["scope"]) for own in pages] == [(site.url, "s")] * 2


def test_empty_variables_count_as_unset(own, tmp_path):
    variables = {name: "" for name in ("MCPL_STATE_DIR", "MCPL_CLIENT_ID", "MCPL_CLIENT_SECRET", "MCPL_IDP_CLIENT_SECRET")}
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": "", **variables}
    environment["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nowhere"
    with Site() as site:
        command = [own.program, "login", site.url, "--open", BROWSER]
        signed_in = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_SECONDS)
        listed = subprocess.run([own.program, "logins", "--json"], capture_output=True, text=True, env=environment)

    assert signed_in.returncode == 0, signed_in.stderr
    (kept,) = json.loads(listed.stdout)
    assert kept["client_id"] == "client-0" and kept["file"].startswith(f"{tmp_path}/"), kept


@pytest.mark.parametrize("option", [("--sigv4", "--region", "x"), ("--token-command", "echo t"), ("--header", "Authorization: t")])
def test_login_without_a_sign_in_is_a_usage_error(own, option):
    ended = run(own, "login", "https://mcp.example.com/mcp", *option)

    assert ended.returncode == 2 and "there is no sign-in with" in ended.stderr, ended.stderr


@pytest.mark.parametrize("command", ["login", "forget", "logout"])
def test_a_text_that_is_no_url_is_a_usage_error(own, command):
    ended = run(own, command, "notaurl")

    assert ended.returncode == 2 and "notaurl" in ended.stderr, ended.stderr


def test_logins_lists_what_is_kept(own):
    empty = run(own, "logins")
    assert (empty.returncode, empty.stdout) == (0, "") and "no sign-ins are kept" in empty.stderr
    assert logins(own) == []
    with Site() as site:
        own.signed_in(site)
        (file,) = own.state.glob("*.json")
        text, (listed,) = run(own, "logins"), logins(own)
        own.edit(token_received_at=0, token_response={"access_token": "t", "expires_in": 1})
        (expired,) = logins(own)

    assert text.stdout.startswith(f"{site.url}: signed in, issuer {site.origin}, client client-0"), text.stdout
    assert text.stdout.count("\n") == 1 and "t0" not in text.stdout
    assert listed.pop("expires_at") > 1_000_000_000
    assert listed == {
        "server": site.url, "state": "signed_in", "issuer": site.origin, "client_id": "client-0", "has_refresh_token": True,
        "file": str(file),
    }
    assert expired["state"] == "expired"


def test_logins_shows_files_that_cannot_be_read(own):
    with Site() as site:
        own.signed_in(site)
        (file,) = own.state.glob("*.json")
        file.write_text('{"server": "%s", "credentials": {"client_id": 3}}' % site.url)
        broken = own.state / f"{'0' * 32}.json"
        broken.write_text('{"server": "hunter2')
        text, listed = run(own, "logins"), logins(own)

    assert text.returncode == 0 and "hunter2" not in text.stdout, text.stderr
    reasons = [f"it is broken at line 1, column {column}" for column in (len(file.read_text()) - 2, 19)]
    assert text.stdout.splitlines() == [f"{site.url}: unreadable, {file}: {reasons[0]}", f"{broken}: unreadable: {reasons[1]}"]
    unreadable = {"state": "unreadable", "has_refresh_token": False}
    assert listed == [
        {**unreadable, "server": site.url, "file": str(file), "error": reasons[0]},
        {**unreadable, "file": str(broken), "error": reasons[1]},
    ]
    assert not list(own.state.glob("*.broken")), "listing changes nothing"


def test_logins_shows_a_client_that_was_given_with_its_secret(own, tmp_path):
    words = ["install", "notes", "https://mcp.example.com/mcp", "--cursor", "--client-id", "mine", "--state-dir", own.state]
    environment = {**os.environ, "HOME": str(tmp_path), "MCPL_CLIENT_SECRET": "hunter2"}
    subprocess.run([own.program, *words], env=environment, capture_output=True, check=True)

    (kept,) = logins(own)

    assert (kept["state"], kept["client_id"]) == ("signed_out", "mine")


def test_a_file_of_the_store_that_others_can_read_is_closed(own):
    with Site() as site:
        own.signed_in(site)
        (file,) = own.state.glob("*.json")
        file.chmod(0o644)
        ended = own.tools(site, "--no-browser")

        assert ended.returncode == 0 and f"{file} was open to other users (mode 644)" in ended.stderr, ended.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        file.rename(file.with_suffix(".moved"))
        file.symlink_to(file.with_suffix(".moved"))
        linked, listed = own.tools(site, "--no-browser"), logins(own)

    assert linked.returncode == 1 and f"{file} is a symbolic link, which is not followed" in linked.stderr, linked.stderr
    assert [own["state"] for own in listed] == ["unreadable"] and "symbolic link" in listed[0]["error"]


@pytest.mark.parametrize("command", ["forget", "logout"])
def test_forget_revokes_the_refresh_token(own, command):
    with revoking() as site:
        own.signed_in(site)
        ended = run(own, command, site.url)
        (request,) = [own for own in site.requests if own.path == "/revoke"]

    assert ended.returncode == 0 and ended.stdout.endswith("\nthe issuer has revoked the tokens\n"), ended.stderr
    assert request.form == {"token": "r0", "token_type_hint": "refresh_token", "client_id": "client-0"}
    assert not list(own.state.glob("*.json"))


def test_forget_after_a_refresh_revokes_the_newest_token(own):
    with revoking() as site:
        own.signed_in(site)
        own.expire(site)
        own.signed_in(site)
        assert run(own, "forget", site.url).returncode == 0
        (request,) = [own for own in site.requests if own.path == "/revoke"]

    assert request.form["token"] == max(site.refresh_tokens)


@pytest.mark.parametrize(
    "status, body, reason",
    [(400, {"error": "unsupported_token_type"}, "unsupported_token_type"), (404, "<html>", "answered HTTP 404"), (503, "", "no answer within 10 s")],
    ids=["rejected", "page", "away"],
)
def test_forget_deletes_although_the_revocation_fails(own, status, body, reason):
    with revoking(status, body) as site:
        if status == 503:
            site.answers["/revoke"] = lambda _: (503, "", ("Retry-After", "20"))
        own.signed_in(site)
        ended = run(own, "forget", site.url)

    assert ended.returncode == 0 and "forgot the tokens" in ended.stdout
    assert "could not revoke the tokens at the issuer" in ended.stderr and reason in ended.stderr, ended.stderr
    assert not list(own.state.glob("*.json"))


@pytest.mark.parametrize(
    "endpoint, reason",
    [("http://issuer.example/revoke", "must be an https URL"), ("/revoke", "is no URL")],
    ids=["unencrypted", "relative"],
)
def test_forget_names_an_unusable_revocation_endpoint(own, endpoint, reason):
    with revoking() as site:
        site.more_metadata["revocation_endpoint"] = endpoint
        own.signed_in(site)
        ended = run(own, "forget", site.url)

        assert site.count("/revoke") == 0
    assert ended.returncode == 0 and "has no revocation endpoint" not in ended.stderr
    expected = f"could not revoke the tokens at the issuer: its `revocation_endpoint` is unusable: `{endpoint}` {reason}"
    assert expected in ended.stderr, ended.stderr


def test_forget_without_a_revocation_endpoint_reports_it(own):
    with Site() as site:
        own.signed_in(site)
        ended = run(own, "forget", site.url)

    assert ended.returncode == 0 and "has no revocation endpoint" in ended.stderr


def test_forget_of_an_unknown_url_names_those_that_are_kept(own):
    none = run(own, "forget", "https://mcp.example.com/mcp")
    with Site() as site:
        own.signed_in(site)
        other = run(own, "forget", f"{site.url}x")

    assert none.returncode == 1 and "nothing is kept for https://mcp.example.com/mcp" in none.stderr
    assert other.returncode == 1 and other.stderr.endswith(f"; sign-ins are kept for {site.url}\n"), other.stderr
    assert len(list(own.state.glob("*.json"))) == 1


def test_a_sign_in_under_an_older_spelling_of_the_url_is_found(own):
    with Site() as site:
        own.signed_in(site)
        (file,) = own.state.glob("*.json")
        old = f"{site.url}/"
        kept = {**json.loads(file.read_text()), "server": old}
        file.unlink()
        # As version 0.1.0 has named it.
        (own.state / f"{hashlib.sha256(old.encode()).hexdigest()[:32]}.json").write_text(json.dumps(kept))
        own.signed_in(site, "--no-browser")

        assert site.pages() == 1 and list(own.state.glob("*.json")) == [file]


@contextlib.contextmanager
def waiting_for_a_page(own, site):
    """A proxy whose request for the tools waits for a page that does not end; with the request's id, and the port of the redirect."""
    command = words(own.program, site.url, own.state, "--no-browser")
    proxy = Session(command)
    try:
        proxy.send("initialize", LEGACY_CLIENT)
        assert "result" in proxy.read()
        waiting = proxy.send("tools/list")
        yield proxy, waiting, until(lambda: port_of_page(own))
    finally:
        proxy.process.kill()
        proxy.process.wait()


def until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def port_of_page(own):
    for file in own.state.glob("*.json"):
        if page := json.loads(file.read_text()).get("page"):
            redirect = urllib.parse.parse_qs(urllib.parse.urlsplit(page["address"]).query)["redirect_uri"][0]
            return urllib.parse.urlsplit(redirect).port


def is_closed(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_legacy_request_that_waits_for_a_sign_in_is_cancelled(own):
    with open_site() as site, waiting_for_a_page(own, site) as (proxy, waiting, port):
        assert not is_closed(port)
        proxy.write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": waiting}})

        until(lambda: is_closed(port))
        proxy.send("ping")
        assert proxy.read()["id"] == waiting + 1
        bodies = [json.loads(own.body) for own in site.requests if own.path == "/mcp" and own.method == "POST"]
        assert "notifications/cancelled" not in [own["method"] for own in bodies]


def test_the_log_shows_no_query(own):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mcp"
    for level in ("-v", "-vv"):
        by_hand = run(own, "tools", f"{url}?key=hunter2", level)
        assert "trying again" in by_hand.stderr and "hunter2" not in by_hand.stderr, by_hand.stderr
        proxy = subprocess.run(
            [own.program, "proxy", "test", f"{url}?key=hunter2", level], input="", capture_output=True, text=True
        )
        assert url in proxy.stderr and "hunter2" not in proxy.stderr, proxy.stderr


def test_doctor_names_the_cause_and_shows_no_query(own):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mcp"
    ended = run(own, "doctor", f"{url}?key=hunter2", "--json")
    elsewhere = run(own, "doctor", "https://hunter2:hunter2@mcp.invalid/mcp?key=hunter2", "--json")
    (found,) = [own for own in json.loads(ended.stdout) if own["check"] == "reach"]

    assert found["found"].startswith("the connection is refused: ") and "start the server" in found["fix"]
    for ran in (ended, elsewhere):
        assert ran.returncode == 1
        assert "error sending request" not in ran.stdout and "hunter2" not in ran.stdout + ran.stderr, ran.stdout
    (address,) = [own for own in json.loads(elsewhere.stdout) if own["check"] == "address"]
    assert address["found"] == "https://mcp.invalid/mcp is https"


def test_doctor_names_the_schemes_that_work(own):
    ended = run(own, "doctor", "ftp://x/mcp", "--json")
    problems = [finding for finding in json.loads(ended.stdout) if finding["level"] == "problem"]

    assert ended.returncode == 1
    assert [(own["check"], own["found"]) for own in problems] == [
        ("address", "`ftp:` is not the scheme of an MCP endpoint: only https and http work")
    ]
