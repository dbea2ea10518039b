//! Migrations on Aurora DSQL: no lock, one statement in a transaction, asynchronous indexes.

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, migrate::Migrator, postgres::PgRow};

use crate::{
    DatabaseError, MigrationError, MigrationReport, RoleReport, Schema,
    config::AppRole,
    error::Failure,
    migrate::{APPLIED, is_missing_table},
    retry::{Budget, Retries},
};

/// The table of sqlx's migrator.
const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version bigint PRIMARY KEY,
    description text NOT NULL,
    installed_on timestamptz NOT NULL DEFAULT now(),
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
)";
const RECORD: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES ($1, $2, true, $3, -1) ON CONFLICT (version) DO NOTHING";
/// Jobs of migrations that have not finished, including those of an interrupted one. Aurora DSQL also has jobs of its own (`ANALYZE`,
/// `DROP`), whose end and outcome a migration does not depend on.
const UNFINISHED: &str = "SELECT job_id FROM sys.jobs WHERE status IN ('submitted', 'processing')
    AND job_type IN ('INDEX_BUILD', 'VALIDATE_CONSTRAINT')";
/// In the schema of the function, and in that of the store.
const INVALID: &str = "SELECT CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('public', 'mcp') AND NOT i.indisvalid ORDER BY 1";
#[cfg(feature = "store")]
const STORE_GRANTS: &[(&str, &str)] = &crate::store::schema::GRANTS;
#[cfg(not(feature = "store"))]
const STORE_GRANTS: &[(&str, &str)] = &[];
/// `transaction age limit exceeded`: a call that waits for a job is a transaction.
const LIMIT_EXCEEDED: &str = "54000";

/// Applies the pending migrations. [`finish`] checks the indexes, once the tables of the store exist.
pub(crate) async fn migrate(connection: &mut PgConnection, schema: &Schema) -> Result<MigrationReport, MigrationError> {
    let before = applied(connection).await?;
    let unknown = unknown(&before, schema);
    let mut report = MigrationReport { applied: Vec::new(), already_applied: 0, unknown, role: None };
    for migration in up(&schema.dsql) {
        match before.iter().find(|(version, _)| *version == migration.version) {
            Some((_, checksum)) if *checksum == *migration.checksum => report.already_applied += 1,
            Some(_) => return Err(MigrationError::Changed(migration.version)),
            None => {
                if !migration.no_tx {
                    return Err(MigrationError::Transactional(migration.version));
                }
                let failed = |source| MigrationError::Statement { version: migration.version, source };
                let rows = execute(connection, migration.sql.as_str()).await.map_err(failed)?;
                finish_jobs(connection, &rows).await?;
                record(connection, migration).await?;
                report.applied.push(migration.version);
            }
        }
    }
    Ok(report)
}

/// Waits for indexes, and sets the privileges of the app role. `unknown` has the migrations of newer code.
pub(crate) async fn finish(
    connection: &mut PgConnection,
    grants: &[(&str, &str)],
    app_role: Option<AppRole>,
    unknown: &[i64],
) -> Result<Option<RoleReport>, MigrationError> {
    // Those of the store, and those that an interrupted invocation has left.
    finish_jobs(connection, &[]).await?;
    match app_role {
        Some(role) => Ok(Some(grant(connection, role, grants, unknown).await?)),
        None => Ok(None),
    }
}

fn up(migrator: &Migrator) -> impl Iterator<Item = &sqlx::migrate::Migration> {
    migrator.iter().filter(|migration| !migration.migration_type.is_down_migration())
}

/// Returns the versions of applied migrations that a schema does not have, in their order.
fn unknown(applied: &[(i64, Vec<u8>)], schema: &Schema) -> Vec<i64> {
    let is_unknown = |version: &i64| !up(&schema.dsql).any(|own| own.version == *version);
    let mut versions: Vec<i64> = applied.iter().map(|(version, _)| *version).filter(is_unknown).collect();
    versions.sort_unstable();
    versions
}

