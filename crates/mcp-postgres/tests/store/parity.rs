//! Behavior of every implementation.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use mcp_server::{
    Principal,
    store::{
        Content, Increment, Kind, MAX_COUNT, MAX_LIFETIME, MAX_LIMIT, MAX_VALUE_BYTES, RowKey, RowTag, SealedStore,
        StoreError, StoreId, SubjectDeletion, SubjectKey,
    },
};
use tokio::task::yield_now;

use super::harness::{HOUR, Harness, KIND, TAG, content, row};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn one_of_50_concurrent_puts_stores_its_value(harness: Harness) {
    let values: Vec<_> = (0..50_u8).map(|byte| [byte]).collect();
    let puts =
        values.iter().enumerate().map(|(at, value)| harness.store(at).put_if_absent(row(1), TAG, content(value)));

    let stored: Vec<_> = join_all(puts).await.into_iter().map(Result::unwrap).collect();

    let won: Vec<_> =
        stored.iter().enumerate().filter_map(|(at, version)| version.map(|version| (at, version))).collect();
    let [(at, version)] = won[..] else { panic!("{won:?}") };
    let read = harness.store(3).get(row(1)).await.unwrap().unwrap();
    assert_eq!((read.value, read.version), (values[at].to_vec(), version));
}

pub(crate) async fn one_of_concurrent_replacements_of_a_version_wins(harness: Harness) {
    let first = harness.store(0).put_if_absent(row(1), TAG, content(b"0")).await.unwrap().unwrap();
    let replaced = join_all((0..20).map(|at| harness.store(at).compare_and_set(row(1), first, content(b"0")))).await;
    assert_eq!(replaced.into_iter().filter_map(Result::unwrap).count(), 1);

    // Each task increments the value five times; no increment may be lost.
    let add = async |at: usize| {
        let mut added = 0;
        while added < 5 {
            let read = harness.store(at).get(row(1)).await.unwrap().unwrap();
            let sum: u32 = String::from_utf8(read.value).unwrap().parse().unwrap();
            let sum = (sum + 1).to_string();
            let replaced =
                harness.store(at).compare_and_set(row(1), read.version, content(sum.as_bytes())).await.unwrap();
            added += u32::from(replaced.is_some());
        }
    };
    join_all((0..5).map(add)).await;

    assert_eq!(harness.store(0).get(row(1)).await.unwrap().unwrap().value, b"25");
    assert!(harness.store(0).compare_and_set(row(2), first, content(b"")).await.unwrap().is_none(), "an absent row");
}

pub(crate) async fn increments_never_exceed_the_ceiling(harness: Harness) {
    let increment = Increment { amount: 3, ceiling: 50, window: 10 * SECOND };
    let results = join_all((0..40).map(|at| harness.store(at).increment(row(1), TAG, increment))).await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();

    assert_eq!(results.iter().map(|result| result.granted).sum::<u64>(), 50);
    assert!(results.iter().all(|result| result.granted <= 3 && result.total <= 50));
    assert_eq!(results.iter().filter(|result| result.granted == 2).count(), 1, "the last part of the ceiling");

    harness.clock.advance(9 * SECOND);
    let full = harness.store(1).increment(row(1), TAG, increment).await.unwrap();
    assert_eq!((full.granted, full.total, full.ends_in), (0, 50, SECOND));
    let lower = harness.store(1).increment(row(1), TAG, Increment { ceiling: 10, ..increment }).await.unwrap();
    assert_eq!((lower.granted, lower.total), (0, 50), "a ceiling that was lowered");
    harness.clock.advance(SECOND);
    let next = harness.store(2).increment(row(1), TAG, increment).await.unwrap();
    assert_eq!((next.granted, next.total, next.ends_in), (3, 3, 10 * SECOND));
    let large = Increment { amount: MAX_COUNT, ceiling: MAX_COUNT, window: MAX_LIFETIME };
    let all = harness.store(2).increment(row(2), TAG, large).await.unwrap();
    assert_eq!((all.granted, all.ends_in), (MAX_COUNT, MAX_LIFETIME));
    harness.store(2).delete(row(2)).await.unwrap();
    assert_eq!(harness.store(2).increment(row(2), TAG, increment).await.unwrap().total, 3);
}

