//! [`Schema`] and [`migrate`]: the invocation that changes the schema, in place of the function that serves requests.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::migrate::Migrator;

use crate::{
    DatabaseError, MigrationConfig,
    error::access_denied,
    migrate::migrate_postgres,
    retry::{Budget, Retries},
    schema_dsql,
    sessions::Sessions,
};

/// How long connecting to Aurora DSQL is retried, also when access is denied: a permission of a new role applies after some seconds.
const PERMISSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A function's schema: its migrations, and the privileges of the role that serves requests.
///
/// A migration for Aurora DSQL is one statement that can be repeated, such as `CREATE TABLE IF NOT EXISTS …`, after a first line
/// `-- no-transaction`. Aurora DSQL commits a change of the schema before its row is stored in `_sqlx_migrations`, so that an
/// interrupted migration is executed again.
///
/// ```
/// # use mcp_postgres as mcp_lambda;
/// use mcp_lambda::Schema;
/// use sqlx::migrate::Migrator;
///
/// static SCHEMA: Schema = Schema {
///     postgres: Migrator::DEFAULT,
///     dsql: Migrator::DEFAULT,
///     grants: &[("events", "SELECT, INSERT")],
/// };
/// ```
#[derive(Debug)]
pub struct Schema {
    /// Migrations for Postgres.
    pub postgres: Migrator,
    /// Migrations for Aurora DSQL.
    pub dsql: Migrator,
    /// Tables of the schema `public` as a catalog spells them, and the privileges of the app role on each, such as `SELECT, INSERT`.
    /// Other privileges in the schema `public` are revoked, before the new version serves requests: remove a privilege one release
    /// after the last statement that needs it. Nothing is revoked by an older release, which lacks a migration that was applied: add a
    /// privilege in a release with a migration. Only on Aurora DSQL.
    pub grants: &'static [(&'static str, &'static str)],
}

/// Report of [`migrate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MigrationReport {
    /// Versions of the migrations that were applied, in their order.
    pub applied: Vec<i64>,
    /// Number of migrations that had been applied before.
    pub already_applied: usize,
    /// Versions of applied migrations that the schema does not have: newer code has applied them. Privileges are not revoked then.
    /// Only on Aurora DSQL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<i64>,
    /// The app role; `None` without `DB_APP_ROLE_ARN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleReport>,
}

/// The role that serves requests, and its privileges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RoleReport {
    /// Name of the database role.
    pub name: String,
    /// ARN of the IAM role that connects as it.
    pub arn: String,
    /// Whether the database role was created.
    pub is_new: bool,
    /// Privileges, such as `SELECT, INSERT ON events`.
    pub granted: Vec<String>,
    /// Privileges in the schema `public` that the role had and [`Schema::grants`] does not declare, such as `DELETE ON events`.
    pub revoked: Vec<String>,
}

/// Why [`migrate`] did not finish. Applied migrations are kept, and the next invocation continues after them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The database is not available, or rejected a statement of the migrator itself.
    #[error("could not migrate the database")]
    Database(#[source] DatabaseError),
    /// The database rejected a migration.
    #[error("migration {version} failed")]
    Statement {
        /// The migration's version.
        version: i64,
        /// The database's reason.
        #[source]
        source: DatabaseError,
    },
    /// The file of an applied migration was changed.
    #[error("migration {0} was applied with different content: restore its file, and add a new migration")]
    Changed(i64),
    /// A migration for Aurora DSQL would run in a transaction.
    #[error(
        "migration {0} is not for Aurora DSQL: its first line must be `-- no-transaction`, followed by one statement"
    )]
    Transactional(i64),
    /// An asynchronous job of Aurora DSQL has failed, such as the build of a unique index over duplicates.
    #[error("the job `{job}` failed: {details}: remove the cause, drop its invalid index, and migrate again")]
    Job {
        /// The job's id.
        job: String,
        /// The database's reason.
        details: String,
    },
    /// The invocation ended before the migrations did.
    #[error(
        "the migrations did not end before the timeout of the function: migrate again, applied migrations are kept"
    )]
    TimedOut,
    /// An index was not built to its end.
    #[error("invalid indexes: {0}: drop them, and migrate again")]
    InvalidIndexes(String),
}

impl From<DatabaseError> for MigrationError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

/// Applies the pending migrations of a schema, and makes the privileges of the app role of the configuration exactly those of the
/// schema. Code that is older than the database, by its migrations, only adds privileges. With the feature `store` it also creates or
/// updates the tables of [`PostgresStore`](crate::PostgresStore), and the app role may use them.
///
/// On Aurora DSQL it executes one statement in a transaction, waits for the indexes that are built asynchronously, and fails if
/// one is invalid. It retries for 20 s if access is denied. There is no lock: run one invocation at a time. It can be interrupted at any
/// statement, and be run again.
///
/// # Errors
///
/// When the database is not available, rejects a statement, or an asynchronous job fails.
pub async fn migrate(config: MigrationConfig, schema: &'static Schema) -> Result<MigrationReport, MigrationError> {
    let MigrationConfig { mut database, app_role } = config;
    let is_dsql = database.is_dsql();
    // Migrations run below, not when the session is opened.
    database.migrate = false;
    #[cfg(feature = "store")]
    let store = crate::PostgresStore::new(database.clone());
    let sessions = Sessions::new(database, &schema.postgres);
    let mut retries = Retries::new(Budget::new(is_dsql.then(|| Instant::now() + PERMISSION_TIMEOUT)));
    let session = loop {
        match sessions.connect().await {
            Ok(session) => break session,
            Err(failure) => {
                let is_denied = failure.class.is_authentication;
                let waited = retries.wait(failure, is_dsql || !is_denied).await;
                waited.map_err(|error| if is_denied { access_denied(error) } else { error })?;
            }
        }
    };
    let mut connection = session.connection;
    let mut report = match is_dsql {
        true => schema_dsql::migrate(&mut connection, schema).await?,
        false => migrate_postgres(&mut connection, &schema.postgres, session.is_pooled).await?,
    };
    #[cfg(feature = "store")]
    {
        match is_dsql {
            // An index that was invalid, and was dropped, is built again.
            true => store.repeat_migrations().await?,
            false => store.apply_migrations().await?,
        }
        store.close().await;
    }
    if is_dsql {
        report.role = schema_dsql::finish(&mut connection, schema.grants, app_role, &report.unknown).await?;
    }
    let MigrationReport { applied, already_applied, unknown, .. } = &report;
    tracing::info!(?applied, already_applied, ?unknown, "the schema is up to date");
    Ok(report)
}
