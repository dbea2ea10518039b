//! The function on the two databases that it runs on.

#![allow(dead_code, reason = "each test file uses a part")]

use event_logger::{Config, SCHEMA, service};
use mcp_lambda::{
    Env, FromEnv, McpService,
    postgres::{MigrationConfig, MigrationError, MigrationReport, migrate},
};
use mcp_testing::{BackendKind, TestBackend};
use sqlx::{Executor, PgConnection, Row};

/// A database with the function's schema.
pub(crate) async fn create(kind: BackendKind) -> TestBackend {
    let own = TestBackend::create(kind).await;
    run_migrations(&own).await.unwrap();
    own
}

/// Runs the migrations as `MCP_ROLE=migrate` does.
pub(crate) async fn run_migrations(backend: &TestBackend) -> Result<MigrationReport, MigrationError> {
    let variables = backend.variables();
    let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    migrate(MigrationConfig::from_env(get).unwrap(), &SCHEMA).await
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_env(&Env::from_pairs(pairs.iter().copied())).map_err(|error| error.to_string())
}

/// For tests that do not depend on the caller: access rules are off.
pub(crate) async fn service_of(backend: &TestBackend) -> McpService {
    service_with(&backend.variables()).await
}

pub(crate) async fn service_with(variables: &[(String, String)]) -> McpService {
    let mut pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.push(("MCP_AUTH", "dangerously-off"));
    service(config(&pairs).unwrap()).await.unwrap()
}

/// The table's columns, constraints and indexes, each as a line.
pub(crate) async fn schema(connection: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', 'column', attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                pg_get_expr(adbin, adrelid))
            FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid = 'events'::regclass AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT concat_ws(' ', 'constraint', conname, contype, convalidated, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype <> 'n'
        UNION ALL SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), CASE WHEN NOT indisvalid THEN 'INVALID' END)
            FROM pg_index WHERE indrelid = 'events'::regclass
        ORDER BY 1";
    connection.fetch_all(sql).await.unwrap().iter().map(|row| row.get(0)).collect()
}
