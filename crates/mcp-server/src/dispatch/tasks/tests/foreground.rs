//! The end of a call that becomes a task, near the deadline of its invocation.

use super::*;

/// A platform that does not respond.
struct Silent;

impl WakeTask for Silent {
    fn wake(&self, _: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
        Box::pin(pending())
    }
}

impl World {
    /// Calls a tool in an invocation that ends after five seconds.
    async fn call_before_deadline(&self, built: &BuiltServer) -> Result<Value, CallError> {
        let deadline = Some((Instant::now() + Duration::from_secs(5)).into_std());
        let invocation = Invocation { deadline, ..self.invocation(Some(ada())) };
        let params = json!({ "name": "steps", "arguments": {} });
        let answer = self.send(built, invocation, "tools/call", params, true);
        timeout(Duration::from_secs(60), answer).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_stored_in_time_ends_before_its_invocation() {
    let world = World::new();
    let begin = Instant::now();
    world.store.script(|operation, _| if operation == Operation::Put { Outcome::Hangs } else { Outcome::Done });

    let refused = world.call_before_deadline(&world.environment()).await;

    assert!(matches!(refused, Err(CallError::DeadlineExceeded)), "{refused:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(world.log.wakes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_the_store_does_not_confirm_is_returned_with_its_id() {
    for hangs in [false, true] {
        let world = World::new();
        let mut puts = 0;
        // The second write is that of the task.
        world.store.script(move |operation, _| {
            puts += usize::from(operation == Operation::Put);
            match (puts, hangs) {
                (2, false) => Outcome::Unconfirmed,
                (2, true) => Outcome::Hangs,
                _ => Outcome::Done,
            }
        });

        let created = world.call_before_deadline(&world.environment()).await.unwrap();
        world.store.end_script();

        assert_eq!(created["resultType"], "task", "{created}");
        let id = json!({ "taskId": created["taskId"] });
        let seen = world.request(Some(ada()), "tasks/get", id, true).await;
        assert_eq!(seen.is_ok(), !hangs, "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_wake_up_takes_too_long_is_answered_before_the_invocation_ends() {
    let world = World::new();
    let (built, begin) = (world.environment(), Instant::now());
    built.tasks().unwrap().wake_by(Arc::new(Silent));

    let created = world.call_before_deadline(&built).await.unwrap();

    assert!(begin.elapsed() < Duration::from_secs(5));
    advance(Duration::from_secs(5)).await;
    world.get(created["taskId"].as_str().unwrap()).await;
    assert_eq!(world.log.wakes().len(), 1, "it is overdue");
}
