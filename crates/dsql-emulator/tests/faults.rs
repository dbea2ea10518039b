//! Injected failures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use dsql_emulator::Faults;
use sqlx::{Connection, Executor, PgConnection};
use support::{Cluster, error, statement_error};

const NOTE: &str = "INSERT INTO notes VALUES (gen_random_uuid()::text)";

/// Inserts a note in one of three ways: 0 by a simple query, 1 by a prepared statement, 2 in an explicit transaction. An error is
/// its code and message.
async fn insert(connection: &mut PgConnection, way: usize) -> Result<(), (String, String)> {
    match way {
        0 => connection.execute(NOTE).await.map(|_| ()).map_err(error),
        1 => sqlx::query(NOTE).execute(connection).await.map(|_| ()).map_err(error),
        _ => {
            let mut transaction = connection.begin().await.map_err(error)?;
            sqlx::query(NOTE).execute(&mut *transaction).await.map_err(error)?;
            transaction.commit().await.map_err(error)
        }
    }
}

#[tokio::test]
async fn a_conflict_at_commit_leaves_nothing_and_the_connection_can_be_used() {
    let faults = Faults { conflict: 0.3, seed: 3, ..Faults::default() };
    let cluster = Cluster::with_faults(faults).await;
    let mut connection = cluster.with_notes().await;
    let mut stored = 0;
    let mut conflicts = [0; 3];
    for _ in 0..40 {
        for (way, conflicts) in conflicts.iter_mut().enumerate() {
            match insert(&mut connection, way).await {
                Ok(()) => stored += 1,
                Err((code, text)) => {
                    assert_eq!((code.as_str(), text.contains("(OC000)")), ("40001", true), "{text}");
                    *conflicts += 1;
                }
            }
            assert_eq!(cluster.notes().await, stored);
        }
    }
    assert!(conflicts.iter().all(|count| (4..25).contains(count)), "{conflicts:?}");

    // Reading has no commit that could conflict.
    cluster.emulator.set_faults(Faults { conflict: 1.0, unavailable: 1.0, ..Faults::default() });
    connection.fetch_all("SELECT * FROM notes").await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    transaction.fetch_all("SELECT * FROM notes").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(statement_error(&mut connection, "CREATE INDEX ASYNC i ON notes (number)", false).await.0, "40001");
    cluster.emulator.set_faults(Faults { conflict: 1.0, marker_as_code: true, ..Faults::default() });
    assert_eq!(insert(&mut connection, 2).await.unwrap_err().0, "OC000");
}

#[tokio::test]
async fn the_outcome_of_a_commit_is_unknown_when_the_server_is_unavailable() {
    let cluster = Cluster::with_faults(Faults { unavailable: 1.0, seed: 1, ..Faults::default() }).await;
    let mut connection = cluster.with_notes().await;
    let mut outcomes = [[0; 2]; 3];
    for _ in 0..20 {
        for (way, outcomes) in outcomes.iter_mut().enumerate() {
            let before = cluster.notes().await;
            let (code, text) = insert(&mut connection, way).await.unwrap_err();

            assert_eq!((code.as_str(), text.as_str()), ("XX000", "server unavailable"));
            outcomes[usize::try_from(cluster.notes().await - before).unwrap()] += 1;
        }
    }
    assert!(outcomes.iter().flatten().all(|count| *count > 2), "{outcomes:?}");
}

#[tokio::test]
async fn an_outdated_schema_fails_reads_and_writes() {
    let cluster = Cluster::with_faults(Faults { schema_change: 1.0, ..Faults::default() }).await;
    let mut connection = cluster.with_notes().await;
    for is_simple in [true, false] {
        for sql in ["SELECT * FROM notes", NOTE] {
            let (code, text) = statement_error(&mut connection, sql, is_simple).await;
            assert_eq!((code.as_str(), text.contains("(OC001)")), ("40001", true), "{text}");
        }
    }
    cluster.emulator.set_faults(Faults { schema_change: 1.0, marker_as_code: true, ..Faults::default() });
    assert_eq!(statement_error(&mut connection, NOTE, true).await.0, "OC001");
    assert_eq!(cluster.notes().await, 0);
}

/// A conflict that is not injected: two transactions change the same row.
#[tokio::test]
async fn a_conflict_of_two_transactions_has_the_marker() {
    let cluster = Cluster::start().await;
    let mut first = cluster.with_notes().await;
    first.execute("INSERT INTO notes VALUES ('x', 0)").await.unwrap();
    let mut second = cluster.connect().await;
    let sql = "UPDATE notes SET number = number + 1";
    let mut late = second.begin().await.unwrap();
    late.fetch_all("SELECT * FROM notes").await.unwrap();
    first.execute(sql).await.unwrap();

    let (code, text) = statement_error(&mut late, sql, false).await;

    assert_eq!((code.as_str(), text.contains("(OC000)")), ("40001", true), "{text}");
}

#[tokio::test]
async fn a_connection_is_closed_in_place_of_the_response_to_one_statement() {
    let cluster = Cluster::start().await;
    cluster.with_notes().await;
    cluster.emulator.set_faults(Faults { disconnect_at: Some(3), ..Faults::default() });
    for way in 0..2 {
        let mut connection = cluster.connect().await;
        let before = cluster.notes().await;
        for _ in 0..2 {
            connection.execute("SELECT 1").await.unwrap();
        }
        let inserted = sqlx::query(NOTE).execute(&mut connection).await;

        // The statement was executed.
        assert_eq!((inserted.is_err(), cluster.notes().await), (way == 0, before + 1));
        assert_eq!(connection.ping().await.is_err(), way == 0);
    }
}
