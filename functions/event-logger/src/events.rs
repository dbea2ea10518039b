//! The `events` table. All SQL statements of the function are here: one set for Postgres 14 to 18 and for Aurora DSQL.

use aws_lc_rs::digest::{SHA256, digest};
use mcp_lambda::{
    Principal, RequestContext,
    postgres::{DatabaseError, Retry},
};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::{READ, State};

/// Inserts an event unless its `key` exists, or in Postgres its `idempotency_key` in an event of the previous version.
pub(crate) const INSERT: &str = r#"
    INSERT INTO events (key, event_name, issuer, subject, email, idempotency_key)
    VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING
    RETURNING id, event_name, "timestamp", issuer, subject, email
"#;
pub(crate) const BY_KEY: &str = r#"
    SELECT id, event_name, "timestamp", issuer, subject, email, "timestamp" < now() - interval '30 days' AS is_expired
    FROM events WHERE key = $1::text::uuid
"#;
/// For events of the previous version. The next release drops this statement, and a later one the column (docs/database.md).
pub(crate) const BY_IDEMPOTENCY_KEY: &str = r#"
    SELECT id, event_name, "timestamp", issuer, subject, email, "timestamp" < now() - interval '30 days' AS is_expired
    FROM events WHERE issuer = $1 AND subject = $2 AND idempotency_key = $3
"#;
/// A key of an event older than 30 days can be reused.
pub(crate) const CLEAR_KEY: &str = r#"
    UPDATE events SET key = gen_random_uuid(), idempotency_key = NULL
    WHERE id = $1 AND "timestamp" < now() - interval '30 days'
"#;
pub(crate) const LATEST: &str = r#"
    SELECT id, event_name, "timestamp", issuer, subject, email FROM events ORDER BY "timestamp" DESC, id DESC LIMIT $1
"#;
pub(crate) const BY_ID: &str =
    r#"SELECT id, event_name, "timestamp", issuer, subject, email FROM events WHERE id = $1"#;

/// The events of a day. The index of `timestamp` serves it.
#[cfg(feature = "tasks")]
pub(crate) const COUNT: &str = r#"SELECT count(*) FROM events WHERE "timestamp" >= $1 AND "timestamp" < $2"#;

/// Maximum number of attempts of an insert whose key is taken and cleared by concurrent calls.
const MAX_ATTEMPTS: usize = 3;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct EventRow {
    pub(crate) id: i64,
    pub(crate) event_name: String,
    pub(crate) timestamp: OffsetDateTime,
    issuer: String,
    subject: String,
    email: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Event {
    /// The event's number.
    id: i64,
    /// What happened.
    event_name: String,
    /// When it was logged: ISO 8601 with time zone.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// The caller who logged it; only for callers with the scope `events:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    logged_by: Option<LoggedBy>,
}

/// A caller; every member is empty for an anonymous one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct LoggedBy {
    /// The issuer of the caller's token.
    issuer: String,
    /// The caller's subject at the issuer.
    subject: String,
    /// The caller's e-mail address, if the issuer has verified it.
    email: String,
}

impl EventRow {
    /// Formats the event as a line of text: `[YYYY-MM-DD HH:MM:SS] #number name`, in UTC.
    pub(crate) fn line(&self) -> String {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        // A timestamp has all components of the format.
        let time = self.timestamp.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default();
        format!("[{time}] #{} {}", self.id, self.event_name)
    }

    /// Converts the row, without the caller who logged it unless `context` has the scope `events:read`.
    pub(crate) fn into_event(self, context: &RequestContext<State>) -> Event {
        let logged_by = LoggedBy { issuer: self.issuer, subject: self.subject, email: self.email };
        Event {
            id: self.id,
            event_name: self.event_name,
            // Only years beyond 9999 cannot be formatted.
            timestamp: self.timestamp.format(&Rfc3339).unwrap_or_default(),
            logged_by: context.has_scope(READ).then_some(logged_by),
        }
    }
}

/// An event to log.
pub(crate) struct NewEvent<'a> {
    pub(crate) event_name: &'a str,
    pub(crate) idempotency_key: Option<&'a str>,
}

/// The result of [`insert`].
pub(crate) enum InsertOutcome {
    /// The stored event: new, or from an earlier call with the same key.
    Stored(EventRow),
    /// Another event has the key.
    KeyTaken,
}

