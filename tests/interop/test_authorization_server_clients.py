"""Clients sign in to event-logger through the authorization server, in Chromium and with no client id that a person enters. Each has a
metadata document, or registers. Programs of others do the same in tests/clients/test_authorization_server.py."""

import json
import subprocess
import urllib.parse

import anyio
import pytest
import python_oauth
from authorization_servers import APPLICATION, LOOPBACK, Servers
from client_documents import CLAUDE, CLAUDE_CODE
from conftest import build
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from oauth import PATIENCE_SECONDS
from signing_person import Person

# A page of consent, and one of the identity provider.
PAGES = 2


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    build()
    with Servers("cognito", tmp_path_factory.mktemp("servers")) as own:
        yield own


@pytest.fixture
def person(tmp_path, chromium):
    return Person("ada", tmp_path, chromium)


@pytest.fixture(params=[APPLICATION, None], ids=["document", "registration"])
def document(request):
    """The URL of the client's metadata document, if it has one."""
    return request.param


@pytest.mark.parametrize("generation", ["1", "2"])
def test_the_typescript_sdk_signs_in(servers, person, node, generation, document):
    words = ["sign_in_typescript.mjs", servers.resource, generation, *filter(None, [document])]
    text = node(*words, BROWSER=str(person.program())).stdout

    servers.check_sign_in(person.waited(), document, PAGES)
    assert "Event 'signed in' logged" in text


def test_the_python_sdk_signs_in(servers, person, document):
    text = anyio.run(python_client, servers.resource, person, document)

    servers.check_sign_in(person.seen(), document, PAGES)
    assert "Event 'signed in' logged" in text


# Any program can listen on loopback: a person approves each of its requests. Nothing is left to enter at the identity provider.
@pytest.mark.parametrize(
    "client_id, redirect_uri, pages",
    [(CLAUDE, "https://claude.ai/api/mcp/auth_callback", 0), (CLAUDE_CODE, LOOPBACK, 1)],
    ids=["hosted", "loopback"],
)
def test_a_later_sign_in_in_the_same_browser_shows_fewer_pages(servers, tmp_path, chromium, client_id, redirect_uri, pages):
    person = Person("ada", tmp_path, chromium, cookies=tmp_path / "cookies.json")
    shown = [len(servers.sign_in(person, client_id, redirect_uri)[0]["pages"]) for _ in range(3)]

    assert shown == [PAGES, pages, pages]


async def python_client(url, person, document):
    """The text of the result."""

    async def redirect(request):
        await anyio.to_thread.run_sync(person.opens, request)

    def answered():
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(person.seen()["callback"]).query))

    auth = python_oauth.provider(url, redirect, answered, document=document)
    async with create_mcp_http_client(auth=auth) as http:
        async with Client(streamable_http_client(url, http_client=http)) as client:
            return (await client.call_tool("log_event", {"event_name": "signed in"})).content[0].text


def test_the_rust_sdk_signs_in(servers, person, rust_sdk, document):
    command = [rust_sdk / "rmcp-sign-in", servers.resource, *filter(None, [document])]
    client = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen = person.opens(client.stdout.readline().strip())
    text, _ = client.communicate(seen["callback"] + "\n", timeout=PATIENCE_SECONDS)

    servers.check_sign_in(seen, document, PAGES)
    assert client.returncode == 0 and "Event 'signed in' logged" in text


def test_the_doctor_recognizes_the_authorization_server(servers, mcpl):
    ended = subprocess.run([mcpl, "doctor", servers.resource, "--json"], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    findings = json.loads(ended.stdout)

    assert ended.returncode == 0, findings
    how = "clients introduce themselves by a metadata document, or register themselves"
    assert [own["found"] for own in findings if own["check"] == "issuer"] == [f"{servers.issuer} (mcp-authorization-server): {how}"]


def test_mcpl_signs_in(servers, person, mcpl, tmp_path, document):
    options = ["--state-dir", tmp_path / "state", "--open", person.program()]
    options += ["--client-metadata-url", document] if document else []
    command = [mcpl, "call", servers.resource, "log_event", "event_name=signed in", *options]
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    assert ended.returncode == 0, ended.stderr
    servers.check_sign_in(person.waited(), document, PAGES)
    assert "Event 'signed in' logged" in ended.stdout
