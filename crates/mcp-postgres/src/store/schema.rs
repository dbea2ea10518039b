//! The tables of the store, and their migrations: single statements without a lock, each of which may be repeated.

use std::error::Error;

use sqlx::{AssertSqlSafe, Executor, Row};

use super::{PostgresStore, RetryPolicy};
use crate::DatabaseError;

/// The statements of each version. `ASYNC` is removed for Postgres.
const MIGRATIONS: [&[&str]; 1] = [&[
    "CREATE TABLE IF NOT EXISTS mcp.state (
        row_key text PRIMARY KEY,
        kind text NOT NULL,
        subject text,
        version bytea NOT NULL,
        value bytea NOT NULL,
        expires_at timestamptz NOT NULL,
        due_at timestamptz
    )",
    "CREATE TABLE IF NOT EXISTS mcp.counters (
        row_key text PRIMARY KEY,
        kind text NOT NULL,
        subject text,
        count bigint NOT NULL,
        granted bigint NOT NULL,
        expires_at timestamptz NOT NULL
    )",
    "CREATE INDEX ASYNC IF NOT EXISTS state_due ON mcp.state (kind, due_at)",
    "CREATE INDEX ASYNC IF NOT EXISTS state_expires ON mcp.state (expires_at)",
    "CREATE INDEX ASYNC IF NOT EXISTS state_subject ON mcp.state (subject)",
    "CREATE INDEX ASYNC IF NOT EXISTS counters_expires ON mcp.counters (expires_at)",
    "CREATE INDEX ASYNC IF NOT EXISTS counters_subject ON mcp.counters (subject)",
]];
const HAS_SCHEMA: &str = "SELECT count(*) FROM pg_namespace WHERE nspname = 'mcp'";
const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS mcp";
const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS mcp.store_migrations (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
/// The privileges of the role that serves requests.
pub(crate) const GRANTS: [(&str, &str); 3] = [
    ("mcp.state", "SELECT, INSERT, UPDATE, DELETE"),
    ("mcp.counters", "SELECT, INSERT, UPDATE, DELETE"),
    ("mcp.store_migrations", "SELECT"),
];
const APPLIED: &str = "SELECT COALESCE(max(version), 0) FROM mcp.store_migrations";
const RECORD: &str = "INSERT INTO mcp.store_migrations (version) VALUES ($1) ON CONFLICT (version) DO NOTHING";

/// Attempts at a statement that another session executes at the same time.
const ATTEMPTS: u32 = 5;
/// `IF NOT EXISTS` does not see what a concurrent session creates: unique violation in the catalog, duplicate schema, table or
/// object, and a catalog row that was updated concurrently.
const CONCURRENT: [&str; 5] = ["23505", "42P06", "42P07", "42710", "XX000"];
/// Undefined table, undefined schema.
const MISSING: [&str; 2] = ["42P01", "3F000"];

impl PostgresStore {
    /// Checks the version of the tables, and updates them if the configuration permits.
    pub(super) async fn ensure_tables(&self) -> Result<(), DatabaseError> {
        if self.applied_version().await? >= latest() {
            return Ok(());
        }
        if self.migrates {
            return self.apply_migrations().await;
        }
        Err(DatabaseError::Other("the tables of the store are missing or outdated: apply its migrations first".into()))
    }

    pub(crate) async fn apply_migrations(&self) -> Result<(), DatabaseError> {
        let applied = self.applied_version().await?;
        match applied >= latest() {
            true => Ok(()),
            false => self.apply_after(applied).await,
        }
    }

    /// Executes the statements of each version again, with a role that owns the tables.
    pub(crate) async fn repeat_migrations(&self) -> Result<(), DatabaseError> {
        self.apply_after(0).await
    }

    async fn apply_after(&self, applied: i64) -> Result<(), DatabaseError> {
        // Its privilege is checked before its existence: a role may own the schema, and be unable to create one.
        if !self.has_schema().await? {
            self.define(CREATE_SCHEMA).await?;
        }
        self.define(CREATE_MIGRATIONS).await?;
        for (version, statements) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > applied) {
            for statement in statements {
                self.define(statement).await?;
            }
            let recorded = self.execute(RetryPolicy::Idempotent, async |mut connection| {
                Ok(sqlx::query(RECORD).bind::<i64>(version).execute(&mut *connection).await.map(|_| ())?)
            });
            recorded.await?;
        }
        tracing::info!("migrations of the store were applied");
        Ok(())
    }

    async fn has_schema(&self) -> Result<bool, DatabaseError> {
        let read = self.execute(RetryPolicy::Read, async |mut connection| {
            Ok(connection.fetch_one(sqlx::raw_sql(HAS_SCHEMA)).await?.try_get::<i64, _>(0)?)
        });
        Ok(read.await?.value > 0)
    }

    /// Returns the version of the tables: 0 if there are none.
    async fn applied_version(&self) -> Result<i64, DatabaseError> {
        let read = self.execute(RetryPolicy::Read, async |mut connection| {
            Ok(connection.fetch_one(sqlx::raw_sql(APPLIED)).await?.try_get::<i64, _>(0)?)
        });
        match read.await {
            Ok(version) => Ok(version.value),
            Err(error) if has_code(&error, &MISSING) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Executes a statement that changes the schema.
    async fn define(&self, statement: &str) -> Result<(), DatabaseError> {
        let statement = if self.is_dsql { statement.to_owned() } else { statement.replace(" ASYNC", "") };
        for attempt in 1.. {
            let defined = self.execute(RetryPolicy::Idempotent, async |mut connection| {
                // The statements are constants.
                Ok(connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.as_str()))).await.map(|_| ())?)
            });
            match defined.await {
                Err(error) if attempt < ATTEMPTS && has_code(&error, &CONCURRENT) => {}
                defined => return defined.map(|_| ()),
            }
        }
        Ok(())
    }
}

fn latest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Reports whether an error, or a source of it, has one of these codes.
fn has_code(error: &DatabaseError, codes: &[&str]) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(own) = source {
        let code =
            own.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error).and_then(|own| own.code());
        if code.is_some_and(|code| codes.contains(&&*code)) {
            return true;
        }
        source = own.source();
    }
    false
}
