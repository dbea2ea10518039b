"""What a cluster of Aurora DSQL answers to the statements of event-logger and of the store, and to one statement of each class of errors.
Part of `make verify-account DATABASE=dsql`, which connects to a real cluster; tests connect to the emulator."""

import re
import sys
import time
import uuid

import psycopg
import tools

SOURCE = tools.PROJECT / "functions" / "event-logger" / "src" / "events.rs"
STORE = tools.PROJECT / "crates" / "mcp-postgres" / "src" / "store" / "statements.rs"
CONSTANT = re.compile(r'^pub\((?:crate|super)\) const (\w+): &str =\s+(.*?);$', re.MULTILINE | re.DOTALL)
# The store composes its statements by macros of at most one parameter, of string literals and `concat!`.
MACRO = re.compile(r"^macro_rules! (\w+) \{\n    \((\$\w+|)(?::literal)?\) => \{\n(.*?)\n    \};", re.MULTILINE | re.DOTALL)
WORD = re.compile(r'r#"(.*?)"#|"((?:[^"\\]|\\.)*)"|(\w+)!\(|(\))|[\s,]+', re.DOTALL)
# Values of parameters by type; others are text.
VALUES = {20: b"1", 1184: b"2026-07-28T00:00:00Z"}
TABLE = "verify_account"
# The tables of the migrations, with the number of their indexes, and what the role `app` may do.
TABLES = {
    "events": (3, ["SELECT", "INSERT", "UPDATE"]),
    "mcp.state": (4, ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    "mcp.counters": (3, ["SELECT", "INSERT", "UPDATE", "DELETE"]),
}
MOST_ROWS = 3000
OUTDATED = ("40001", "OC001")
ATTEMPTS = 3

# One statement of each class that can be provoked. Not among them: `XX000 server unavailable`, and the limits of connections.
REJECTED = {
    "an index that is not asynchronous": (f"CREATE INDEX ON {TABLE} (value)", {"0A000"}),
    "an advisory lock": ("SELECT pg_advisory_lock(1)", {"0A000"}),
    "a block of PL/pgSQL": ("DO $$ BEGIN END $$", {"0A000"}),
    "TRUNCATE": (f"TRUNCATE {TABLE}", {"0A000"}),
    "a column with a default": (f"ALTER TABLE {TABLE} ADD COLUMN other text DEFAULT ''", {"0A000"}),
    "another locking clause than FOR UPDATE": (f"SELECT id FROM {TABLE} FOR SHARE", {"0A000"}),
    "a setting of the transaction": ("SET TRANSACTION READ ONLY", {"0A000"}),
    "an identity column of another type": (f"CREATE TABLE {TABLE}_2 (id integer GENERATED ALWAYS AS IDENTITY (CACHE 1))", {"0A000"}),
    "an array in a column": (f"CREATE TABLE {TABLE}_2 (tags text[])", {"0A000"}),
    "more than 3,000 rows": (f"INSERT INTO {TABLE} (value) SELECT number::text FROM generate_series(1, {MOST_ROWS + 1}) number", {"54000"}),
    "a value that a constraint rejects": ("INSERT INTO events (event_name) VALUES ('')", {"23514"}),
    "a key twice": (f"INSERT INTO {TABLE} (id, value) SELECT '{uuid.UUID(int=1)}', number::text FROM generate_series(1, 2) number", {"23505"}),
    "an unknown table": ("SELECT 1 FROM no_such_table", {"42P01"}),
}


def statements():
    """The statements of event-logger, and of the store that its tasks use, by name."""
    store = {f"store {name}": text for name, text in constants(STORE.read_text()).items()}
    return {**constants(SOURCE.read_text()), **store}


def constants(source):
    """The values of the constants in Rust source, by name."""
    macros = {name: (parameter, body) for name, parameter, body in MACRO.findall(source)}
    return {name: "".join(literals(expression, macros)) for name, expression in CONSTANT.findall(source)}


def literals(expression, macros):
    """The strings that an expression of literals, `concat!` and macros consists of."""
    position, own = 0, []
    while position < len(expression):
        word = WORD.match(expression, position)
        if not word:
            sys.exit(f"could not read a statement of the store: {expression[position:]}")
        raw, text, macro, _ = word.groups()
        position = word.end()
        if raw is not None or text is not None:
            # A backslash at the end of a line continues the text behind the next indentation.
            own.append(raw if raw is not None else re.sub(r"\\\n\s*", "", text))
        elif macro in macros:
            parameter, body = macros[macro]
            end = expression.index(")", position)
            yield from own
            own = [*literals(body.replace(parameter, expression[position:end]) if parameter else body, macros)]
            position = end + 1
        elif macro and macro != "concat":
            sys.exit(f"could not read a statement of the store: {macro}!")
    yield from own


def verify(connect, own_statements):
    """Runs each step, with connections as administrator, and yields what it did. Ends with an error if a step is not as expected."""
    with connect() as connection:
        yield "the schema", schema(connection)
        for name, statement in own_statements.items():
            yield f"statement {name}", execute(connection, statement)
        yield "DPU of an insert", cost(connection)
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), value text)")
        try:
            yield "another primary key for a row", rekeyed(connection)
            yield from failures(connect, connection)
        finally:
            connection.execute(f"DROP TABLE {TABLE}")


