#!/usr/bin/env python3
"""`make move-events`: copies the events of event-logger from PostgreSQL to a cluster of Aurora DSQL.

    move_events.py --from-stack NAME --to-stack NAME [--verify]
    move_events.py --from-url postgres://… --to-host HOST [--to-port PORT] [--to-certificates FILE]

From a stack, events are read by the Data API, which needs no access to its network; credentials are those of the AWS SDKs. A run
begins with the first event, and writes only what the cluster does not have: it can be interrupted and repeated. It ends when
a pass over all events has found nothing to write. `--verify` compares, and changes nothing in either database.

Run it with the Python of the tool folder, after `tools.py move`. docs/database.md has the procedure.
"""

import argparse
import datetime
import os
import random
import sys
import time

import boto3
import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from deploying.account import Account, is_confirmed
from deploying.stack import Stack

COLUMNS = 'id, key, event_name, "timestamp", issuer, subject, email, idempotency_key'
# The columns that change when an idempotency key is used again after 30 days.
KEYS = {1, 7}
# A transaction of Aurora DSQL changes 3,000 rows and 10 MiB at most. A batch stays below both.
MAX_ROWS = 3000
MAX_BYTES = 4 << 20
PASSES = 5
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
ATTEMPTS = 10
# Ids that the old database may still give while events are copied.
RESERVED_IDS = 1_000_000
# Before Aurora DSQL closes it, after an hour.
CONNECTION_SECONDS = 50 * 60
RESUME_SECONDS = 120
# The password for a server whose certificate is not verified.
NO_TOKEN = "no token without TLS"
# Conflicts, outdated schemas, limits of connections, and an unknown outcome: the batch is compared anew.
REPEATED = {"40001", "OC000", "OC001", "XX000", "53300", "53400"}


def main():
    arguments = read_arguments()
    try:
        source, target = ends(arguments)
        move(source, target, arguments.rows, arguments.verify)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"AWS: {error}")
    except psycopg.Error as error:
        sys.exit(f"database: {error}")


