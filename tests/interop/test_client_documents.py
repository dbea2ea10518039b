"""The server of client ID metadata documents, as another TLS client sees it."""

import http.client
import json
import socket
import ssl
import urllib.parse

import pytest
from client_documents import CODEX_CALLBACK, DOCUMENTS, ClientDocuments


@pytest.fixture(scope="module")
def documents():
    with ClientDocuments() as running:
        yield running


@pytest.mark.parametrize("url", DOCUMENTS)
def test_a_document_is_served_under_its_name(documents, url):
    status, headers, body = get(documents, url)

    document = json.loads(body)
    assert (status, headers["content-type"], document["client_id"]) == (200, "application/json", url)
    assert document["client_name"] and document["redirect_uris"] and len(body) < 5120
    assert "none" in [document["token_endpoint_auth_method"], *document.get("token_endpoint_auth_methods_supported", [])]
    assert documents.got[-1] == url


def test_a_native_client_names_loopback_without_a_port_and_vs_code_one_with_a_port(documents):
    uris = {url: DOCUMENTS[url]["redirect_uris"] for url in DOCUMENTS}
    loopback = {url: [urllib.parse.urlsplit(uri) for uri in own if uri.startswith("http://")] for url, own in uris.items()}

    ports = {url.split("/")[2]: {uri.port for uri in own} for url, own in loopback.items() if own}
    assert ports == {"claude.ai": {None}, "chatgpt.com": {None}, "vscode.dev": {33418}}
    assert {uri.path for uri in loopback[CODEX_CALLBACK]} == {"/callback/0123abcd"}


def test_a_name_has_a_certificate_of_its_own(documents):
    for claimed in ["claude.ai", "chatgpt.com", "vscode.dev"]:
        assert certificate_of(documents, claimed)["subjectAltName"] == (("DNS", claimed),)
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate_of(documents, "code.visualstudio.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate_of(documents, "claude.ai", authority=None)


def test_a_test_adds_documents_of_its_own():
    with ClientDocuments() as documents:
        documents.add("https://evil.test/client.json", b"x" * 10, status=302, content_type="text/html", Location="https://claude.ai/")

        status, headers, body = get(documents, "https://evil.test/client.json")

    assert (status, headers["location"], headers["content-type"], body) == (302, "https://claude.ai/", "text/html", b"x" * 10)
    hosts = dict(pair.split("=") for pair in documents.variables["MCP_FOREIGN_HOSTS"].split(","))
    assert sorted(hosts) == ["chatgpt.com", "claude.ai", "evil.test", "vscode.dev"]
    assert set(hosts.values()) == {f"127.0.0.1:{documents.port}"}


def get(documents, url):
    name, _, path = url.removeprefix("https://").partition("/")
    connection = http.client.HTTPConnection(name)
    connection.sock = connected(documents, name)
    connection.request("GET", f"/{path}")
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def certificate_of(documents, name, **options):
    with connected(documents, name, **options) as stream:
        return stream.getpeercert()


def connected(documents, name, authority="own"):
    context = ssl.create_default_context(cafile=documents.authority_file if authority else None)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", documents.port), timeout=20), server_hostname=name)
