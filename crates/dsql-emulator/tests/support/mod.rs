//! An emulator in front of a separate database.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use dsql_emulator::{Emulator, EmulatorConfig, Faults, Limits};
use mcp_testing::TestDatabase;
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

pub(crate) struct Cluster {
    pub(crate) emulator: Emulator,
    pub(crate) database: TestDatabase,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with_faults(faults: Faults) -> Self {
        Self::with(|config| config.faults = faults).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::with(|config| config.limits = limits).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut EmulatorConfig)) -> Self {
        let database = TestDatabase::create().await;
        let mut config = EmulatorConfig::new(database.url());
        change(&mut config);
        Self { emulator: Emulator::start(config).await.unwrap(), database }
    }

    pub(crate) fn options(&self, user: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .port(self.emulator.address().port())
            .database("postgres")
            .username(user)
            .password(&self.emulator.token(user).unwrap())
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert_from_pem(self.emulator.certificate().as_bytes().to_vec())
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options("admin")).await.unwrap()
    }

    /// A connection, and the table `notes`.
    pub(crate) async fn with_notes(&self) -> PgConnection {
        let sql = "CREATE TABLE notes (text text PRIMARY KEY, number bigint)";
        self.database.connect().await.execute(sql).await.unwrap();
        self.connect().await
    }

    /// Counts the notes, past the emulator.
    pub(crate) async fn notes(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&mut self.database.connect().await).await.unwrap()
    }
}

/// Executes a statement that fails, by the simple or the extended protocol. Returns code and message of its error.
pub(crate) async fn statement_error(connection: &mut PgConnection, sql: &str, is_simple: bool) -> (String, String) {
    let sql = AssertSqlSafe(sql.to_owned());
    let executed = match is_simple {
        true => connection.execute(sqlx::raw_sql(sql)).await,
        false => sqlx::query(sql).execute(&mut *connection).await,
    };
    error(executed.unwrap_err())
}

pub(crate) fn error(error: sqlx::Error) -> (String, String) {
    let database = error.as_database_error().unwrap_or_else(|| panic!("{error:?}"));
    (database.code().unwrap_or_default().into_owned(), database.message().to_owned())
}

/// Polls for a condition with a timeout.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not hold after ten seconds");
}
