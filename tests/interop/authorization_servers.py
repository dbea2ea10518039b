"""An identity provider, the authorization server and event-logger, running: each function in several environments, on one Postgres."""

import base64
import functools
import hashlib
import json
import secrets
import urllib.error
import urllib.parse
import urllib.request

import authorization_server
import postgres
from client_documents import PUBLIC, ClientDocuments
from emulated import Emulated
from oauth import PATIENCE_SECONDS, fetch
from upstream import CLIENT_ID, CLIENT_SECRET, Upstream

ENVIRONMENTS = 3
LOOPBACK = "http://localhost:9/callback"
# The metadata document of an application that is built with an SDK.
APPLICATION = "https://app.example/oauth/client.json"
# Only writers may log events.
ACCOUNTS = {"ada": {"groups": ["writers"]}}
SCOPES = [{"name": "events:read", "text": "Read events"}, {"name": "events:write", "text": "Log events"}]
MAPPING = {
    "cognito": [{"claim": "cognito:groups", "value": "writers", "scopes": ["events:write"]}],
    "entra": [{"claim": "groups", "value": "writers", "scopes": ["events:write"]}],
    # Google has no groups.
    "google": [{"claim": "email", "value": "ada@example.com", "scopes": ["events:write"]}],
}


class Servers:
    """`kind` is that of the identity provider. The log of the authorization server is in `folder`. `options` are those of its emulator,
    `own_variables` its own further ones, `variables` those of event-logger. The functions must be built."""

    def __init__(self, kind, folder, *options, own_variables=(), **variables):
        self.kind, self.folder, self.running = kind, folder, []
        self.database = postgres.Supervised(databases=["authorization", "events"])
        self.documents, self.upstream = ClientDocuments(), Upstream(kind, ACCOUNTS)
        application = {"client_id": APPLICATION, "client_name": "An application", "redirect_uris": ["http://127.0.0.1/callback"], **PUBLIC}
        self.documents.add(APPLICATION, application)
        port = postgres.free_port()
        self.resource = f"http://127.0.0.1:{port}/mcp"
        self.log = (folder / f"{kind}.log").open("w+")
        resources = [{
            "url": self.resource, "name": "Event logger", "scopes": SCOPES, "everyone": ["events:read"], "claims": MAPPING[kind],
        }]
        own = self.start(
            "authorization-server", "authorization", *options, stderr=self.log, **self.documents.variables,
            **authorization_server.variables(self.upstream.url, kind, CLIENT_ID, CLIENT_SECRET, resources), **dict(own_variables),
        )
        self.issuer = own.removesuffix("/mcp")
        self.start("event-logger", "events", "--port", port, OIDC_ISSUER=self.issuer, **variables)

    def start(self, function, database, *options, **variables):
        url = f"{self.database.url.rpartition('/')[0]}/{database}"
        self.running.append(Emulated(function, "buffered", ENVIRONMENTS, *options, DATABASE_URL=url, **variables))
        return self.running[-1].url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for running in [*reversed(self.running), self.upstream]:
            running.stop()
        self.documents.__exit__()
        self.database.close()
        self.log.close()

    @functools.cached_property
    def metadata(self):
        """What a client finds that knows only event-logger."""
        resource, path = self.resource.removesuffix("/mcp"), "/.well-known/oauth-protected-resource/mcp"
        [issuer] = fetch(resource + path)["authorization_servers"]
        return fetch(f"{issuer}/.well-known/oauth-authorization-server")

    def register(self, redirect_uri=LOOPBACK):
        words = {"client_name": "An old client", "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none"}
        return fetch(self.metadata["registration_endpoint"], json.dumps(words), "application/json")["client_id"]

    def sign_in(self, person, client_id, redirect_uri=LOOPBACK):
        """What a person sees, and the parameters of the callback with the client's own verifier."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        request = {
            "response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "resource": self.resource, "state": state,
            "scope": "events:read events:write", "code_challenge": challenge, "code_challenge_method": "S256",
        }
        seen = person.opens(f"{self.metadata['authorization_endpoint']}?{urllib.parse.urlencode(request)}")
        answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(seen["callback"]).query))
        assert (answer["iss"], answer["state"]) == (self.issuer, state)
        # A browser reports the status of the page after a denial.
        assert not seen["errors"] or "error" in answer, seen
        return seen, {**answer, "verifier": verifier, "redirect_uri": redirect_uri, "client_id": client_id}

    def check_sign_in(self, seen, document, pages):
        """A person saw this number of pages of a client that has this metadata document, or that registered (`None`)."""
        consent, *others = [page["url"] for page in seen["pages"]]
        client_id = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(consent).query))["client_id"]
        assert consent.startswith(f"{self.issuer}/authorize?") and 1 + len(others) == pages, seen
        assert client_id == document if document else not client_id.startswith("https:"), client_id

    def redeem(self, answer):
        return self.token(
            grant_type="authorization_code", client_id=answer["client_id"], code=answer["code"], code_verifier=answer["verifier"],
            redirect_uri=answer["redirect_uri"], resource=self.resource,
        )

    def token(self, **form):
        return fetch(self.metadata["token_endpoint"], urllib.parse.urlencode(form), "application/x-www-form-urlencoded")

    def logs_an_event(self, token):
        """The status of a call that needs the scope events:write."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "log_event", "arguments": {"event_name": "signed in"}}}
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25",
            "Authorization": f"Bearer {token}",
        }
        request = urllib.request.Request(self.resource, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                assert not json.load(response)["result"].get("isError")
                return response.status
        except urllib.error.HTTPError as error:
            return error.code


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
