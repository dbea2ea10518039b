"""`scripts/verify_dsql.py`, on the emulator of Aurora DSQL with the schema of event-logger and of the store."""

import socket
import struct
import threading

import psycopg
import pytest
import verify_dsql
from conftest import build_dsql
from emulated import Dsql
from test_export_events import FOLDER, build_tasks
from test_move_events import session

import move_events
import postgres


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    build_tasks()
    build_dsql()
    with postgres.Postgres() as server, Dsql(server.url(), tmp_path_factory.mktemp("dsql")) as own:
        own.migrate(FOLDER / "debug" / "event-logger")
        yield own


@pytest.fixture
def connect(cluster):
    def open_one(region=None, **others):
        own = move_events.Cluster(session(), cluster.host, cluster.port, str(cluster.certificate), **others)
        own.region = region or own.region
        return own.connect()

    return open_one


def test_every_statement_and_each_class_of_errors_is_executed_once(connect):
    seen = dict(verify_dsql.verify(connect, verify_dsql.statements()))

    assert {"INSERT", "BY_KEY", "CLEAR_KEY", "LATEST", "BY_ID"} <= {name.removeprefix("statement ") for name in seen}
    assert seen["a conflict"].startswith("40001") and seen["more than 3,000 rows"].startswith("54000")
    assert seen["another primary key for a row"] == "changed"
    assert seen["a connection without TLS"].startswith("no connection")
    # Each constant of the store's source is read.
    store = [name for name in seen if name.startswith("statement store ")]
    assert len(store) == verify_dsql.STORE.read_text().count("pub(super) const ") >= 15
    assert "4 of mcp.state" in seen["the schema"] and "3 of mcp.counters" in seen["the schema"]
    assert {own for own in verify_dsql.REJECTED} <= seen.keys()
    with connect() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
        assert connection.execute("SELECT to_regclass('verify_account')::text").fetchone() == (None,)


@pytest.mark.parametrize("expression", ["format!(\"a\")", "NOW", "other!()"])
def test_a_statement_that_cannot_be_read_ends_it(expression):
    with pytest.raises(SystemExit, match="could not read a statement"):
        verify_dsql.constants(f"pub(super) const GET: &str = {expression};\n")


def test_what_is_not_as_expected_ends_it(connect):
    with connect() as connection:
        with pytest.raises(SystemExit, match="a statement failed"):
            verify_dsql.execute(connection, "SELECT xmax FROM events WHERE event_name = $1")
        with pytest.raises(SystemExit, match="expected 54000, and not 42P01"):
            verify_dsql.expect({"54000"}, lambda: connection.execute("SELECT 1 FROM no_such_table"))
        with pytest.raises(SystemExit, match="this should have failed with 0A000"):
            verify_dsql.expect({"0A000"}, lambda: connection.execute("SELECT 1"))
        connection.execute("DROP INDEX events_by_time")
        with pytest.raises(SystemExit, match="only 2 indexes of events"):
            verify_dsql.schema(connection)


class Listener:
    """A server without TLS that asks for a password in plain text, and rejects it."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.passwords = self.socket.getsockname()[1], []
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.close()

    def serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client, client.makefile("rb") as received:
                received.read(struct.unpack("!i", received.read(4))[0] - 4)
                # AuthenticationCleartextPassword
                client.sendall(b"R" + struct.pack("!ii", 8, 3))
                assert received.read(1) == b"p"
                self.passwords.append(received.read(struct.unpack("!i", received.read(4))[0] - 4).rstrip(b"\0").decode())


def test_no_token_is_sent_without_tls():
    with Listener() as listener:
        own = move_events.Cluster(session(), "127.0.0.1", listener.port, "system", sslmode="disable")
        with pytest.raises(psycopg.OperationalError):
            own.connect()

    assert listener.passwords == [move_events.NO_TOKEN]
    assert "X-Amz-Signature" in move_events.Cluster(session(), "127.0.0.1", listener.port, "system").token()
