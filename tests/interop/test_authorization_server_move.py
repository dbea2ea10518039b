"""A stack that people use moves from its identity provider to the authorization server, by the steps of docs/authorization-server.md. What
a person has written stays that person's."""

import json
import re
import subprocess

import authorization_server
import postgres
import psycopg
import pytest
import tools
from conftest import build
from emulated import Emulated
from oauth import PATIENCE_SECONDS, Issuer, browser

# The URLs of the documentation.
NEW, OLD = "https://….lambda-url.eu-west-1.on.aws", "https://id.example.com"


@pytest.fixture(scope="module")
def provider():
    with Issuer() as own:
        yield own


@pytest.fixture(scope="module")
def database():
    with postgres.Postgres(databases=["authorization", "events"]) as own:
        yield own


def test_what_a_person_wrote_stays_theirs(provider, database, mcpl, tmp_path):
    build()
    port, own_port = postgres.free_port(), postgres.free_port()
    url, new_issuer = f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{own_port}"
    user = User(mcpl, url, tmp_path)

    def event_logger(**variables):
        return Emulated("event-logger", "buffered", 1, "--port", port, DATABASE_URL=database.url("events"), **variables)

    with event_logger(OIDC_ISSUER=provider.url):
        user.logs("at the provider")
    client = provider.register(f"{new_issuer}/callback")
    resource = {"url": url, "name": "Event logger", "scopes": [{"name": "events:write", "text": "Log events"}], "everyone": ["events:write"]}
    variables = authorization_server.variables(provider.url, "other", client["client_id"], client["client_secret"], [resource])
    with Emulated(
        tools.AUTHORIZATION_SERVER, "buffered", 1, "--port", own_port, DATABASE_URL=database.url("authorization"), **variables,
    ):
        # Steps 2 and 3: both issuers are accepted, and people connect again.
        with event_logger(OIDC_ISSUERS=json.dumps([{"issuer": new_issuer}, {"issuer": provider.url}])):
            user.logs("with a token of the provider")
            user.runs("forget", url)
            user.logs("with a token of the authorization server")
        # Step 4.
        with event_logger(OIDC_ISSUER=new_issuer):
            user.logs("after the move")
    written = people(database)
    # Step 5.
    with psycopg.connect(database.url("events"), autocommit=True) as connection:
        while connection.execute(statement(new_issuer, provider.url)).rowcount:
            pass

    subject = f"{provider.url}#ada"
    assert written == {
        "at the provider": (provider.url, "ada"), "with a token of the provider": (provider.url, "ada"),
        "with a token of the authorization server": (new_issuer, subject), "after the move": (new_issuer, subject),
    }
    assert people(database) == dict.fromkeys(written, (new_issuer, subject))


class User:
    """A person who uses `mcpl`, and signs in whenever a page opens."""

    def __init__(self, program, url, folder):
        self.program, self.url = program, url
        self.options = ["--state-dir", folder / "state"]
        self.browser = browser(folder / "browser", "ada")

    def logs(self, event_name):
        self.runs("call", self.url, "log_event", f"event_name={event_name}", "--open", self.browser)

    def runs(self, *words):
        command = [str(word) for word in [self.program, *words, *self.options]]
        ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS)
        assert ended.returncode == 0, ended.stderr


def people(database):
    """Issuer and subject of each event, by its name."""
    with psycopg.connect(database.url("events")) as connection:
        rows = connection.execute("SELECT event_name, issuer, subject FROM events").fetchall()
    return {name: (issuer, subject) for name, issuer, subject in rows}


def statement(new_issuer, old_issuer):
    """The statement of the documentation, for these issuers."""
    text = (tools.FRAMEWORK / "docs" / "authorization-server.md").read_text()
    (section,) = re.findall(r"^## Move an existing stack$(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    (sql,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    assert sql.count(NEW) == sql.count(OLD) == 1, sql
    return sql.replace(NEW, new_issuer).replace(OLD, old_issuer)