def read_arguments():
    parser = argparse.ArgumentParser(description="Copies events to a cluster of Aurora DSQL.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from-stack", metavar="NAME", help="the stack with Aurora PostgreSQL")
    source.add_argument("--from-url", metavar="URL", help="a database: postgres://user:password@host:5432/name")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to-stack", metavar="NAME", help="the stack with Aurora DSQL")
    target.add_argument("--to-host", metavar="HOST", help="the endpoint of a cluster in the region of AWS_REGION")
    parser.add_argument("--to-port", type=int, default=5432)
    parser.add_argument("--to-certificates", default="system", metavar="FILE", help="authorities of the cluster's certificate; those of the system unless given")
    parser.add_argument("--rows", type=batch_rows, default=1000, help=f"rows of a batch, {MAX_ROWS} at most; 1000 unless given")
    parser.add_argument("--verify", action="store_true", help="compare, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args()


def batch_rows(text):
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_ROWS:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {MAX_ROWS}")
    return int(text)


def ends(arguments):
    """The database to read, and the cluster to write."""
    account = Account() if arguments.from_stack or arguments.to_stack else None
    session = account.session if account else boto3.Session(region_name=os.environ.get("AWS_REGION"))
    host = output(account, arguments.to_stack, "ClusterEndpoint") if arguments.to_stack else arguments.to_host
    if account and not arguments.verify:
        print(f"account  {account.id}, as {account.caller}\nregion   {account.region}\ncluster  {host}: events will be written")
        if not is_confirmed(arguments):
            sys.exit("Nothing was changed.")
    if arguments.from_stack:
        arn, secret = (output(account, arguments.from_stack, name) for name in ("DatabaseArn", "DatabaseOwnerSecretArn"))
        source = DataApi(account.client("rds-data"), arn, secret, arguments.verify)
    else:
        source = Postgres(arguments.from_url)
    return source, Cluster(session, host, arguments.to_port, arguments.to_certificates)


def output(account, stack, name):
    outputs = Stack(account, stack).outputs()
    if name not in outputs:
        sys.exit(f"the stack {stack} has no output {name}: it is not a stack of event-logger with this kind of database")
    return outputs[name]


def move(source, target, rows, is_verification=False):
    """Copies until a pass has found nothing to write. Ends with an error if the two differ then."""
    if not is_verification:
        target.reserve_ids(source.last_id())
    for number in range(1, PASSES + 1):
        counts = Counts()
        for first, batch in batches(source, rows):
            counts.add(target.synchronize(first, batch, is_verification))
            if counts.read // 100_000 > (counts.read - len(batch)) // 100_000:
                print(f"pass {number}: {counts}", flush=True)
        print(f"pass {number}: {counts}", flush=True)
        if not counts.changed:
            print("the cluster has all events" + (f", and {counts.others} others" if counts.others else ""))
            return
        if is_verification:
            sys.exit("the cluster differs: run this without --verify")
    sys.exit(f"events still change after {PASSES} passes: stop the function that writes to the old database, then run this again")


class Counts:
    def __init__(self):
        self.read = self.inserted = self.updated = self.others = 0

    def add(self, counts):
        for name, value in counts.items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def changed(self):
        return self.inserted + self.updated

    def __str__(self):
        equal = self.read - self.changed
        return f"{self.read} events read, {equal} equal, {self.inserted} missing, {self.updated} with another key"


def batches(source, rows):
    """The events in the order of their ids, each batch with the first id that it is about."""
    after = 0
    while page := source.page(after, rows):
        for batch in by_size(page):
            yield after + 1, batch
            after = batch[-1][0]


def by_size(page):
    """Cuts a page where its bytes are too many for a transaction."""
    batch, size = [], 0
    for row in page:
        own = sum(len(str(value).encode()) for value in row)
        if batch and size + own > MAX_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += own
    yield batch


def instant(text):
    """A timestamp of the database in UTC."""
    return datetime.datetime.fromisoformat(f"{text}+00:00")


class Source:
    """The old database. Each row has the types of `COLUMNS`, with the key as text."""

    # The key of an event with an idempotency key as migrations/0003_key_of_events.sql derives it: the version before stores a random one
    # until traffic has moved from it, and Aurora DSQL has no other unique key.
    PAGE = (
        """SELECT id, CASE WHEN idempotency_key IS NULL THEN key ELSE left(encode(sha256(convert_to(
            octet_length(issuer) || ':' || issuer || octet_length(subject) || ':' || subject || idempotency_key, 'UTF8')), 'hex'), 32)::uuid
        END::text, event_name, ("timestamp" AT TIME ZONE 'UTC')::text, issuer, subject, email, idempotency_key
        FROM events WHERE id > {after} ORDER BY id LIMIT {rows}"""
    )

    def page(self, after, rows):
        try:
            found = self.read(self.PAGE.format(after=int(after), rows=int(rows)))
        except (psycopg.errors.UndefinedColumn, ClientError) as error:
            if "key" in str(error) and "does not exist" in str(error):
                sys.exit("the events of the old database have no key yet: deploy this release to it first, which adds it")
            if "permission denied" in str(error):
                sys.exit("the owner of the old database may not read its events yet: run this without --verify first, which grants it")
            raise
        return [(*row[:3], instant(row[3]), *row[4:]) for row in found]

    def last_id(self):
        return self.read("SELECT coalesce(max(id), 0) FROM events")[0][0]


def with_verified_tls(url):
    """The parameters of a URL. As in a function, the certificate of another machine is verified unless the URL says otherwise."""
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # Its text repeats parts of the URL, such as the password.
        sys.exit("--from-url is not valid: expected postgres://user:password@host:5432/name, its parts percent-encoded")
    host = parameters.get("hostaddr") or parameters.get("host") or ""
    is_local = not host or host.startswith("/") or host in LOOPBACK
    if is_local or "sslmode" in parameters:
        return parameters
    return {"sslmode": "verify-full", "sslrootcert": "system", **parameters}


class Postgres(Source):
    """A database by its URL."""

    def __init__(self, url):
        self.connection = psycopg.connect(**with_verified_tls(url), autocommit=True)

    def read(self, sql):
        return self.connection.execute(sql).fetchall()


class DataApi(Source):
    """A database of Aurora by the Data API, as its owner."""

    # Tables belong to the function's own user, whose rights its creator can have.
    GRANT = """DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'app' AND NOT pg_has_role(oid, 'USAGE')) THEN
            EXECUTE 'GRANT app TO ' || quote_ident(current_user) || ' WITH INHERIT TRUE';
        END IF;
    END $$"""

    def __init__(self, client, arn, secret, is_verification=False):
        self.client, self.arn, self.secret = client, arn, secret
        self.most = MAX_ROWS
        # A verification changes nothing, roles included.
        if not is_verification:
            self.execute(self.GRANT)

    def page(self, after, rows):
        while True:
            try:
                return super().page(after, min(rows, self.most))
            except ClientError as error:
                # A response has 1 MiB at most.
                if "size limit" not in str(error) or self.most == 1:
                    raise
                self.most = max(1, min(rows, self.most) // 2)

    def read(self, sql):
        return [tuple(value_of(field) for field in record) for record in self.execute(sql).get("records", [])]

    def execute(self, sql):
        """Executes a statement. A database that sleeps resumes."""
        deadline = time.monotonic() + RESUME_SECONDS
        while True:
            try:
                return self.client.execute_statement(resourceArn=self.arn, secretArn=self.secret, database="events", sql=sql)
            except self.client.exceptions.DatabaseResumingException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(2)


def value_of(field):
    ((kind, value),) = field.items()
    return None if kind == "isNull" else value


class Cluster:
    """A cluster of Aurora DSQL, as its administrator."""

    def __init__(self, session, host, port, certificates, **options):
        self.session, self.host, self.port, self.region = session, host, port, session.region_name
        self.options = {"sslmode": "verify-full", "sslrootcert": certificates, **options}
        if self.options["sslmode"] != "verify-full":
            # libpq itself would reject the authorities of the system, before it connects.
            del self.options["sslrootcert"]
        self.connection, self.opened = None, 0

    def connect(self):
        if self.connection and (self.connection.closed or time.monotonic() - self.opened > CONNECTION_SECONDS):
            self.connection.close()
            self.connection = None
        if not self.connection:
            self.connection = psycopg.connect(
                host=self.host, port=self.port, user="admin", password=self.token(), dbname="postgres", autocommit=True,
                prepare_threshold=None, connect_timeout=30, **self.options,
            )
            self.opened = time.monotonic()
        return self.connection

    def token(self):
        """The token of the administrator. It is valid for 15 minutes, so only a server whose certificate was verified receives one."""
        if self.options["sslmode"] != "verify-full":
            return NO_TOKEN
        return self.session.client("dsql").generate_db_connect_admin_auth_token(self.host, self.region)

    def repeated(self, work):
        """Runs work on a connection, again after a failure that passes."""
        for attempt in range(ATTEMPTS):
            try:
                return work(self.connect())
            except psycopg.Error as error:
                is_lost = not self.connection or self.connection.broken or self.connection.closed
                if attempt + 1 == ATTEMPTS or not (error.sqlstate in REPEATED or is_lost and isinstance(error, psycopg.OperationalError)):
                    raise
            time.sleep(random.uniform(0, min(5, 0.05 * 2**attempt)))

    def reserve_ids(self, last):
        """Lets the ids of new events begin beyond those of the old database."""

        def reserve(connection):
            sequence = "pg_get_serial_sequence('events', 'id')"
            if connection.execute(f"SELECT nextval({sequence})").fetchone()[0] <= last:
                connection.execute(f"SELECT setval({sequence}, %s)", [last + RESERVED_IDS])

        self.repeated(reserve)

    def synchronize(self, first, batch, is_verification):
        """Writes what differs in a batch, whose ids begin with `first`; returns counts."""
        return self.repeated(lambda connection: self.write(connection, first, batch, is_verification))

    def write(self, connection, first, batch, is_verification):
        wanted = {row[0]: row for row in batch}
        with connection.transaction():
            found = connection.execute(f"SELECT {COLUMNS} FROM events WHERE id BETWEEN %s AND %s", [first, batch[-1][0]]).fetchall()
            existing = {row[0]: (row[0], str(row[1]), *row[2:]) for row in found}
            missing = [row for id, row in wanted.items() if id not in existing]
            differing = [row for id, row in wanted.items() if id in existing and existing[id] != row]
            for row in differing:
                refuse_another(row, existing[row[0]])
            if not is_verification:
                for row in differing:
                    connection.execute("UPDATE events SET key = %s::uuid, idempotency_key = %s WHERE id = %s", [row[1], row[7], row[0]])
                insert(connection, missing)
        others = len(existing.keys() - wanted.keys())
        return {"read": len(batch), "inserted": len(missing), "updated": len(differing), "others": others}


def refuse_another(row, existing):
    if any(own != other for place, (own, other) in enumerate(zip(row, existing)) if place not in KEYS):
        sys.exit(
            f"the cluster has another event with the id {row[0]}, logged before the events were moved. Nothing of it was changed. Move into a "
            "cluster without events"
        )


def insert(connection, rows):
    # A message of a statement has 65,535 parameters, and its text 128 KiB.
    for start in range(0, len(rows), 500):
        part = rows[start : start + 500]
        values = ", ".join(["(%s, %s::uuid, %s, %s, %s, %s, %s, %s)"] * len(part))
        statement = f"INSERT INTO events ({COLUMNS}) OVERRIDING SYSTEM VALUE VALUES {values}"
        connection.execute(statement, [value for row in part for value in row])


if __name__ == "__main__":
    main()
