//! Operations on Aurora DSQL, by its emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for make soak")]

mod support;

use std::{
    cell::Cell,
    fmt,
    sync::Once,
    time::{Duration, Instant},
};

use dsql_emulator::{Faults, Limits};
use mcp_postgres::{Database, DatabaseError, Retry};
use mcp_server::{HandlerError, error_chain};
use sqlx::Executor;
use support::{LIMIT, MIGRATOR, NOTE, cluster, cluster_in_a_thread, config, context, execute, notes, open, open_with};
use tracing::field::{Field, Visit};

#[tokio::test]
async fn conflicts_are_retried_if_the_closure_may_be_repeated() {
    for marker_as_code in [false, true] {
        let faults = Faults { conflict: 0.3, schema_change: 0.1, marker_as_code, seed: 5, ..Faults::default() };
        let cluster = cluster(Limits::default(), faults).await;
        let database = open(&cluster, 1).await;
        assert_eq!(database.idle_connections(), 1);
        for _ in 0..20 {
            execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap();
        }
        assert_eq!(notes(&cluster).await, 20, "a conflict has no effect");

        cluster.emulator().set_faults(Faults { conflict: 1.0, marker_as_code, ..Faults::default() });
        let never = execute(&database, LIMIT, Retry::Never, NOTE).await;
        assert!(matches!(never, Err(DatabaseError::Unavailable(_))), "{never:?}");
        let context = context(LIMIT).await;
        let mut transaction = database.begin(&context).await.unwrap();
        transaction.execute(NOTE).await.unwrap();
        let conflict = transaction.commit().await;
        assert!(matches!(conflict, Err(DatabaseError::Unavailable(_))), "{conflict:?}");
        assert_eq!(notes(&cluster).await, 20);
    }
}

