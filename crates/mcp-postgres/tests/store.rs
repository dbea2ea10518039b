//! One suite for all implementations of the store: in memory, on Postgres, and on Aurora DSQL by its emulator, where a fifth of the
//! commits conflict.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

#[path = "store/harness.rs"]
mod harness;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/parity.rs"]
mod parity;

use std::{collections::HashSet, time::Duration};

use dsql_emulator::Faults;
use harness::{HOUR, Harness, KIND, TAG, cluster, config, content, row, store};
use mcp_postgres::PostgresStore;
use mcp_server::store::{Store, StoreError, StoreId};
use mcp_testing::TestDatabase;
use sqlx::{AssertSqlSafe, Executor, Row};

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::parity::$name(super::Harness::memory()).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::parity::$name(super::Harness::postgres().await).await; })*
        }
        mod dsql {
            $(#[tokio::test] async fn $name() { super::parity::$name(super::Harness::dsql().await).await; })*
        }
    };
}

suite!(
    one_of_50_concurrent_puts_stores_its_value,
    one_of_concurrent_replacements_of_a_version_wins,
    increments_never_exceed_the_ceiling,
    an_expired_row_reads_as_absent,
    a_version_is_never_used_twice,
    an_expired_row_that_is_replaced_survives_a_concurrent_purge,
    rows_are_due_by_kind_in_the_order_of_their_time,
    arguments_out_of_range_are_rejected,
    the_largest_value_is_stored_and_a_larger_one_is_rejected,
    hostile_ids_are_separate_rows,
    rows_belong_to_their_caller_and_client,
    a_copied_row_does_not_open,
    all_rows_of_a_subject_are_deleted,
    a_deletion_ends_while_its_subject_writes,
    a_purge_deletes_expired_rows_up_to_its_limit,
);

#[tokio::test]
async fn the_database_contains_neither_callers_nor_values_in_plain_text() {
    let harness = Harness::postgres().await;
    let ada = mcp_server::Principal::new("https://issuer.example", "ada-subject");
    let id = StoreId { kind: KIND, caller: Some(&ada), id: b"plain-id" };
    harness.sealed.put_if_absent(&id, content(b"plain-value")).await.unwrap().unwrap();

    let dump = "SELECT s::text || encode(value, 'escape') FROM mcp.state s";
    let dump: String = harness.connect().await.fetch_one(dump).await.unwrap().get(0);

    for plain in ["issuer.example", "ada-subject", "plain-id", "plain-value"] {
        assert!(!dump.contains(plain), "{plain}: {dump}");
    }
}

#[tokio::test]
async fn the_store_connects_at_first_use_and_keeps_one_connection() {
    let test = TestDatabase::create().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut connection = test.connect().await;
    let mut sessions = async || connection.fetch_one(count).await.unwrap().get::<i64, _>(0);

    let store = PostgresStore::new(config(&test, "on", 1));
    let before = sessions().await;
    for byte in 0..3 {
        store.put_if_absent(row(byte), TAG, content(b"")).await.unwrap().unwrap();
    }

    assert_eq!((before, sessions().await), (0, 1));
}

