//! Migrations, applied by the first connection.

use std::pin::Pin;

use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Row,
    migrate::{Migrate, MigrateError, Migration, Migrator},
    postgres::PgRow,
};

use crate::{
    DatabaseError, MigrationError, MigrationReport,
    pooler::end_transaction,
    sessions::{OWN_SESSION, SESSION_SETTING},
};

pub(crate) const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success";
/// Key of the advisory lock for migrations behind a pooler, where the migrator's own lock is released before the transaction
/// ends. It is `mcp-migr` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7882267113239963506)";

/// State of a new connection, read in one round trip.
pub(crate) struct SchemaState {
    /// The settings of the startup message apply: the connection has its own session.
    pub(crate) is_own_session: bool,
    /// All migrations were applied; false without a migrator.
    pub(crate) is_current: bool,
}

impl SchemaState {
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
        let is_current = match migrator {
            Some(migrator) => is_current(&versions(applied)?, migrator),
            None => false,
        };
        Ok(Self { is_own_session, is_current })
    }
}

/// Applies pending migrations. One query detects them; only then is the migrator's lock taken, on which concurrent cold
/// starts wait for each other.
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

/// Applies pending migrations in a separate invocation.
pub(crate) async fn migrate_postgres(
    connection: &mut PgConnection,
    migrator: &'static Migrator,
    is_pooled: bool,
) -> Result<MigrationReport, MigrationError> {
    // No requests wait for this session. Behind a pooler it is not the migrator's own.
    if !is_pooled {
        connection.execute("SET statement_timeout = 0").await.map_err(DatabaseError::from)?;
    }
    let before = applied(connection).await.map_err(DatabaseError::from)?;
    let versions = up(migrator).map(|migration| migration.version);
    let (already_applied, pending): (Vec<_>, Vec<_>) =
        versions.partition(|version| before.iter().any(|(own, _)| own == version));
    ensure_current(connection, migrator, is_pooled).await.map_err(|error| match error {
        MigrateError::VersionMismatch(version) => MigrationError::Changed(version),
        MigrateError::ExecuteMigration(error, version) => MigrationError::Statement { version, source: error.into() },
        MigrateError::Execute(error) => MigrationError::Database(error.into()),
        error => MigrationError::Database(sqlx::Error::Migrate(Box::new(error)).into()),
    })?;
    Ok(MigrationReport { applied: pending, already_applied: already_applied.len(), unknown: Vec::new(), role: None })
}

async fn apply_pending(
    connection: &mut PgConnection,
    migrator: &Migrator,
    is_pooled: bool,
) -> Result<(), MigrateError> {
    if is_current(&applied(connection).await?, migrator) {
        return Ok(());
    }
    match is_pooled {
        true => apply_behind_a_pooler(connection, migrator).await?,
        // `run` does the same; its generic parameter hides from the compiler that the future is `Send`.
        false => migrator.run_direct(None, connection, false).await?,
    }
    tracing::info!("database migrations were applied");
    Ok(())
}

/// Applies each migration in its own transaction under the lock, which ends with the transaction. One with
/// `-- no-transaction` is executed before its transaction, without the lock.
async fn apply_behind_a_pooler(connection: &mut PgConnection, migrator: &Migrator) -> Result<(), MigrateError> {
    for migration in up(migrator) {
        let table = migrator.table_name.as_ref();
        let is_recorded = |applied: &[(i64, Vec<u8>)]| applied.iter().any(|(own, _)| *own == migration.version);
        if migration.no_tx && !is_recorded(&applied(connection).await?) {
            let executed = connection.execute(sqlx::raw_sql(migration.sql.clone())).await;
            executed.map_err(|error| MigrateError::ExecuteMigration(error, migration.version))?;
        }
        // If it fails, the connection is dropped within the transaction, and the pooler closes the session.
        connection.execute("BEGIN").await?;
        connection.execute(sqlx::raw_sql(LOCK)).await?;
        connection.ensure_migrations_table(table).await?;
        let before = connection.list_applied_migrations(table).await?;
        match before.iter().find(|own| own.version == migration.version) {
            Some(own) if own.checksum != migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version));
            }
            Some(_) => {}
            None if migration.no_tx => connection.skip(table, migration).await?,
            None => {
                connection.apply(table, migration).await?;
            }
        }
        end_transaction(connection, true).await?;
    }
    Ok(())
}

/// Returns versions and checksums of the applied migrations; none if their table is missing.
async fn applied(connection: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    match connection.fetch_all(sqlx::raw_sql(APPLIED)).await {
        Ok(rows) => versions(&rows),
        Err(error) if is_missing_table(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn up(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator.iter().filter(|migration| !migration.migration_type.is_down_migration())
}

pub(crate) fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01"))
}

fn versions(rows: &[PgRow]) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?))).collect()
}

fn is_current(applied: &[(i64, Vec<u8>)], migrator: &Migrator) -> bool {
    up(migrator).all(|migration| {
        applied.iter().any(|(version, checksum)| *version == migration.version && *checksum == *migration.checksum)
    })
}