def failures(connect, connection):
    for what, (statement, states) in REJECTED.items():
        yield what, expect(states, lambda: connection.execute(statement))
    yield "two changes of the schema in a transaction", expect({"0A000"}, lambda: together(
        connection, f"CREATE TABLE {TABLE}_2 (id uuid PRIMARY KEY)", f"CREATE TABLE {TABLE}_3 (id uuid PRIMARY KEY)",
    ))
    yield "a change of the schema and of data in a transaction", expect({"0A000"}, lambda: together(
        connection, f"INSERT INTO {TABLE} (value) VALUES ('x')", f"ALTER TABLE {TABLE} ADD COLUMN further text",
    ))
    with connect() as other:
        yield "a conflict", conflict(connection, other)
        yield "an outdated schema", outdated(connection, other)
    yield "a token of another region", expect(None, lambda: connect(region="eu-west-3").close())
    yield "a connection without TLS", expect(None, lambda: connect(sslmode="disable").close())


def schema(connection):
    """Applied migrations: valid indexes, and the privileges of the role that serves requests."""
    found = []
    for table, (count, privileges) in TABLES.items():
        indexes = connection.execute(
            "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = %s::regclass ORDER BY 1", [table],
        ).fetchall()
        if invalid := [name for name, is_valid in indexes if not is_valid]:
            sys.exit(f"the schema: the indexes {', '.join(invalid)} are invalid")
        if len(indexes) < count:
            sys.exit(f"the schema: only {len(indexes)} indexes of {table} exist")
        missing = [
            own for own in privileges
            if not connection.execute("SELECT has_table_privilege('app', %s, %s)", [table, own]).fetchone()[0]
        ]
        if missing:
            sys.exit(f"the schema: the role app has no privilege {', '.join(missing)} on {table}")
        found.append(f"{len(indexes)} of {table}")
    return f"valid indexes: {', '.join(found)}; and the privileges of app"


def execute(connection, statement):
    """Executes a statement of the function, with a value for each of its parameters, and rolls it back."""
    text = str(uuid.uuid4()).encode()
    with connection.transaction(force_rollback=True):
        own = connection.pgconn
        check(own.prepare(b"", statement.encode()), statement)
        described = own.describe_prepared(b"")
        values = [VALUES.get(described.param_type(number), text) for number in range(described.nparams)]
        result = own.exec_prepared(b"", values)
        check(result, statement)
    return f"{result.ntuples} rows, {result.command_status.decode()}"


def check(result, statement):
    if result.status in (psycopg.pq.ExecStatus.BAD_RESPONSE, psycopg.pq.ExecStatus.FATAL_ERROR):
        sys.exit(f"a statement failed: {result.get_error_message()}\n{statement}")


def cost(connection):
    """What the cluster bills for an insert. A Postgres does not say."""
    with connection.transaction(force_rollback=True):
        plan = connection.execute("EXPLAIN ANALYZE VERBOSE INSERT INTO events (event_name) VALUES ('verify')").fetchall()
    return "; ".join(line.strip() for (line,) in plan if "DPU" in line) or "not in the plan"


def rekeyed(connection):
    """A row whose primary key changes, as `CLEAR_KEY` does: that statement found no row above."""
    connection.execute(f"INSERT INTO {TABLE} (value) VALUES ('rekeyed')")
    changed = connection.execute(f"UPDATE {TABLE} SET id = gen_random_uuid() WHERE value = 'rekeyed'").rowcount
    if changed != 1:
        sys.exit(f"a primary key was changed in {changed} rows, and not in one")
    return "changed"


def expect(states, work):
    """Runs work that must fail, with one of these codes; any failure if they are None, before there is a connection."""
    for attempt in range(ATTEMPTS):
        try:
            work()
        except psycopg.Error as error:
            if not states or error.sqlstate in states:
                return f"{error.sqlstate or 'no connection'}: {str(error).splitlines()[0]}"
            if error.sqlstate not in OUTDATED or attempt + 1 == ATTEMPTS:
                sys.exit(f"expected {', '.join(states)}, and not {error.sqlstate}: {error}")
            # The schema was just changed.
            time.sleep(1)
        else:
            sys.exit(f"this should have failed with {', '.join(states or ['an error'])}")


def together(connection, *parts):
    with connection.transaction():
        for part in parts:
            connection.execute(part)


def conflict(connection, other):
    """Two transactions change one row. One of them commits, the other fails with a code that is retried."""
    row = uuid.uuid4()
    connection.execute(f"INSERT INTO {TABLE} (id, value) VALUES (%s, '0')", [row])
    update = f"UPDATE {TABLE} SET value = value || 'x' WHERE id = %s"

    def second():
        with other.transaction():
            # Its snapshot is from before the first one commits.
            other.execute(f"SELECT value FROM {TABLE} WHERE id = %s", [row])
            with connection.transaction():
                connection.execute(update, [row])
            other.execute(update, [row])

    return expect({"40001", "OC000"}, second)


def outdated(connection, other):
    """A session whose schema another one changes. Its next statement succeeds, or fails once with a code that is retried."""
    insert = f"INSERT INTO {TABLE} (value) VALUES ('x')"
    other.execute(insert)
    connection.execute(f"ALTER TABLE {TABLE} ADD COLUMN added text")
    try:
        other.execute(insert)
        return "the statement succeeded"
    except psycopg.Error as error:
        if error.sqlstate not in OUTDATED:
            raise
        time.sleep(1)
        other.execute(insert)
        return f"{error.sqlstate}: {str(error).splitlines()[0]}; then it succeeded"
