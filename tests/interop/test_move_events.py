"""`scripts/move_events.py`: from a Postgres, and from the Data API, to the emulator of Aurora DSQL."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from types import SimpleNamespace

import move_events
import postgres
import psycopg
import pytest
from botocore.exceptions import ClientError
from conftest import PROJECT, build_dsql
from emulated import CREDENTIALS, Dsql

SCRIPT = PROJECT / "scripts" / "move_events.py"
EVENTS = 20_000
COLUMNS = """
    event_name text NOT NULL, "timestamp" timestamptz NOT NULL DEFAULT now(), issuer text NOT NULL DEFAULT '',
    subject text NOT NULL DEFAULT '', email text NOT NULL DEFAULT '', idempotency_key text
"""
OLD = f"CREATE TABLE events (key uuid PRIMARY KEY DEFAULT gen_random_uuid(), id bigint GENERATED ALWAYS AS IDENTITY UNIQUE, {COLUMNS})"
NEW = [
    f"""CREATE TABLE events (key uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        id bigint GENERATED ALWAYS AS IDENTITY (CACHE 65536), {COLUMNS})""",
    "CREATE UNIQUE INDEX ASYNC events_id ON events (id)",
]
ALL = f"SELECT {move_events.COLUMNS} FROM events ORDER BY id"
# Half of them with an idempotency key, with all of Unicode, and with gaps between ids.
FILL = """
    INSERT INTO events (key, event_name, "timestamp", issuer, subject, email, idempotency_key)
    SELECT gen_random_uuid(),
        'event ' || number || ' ''\\"\t\u00e9\U0001f600', '2026-01-01 00:00+00'::timestamptz + number * interval '1.000001 s',
        CASE WHEN number % 3 = 0 THEN '' ELSE 'https://id.example.com' END, repeat('s', number % 200), 'a@example.com',
        CASE WHEN number % 2 = 0 THEN 'client:' || number END
    FROM generate_series(1, {count} * 5 / 4) number
"""


@pytest.fixture(scope="module")
def server():
    build_dsql()
    with postgres.Postgres(databases=["events"]) as own:
        yield own


@pytest.fixture
def old(server):
    """The old database, empty."""
    with psycopg.connect(server.url("events"), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS events")
        connection.execute(OLD)
        yield connection


@pytest.fixture
def cluster(server, tmp_path):
    """The cluster, with the schema and without events, behind its failures: a function that starts the emulator."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS events")

    def start(*options):
        return Dsql(server.url(), tmp_path, *options)

    with start() as own:
        with connected(own) as connection:
            for statement in NEW:
                connection.execute(statement)
    return start


def connected(own):
    return move_events.Cluster(session(), own.host, own.port, own.certificate).connect()


def session():
    import boto3

    return boto3.Session(
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_REGION"],
    )


# As migrations/0003_key_of_events.sql.
DERIVED = """left(encode(sha256(convert_to(
    octet_length(issuer) || ':' || issuer || octet_length(subject) || ':' || subject || idempotency_key, 'UTF8')), 'hex'), 32)::uuid"""


def fill(connection, count):
    connection.execute(FILL.format(count=count))
    connection.execute(f"UPDATE events SET key = {DERIVED} WHERE idempotency_key IS NOT NULL")
    connection.execute("DELETE FROM events WHERE id % 5 = 0")
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (count,)


def start(server, own, *options):
    command = [sys.executable, SCRIPT, "--from-url", server.url("events"), "--to-host", own.host, "--to-port", own.port]
    return subprocess.Popen(
        [str(word) for word in [*command, "--to-certificates", own.certificate, *options]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, **CREDENTIALS},
    )


def move(server, own, *options, code=0):
    process = start(server, own, *options)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == code, printed
    return printed


def stored(server):
    with psycopg.connect(server.url()) as connection:
        return connection.execute(ALL).fetchall()


def test_20_000_events_are_moved_through_conflicts_and_a_kill(server, old, cluster):
    fill(old, EVENTS)
    with cluster("--conflict", "0.2", "--unavailable", "0.1", "--schema-change", "0.02", "--connection-age", "1") as own:
        killed = start(server, own)
        deadline = time.monotonic() + 60
        with psycopg.connect(server.url(), autocommit=True) as counting:
            while counting.execute("SELECT count(*) FROM events").fetchone()[0] <= 3000 and time.monotonic() < deadline:
                time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL and 3000 < len(stored(server)) < EVENTS
        again = move(server, own)
        third = move(server, own, "--verify")

    # Every column, idempotency keys among them.
    assert stored(server) == old.execute(ALL).fetchall()
    assert f"{EVENTS} events read" in again and "the cluster has all events" in again
    assert f"pass 1: {EVENTS} events read, {EVENTS} equal, 0 missing, 0 with another key" in third


