//! Migrations, applied by the first connection.

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
/// Key of the advisory lock for migrations behind a pooler, where the migrator's own lock is released before the transaction
/// ends. It is `mcp-migr` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7882267113239963506)";

/// State of a new connection, read in one round trip.
pub(crate) struct Schema {
    /// The settings of the startup message apply: the connection has a session of its own.
    pub(crate) is_own_session: bool,
    /// All migrations were applied; false without a migrator.
    pub(crate) is_current: bool,
}

impl Schema {
    pub(crate) async fn read(connection: &mut PgConnection, migrator: Option<&Migrator>) -> Result<Self, sqlx::Error> {
        let setting = format!("SELECT current_setting('{SESSION_SETTING}', true) = '{OWN_SESSION}'");
        let both = migrator.map(|_| format!("{setting}; {APPLIED}")).unwrap_or(setting.clone());
        // Both statements consist of constants.
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

/// Applies pending migrations. One query detects them; only then is the migrator's lock taken, on which concurrent cold
/// starts wait for each other. Behind a pooler all migrations are one transaction.
///
/// # Errors
///
/// When a migration fails, or an applied one differs from the one in the binary.
pub(crate) fn ensure_current<'a>(
    connection: &'a mut PgConnection,
    migrator: &'static Migrator,
    is_pooled: bool,
) -> Pin<Box<dyn Future<Output = Result<(), MigrateError>> + Send + 'a>> {
    // Boxed, since the compiler cannot infer that the migrator's future is `Send`.
    Box::pin(apply_pending(connection, migrator, is_pooled))
}

async fn apply_pending(
    connection: &mut PgConnection,
    migrator: &Migrator,
    is_pooled: bool,
) -> Result<(), MigrateError> {
    let applied = match connection.fetch_all(sqlx::raw_sql(APPLIED)).await {
        Ok(applied) => applied,
        // No migration was ever applied.
        Err(error) if is_missing_table(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if is_current(&applied, migrator)? {
        return Ok(());
    }
    if is_pooled {
        // If it fails, the connection is dropped within the transaction, and the pooler closes the session.
        connection.execute("BEGIN").await?;
        connection.execute(sqlx::raw_sql(LOCK)).await?;
    }
    // `run` does the same; its generic parameter hides from the compiler that the future is `Send`.
    migrator.run_direct(None, connection, false).await?;
    if is_pooled {
        end_transaction(connection, true).await?;
    }
    tracing::info!("database migrations were applied");
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
