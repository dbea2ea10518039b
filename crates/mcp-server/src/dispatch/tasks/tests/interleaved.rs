//! Requests between two operations of a run.

use super::*;

impl World {
    /// Lets a client send answers before the given write of a task's row.
    fn answer_before(&self, write: usize, key: RowKey, id: &str, responses: Value) {
        let (world, id, mut writes) = (self.clone(), id.to_owned(), 0);
        self.store.script(move |operation, row| {
            writes += usize::from(operation == Operation::Set && row == key);
            if operation != Operation::Set || row != key || writes != write {
                return Outcome::Done;
            }
            let (world, id, responses) = (world.clone(), id.clone(), responses.clone());
            Outcome::After(Box::pin(async move { world.update(&id, responses).await }))
        });
    }
}

/// The writes of a run without steps: its begin, and its end.
const END: usize = 2;

#[tokio::test(start_paused = true)]
async fn answers_that_arrive_while_a_run_ends_are_for_the_next_run() {
    let world = World::new();
    let (id, key) = world.create("asks_for_a_minute").await;
    assert_eq!(world.run(key).await, TaskEnd::Parked);
    advance(Duration::from_secs(61)).await;
    world.answer_before(END, key, &id, json!({ "first": accept("Ada"), "second": accept("Eve") }));

    assert_eq!(world.run(key).await, TaskEnd::Continued, "the next run was woken");
    world.store.end_script();

    assert_eq!(world.get(&id).await["status"], "working", "no question is open");
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["result"]["content"][0]["text"], "Ada Eve");
}

#[tokio::test(start_paused = true)]
async fn one_answer_that_arrives_while_a_run_ends_is_kept() {
    let world = World::new();
    let (id, key) = world.create("asks_for_a_minute").await;
    world.run(key).await;
    advance(Duration::from_secs(61)).await;
    world.answer_before(END, key, &id, json!({ "second": accept("Eve") }));

    assert_eq!(world.run(key).await, TaskEnd::Parked);
    world.store.end_script();

    let open = world.get(&id).await;
    assert_eq!(open["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first"]);
    world.update(&id, json!({ "first": accept("Ada"), "second": accept("Bob") })).await;
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["result"]["content"][0]["text"], "Ada Eve");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_run_has_read_is_not_read_again() {
    let world = World::new();
    let (id, key) = world.create("asks_for_a_minute").await;
    world.run(key).await;
    world.update(&id, json!({ "first": accept("ab") })).await;
    advance(Duration::from_secs(61)).await;
    world.answer_before(END, key, &id, json!({ "second": accept("Eve") }));

    assert_eq!(world.run(key).await, TaskEnd::Parked, "the first answer is too short");
    world.store.end_script();

    let open = world.get(&id).await;
    assert_eq!(open["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first~2"]);
    world.update(&id, json!({ "first~2": accept("Ada") })).await;
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["result"]["content"][0]["text"], "Ada Eve");
}