pub(crate) async fn an_expired_row_reads_as_absent(harness: Harness) {
    let store = harness.store(0);
    let version = store.put_if_absent(row(1), TAG, content(b"first")).await.unwrap().unwrap();

    harness.clock.advance(HOUR - SECOND);
    assert!(store.get(row(1)).await.unwrap().is_some());
    assert!(store.put_if_absent(row(1), TAG, content(b"second")).await.unwrap().is_none());
    harness.clock.advance(SECOND);
    assert!(store.get(row(1)).await.unwrap().is_none());
    assert!(store.compare_and_set(row(1), version, content(b"late")).await.unwrap().is_none());
    store.put_if_absent(row(1), TAG, content(b"second")).await.unwrap().unwrap();
    assert_eq!(store.get(row(1)).await.unwrap().unwrap().value, b"second");
}

pub(crate) async fn a_version_is_never_used_twice(harness: Harness) {
    let store = harness.store(0);
    let first = store.put_if_absent(row(1), TAG, content(b"a")).await.unwrap().unwrap();
    store.delete(row(1)).await.unwrap();
    store.delete(row(1)).await.unwrap();
    let second = store.put_if_absent(row(1), TAG, content(b"a")).await.unwrap().unwrap();

    assert!(store.compare_and_set(row(1), first, content(b"b")).await.unwrap().is_none());
    let third = store.compare_and_set(row(1), second, content(b"b")).await.unwrap().unwrap();

    assert!(first != second && second != third);
}

pub(crate) async fn an_expired_row_that_is_replaced_survives_a_concurrent_purge(harness: Harness) {
    for round in 0..20 {
        let puts = (0..5).map(async |at| harness.store(at).put_if_absent(row(1), TAG, content(b"live")).await.unwrap());
        let purges = (0..3).map(async |at| harness.store(at).purge(MAX_LIMIT).await.unwrap());

        let (stored, _) = futures_util::future::join(join_all(puts), join_all(purges)).await;

        assert_eq!(stored.iter().flatten().count(), 1, "round {round}");
        assert!(harness.store(0).get(row(1)).await.unwrap().is_some(), "round {round}");
        harness.clock.advance(HOUR);
    }
}

pub(crate) async fn rows_are_due_by_kind_in_the_order_of_their_time(harness: Harness) {
    let store = harness.store(0);
    let due = |seconds: u64| Content { due_in: Some(Duration::from_secs(seconds)), ..content(b"") };
    for (byte, seconds) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        store.put_if_absent(row(byte), TAG, due(seconds)).await.unwrap().unwrap();
    }
    store.put_if_absent(row(5), TAG, content(b"never due")).await.unwrap().unwrap();
    let other = RowTag { kind: Kind::new("other"), ..TAG };
    store.put_if_absent(row(6), other, due(1)).await.unwrap().unwrap();
    let short = Content { expires_in: 15 * SECOND, ..due(5) };
    store.put_if_absent(row(7), TAG, short).await.unwrap().unwrap();
    let list = async |seconds: u64, limit| {
        let rows = harness.store(1).due(KIND, Duration::from_secs(seconds), limit).await.unwrap();
        rows.iter().map(|due| due.key.as_bytes()[0]).collect::<Vec<_>>()
    };

    assert!(list(0, 10).await.is_empty());
    assert_eq!(list(30, 10).await, [7, 2, 3, 1]);
    assert_eq!(list(30, 2).await, [7, 2]);
    harness.clock.advance(20 * SECOND);
    assert_eq!(list(0, 10).await, [2, 3], "row 7 has expired");
    let version = store.due(KIND, Duration::ZERO, 1).await.unwrap()[0].version;
    store.compare_and_set(row(2), version, due(60)).await.unwrap().unwrap();
    assert_eq!(list(0, 10).await, [3]);
    assert_eq!(list(60, MAX_LIMIT).await, [3, 1, 4, 2]);
}