def test_ids_of_new_events_are_beyond_those_of_the_old_database(server, old, cluster):
    fill(old, 8)
    with cluster() as own:
        move(server, own)
        move(server, own)
        with connected(own) as connection:
            (new,) = connection.execute("INSERT INTO events (event_name) VALUES ('new') RETURNING id").fetchone()
        old.execute("INSERT INTO events (event_name) VALUES ('late')")
        printed = move(server, own)

    assert new > 10 + move_events.RESERVED_IDS
    assert "9 events read, 8 equal, 1 missing" in printed
    assert [row for row in stored(server) if row[0] < new] == old.execute(ALL).fetchall()


def test_a_key_that_was_used_again_moves_to_the_new_event(server, old, cluster):
    fill(old, 8)
    with cluster() as own:
        move(server, own)
        again = old.execute("SELECT key, issuer, subject, idempotency_key FROM events WHERE id = 2").fetchone()
        old.execute("UPDATE events SET key = gen_random_uuid(), idempotency_key = NULL WHERE id = 2")
        old.execute("INSERT INTO events (key, event_name, issuer, subject, idempotency_key) VALUES (%s, 'again', %s, %s, %s)", again)
        differing = move(server, own, "--verify", code=1)
        move(server, own)

    assert "1 missing, 1 with another key" in differing
    assert stored(server) == old.execute(ALL).fetchall()


def test_an_event_of_the_version_before_is_found_by_its_idempotency_key(server, old, cluster):
    """Until traffic has moved to this release, the version before stores events whose `key` is random. On Aurora DSQL, only it is unique."""
    caller = ("https://id.example.com", "s\u00e9", "client:order 1")
    old.execute("INSERT INTO events (event_name, issuer, subject, idempotency_key) VALUES ('paid', %s, %s, %s)", caller)
    with cluster() as own:
        move(server, own)
        move(server, own, "--verify")

    # `event_key` in functions/event-logger/src/events.rs.
    issuer, subject, idempotency_key = caller
    text = f"{len(issuer)}:{issuer}{len(subject.encode())}:{subject}{idempotency_key}"
    assert [row[1].hex for row in stored(server)] == [hashlib.sha256(text.encode()).hexdigest()[:32]]


def test_events_of_the_cluster_itself_are_not_overwritten(server, old, cluster):
    fill(old, 8)
    with cluster() as own:
        with connected(own) as connection:
            connection.execute("INSERT INTO events (event_name) VALUES ('own')")
        before = stored(server)
        refused = move(server, own, code=1)

    assert "the cluster has another event with the id 1" in refused and stored(server) == before


def test_a_database_without_keys_is_refused(server, old, cluster):
    old.execute("ALTER TABLE events DROP COLUMN key")
    with cluster() as own:
        assert "deploy this release to it first" in move(server, own, code=1)


def test_batches_stay_below_the_limits_of_a_transaction():
    event = (1, str(uuid.uuid4()), "e" * 500, None, "i" * 4000, "s" * 4000, "", None)
    parts = list(move_events.by_size([event] * 3000))

    assert sum(map(len, parts)) == 3000 and len(parts) > 5
    assert all(sum(len(str(value)) for row in part for value in row) <= move_events.MAX_BYTES for part in parts)
    for refused in ("0", "3001", "-1", "many", "1.5", "\u0661"):
        with pytest.raises(Exception, match="is not a number from 1 to 3000"):
            move_events.batch_rows(refused)


class DataApi:
    """The Data API in front of a Postgres, as its owner, who is no superuser. A response has some rows at most."""

    class exceptions:
        class DatabaseResumingException(Exception):
            pass

    def __init__(self, url, rows):
        self.connection, self.rows, self.sleeps, self.statements = psycopg.connect(url, autocommit=True), rows, 1, []

    def execute_statement(self, resourceArn, secretArn, database, sql):
        assert (resourceArn, secretArn, database) == ("cluster", "secret", "events")
        if self.sleeps:
            self.sleeps -= 1
            raise self.exceptions.DatabaseResumingException
        self.statements.append(sql)
        try:
            cursor = self.connection.execute(sql)
        except psycopg.Error as refused:
            raise ClientError({"Error": {"Code": "BadRequestException", "Message": str(refused)}}, "ExecuteStatement") from refused
        rows = cursor.fetchall() if cursor.description else []
        if len(rows) > self.rows:
            error = {"Code": "BadRequestException", "Message": "Database returned more than the allowed response size limit"}
            raise ClientError({"Error": error}, "ExecuteStatement")
        return {"records": [[field(value) for value in row] for row in rows]}


