//! The statements of the store. `$1` is the injected time, `NULL` for the database's clock.

/// The time of the store.
macro_rules! now {
    () => {
        "COALESCE(CAST('1970-01-01 00:00:00+00' AS timestamptz) + $1::bigint * INTERVAL '1 microsecond', now())"
    };
}

/// The time after a number of microseconds.
macro_rules! after {
    ($parameter:literal) => {
        concat!("(", now!(), " + ", $parameter, "::bigint * INTERVAL '1 microsecond')")
    };
}

/// The time until a counter's window ends, in microseconds.
macro_rules! ends_in {
    () => {
        concat!("(extract(epoch FROM c.expires_at - ", now!(), ") * 1000000)::bigint AS ends_in")
    };
}

/// Inserts a row, or replaces an expired one.
pub(super) const PUT: &str = concat!(
    "INSERT INTO mcp.state AS s (row_key, kind, subject, version, value, expires_at, due_at) VALUES ($2, $3, $4, $5, $6, ",
    after!("$7"),
    ", ",
    after!("$8"),
    ") ON CONFLICT (row_key) DO UPDATE SET kind = excluded.kind, subject = excluded.subject, version = excluded.version, \
     value = excluded.value, expires_at = excluded.expires_at, due_at = excluded.due_at WHERE s.expires_at <= ",
    now!(),
);

pub(super) const GET: &str =
    concat!("SELECT version, value FROM mcp.state WHERE row_key = $2 AND expires_at > ", now!());

pub(super) const VERSION: &str = "SELECT version FROM mcp.state WHERE row_key = $1";

pub(super) const SET: &str = concat!(
    "UPDATE mcp.state SET version = $4, value = $5, expires_at = ",
    after!("$6"),
    ", due_at = ",
    after!("$7"),
    " WHERE row_key = $2 AND version = $3 AND expires_at > ",
    now!(),
);

/// Writes nothing, and returns no row, if the counter is at its ceiling.
pub(super) const INCREMENT: &str = concat!(
    "INSERT INTO mcp.counters AS c (row_key, kind, subject, count, granted, expires_at) \
     VALUES ($2, $3, $4, LEAST($5::bigint, $6::bigint), LEAST($5::bigint, $6::bigint), ",
    after!("$7"),
    ") ON CONFLICT (row_key) DO UPDATE SET \
     count = CASE WHEN c.expires_at <= ",
    now!(),
    " THEN excluded.count ELSE LEAST(c.count + $5::bigint, $6::bigint) END, \
     granted = CASE WHEN c.expires_at <= ",
    now!(),
    " THEN excluded.count ELSE LEAST(c.count + $5::bigint, $6::bigint) - c.count END, \
     expires_at = CASE WHEN c.expires_at <= ",
    now!(),
    " THEN excluded.expires_at ELSE c.expires_at END WHERE c.expires_at <= ",
    now!(),
    " OR c.count < $6::bigint RETURNING granted, count, ",
    ends_in!(),
);

pub(super) const COUNTER: &str = concat!(
    "SELECT 0::bigint AS granted, c.count AS count, ",
    ends_in!(),
    " FROM mcp.counters AS c WHERE c.row_key = $2 AND c.expires_at > ",
    now!(),
);

pub(super) const DELETE: &str = "DELETE FROM mcp.state WHERE row_key = $1";
pub(super) const DELETE_COUNTER: &str = "DELETE FROM mcp.counters WHERE row_key = $1";

pub(super) const DUE: &str = concat!(
    "SELECT row_key, version FROM mcp.state WHERE kind = $2 AND due_at <= ",
    after!("$3"),
    " AND expires_at > ",
    now!(),
    " ORDER BY due_at, row_key LIMIT $4",
);

pub(super) const DELETE_SUBJECT: &str =
    "DELETE FROM mcp.state WHERE row_key IN (SELECT row_key FROM mcp.state WHERE subject = $1 LIMIT $2)";
pub(super) const DELETE_SUBJECT_COUNTERS: &str =
    "DELETE FROM mcp.counters WHERE row_key IN (SELECT row_key FROM mcp.counters WHERE subject = $1 LIMIT $2)";

pub(super) const COUNT_SUBJECT: &str =
    "SELECT count(*) FROM (SELECT 1 FROM mcp.state WHERE subject = $1 LIMIT $2) AS own";
pub(super) const COUNT_SUBJECT_COUNTERS: &str =
    "SELECT count(*) FROM (SELECT 1 FROM mcp.counters WHERE subject = $1 LIMIT $2) AS own";

/// The condition is repeated: a row may be replaced between the subquery and the deletion, and only the outer condition is
/// evaluated again.
macro_rules! purge {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE expires_at <= ",
            now!(),
            " AND row_key IN (SELECT row_key FROM ",
            $table,
            " WHERE expires_at <= ",
            now!(),
            " ORDER BY expires_at LIMIT $2)"
        )
    };
}

pub(super) const PURGE: &str = purge!("mcp.state");
pub(super) const PURGE_COUNTERS: &str = purge!("mcp.counters");
