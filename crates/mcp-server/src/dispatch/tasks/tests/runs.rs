//! Runs of tasks: steps, leases, deadlines, and the end of a task.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_in_other_environments_and_runs_each_step_once() {
    let world = World::new();
    let (id, key) = world.create("steps").await;
    assert!(world.log.effects().is_empty(), "no step runs in the request");

    assert_eq!(world.run(key).await, TaskEnd::Parked);
    let waiting = world.get(&id).await;
    assert_eq!((&waiting["status"], &waiting["statusMessage"]), (&json!("working"), &json!("one of two")));
    assert_eq!(waiting["ttlMs"], 3_600_000);
    assert_eq!(waiting["createdAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(world.run(key).await, TaskEnd::Idle, "it sleeps");
    assert!(world.log.wakes().is_empty());

    advance(Duration::from_secs(601)).await;
    world.get(&id).await;
    assert_eq!(world.log.wakes(), [key], "a request wakes what is due");
    assert_eq!(world.run(key).await, TaskEnd::Ended);

    let done = world.get(&id).await;
    assert_eq!((&done["status"], &done["resultType"]), (&json!("completed"), &json!("complete")));
    assert_eq!(done["result"]["content"][0]["text"], "3+6");
    assert_eq!(world.log.effects(), ["one", "second"]);
    assert_eq!(world.run(key).await, TaskEnd::Idle);
    advance(HOUR).await;
    let expired = world.request(Some(ada()), "tasks/get", json!({ "taskId": id }), true).await;
    assert!(matches!(expired, Err(CallError::InvalidInput(_))));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_is_repeated_when_its_lease_has_ended() {
    let world = World::new();
    let (id, key) = world.create("hangs").await;
    let killed = timeout(Duration::from_secs(10), world.run(key)).await;
    assert!(killed.is_err(), "the future was dropped in the step");

    assert_eq!(world.run(key).await, TaskEnd::Leased);
    assert_eq!(world.wake_due(100).await.unwrap(), 0);
    advance(Duration::from_secs(61)).await;
    assert_eq!(world.wake_due(100).await.unwrap(), 1);
    assert_eq!(world.log.wakes(), [key]);
    assert_eq!(world.run(key).await, TaskEnd::Ended);

    assert_eq!(world.get(&id).await["status"], "completed");
    let effects = world.log.effects();
    assert_eq!(effects.len(), 2);
    assert_eq!(effects[0], effects[1], "the idempotency key stays the same");
    assert!(!effects[0].contains(&id));
}

async fn panics(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    context.once("begin", async { Ok::<_, HandlerError>(()) }).await?;
    panic!("a secret");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_task_with_an_internal_error_and_releases_the_lease() {
    let world = World::new();
    let built = world.environment_of(world.builder().tool(Tool::new("panics", panics).task(Task::ttl(HOUR))));
    let params = json!({ "name": "panics", "arguments": {} });
    let created = world.request_to(&built, Some(ada()), "tools/call", params, true).await.unwrap();
    let (id, key) = (created["taskId"].as_str().unwrap(), world.log.wakes()[0]);

    assert_eq!(built.tasks().unwrap().run(key, world.invocation(None)).await.unwrap(), TaskEnd::Ended);

    let params = json!({ "taskId": id });
    let failed = world.request_to(&built, Some(ada()), "tasks/get", params, true).await.unwrap();
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!(-32603)));
    assert!(!failed.to_string().contains("secret"));
    let store = built.store().unwrap();
    assert!(!crate::tasks::lease::is_leased(store, Some(&ada()), id).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_frozen_writes_nothing_after_another_has_begun() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    // An environment that is frozen polls nothing.
    let mut frozen = Box::pin(world.run(key));
    assert!(timeout(Duration::from_millis(1), &mut frozen).await.is_err());
    advance(Duration::from_secs(31)).await;
    let mut other = Box::pin(world.run(key));
    assert!(timeout(Duration::from_secs(90), &mut other).await.is_err(), "it has recorded a step");

    assert_eq!(frozen.await, TaskEnd::Lost);
    assert_eq!(other.await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["status"], "completed");
    let mut effects = world.log.effects();
    effects.sort();
    effects.dedup();
    assert_eq!(effects.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn duplicate_wake_ups_run_a_task_once() {
    let world = World::new();
    let (_, key) = world.create("long").await;

    let (one, two, three) = tokio::join!(world.run(key), world.run(key), world.run(key));

    let mut ends = [one, two, three].map(TaskEnd::as_str);
    ends.sort_unstable();
    assert_eq!(ends, ["ended", "leased", "leased"]);
    assert_eq!(world.log.effects(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_before_its_deadline_and_goes_on_in_another() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    let mut ends = Vec::new();
    loop {
        let runner = world.environment().tasks().unwrap();
        let deadline = std::time::Instant::from(Instant::now() + Duration::from_secs(200));
        let invocation = Invocation { deadline: Some(deadline), ..world.invocation(None) };
        ends.push(runner.run(key, invocation).await.unwrap());
        if world.log.wakes().is_empty() {
            break;
        }
    }

    assert_eq!(ends.len(), 4, "three steps in each run: {ends:?}");
    assert_eq!((ends[0], ends[3]), (TaskEnd::Continued, TaskEnd::Ended));
    assert_eq!(world.get(&id).await["status"], "completed");
    assert_eq!(world.log.effects().len(), 10, "each step has run once");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_never_fits_into_a_run_fails_the_task() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    for _ in 0..30 {
        let runner = world.environment().tasks().unwrap();
        let deadline = std::time::Instant::from(Instant::now() + Duration::from_secs(30));
        let invocation = Invocation { deadline: Some(deadline), ..world.invocation(None) };
        runner.run(key, invocation).await.unwrap();
    }

    let failed = world.get(&id).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!(-32603)));
    assert!(failed.get("result").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_keeps_too_much_fails_at_once() {
    let world = World::new();
    let (id, key) = world.create("keeps_too_much").await;

    assert_eq!(world.run(key).await, TaskEnd::Lost);

    let failed = world.get(&id).await;
    assert_eq!(failed["status"], "failed");
    assert!(failed["error"]["message"].as_str().unwrap().contains("too large"), "{failed}");
    assert_eq!(world.run(key).await, TaskEnd::Idle);
    assert_eq!(world.log.effects(), ["0", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_stops_at_the_next_renewal() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    let run = async { (world.run(key).await, Instant::now()) };
    let cancel = async {
        sleep(Duration::from_secs(10)).await;
        let params = json!({ "taskId": id });
        world.request(Some(ada()), "tasks/cancel", params.clone(), true).await.unwrap();
        let at = Instant::now();
        let again = world.request(Some(ada()), "tasks/cancel", params, true).await.unwrap();
        assert_eq!(again["resultType"], "complete");
        at
    };

    let ((end, stopped), cancelled) = tokio::join!(run, cancel);

    assert_eq!(end, TaskEnd::Lost);
    assert!(stopped - cancelled <= Duration::from_secs(3));
    assert_eq!(world.get(&id).await["status"], "cancelled");
    assert_eq!(world.run(key).await, TaskEnd::Idle);
    assert!(world.log.effects().is_empty());
}
