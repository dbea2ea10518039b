//! Tasks over rotations of the state key.

use super::*;
use crate::store::{Content, Kind, StoreId};

/// Returns the text of a state key whose keys, and index key, consist of these bytes.
fn state_key(keys: &[u8], index: u8) -> String {
    let text = |byte: u8| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [byte; 32]);
    let keys: Vec<_> = keys.iter().map(|byte| text(*byte)).collect();
    format!("{};{}", keys.join(","), text(index))
}

#[tokio::test(start_paused = true)]
async fn a_task_stays_visible_and_runs_over_three_rotations() {
    const NOTE: StoreId<'static> = StoreId { kind: Kind::new("note"), caller: None, id: b"1" };
    let world = World::new();
    let (id, key) = world.create("steps").await;
    let id = json!({ "taskId": id });
    let note = Content { value: b"note", expires_in: HOUR, due_in: None };
    world.environment().store().unwrap().put_if_absent(&NOTE, note).await.unwrap();
    let mut statuses = Vec::new();

    for (rotation, keys) in [&[1, 0][..], &[2, 1, 0], &[3, 2, 1]].into_iter().enumerate() {
        let rotated = world.environment_with(world.builder(), &state_key(keys, 0));
        if rotation == 0 {
            assert_eq!(rotated.tasks().unwrap().run(key, world.invocation(None)).await.unwrap(), TaskEnd::Parked);
        }
        if rotation < 2 {
            let stored = rotated.store().unwrap().get(&NOTE).await.unwrap();
            assert_eq!(stored.unwrap().value, b"note", "rotation {rotation}");
        }
        let seen = world.request_to(&rotated, Some(ada()), "tasks/get", id.clone(), true).await.unwrap();
        statuses.push(seen["status"].as_str().unwrap().to_owned());
    }
    let rotated = world.environment_with(world.builder(), &state_key(&[3, 2, 1], 0));
    advance(Duration::from_secs(601)).await;
    assert_eq!(rotated.tasks().unwrap().wake_due(10, world.now()).await.unwrap(), 1);
    assert_eq!(rotated.tasks().unwrap().run(key, world.invocation(None)).await.unwrap(), TaskEnd::Ended);
    let seen = world.request_to(&rotated, Some(ada()), "tasks/get", id.clone(), true).await.unwrap();
    let deleted = rotated.store().unwrap().delete_subject("https://issuer", "ada", 500).await.unwrap();

    assert_eq!(statuses, ["working"; 3]);
    assert_eq!(
        (&seen["status"], world.log.effects()),
        (&json!("completed"), vec!["one".to_owned(), "second".to_owned()])
    );
    assert!(deleted.deleted > 0 && deleted.left == 0, "{deleted:?}");
    assert!(world.request_to(&rotated, Some(ada()), "tasks/get", id, true).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_its_owner_cannot_see_does_not_run() {
    let world = World::new();
    let (id, key) = world.create("steps").await;
    let other = world.environment_with(world.builder(), &state_key(&[1, 0], 1));
    advance(Duration::from_secs(6)).await;

    let seen = world.request_to(&other, Some(ada()), "tasks/get", json!({ "taskId": id }), true).await;
    let woken = other.tasks().unwrap().wake_due(10, world.now()).await.unwrap();
    let end = other.tasks().unwrap().run(key, world.invocation(None)).await.unwrap();

    assert!(matches!(seen, Err(CallError::InvalidInput(_))), "{seen:?}");
    assert_eq!((woken, end, world.log.wakes().len()), (0, TaskEnd::Idle, 0));
    assert!(world.log.effects().is_empty());
    assert_eq!(world.wake_due(10).await.unwrap(), 1, "with its index key it goes on");
}
