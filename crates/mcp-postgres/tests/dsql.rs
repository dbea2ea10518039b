//! Operations on Aurora DSQL, by its emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::time::{Duration, Instant};

use dsql_emulator::{Emulator, EmulatorConfig, Faults, Limits, TestCredentials};
use mcp_postgres::{Database, DatabaseConfig, DatabaseError, Retry};
use mcp_testing::TestDatabase;
use sqlx::Executor;
use support::{LIMIT, MIGRATOR, NOTE, context, execute, notes};

struct Cluster {
    test: TestDatabase,
    emulator: Emulator,
    certificate: std::path::PathBuf,
}

impl Cluster {
    async fn start(limits: Limits, faults: Faults) -> Self {
        let test = TestDatabase::create().await;
        MIGRATOR.run(&mut test.connect().await).await.unwrap();
        let mut config = EmulatorConfig::new(test.url());
        (config.limits, config.faults) = (limits, faults);
        let emulator = Emulator::start(config).await.unwrap();
        let name = format!("dsql-{}-{}.pem", std::process::id(), emulator.address().port());
        let certificate = std::env::temp_dir().join(name);
        std::fs::write(&certificate, emulator.certificate()).unwrap();
        Self { test, emulator, certificate }
    }

    fn config(&self) -> DatabaseConfig {
        let port = self.emulator.address().port().to_string();
        let credentials = TestCredentials::default();
        let get = |name: &str| match name {
            "DB_AUTH" => Some("dsql"),
            "DB_HOST" => Some("localhost"),
            "DB_PORT" => Some(port.as_str()),
            "DB_USER" => Some("admin"),
            "DB_SSLROOTCERT" => self.certificate.to_str(),
            "AWS_REGION" => Some("us-east-1"),
            "AWS_ACCESS_KEY_ID" => Some(credentials.access_key_id.as_str()),
            "AWS_SECRET_ACCESS_KEY" => Some(credentials.secret_access_key.as_str()),
            _ => None,
        };
        DatabaseConfig::from_env(get).unwrap()
    }

    async fn open(&self) -> Database {
        Database::open(self.config(), &MIGRATOR).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
    }
}

#[tokio::test]
async fn conflicts_are_retried_where_the_work_may_be_repeated() {
    for marker_as_code in [false, true] {
        let faults = Faults { conflict: 0.3, schema_change: 0.1, marker_as_code, seed: 5, ..Faults::default() };
        let cluster = Cluster::start(Limits::default(), faults).await;
        let database = cluster.open().await;
        assert_eq!(database.idle_connections(), 1);
        for _ in 0..20 {
            execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap();
        }
        assert_eq!(notes(&cluster.test).await, 20, "a conflict has no effect");

        cluster.emulator.set_faults(Faults { conflict: 1.0, marker_as_code, ..Faults::default() });
        let never = execute(&database, LIMIT, Retry::Never, NOTE).await;
        assert!(matches!(never, Err(DatabaseError::Unavailable(_))), "{never:?}");
        let context = context(LIMIT).await;
        let mut transaction = database.begin(&context).await.unwrap();
        transaction.execute(NOTE).await.unwrap();
        let conflict = transaction.commit().await;
        assert!(matches!(conflict, Err(DatabaseError::Unavailable(_))), "{conflict:?}");
        assert_eq!(notes(&cluster.test).await, 20);
    }
}

#[tokio::test]
async fn the_outcome_is_unknown_when_the_server_is_unavailable_at_the_commit() {
    let cluster = Cluster::start(Limits::default(), Faults { unavailable: 1.0, ..Faults::default() }).await;
    let database = cluster.open().await;

    let never = execute(&database, LIMIT, Retry::Never, NOTE).await;
    let context = context(LIMIT).await;
    let mut transaction = database.begin(&context).await.unwrap();
    transaction.execute(NOTE).await.unwrap();
    let committed = transaction.commit().await;
    let unsupported = execute(&database, LIMIT, Retry::Idempotent, "TRUNCATE notes").await;

    for result in [never.map(drop), committed] {
        assert!(matches!(result, Err(DatabaseError::OutcomeUnknown(_))), "{result:?}");
    }
    assert!(matches!(unsupported, Err(DatabaseError::Other(_))), "{unsupported:?}");
}

#[tokio::test]
async fn connections_are_replaced_before_they_are_too_old() {
    let cluster = Cluster::start(Limits::default(), Faults::default()).await;
    let mut config = cluster.config();
    config.max_connection_age = Some(Duration::ZERO);
    let database = Database::open(config, &MIGRATOR).await;
    for _ in 0..3 {
        execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap();
    }
    assert_eq!(cluster.emulator.counts().admitted, 4);
    let database = cluster.open().await;
    for _ in 0..3 {
        execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap();
    }
    assert_eq!((cluster.emulator.counts().admitted, notes(&cluster.test).await), (5, 6));
}

#[tokio::test]
async fn a_rejected_token_is_not_retried() {
    let cluster = Cluster::start(Limits::default(), Faults::default()).await;
    let port = cluster.emulator.address().port().to_string();
    let get = |name: &str| match name {
        "DB_AUTH" => Some("dsql"),
        "DB_HOST" => Some("localhost"),
        "DB_PORT" => Some(port.as_str()),
        "DB_USER" => Some("admin"),
        "DB_SSLROOTCERT" => cluster.certificate.to_str(),
        "DB_WARM" => Some("off"),
        "AWS_REGION" => Some("eu-west-1"),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("other"),
        _ => None,
    };
    let database = Database::open(DatabaseConfig::from_env(get).unwrap(), &MIGRATOR).await;
    let started = Instant::now();

    let refused = execute(&database, LIMIT, Retry::Idempotent, NOTE).await;

    assert!(matches!(refused, Err(DatabaseError::Other(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(cluster.emulator.counts().admitted, 1);
}
