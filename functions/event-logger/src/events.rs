//! The `events` table. All SQL statements of the function are here.

use mcp_lambda::{
    Principal, RequestContext,
    postgres::{DatabaseError, Retry},
};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::{READ, State};

/// A key of an event older than 30 days can be reused.
pub(crate) const INSERT: &str = r#"
    INSERT INTO events (event_name, issuer, subject, email, idempotency_key)
    VALUES ($1, $2, $3, $4, coalesce('client:' || $5, 'call:' || md5($6)))
    ON CONFLICT (issuer, subject, idempotency_key) DO UPDATE SET idempotency_key = excluded.idempotency_key
    RETURNING id, event_name, "timestamp", issuer, subject, email,
        xmax = 0 AS is_new, "timestamp" < now() - interval '30 days' AS is_expired
"#;
pub(crate) const CLEAR_KEY: &str = "UPDATE events SET idempotency_key = NULL WHERE id = $1";
pub(crate) const LATEST: &str = r#"
    SELECT id, event_name, "timestamp", issuer, subject, email FROM events ORDER BY "timestamp" DESC, id DESC LIMIT $1
"#;
pub(crate) const BY_ID: &str =
    r#"SELECT id, event_name, "timestamp", issuer, subject, email FROM events WHERE id = $1"#;

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
        // The format needs only components that a timestamp has.
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

/// Logs an event. The transaction is committed when this function returns.
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

    let insert = InsertStatement { event, caller, call: call.as_deref() };
    let inserted = context
        .state()
        .database
        .write(context, retry, async |mut connection| Ok(insert.execute(&mut connection).await?));
    let inserted = inserted.await?;
    let is_same = inserted.is_new || inserted.row.event_name == event.event_name;
    Ok(if is_same { InsertOutcome::Stored(inserted.row) } else { InsertOutcome::KeyTaken })
}

struct InsertStatement<'a> {
    event: &'a NewEvent<'a>,
    caller: &'a Principal,
    call: Option<&'a str>,
}

#[derive(FromRow)]
struct InsertedRow {
    #[sqlx(flatten)]
    row: EventRow,
    is_new: bool,
    is_expired: bool,
}

impl InsertStatement<'_> {
    async fn execute(&self, connection: &mut PgConnection) -> Result<InsertedRow, sqlx::Error> {
        let first = self.insert(connection).await?;
        if first.is_new || !first.is_expired {
            return Ok(first);
        }
        sqlx::query(CLEAR_KEY).bind(first.row.id).execute(&mut *connection).await?;
        self.insert(connection).await
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<InsertedRow, sqlx::Error> {
        sqlx::query_as(INSERT)
            .bind(self.event.event_name)
            .bind(&self.caller.issuer)
            .bind(&self.caller.subject)
            .bind(self.caller.verified_email().unwrap_or_default())
            .bind(self.event.idempotency_key)
            .bind(self.call)
            .fetch_one(connection)
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
