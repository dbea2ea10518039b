//! The two databases that the function runs on.

#![allow(dead_code, reason = "each test file uses a part")]

use dsql_emulator::{EmulatorConfig, TestCluster};
use event_logger::{Config, SCHEMA, service};
use mcp_lambda::{
    Env, FromEnv, McpService,
    postgres::{MigrationConfig, MigrationError, MigrationReport, migrate},
};
use mcp_testing::TestDatabase;
use sqlx::{Executor, PgConnection, Row};

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    /// Aurora DSQL, by its emulator.
    Dsql,
}

/// A database for one test.
pub(crate) struct Backend {
    /// Postgres, directly or behind the emulator.
    pub(crate) test: TestDatabase,
    pub(crate) cluster: Option<TestCluster>,
}

impl Backend {
    /// A database with the function's schema.
    pub(crate) async fn create(kind: Kind) -> Self {
        let own = Self::empty(kind).await;
        own.migrate().await.unwrap();
        own
    }

    pub(crate) async fn empty(kind: Kind) -> Self {
        let test = TestDatabase::create().await;
        let cluster = match kind {
            Kind::Postgres => None,
            Kind::Dsql => Some(TestCluster::start(EmulatorConfig::new(test.url())).await.unwrap()),
        };
        Self { test, cluster }
    }

    /// Runs the migrations as `MCP_ROLE=migrate` does.
    pub(crate) async fn migrate(&self) -> Result<MigrationReport, MigrationError> {
        let variables = self.variables();
        let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        migrate(MigrationConfig::from_env(get).unwrap(), &SCHEMA).await
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.variables_as("admin")
    }

    /// Variables of a function that connects as this user of Aurora DSQL.
    pub(crate) fn variables_as(&self, user: &str) -> Vec<(String, String)> {
        match &self.cluster {
            Some(cluster) => cluster.variables(user),
            None => vec![("DATABASE_URL".to_owned(), self.test.url().to_owned())],
        }
    }
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_env(&Env::from_pairs(pairs.iter().copied())).map_err(|error| error.to_string())
}

/// For tests that do not depend on the caller: access rules are off.
pub(crate) async fn service_of(backend: &Backend) -> McpService {
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

/// Declares tests that run on each kind of database: `postgres::name` and `dsql::name`.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::Backend::create($crate::support::Kind::Postgres).await).await;
            })*
        }
        mod dsql {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::Backend::create($crate::support::Kind::Dsql).await).await;
            })*
        }
    };
}