#[tokio::test]
async fn without_migrations_the_tables_are_created_by_a_call_of_their_own() {
    let test = TestDatabase::create().await;
    let store = PostgresStore::new(config(&test, "off", 1));

    let missing = store.get(row(1)).await;
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();

    assert!(matches!(missing, Err(StoreError::Other(_))), "{missing:?}");
    assert!(store.get(row(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn expired_rows_are_deleted_after_a_write() {
    let harness = Harness::postgres().await;
    for byte in 0..60 {
        harness.stores[0].put_if_absent(row(byte), TAG, content(b"")).await.unwrap().unwrap();
    }
    harness.clock.advance(HOUR);

    // Each environment deletes 50 rows at its first write.
    harness.stores[1].put_if_absent(row(100), TAG, content(b"")).await.unwrap().unwrap();
    let count = "SELECT count(*) FROM mcp.state";
    let after_one: i64 = harness.connect().await.fetch_one(count).await.unwrap().get(0);
    harness.stores[2].put_if_absent(row(101), TAG, content(b"")).await.unwrap().unwrap();
    let after_two: i64 = harness.connect().await.fetch_one(count).await.unwrap().get(0);

    assert_eq!((after_one, after_two), (11, 2));
}

#[tokio::test]
async fn an_unreachable_database_is_unavailable() {
    let get = |name: &str| (name == "DATABASE_URL").then_some("postgres://app:x@127.0.0.1:1/none");
    let store = PostgresStore::new(mcp_postgres::DatabaseConfig::from_env(get).unwrap());

    let error = store.get(row(1)).await;

    assert!(matches!(error, Err(StoreError::Unavailable(_))), "{error:?}");
}

/// A commit whose outcome is unknown is repeated, and recognizes what it has stored.
#[tokio::test]
async fn a_write_that_was_stored_is_never_reported_as_lost() {
    let cluster = cluster(Faults::default()).await;
    let store = store(&cluster, 1);
    store.migrate().await.unwrap();
    store.get(row(0)).await.unwrap();
    cluster.emulator().set_faults(Faults { unavailable: 0.4, conflict: 0.1, seed: 3, ..Faults::default() });

    for byte in 0..30 {
        match store.put_if_absent(row(byte), TAG, content(&[byte])).await {
            Ok(Some(version)) => {
                let stored = store.get(row(byte)).await.unwrap().unwrap();
                assert_eq!((stored.version, stored.value), (version, vec![byte]));
                let replaced = store.compare_and_set(row(byte), version, content(b"replaced")).await;
                assert!(!matches!(replaced, Ok(None)), "{byte}");
            }
            lost => panic!("{byte}: {lost:?}"),
        }
    }
    let increment = mcp_server::store::Increment { amount: 1, ceiling: 1000, window: HOUR };
    let counted = futures_util::future::join_all((0..30).map(|_| store.increment(row(200), TAG, increment))).await;
    cluster.emulator().set_faults(Faults::default());

    let total = store.increment(row(200), TAG, increment).await.unwrap().total;
    let (known, unknown): (Vec<_>, Vec<_>) = counted.into_iter().partition(Result::is_ok);
    assert!(unknown.iter().all(|error| matches!(error, Err(StoreError::OutcomeUnknown(_)))), "{unknown:?}");
    assert!(!unknown.is_empty() && total > known.len() as u64, "{total} {} {}", known.len(), unknown.len());
    assert!(total <= (known.len() + unknown.len() + 1) as u64, "an increment with an unknown outcome is not repeated");
}

#[tokio::test]
async fn concurrent_migrations_create_each_object_once() {
    let test = TestDatabase::create().await;
    let stores: Vec<_> = (0..8).map(|_| PostgresStore::new(config(&test, "on", 1))).collect();

    let all = futures_util::future::join_all(stores.iter().map(|store| store.get(row(1)))).await;

    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let indexes = "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'mcp'";
    let rows = test.connect().await.fetch_all(AssertSqlSafe(indexes)).await.unwrap();
    let indexes: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(indexes.len(), 8, "three primary keys and five indexes: {indexes:?}");
}

#[tokio::test]
async fn the_clock_of_the_database_is_the_default() {
    let test = TestDatabase::create().await;
    let store = PostgresStore::new(config(&test, "on", 1));
    let short = mcp_server::store::Content { expires_in: Duration::from_millis(1), ..content(b"") };

    store.put_if_absent(row(1), TAG, content(b"")).await.unwrap().unwrap();
    store.put_if_absent(row(2), TAG, short).await.unwrap().unwrap();

    assert!(store.get(row(1)).await.unwrap().is_some());
    while store.get(row(2)).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