pub(crate) async fn arguments_out_of_range_are_rejected(harness: Harness) {
    let store = harness.store(0);
    let version = store.put_if_absent(row(1), TAG, content(b"")).await.unwrap().unwrap();
    let too_long = MAX_LIFETIME + SECOND;
    for own in [
        Content { expires_in: Duration::ZERO, ..content(b"") },
        Content { expires_in: Duration::from_nanos(1), ..content(b"") },
        Content { expires_in: too_long, ..content(b"") },
        Content { expires_in: Duration::MAX, ..content(b"") },
        Content { due_in: Some(Duration::MAX), ..content(b"") },
    ] {
        let put = store.put_if_absent(row(2), TAG, own).await;
        assert!(matches!(put, Err(StoreError::OutOfRange(_))), "{own:?}");
        let set = store.compare_and_set(row(1), version, own).await;
        assert!(matches!(set, Err(StoreError::OutOfRange(_))), "{own:?}");
    }
    let increment = Increment { amount: 1, ceiling: 1, window: SECOND };
    for own in [
        Increment { amount: 0, ..increment },
        Increment { amount: u64::MAX, ..increment },
        Increment { ceiling: 0, ..increment },
        Increment { ceiling: MAX_COUNT + 1, ..increment },
        Increment { window: Duration::ZERO, ..increment },
        Increment { window: Duration::MAX, ..increment },
    ] {
        let counted = store.increment(row(1), TAG, own).await;
        assert!(matches!(counted, Err(StoreError::OutOfRange(_))), "{own:?}");
    }
    for limit in [0, MAX_LIMIT + 1, usize::MAX] {
        assert!(matches!(store.due(KIND, Duration::ZERO, limit).await, Err(StoreError::OutOfRange(_))), "{limit}");
        assert!(matches!(store.purge(limit).await, Err(StoreError::OutOfRange(_))), "{limit}");
        let deletion = store.delete_subject(SubjectKey::from_bytes([7; 32]), limit).await;
        assert!(matches!(deletion, Err(StoreError::OutOfRange(_))), "{limit}");
    }
    assert!(matches!(store.due(KIND, Duration::MAX, 1).await, Err(StoreError::OutOfRange(_))));
    let longest = Content { expires_in: MAX_LIFETIME, due_in: Some(MAX_LIFETIME), ..content(b"") };
    store.put_if_absent(row(2), TAG, longest).await.unwrap().unwrap();
    assert_eq!(store.due(KIND, MAX_LIFETIME, 1).await.unwrap().len(), 1);
}

pub(crate) async fn the_largest_value_is_stored_and_a_larger_one_is_rejected(harness: Harness) {
    let store = harness.store(0);
    let large = vec![0xff; MAX_VALUE_BYTES + 1];
    let version = store.put_if_absent(row(1), TAG, content(&large[..harness.largest])).await.unwrap().unwrap();

    let put = store.put_if_absent(row(2), TAG, content(&large)).await;
    let set = store.compare_and_set(row(1), version, content(&large)).await;
    let id = StoreId { kind: KIND, caller: None, id: b"" };
    let sealed = harness.sealed.put_if_absent(&id, content(&large[..=SealedStore::MAX_VALUE_BYTES])).await;

    for result in [put, set, sealed] {
        assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{result:?}");
    }
    assert_eq!(store.get(row(1)).await.unwrap().unwrap().value, large[..harness.largest]);
    let overhead = MAX_VALUE_BYTES - SealedStore::MAX_VALUE_BYTES;
    let largest = &large[..harness.largest - overhead];
    harness.sealed.put_if_absent(&id, content(largest)).await.unwrap().unwrap();
    assert_eq!(harness.sealed.get(&id).await.unwrap().unwrap().value, largest);
}