def field(value):
    return {"isNull": True} if value is None else {"longValue": value} if isinstance(value, int) else {"stringValue": value}


@pytest.fixture
def owner(server, old):
    """The URL of the old database for its owner, who may not read the tables of the function's own user."""
    with psycopg.connect(server.url("events"), autocommit=True) as superuser:
        superuser.execute("CREATE ROLE events_owner LOGIN CREATEROLE PASSWORD 'owner'")
        with psycopg.connect(server.url("events", "events_owner", "owner"), autocommit=True) as owner:
            owner.execute("CREATE ROLE app LOGIN")
        if superuser.info.server_version < 160_000:
            # Before PostgreSQL 16, which Aurora has, the creator of a role could not have its rights by itself.
            superuser.execute("GRANT app TO events_owner")
        old.execute("ALTER TABLE events OWNER TO app")
        yield server.url("events", "events_owner", "owner")
        superuser.execute("DROP OWNED BY app, events_owner CASCADE")
        superuser.execute("DROP ROLE app, events_owner")


def test_the_data_api_reads_the_tables_of_the_functions_own_user(server, old, cluster, owner, monkeypatch):
    fill(old, 800)
    monkeypatch.setattr(move_events.time, "sleep", lambda _: None)
    client = DataApi(owner, 150)
    with cluster() as own:
        target = move_events.Cluster(session(), own.host, own.port, own.certificate)
        move_events.move(move_events.DataApi(client, "cluster", "secret"), target, 1000)

    assert stored(server) == old.execute(ALL).fetchall() and client.sleeps == 0


def test_a_verification_changes_nothing(server, old, cluster, owner, monkeypatch):
    fill(old, 8)
    monkeypatch.setattr(move_events.time, "sleep", lambda _: None)
    memberships = "SELECT to_jsonb(m)::text FROM pg_auth_members m WHERE roleid = 'app'::regrole ORDER BY 1"
    before = old.execute(memberships).fetchall()
    client = DataApi(owner, 150)
    with cluster() as own:
        target = move_events.Cluster(session(), own.host, own.port, own.certificate)
        source = move_events.DataApi(client, "cluster", "secret", is_verification=True)
        if old.info.server_version >= 160_000:
            with pytest.raises(SystemExit, match="run this without --verify first"):
                move_events.move(source, target, 1000, is_verification=True)
        assert old.execute(memberships).fetchall() == before

        move_events.move(move_events.DataApi(client, "cluster", "secret"), target, 1000)
        moved, statements = stored(server), len(client.statements)
        move_events.move(move_events.DataApi(client, "cluster", "secret", is_verification=True), target, 1000, is_verification=True)

    assert stored(server) == moved == old.execute(ALL).fetchall()
    assert all(own.lstrip().startswith("SELECT") for own in client.statements[statements:])


@pytest.mark.parametrize(("has", "reason"), [({}, "has no output DatabaseArn"), ({"DatabaseArn": "a"}, "has no output DatabaseOwnerSecretArn")])
def test_a_stack_with_another_database_is_refused(has, reason, monkeypatch):
    account = SimpleNamespace(session=None, id="1", caller="me", region="r", client=None)
    monkeypatch.setattr(move_events, "Account", lambda: account)
    monkeypatch.setattr(move_events, "Stack", lambda *_: SimpleNamespace(outputs=lambda: has))
    arguments = SimpleNamespace(from_stack="event-logger", from_url=None, to_stack=None, to_host="h", to_port=1, to_certificates="system", verify=True, yes=True)

    with pytest.raises(SystemExit, match=reason):
        move_events.ends(arguments)


@pytest.mark.parametrize(("url", "mode"), [
    ("postgres://app:p@db.example.com/events", "verify-full"),
    ("postgres://app@db.example.com/events?sslmode=require", "require"),
    ("postgres://app@localhost/events", None),
    ("postgres:///events?host=/tmp", None),
])
def test_the_certificate_of_another_machine_is_verified(url, mode):
    assert move_events.with_verified_tls(url).get("sslmode") == mode


@pytest.mark.parametrize("url", ["postgress://app:hunter2@db/events", "postgres://app:hunter2%@db/events", "postgres://app:hunter2 3@db/events"])
def test_a_url_that_cannot_be_parsed_is_not_printed(url):
    with pytest.raises(SystemExit) as ended:
        move_events.with_verified_tls(url)
    assert "--from-url" in str(ended.value) and "hunter2" not in str(ended.value)