/// Returns versions and checksums of the applied migrations. Creates their table if it is missing.
async fn applied(connection: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>)>, DatabaseError> {
    let mut retries = None;
    let rows = loop {
        match connection.fetch_all(sqlx::raw_sql(APPLIED)).await {
            Ok(rows) => break rows,
            Err(error) if is_missing_table(&error) => {
                execute(connection, CREATE_TABLE).await?;
                break Vec::new();
            }
            Err(error) => wait(&mut retries, error).await?,
        }
    };
    let read = |row: &PgRow| Ok::<_, sqlx::Error>((row.try_get("version")?, row.try_get("checksum")?));
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Waits for the job that a statement has returned, and for those of statements whose response was lost.
async fn finish_jobs(connection: &mut PgConnection, rows: &[PgRow]) -> Result<(), MigrationError> {
    let returned = rows.iter().filter(|row| row.try_column("job_id").is_ok());
    let mut jobs = strings(&returned.collect::<Vec<_>>());
    jobs.extend(strings(&execute(connection, UNFINISHED).await?));
    jobs.dedup();
    for job in jobs {
        wait_for_job(connection, job).await?;
    }
    let invalid = strings(&execute(connection, INVALID).await?);
    match invalid.is_empty() {
        true => Ok(()),
        false => Err(MigrationError::InvalidIndexes(invalid.join(", "))),
    }
}

async fn wait_for_job(connection: &mut PgConnection, job: String) -> Result<(), MigrationError> {
    let id = literal(&job);
    let call = format!("CALL sys.wait_for_job({id})");
    let returned = loop {
        match execute(connection, &call).await {
            Ok(rows) => break rows,
            Err(error) if code(&error).as_deref() == Some(LIMIT_EXCEEDED) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if returned.first().is_some_and(|row| row.try_get::<Option<bool>, _>(0).ok().flatten() == Some(true)) {
        return Ok(());
    }
    let state = execute(connection, &format!("SELECT status, details FROM sys.jobs WHERE job_id = {id}")).await?;
    let column = |name| state.first().and_then(|row| row.try_get::<Option<String>, _>(name).ok().flatten());
    match column("status").as_deref() {
        Some("completed") => Ok(()),
        _ => Err(MigrationError::Job { job, details: column("details").unwrap_or_else(|| "no details".to_owned()) }),
    }
}

async fn record(connection: &mut PgConnection, migration: &sqlx::migrate::Migration) -> Result<(), DatabaseError> {
    let mut retries = None;
    loop {
        let insert = sqlx::query(RECORD)
            .bind(migration.version)
            .bind(&*migration.description)
            .bind(&*migration.checksum)
            .execute(&mut *connection);
        match insert.await {
            Ok(_) => return Ok(()),
            Err(error) => wait(&mut retries, error).await?,
        }
    }
}

/// Creates the role, lets the IAM role connect as it, and makes its privileges in the schema `public` exactly the declared ones. Code
/// that is older than the database revokes none: the newer version that serves requests may need them.
async fn grant(
    connection: &mut PgConnection,
    role: AppRole,
    grants: &[(&str, &str)],
    unknown: &[i64],
) -> Result<RoleReport, DatabaseError> {
    let AppRole { name, arn } = role;
    let (own_name, own_arn) = (literal(&name), literal(&arn));
    let exists = format!("SELECT 1 FROM pg_roles WHERE rolname = {own_name}");
    let is_new = ensure(connection, &exists, &format!("CREATE ROLE {name} WITH LOGIN")).await?;
    let exists = format!("SELECT 1 FROM sys.iam_pg_role_mappings WHERE pg_role_name = {own_name} AND arn = {own_arn}");
    ensure(connection, &exists, &format!("AWS IAM GRANT {name} TO {own_arn}")).await?;
    let held = held(connection, &own_name).await?;
    let usage = [("SCHEMA public", "USAGE")];
    #[cfg(feature = "store")]
    let usage = [usage[0], ("SCHEMA mcp", "USAGE")];
    for (target, privileges) in usage.iter().chain(grants).chain(STORE_GRANTS) {
        // Each change of privileges invalidates what the connections of live environments know of the schema (OC001).
        if !is_held(&held, target, privileges) {
            execute(connection, &format!("GRANT {privileges} ON {target} TO {name}")).await?;
        }
    }
    let granted =
        grants.iter().chain(STORE_GRANTS).map(|(table, privileges)| format!("{privileges} ON {table}")).collect();
    // Last, so that the role never lacks a declared privilege.
    let mut revoked = Vec::new();
    for Held { target, privilege, .. } in held.iter().filter(|own| own.is_in_public && unknown.is_empty()) {
        if !is_declared(grants, target, privilege) {
            execute(connection, &format!("REVOKE {privilege} ON {target} FROM {name}")).await?;
            revoked.push(format!("{privilege} ON {target}"));
        }
    }
    Ok(RoleReport { name, arn, is_new, granted, revoked })
}

/// A privilege that a role has.
struct Held {
    /// As `GRANT` names it.
    target: String,
    /// The right to grant a privilege to others is one more: `GRANT OPTION FOR SELECT`.
    privilege: String,
    /// Whether it holds for all columns.
    is_whole: bool,
    /// Otherwise it is in the schema of the store.
    is_in_public: bool,
}

async fn held(connection: &mut PgConnection, role: &str) -> Result<Vec<Held>, DatabaseError> {
    let sql = format!(
        "WITH held (schema, target, privilege, is_whole, is_grantable) AS (
        SELECT n.nspname, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || CASE n.nspname WHEN 'public' THEN '' ELSE 'mcp.' END
            || quote_ident(c.relname), a.privilege_type, true, a.is_grantable
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) a
            JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname IN ('public', 'mcp') AND r.rolname = {role}
        UNION ALL SELECT n.nspname, quote_ident(c.relname), a.privilege_type, false, a.is_grantable
            FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            CROSS JOIN LATERAL aclexplode(t.attacl) a
            JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname = 'public' AND r.rolname = {role}
        UNION ALL SELECT n.nspname, 'SCHEMA ' || n.nspname, a.privilege_type, true, a.is_grantable
            FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
            JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname IN ('public', 'mcp') AND r.rolname = {role})
        SELECT target, privilege, bool_or(is_whole) AS is_whole, schema = 'public' AS is_in_public FROM held GROUP BY 1, 2, 4
        UNION SELECT target, 'GRANT OPTION FOR ' || privilege, false, schema = 'public' FROM held WHERE is_grantable
        ORDER BY 1, 2"
    );
    let rows = execute(connection, &sql).await?;
    let read = |row: &PgRow| {
        let (target, privilege) = (row.try_get(0)?, row.try_get(1)?);
        Ok::<_, sqlx::Error>(Held { target, privilege, is_whole: row.try_get(2)?, is_in_public: row.try_get(3)? })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Whether a role has all of these privileges. Those for columns count as missing.
fn is_held(held: &[Held], target: &str, privileges: &str) -> bool {
    let target = target.strip_prefix("public.").unwrap_or(target);
    let held = held.iter().filter(|own| own.is_whole && own.target == target);
    privileges.split(',').all(|name| held.clone().any(|own| own.privilege.eq_ignore_ascii_case(name.trim())))
}

/// Whether a schema declares a privilege. One that is declared for columns is declared for its table.
fn is_declared(grants: &[(&str, &str)], target: &str, privilege: &str) -> bool {
    // `USAGE ON SCHEMA public` is granted to every role.
    grants.iter().copied().chain([("SCHEMA public", "USAGE")]).any(|(own, privileges)| {
        let own = own.strip_prefix("public.").unwrap_or(own);
        let mut names = privileges.split(',').map(|own| own.split('(').next().unwrap_or_default().trim());
        own == target && names.any(|own| own.eq_ignore_ascii_case(privilege))
    })
}

/// Executes a statement unless `exists` returns a row, which is checked again after an unknown outcome. Returns whether it was executed.
async fn ensure(connection: &mut PgConnection, exists: &str, sql: &str) -> Result<bool, DatabaseError> {
    let mut retries = None;
    let mut is_executed = false;
    loop {
        if !execute(connection, exists).await?.is_empty() {
            return Ok(is_executed);
        }
        is_executed = true;
        match connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await {
            Ok(_) => return Ok(true),
            Err(error) => wait(&mut retries, error).await?,
        }
    }
}

/// Executes a statement that can be repeated, with retries of conflicts.
async fn execute(connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, DatabaseError> {
    let mut retries = None;
    loop {
        match connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await {
            Ok(rows) => return Ok(rows),
            Err(error) => wait(&mut retries, error).await?,
        }
    }
}

/// Waits before a statement is repeated on the same connection. The time for retries begins with the first failure, since a statement may
/// wait for minutes.
async fn wait(retries: &mut Option<Retries>, error: sqlx::Error) -> Result<(), DatabaseError> {
    let failure = Failure::from(error);
    let may_repeat = !failure.class.is_connection_lost;
    retries.get_or_insert_with(|| Retries::new(Budget::new(None))).wait(failure, may_repeat).await
}

/// Returns the first column of rows, without nulls.
fn strings<R: std::borrow::Borrow<PgRow>>(rows: &[R]) -> Vec<String> {
    rows.iter().filter_map(|row| row.borrow().try_get::<Option<String>, _>(0).ok().flatten()).collect()
}

fn code(error: &DatabaseError) -> Option<String> {
    let source = std::error::Error::source(error)?.downcast_ref::<sqlx::Error>()?;
    source.as_database_error()?.code().map(|code| code.into_owned())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