pub(crate) async fn hostile_ids_are_separate_rows(harness: Harness) {
    let (long, longer) = (vec![b'x'; 1 << 20], vec![b'x'; (1 << 20) + 1]);
    let ids: [&[u8]; 10] = [
        b"",
        b"\0",
        b"\0\0",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
        "\u{202e}\u{1f469}\u{200d}\u{1f680}".as_bytes(),
        b"\xff\xfe",
        b"'; DROP TABLE mcp.state; --",
        &long,
        &longer,
    ];
    let id = |id| StoreId { kind: KIND, caller: None, id };

    for (at, own) in (0_u8..).zip(ids) {
        harness.sealed.put_if_absent(&id(own), content(&[at])).await.unwrap().expect("an absent row");
    }

    for (at, own) in (0_u8..).zip(ids) {
        assert_eq!(harness.sealed.get(&id(own)).await.unwrap().unwrap().value, [at]);
    }
}

pub(crate) async fn rows_belong_to_their_caller_and_client(harness: Harness) {
    let caller = |issuer: &str, subject: &str, client: Option<&str>| Principal {
        client_id: client.map(str::to_owned),
        ..Principal::new(issuer, subject)
    };
    let callers = [
        None,
        Some(caller("", "", None)),
        Some(caller("issuer", "ada", None)),
        Some(caller("issuer", "ada", Some(""))),
        Some(caller("issuer", "ada", Some("desktop"))),
        Some(caller("issuera", "da", Some("desktop"))),
        Some(caller("issuer", "ada\0desktop", None)),
    ];
    let id = |at: usize| StoreId { kind: KIND, caller: callers[at].as_ref(), id: b"same" };

    for (at, number) in (0..callers.len()).zip(0_u8..) {
        assert!(harness.sealed.get(&id(at)).await.unwrap().is_none(), "{at}");
        harness.sealed.put_if_absent(&id(at), content(&[number])).await.unwrap().expect("a row of its own");
    }

    for (at, number) in (0..callers.len()).zip(0_u8..) {
        assert_eq!(harness.sealed.get(&id(at)).await.unwrap().unwrap().value, [number]);
    }
}

pub(crate) async fn a_copied_row_does_not_open(harness: Harness) {
    let id = |id| StoreId { kind: KIND, caller: None, id };
    harness.sealed.put_if_absent(&id(b"own"), content(b"secret")).await.unwrap().unwrap();

    let stored = harness.store(0).get(harness.sealed.row_key(&id(b"own"))).await.unwrap().unwrap();
    let copy = harness.sealed.row_key(&id(b"other"));
    harness.store(0).put_if_absent(copy, TAG, content(&stored.value)).await.unwrap().unwrap();
    let opened = harness.sealed.get(&id(b"other")).await;

    assert!(matches!(opened, Err(StoreError::Unreadable)), "{opened:?}");
    let due = Content { due_in: Some(Duration::ZERO), ..content(b"secret") };
    harness.sealed.put_if_absent(&id(b"due"), due).await.unwrap().unwrap();
    let [row] = harness.sealed.due(KIND, Duration::ZERO, 10).await.unwrap()[..] else { panic!("one row is due") };
    assert_eq!(harness.sealed.get_row(KIND, row.key).await.unwrap().unwrap().value, b"secret");
    let other = harness.sealed.get_row(Kind::new("other"), row.key).await;
    assert!(matches!(other, Err(StoreError::Unreadable)), "{other:?}");
}

