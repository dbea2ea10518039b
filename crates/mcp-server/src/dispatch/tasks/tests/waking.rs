//! Wake-ups of tasks that are due.

use super::*;
use crate::store::{Content, Kind, RowTag, Store};

#[tokio::test(start_paused = true)]
async fn any_number_of_requests_wakes_a_task_that_is_due_once() {
    let world = World::new();
    let (id, key) = world.create("steps").await;
    // Until a run begins.
    for due_after in [5, 5, 10, 20, 40, 80, 160, 320, 320] {
        advance(Duration::from_secs(due_after - 1)).await;
        world.get(&id).await;
        assert_eq!((world.wake_due(10).await.unwrap(), world.log.wakes().len()), (0, 0), "{due_after}");
        advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            assert_eq!(world.get(&id).await["status"], "working");
            world.wake_due(10).await.unwrap();
        }
        assert_eq!(world.log.wakes(), [key], "{due_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_second_wakes_nothing() {
    let world = World::new();
    let (id, key) = world.create("steps").await;
    advance(Duration::from_secs(6)).await;
    let (other, mut is_first) = (world.clone(), true);
    world.store.script(move |operation, _| {
        if operation != Operation::Set || !std::mem::take(&mut is_first) {
            return Outcome::Done;
        }
        let (other, id) = (other.clone(), id.clone());
        Outcome::After(Box::pin(async move {
            other.get(&id).await;
        }))
    });

    assert_eq!(world.wake_due(10).await.unwrap(), 0);

    assert_eq!(world.log.wakes(), [key], "by the request that was between");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_wakes_nothing_and_is_no_error_of_a_request() {
    let world = World::new();
    let (id, key) = world.create("steps").await;
    advance(Duration::from_secs(6)).await;
    world.store.script(|operation, _| if operation == Operation::Set { Outcome::Failed } else { Outcome::Done });

    assert_eq!(world.get(&id).await["status"], "working");
    assert!(matches!(world.wake_due(10).await, Err(StoreError::Unavailable(_))));
    assert!(world.log.wakes().is_empty());

    world.store.end_script();
    assert_eq!(world.wake_due(10).await.unwrap(), 1);
    assert_eq!(world.log.wakes(), [key]);
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_one_caller_do_not_keep_another_from_being_woken() {
    let world = World::new();
    for _ in 0..20 {
        world.create("steps").await;
    }
    advance(Duration::from_secs(1)).await;
    let eve = Principal { subject: "eve".to_owned(), ..ada() };
    let params = json!({ "name": "steps", "arguments": {} });
    world.request(Some(eve), "tools/call", params, true).await.unwrap();
    let late = world.log.wakes()[0];
    advance(Duration::from_secs(6)).await;

    let mut woken = Vec::new();
    for expected in [8, 8, 5, 0] {
        assert_eq!(world.wake_due(8).await.unwrap(), expected);
        woken.extend(world.log.wakes());
    }

    assert_eq!(woken.iter().position(|key| *key == late), Some(20), "the earliest first");
    woken.sort();
    woken.dedup();
    assert_eq!(woken.len(), 21);
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_read_do_not_keep_others_from_being_woken() {
    let world = World::new();
    let tag = RowTag { kind: Kind::new("task"), subject: None };
    let content = Content { value: b"changed", expires_in: HOUR, due_in: Some(Duration::ZERO) };
    for number in 0..10 {
        world.store.rows.put_if_absent(RowKey::from_bytes([number; 32]), tag, content).await.unwrap();
    }
    let other = Server::new("other", "1", world.log.clone()).tool(Tool::new("steps", steps).task(Task::ttl(HOUR)));
    let (other, params) = (world.environment_of(other), json!({ "name": "steps", "arguments": {} }));
    for _ in 0..20 {
        world.request_to(&other, Some(ada()), "tools/call", params.clone(), true).await.unwrap();
    }
    world.log.wakes();
    advance(Duration::from_secs(1)).await;
    let (_, key) = world.create("steps").await;
    advance(Duration::from_secs(6)).await;

    assert_eq!(world.wake_due(10).await.unwrap(), 1);

    assert_eq!(world.log.wakes(), [key]);
    assert_eq!(world.wake_due(1000).await.unwrap(), 0, "any limit is allowed");
}
