//! A database of either kind that functions run on.

use std::ops::Deref;

use dsql_emulator::{Emulator, EmulatorConfig, TestCluster};

use crate::TestDatabase;

/// The kind of a [`TestBackend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// Postgres.
    Postgres,
    /// Aurora DSQL, by its emulator.
    Dsql,
}

/// A database for one test: Postgres, or Aurora DSQL by its emulator. It dereferences to Postgres itself, behind the emulator.
#[derive(Debug)]
pub struct TestBackend {
    database: TestDatabase,
    cluster: Option<TestCluster>,
}

impl TestBackend {
    /// Creates an empty database.
    ///
    /// # Panics
    ///
    /// As [`TestDatabase::create`], and if the emulator cannot be started.
    pub async fn create(kind: BackendKind) -> Self {
        let database = TestDatabase::create().await;
        let cluster = match kind {
            BackendKind::Postgres => None,
            BackendKind::Dsql => {
                let cluster = TestCluster::start(EmulatorConfig::new(database.url())).await;
                Some(cluster.expect("the emulator can be started"))
            }
        };
        Self { database, cluster }
    }

    /// Aurora DSQL by an emulator in front of `database`.
    pub fn from_cluster(database: TestDatabase, cluster: TestCluster) -> Self {
        Self { database, cluster: Some(cluster) }
    }

    /// Returns the emulator.
    ///
    /// # Panics
    ///
    /// Panics if the database is Postgres.
    pub fn emulator(&self) -> &Emulator {
        &self.cluster.as_ref().expect("a database of the kind `Dsql`").emulator
    }

    /// Returns the environment variables of a function that uses the database, on Aurora DSQL as `admin`.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.variables_as("admin")
    }

    /// As [`variables`](Self::variables), as this user on Aurora DSQL.
    pub fn variables_as(&self, user: &str) -> Vec<(String, String)> {
        match &self.cluster {
            Some(cluster) => cluster.variables(user),
            None => vec![("DATABASE_URL".to_owned(), self.database.url().to_owned())],
        }
    }
}

impl Deref for TestBackend {
    type Target = TestDatabase;

    fn deref(&self) -> &TestDatabase {
        &self.database
    }
}

/// Declares tests that run on both kinds of database, as `postgres::name` and `dsql::name`.
///
/// The first argument is the path of an `async fn` that creates a database of a [`BackendKind`]. Each test is an `async fn` that
/// takes its result.
///
/// ```
/// mod support {
///     use mcp_testing::{BackendKind, TestBackend};
///
///     pub(crate) async fn create(kind: BackendKind) -> TestBackend {
///         // The tables of the tests.
///         TestBackend::create(kind).await
///     }
/// }
///
/// mcp_testing::on_both_databases!(crate::support::create: a_row_is_inserted_once);
///
/// async fn a_row_is_inserted_once(database: mcp_testing::TestBackend) {
///     assert!(!database.variables().is_empty());
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! on_both_databases {
    ($create:path: $($name:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name($create($crate::BackendKind::Postgres).await).await;
            })*
        }
        mod dsql {
            $(#[tokio::test]
            async fn $name() {
                super::$name($create($crate::BackendKind::Dsql).await).await;
            })*
        }
    };
}