pub(crate) async fn all_rows_of_a_subject_are_deleted(harness: Harness) {
    let subject = SubjectKey::from_bytes([7; 32]);
    let own = RowTag { kind: KIND, subject: Some(subject) };
    // More than one statement deletes.
    let puts = (0..105_u8).map(|byte| harness.store(byte.into()).put_if_absent(row(byte), own, content(b"")));
    assert!(join_all(puts).await.into_iter().all(|put| put.unwrap().is_some()));
    let increment = Increment { amount: 1, ceiling: 9, window: HOUR };
    harness.store(0).increment(row(1), own, increment).await.unwrap();
    let first = harness.store(1).delete_subject(subject, 103).await.unwrap();
    assert_eq!(first, SubjectDeletion { deleted: 104, left: 2 }, "103 rows and a counter");
    let second = harness.store(2).delete_subject(subject, MAX_LIMIT).await.unwrap();
    assert_eq!(second, SubjectDeletion { deleted: 2, left: 0 });
    assert_eq!(harness.store(1).delete_subject(subject, 1).await.unwrap(), SubjectDeletion::default());
    assert_eq!(harness.store(0).increment(row(1), own, increment).await.unwrap().total, 1);

    let ada = |client: &str| Principal { client_id: Some(client.to_owned()), ..Principal::new("issuer", "ada") };
    let callers = [None, Some(ada("desktop")), Some(ada("phone")), Some(Principal::new("issuer", "bob"))];
    let id = |at: usize| StoreId { kind: KIND, caller: callers[at].as_ref(), id: b"1" };
    for at in 0..callers.len() {
        harness.sealed.put_if_absent(&id(at), content(b"")).await.unwrap().unwrap();
    }
    let deletion = harness.sealed.delete_subject("issuer", "ada", MAX_LIMIT).await.unwrap();
    assert_eq!(deletion, SubjectDeletion { deleted: 2, left: 0 });
    for (at, is_left) in [true, false, false, true].into_iter().enumerate() {
        assert_eq!(harness.sealed.get(&id(at)).await.unwrap().is_some(), is_left, "{at}");
    }
}

pub(crate) async fn a_deletion_ends_while_its_subject_writes(harness: Harness) {
    let subject = SubjectKey::from_bytes([7; 32]);
    let own = RowTag { kind: KIND, subject: Some(subject) };
    let (begun, written) = (AtomicU64::new(0), AtomicU64::new(0));
    let write = async |store: usize| {
        loop {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&begun.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            harness.store(store).put_if_absent(RowKey::from_bytes(key), own, content(b"")).await.unwrap();
            written.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    };
    let writers = pin!(join_all((1..5).map(write)));
    let delete = pin!(async {
        let mut deleted = 0;
        for _ in 0..3 {
            while written.load(Ordering::Relaxed) < deleted + 10 {
                yield_now().await;
            }
            deleted += harness.store(0).delete_subject(subject, 10).await.unwrap().deleted;
        }
        deleted
    });

    let Either::Right((deleted, _)) = select(writers, delete).await else { panic!("writers do not end") };

    assert!((1..=30).contains(&deleted), "{deleted}");
    // Any number of rows was written meanwhile.
    loop {
        let ended = harness.store(0).delete_subject(subject, MAX_LIMIT).await.unwrap();
        if ended.left == 0 {
            break;
        }
        assert!(ended.deleted > 0, "{ended:?}");
    }
}

pub(crate) async fn a_purge_deletes_expired_rows_up_to_its_limit(harness: Harness) {
    let store = harness.store(0);
    for byte in 0..5 {
        store.put_if_absent(row(byte), TAG, content(b"")).await.unwrap().unwrap();
    }
    let longer = Content { expires_in: 2 * HOUR, ..content(b"") };
    store.put_if_absent(row(9), TAG, longer).await.unwrap().unwrap();
    store.increment(row(1), TAG, Increment { amount: 1, ceiling: 9, window: HOUR }).await.unwrap();
    assert_eq!(store.purge(MAX_LIMIT).await.unwrap(), 0);
    harness.clock.advance(HOUR);

    assert_eq!(store.purge(3).await.unwrap(), 4, "three rows and a counter");
    assert_eq!(store.purge(MAX_LIMIT).await.unwrap(), 2);
    assert_eq!(store.purge(MAX_LIMIT).await.unwrap(), 0);
    assert!(store.get(row(9)).await.unwrap().is_some());
}