#[tokio::test]
async fn the_outcome_is_unknown_when_the_server_is_unavailable_at_the_commit() {
    let cluster = cluster(Limits::default(), Faults { unavailable: 1.0, ..Faults::default() }).await;
    let database = open(&cluster, 1).await;

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

/// A cluster admits 100 new connections a second: conflicts of many environments must not use them up.
#[tokio::test]
async fn a_commit_that_fails_keeps_its_connection() {
    for faults in
        [Faults { conflict: 1.0, ..Faults::default() }, Faults { unavailable: 1.0, seed: 1, ..Faults::default() }]
    {
        let cluster = cluster(Limits::default(), faults).await;
        let database = open(&cluster, 1).await;
        for _ in 0..5 {
            let context = context(LIMIT).await;
            let mut transaction = database.begin(&context).await.unwrap();
            transaction.execute(NOTE).await.unwrap();
            transaction.commit().await.unwrap_err();
            // The connection is ready for the next call.
            execute(&database, LIMIT, Retry::Never, "SELECT 1").await.unwrap();
        }
        assert_eq!(cluster.emulator().counts().admitted, 1, "{faults:?}");
    }
}

#[tokio::test]
async fn connections_are_replaced_before_they_are_too_old() {
    let cluster = cluster(Limits::default(), Faults::default()).await;
    let mut config = config(&cluster, &[]);
    config.max_connection_age = Some(Duration::ZERO);
    let database = Database::open(config, &MIGRATOR).await;
    for _ in 0..3 {
        execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap();
    }
    assert_eq!(cluster.emulator().counts().admitted, 4);
    let database = open(&cluster, 1).await;
    for _ in 0..3 {
        execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap();
    }
    assert_eq!((cluster.emulator().counts().admitted, notes(&cluster).await), (5, 6));
}

#[tokio::test]
async fn a_rejected_token_is_not_retried() {
    let cluster = cluster(Limits::default(), Faults::default()).await;
    let other = [("DB_WARM", "off"), ("AWS_ACCESS_KEY_ID", "other"), ("AWS_SECRET_ACCESS_KEY", "other")];
    let database = open_with(&cluster, 1, &other).await;
    let started = Instant::now();

    let error = execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap_err();

    assert!(matches!(error, DatabaseError::Other(_)), "{error:?}");
    // The message of Aurora DSQL has no reason. Its hint has.
    assert!(
        error_chain(&error).contains("access denied: The request signature does not match"),
        "{}",
        error_chain(&error)
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(cluster.emulator().counts().admitted, 1);
    // A call that is repeated fails again.
    let told = format!("{:?}", HandlerError::from(error));
    assert!(told.starts_with("Internal"), "{told}");
}

/// The deadline has room for the TLS handshakes of a thousand environments on a busy machine.
#[tokio::test]
async fn a_thousand_environments_that_connect_at_once_are_all_served() {
    connect_a_thousand(Duration::from_secs(90)).await;
}

/// `make soak` runs it alone. The backoff itself is tested in simulated time.
#[tokio::test]
#[ignore = "depends on the speed of the machine"]
async fn a_thousand_environments_that_connect_at_once_are_served_within_thirty_seconds() {
    connect_a_thousand(Duration::from_secs(30)).await;
}

/// A burst of cold starts: Aurora DSQL admits 100 connections a second, after a burst.
async fn connect_a_thousand(deadline: Duration) {
    const COUNT: u64 = 1000;
    let retries = Retries::start();
    let limits = Limits { connection_burst: 100.0, connections_per_second: 100.0, ..Limits::default() };
    let cluster = cluster_in_a_thread(limits).await;

    let started = Instant::now();
    let served = (0..COUNT).map(async |_| {
        let database = open_with(&cluster, 1, &[("DB_WARM", "off")]).await;
        // All deadlines are the same time.
        let limit = deadline.saturating_sub(started.elapsed());
        let done = execute(&database, Some(limit), Retry::Never, NOTE).await;
        database.close().await;
        done
    });
    let served = futures_util::future::join_all(served).await;

    let (elapsed, counts) = (started.elapsed(), cluster.emulator().counts());
    println!("served after {elapsed:?}: {counts:?}");
    let failed: Vec<_> = served.iter().filter(|done| done.is_err()).collect();
    assert!(failed.is_empty(), "{} of them, such as {:?}", failed.len(), failed[0]);
    assert_eq!((notes(&cluster).await, counts.admitted), (1000, COUNT));
    // Others are those whose start took too long on a busy machine.
    let reported = retries.count();
    assert!(reported >= counts.rejected, "{reported} of {} rejected attempts are reported", counts.rejected);
}

/// The limit of connections in use ends the retries after ten seconds; that of their rate does not.
#[tokio::test]
async fn rejected_connection_rates_are_retried_and_reported() {
    let retries = Retries::start();
    let limits = Limits { connection_burst: 1.0, connections_per_second: 2.0, ..Limits::default() };
    let cluster = cluster(limits, Faults::default()).await;

    let served = (0..4).map(async |_| {
        let database = open_with(&cluster, 1, &[("DB_WARM", "off")]).await;
        execute(&database, Some(Duration::from_secs(30)), Retry::Never, NOTE).await
    });
    let served = futures_util::future::join_all(served).await;

    assert!(served.iter().all(Result::is_ok), "{served:?}");
    let counts = cluster.emulator().counts();
    assert!(counts.admitted == 4 && counts.rejected > 0, "{counts:?}");
    assert_eq!(retries.count(), counts.rejected);
    // The backoff of a connection rate, not that of a lost connection.
    assert!(retries.shortest_ms() >= 250, "{} ms", retries.shortest_ms());
}

/// Counts the retries that are reported in this thread. Threads of other tests have the same subscriber: with one of its own, the first
/// of them to reach a place in the code, without a subscriber, would disable that place for all.
struct Retries;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static SHORTEST_MS: Cell<u64> = const { Cell::new(u64::MAX) };
}

impl Retries {
    fn start() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| tracing::subscriber::set_global_default(RetrySubscriber).unwrap());
        COUNT.set(0);
        SHORTEST_MS.set(u64::MAX);
        Self
    }

    fn count(&self) -> u64 {
        COUNT.get()
    }

    /// Returns the shortest wait in milliseconds.
    fn shortest_ms(&self) -> u64 {
        SHORTEST_MS.get()
    }
}

struct RetrySubscriber;

/// Finds the wait of a retry.
struct Wait;

impl Visit for Wait {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "wait_ms" {
            SHORTEST_MS.set(SHORTEST_MS.get().min(value));
        }
    }
}

impl tracing::Subscriber for RetrySubscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().fields().field("monotonic_counter.database_retries").is_some() {
            COUNT.set(COUNT.get() + 1);
            event.record(&mut Wait);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
