//! The schema, brought up to date by the first connection.

use std::pin::Pin;

use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Row,
    migrate::{MigrateError, Migrator},
    postgres::PgRow,
};

use crate::{
    pooler::end_transaction,
    sessions::{OWN_SESSION, SESSION_SETTING},
};

const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success";
/// The migrator's own lock ends before the transaction does, behind a pooler. The key is `mcp-migr` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7882267113239963506)";

/// What one round trip tells of a new connection.
pub(crate) struct Schema {
    /// The settings of the startup message are in force: the connection is to a session of its own.
    pub(crate) is_own_session: bool,
    /// All migrations were applied; false where none were asked for.
    pub(crate) is_current: bool,
}

impl Schema {
    pub(crate) async fn read(connection: &mut PgConnection, migrator: Option<&Migrator>) -> Result<Self, sqlx::Error> {
        let setting = format!("SELECT current_setting('{SESSION_SETTING}', true) = '{OWN_SESSION}'");
        let both = migrator.map(|_| format!("{setting}; {APPLIED}")).unwrap_or(setting.clone());
        // Made of constants, as is the other.
        let read = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(both))).await;
        let rows = match read {
            Err(error) if is_missing_table(&error) => {
                connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(setting))).await?
            }
            read => read?,
        };
        let (own, applied) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
        let is_own_session = own.try_get::<Option<bool>, _>(0)?.unwrap_or(false);
        let is_current = migrator.map(|migrator| is_current(applied, migrator)).transpose()?.unwrap_or(false);
        Ok(Self { is_own_session, is_current })
    }
}

/// Brings the schema up to date, if it is not. One query tells; only a schema that is behind takes the migrator's lock,
/// under which concurrent cold starts wait for each other. Behind a pooler that is one transaction.
///
/// # Errors
///
/// When a migration fails, or one that was applied is not the one that is known here.
pub(crate) fn ensure_current<'a>(
    connection: &'a mut PgConnection,
    migrator: &'static Migrator,
    is_pooled: bool,
) -> Pin<Box<dyn Future<Output = Result<(), MigrateError>> + Send + 'a>> {
    // In a box, since the compiler cannot see through the migrator's future that it is `Send`.
    Box::pin(bring_up_to_date(connection, migrator, is_pooled))
}

async fn bring_up_to_date(
    connection: &mut PgConnection,
    migrator: &Migrator,
    is_pooled: bool,
) -> Result<(), MigrateError> {
    let applied = match connection.fetch_all(sqlx::raw_sql(APPLIED)).await {
        Ok(applied) => applied,
        // There is no such table yet.
        Err(error) if is_missing_table(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if is_current(&applied, migrator)? {
        return Ok(());
    }
    if is_pooled {
        // If it fails, the connection is dropped within the transaction, and the pooler gives up the session.
        connection.execute("BEGIN").await?;
        connection.execute(sqlx::raw_sql(LOCK)).await?;
    }
    // `run` does the same; its generic parameter hides from the compiler that the future is `Send`.
    migrator.run_direct(None, connection, false).await?;
    if is_pooled {
        end_transaction(connection, true).await?;
    }
    tracing::info!("the schema of the database is up to date now");
    Ok(())
}

fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01"))
}

fn is_current(applied: &[PgRow], migrator: &Migrator) -> Result<bool, sqlx::Error> {
    let applied: Vec<(i64, Vec<u8>)> = applied
        .iter()
        .map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?)))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(migrator.iter().filter(|migration| !migration.migration_type.is_down_migration()).all(|migration| {
        applied.iter().any(|(version, checksum)| *version == migration.version && *checksum == *migration.checksum)
    }))
}