/// Logs an event. It is committed when this function returns.
pub(crate) async fn insert(
    context: &RequestContext<State>,
    event: &NewEvent<'_>,
) -> Result<InsertOutcome, DatabaseError> {
    let anonymous = Principal::default();
    let caller = context.principal().unwrap_or(&anonymous);
    // Lambda gives each invocation a unique id, and ids are unique within a batch, so that a retry of a call is the
    // same event. The id is serialized as JSON, where 1 and "1" differ.
    let id = serde_json::to_string(context.id()).unwrap_or_default();
    let call =
        Some(context.request_id()).filter(|request| !request.is_empty()).map(|request| format!("{request}:{id}"));
    let has_key = call.is_some() || event.idempotency_key.is_some();
    let retry = if has_key { Retry::Idempotent } else { Retry::Never };

    let idempotency_key = event.idempotency_key.map(|key| format!("client:{key}"));
    let own_key = idempotency_key.clone().or(call.map(|call| format!("call:{call}")));
    let insert = InsertStatement {
        key: own_key.map(|own| event_key(&caller.issuer, &caller.subject, &own)),
        event_name: event.event_name,
        caller,
        email: caller.verified_email().unwrap_or_default(),
        idempotency_key,
    };
    let inserted = context
        .state()
        .database
        .write(context, retry, async |mut connection| Ok(insert.execute(&mut connection).await?));
    let (row, is_new) = inserted.await?;
    let is_same = is_new || row.event_name == event.event_name;
    Ok(if is_same { InsertOutcome::Stored(row) } else { InsertOutcome::KeyTaken })
}

/// Derives the key of an event: the first 16 bytes of a SHA-256 digest, as the text of a UUID. Lengths separate the parts.
/// `migrations/0003_key_of_events.sql` derives the same keys.
fn event_key(issuer: &str, subject: &str, own: &str) -> String {
    let text = format!("{}:{issuer}{}:{subject}{own}", issuer.len(), subject.len());
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

struct InsertStatement<'a> {
    /// `None` for a random key.
    key: Option<String>,
    event_name: &'a str,
    caller: &'a Principal,
    email: &'a str,
    idempotency_key: Option<String>,
}

#[derive(FromRow)]
struct EarlierRow {
    #[sqlx(flatten)]
    row: EventRow,
    is_expired: bool,
}

impl InsertStatement<'_> {
    /// Inserts the event, or returns the one that has its key. Each statement commits by itself, and has no effect when it is
    /// repeated.
    async fn execute(&self, connection: &mut PgConnection) -> Result<(EventRow, bool), sqlx::Error> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(row) = self.insert(connection).await? {
                return Ok((row, true));
            }
            match self.earlier(connection).await? {
                Some(EarlierRow { row, is_expired: false }) => return Ok((row, false)),
                Some(EarlierRow { row, .. }) => {
                    sqlx::query(CLEAR_KEY).bind(row.id).execute(&mut *connection).await?;
                }
                // Another call cleared the key meanwhile.
                None => {}
            }
        }
        Err(sqlx::Error::RowNotFound)
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<Option<EventRow>, sqlx::Error> {
        sqlx::query_as(INSERT)
            .bind(&self.key)
            .bind(self.event_name)
            .bind(&self.caller.issuer)
            .bind(&self.caller.subject)
            .bind(self.email)
            .bind(&self.idempotency_key)
            .fetch_optional(connection)
            .await
    }

    async fn earlier(&self, connection: &mut PgConnection) -> Result<Option<EarlierRow>, sqlx::Error> {
        let row = sqlx::query_as(BY_KEY).bind(&self.key).fetch_optional(&mut *connection).await?;
        if row.is_some() || self.idempotency_key.is_none() {
            return Ok(row);
        }
        sqlx::query_as(BY_IDEMPOTENCY_KEY)
            .bind(&self.caller.issuer)
            .bind(&self.caller.subject)
            .bind(&self.idempotency_key)
            .fetch_optional(connection)
            .await
    }
}

/// Reads the latest events, newest first.
pub(crate) async fn latest(context: &RequestContext<State>, limit: i64) -> Result<Vec<EventRow>, DatabaseError> {
    let rows = context.state().database.read(context, async |mut connection| {
        Ok(sqlx::query_as(LATEST).bind(limit).fetch_all(&mut *connection).await?)
    });
    rows.await
}

/// Reads the event with this number.
pub(crate) async fn by_id(context: &RequestContext<State>, id: i64) -> Result<Option<EventRow>, DatabaseError> {
    let row = context.state().database.read(context, async |mut connection| {
        Ok(sqlx::query_as(BY_ID).bind(id).fetch_optional(&mut *connection).await?)
    });
    row.await
}

/// Counts the events from one time until before another.
#[cfg(feature = "tasks")]
pub(crate) async fn count(
    context: &RequestContext<State>,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<i64, DatabaseError> {
    let count = context.state().database.read(context, async |mut connection| {
        Ok(sqlx::query_scalar(COUNT).bind(from).bind(until).fetch_one(&mut *connection).await?)
    });
    count.await
}
