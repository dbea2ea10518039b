//! The schema, brought up to date by whoever comes first.

use std::pin::Pin;

use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Row,
    migrate::{MigrateError, Migrator},
};

/// Brings the schema up to date, if it is not. One query tells; only a schema that is behind takes the migrator's lock,
/// under which concurrent cold starts wait for each other.
///
/// # Errors
///
/// When a migration fails, or one that was applied is not the one that is known here.
pub(crate) fn ensure_current<'a>(
    connection: &'a mut PgConnection,
    migrator: &'static Migrator,
) -> Pin<Box<dyn Future<Output = Result<(), MigrateError>> + Send + 'a>> {
    // In a box, since the compiler cannot see through the migrator's future that it is `Send`.
    Box::pin(bring_up_to_date(connection, migrator))
}

async fn bring_up_to_date(connection: &mut PgConnection, migrator: &Migrator) -> Result<(), MigrateError> {
    if is_current_after("", connection, migrator).await? {
        return Ok(());
    }
    // `run` does the same; its generic parameter hides from the compiler that the future is `Send`.
    migrator.run_direct(None, connection, false).await?;
    tracing::info!("the schema of the database is up to date now");
    Ok(())
}

/// Whether the schema is up to date: by one query, in one round trip with the statements `before` it. Those have no effect
/// when there is no schema at all.
pub(crate) async fn is_current_after(
    before: &str,
    connection: &mut PgConnection,
    migrator: &Migrator,
) -> Result<bool, sqlx::Error> {
    let query = format!("{before}; SELECT version, checksum FROM _sqlx_migrations WHERE success");
    // Made of constants.
    let applied = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(query))).await;
    let applied = match applied {
        Ok(applied) => applied,
        // There is no such table yet.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => return Ok(false),
        Err(error) => return Err(error),
    };
    let applied: Vec<(i64, Vec<u8>)> = applied
        .iter()
        .map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?)))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(migrator.iter().filter(|migration| !migration.migration_type.is_down_migration()).all(|migration| {
        applied.iter().any(|(version, checksum)| *version == migration.version && *checksum == *migration.checksum)
    }))
}
