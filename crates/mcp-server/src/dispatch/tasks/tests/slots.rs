//! Places for live tasks that the store's failures leave behind.

use super::*;
use crate::tasks::{clock::millis, rows, slots};

impl World {
    /// Creates 20 tasks. A call looks at a few of the places that were not freed, so that several calls may be needed for one.
    async fn fill_all_places(&self) {
        let mut live = 0;
        for _ in 0..2000 {
            live += usize::from(self.call("steps").await["resultType"] == "task");
            if live == 20 {
                self.log.wakes();
                return;
            }
        }
        panic!("{live} places are live");
    }

    /// Calls a tool that becomes a task, as an anonymous caller with an address.
    async fn call_from(&self, address: &str) -> Value {
        let public = Tool::new("open", steps).task(Task::ttl(HOUR)).public();
        let built = self.environment_of(self.builder().tool(public));
        let invocation = Invocation { address: Some(address.parse().unwrap()), ..self.invocation(None) };
        let params = json!({ "name": "open", "arguments": {} });
        self.send(&built, invocation, "tools/call", params, true).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn places_of_tasks_that_ended_while_the_store_failed_are_free() {
    let world = World::new();
    for number in 0..20 {
        let params = json!({ "name": "measures", "arguments": { "text": "abc" } });
        let created = world.request(Some(ada()), "tools/call", params, true).await.unwrap();
        let (id, key) = (created["taskId"].as_str().unwrap(), world.log.wakes()[0]);
        let (ends_by_run, mut is_away) = (number % 2 == 0, false);
        // The write with the end is the last one: of a run, after its begin and one step.
        let (mut writes, last) = (0, if ends_by_run { 3 } else { 1 });
        world.store.script(move |operation, row| {
            let outcome = if is_away { Outcome::Failed } else { Outcome::Done };
            writes += usize::from(operation == Operation::Set && row == key);
            is_away |= writes == last;
            outcome
        });
        if ends_by_run {
            let _ = world.environment().tasks().unwrap().run(key, world.invocation(None)).await;
        } else {
            let params = json!({ "taskId": id });
            world.request(Some(ada()), "tasks/cancel", params, true).await.unwrap();
        }
        world.store.end_script();
        let status = world.get(id).await["status"].clone();
        assert_eq!(status, if ends_by_run { "completed" } else { "cancelled" });
    }

    assert_eq!(world.call("steps").await["isError"], true, "a new place is not looked at");
    advance(Duration::from_secs(70)).await;
    world.fill_all_places().await;
    assert_eq!(world.call("steps").await["isError"], true, "all are live");
}

#[tokio::test(start_paused = true)]
async fn places_of_tasks_that_were_not_stored_are_free_after_a_minute() {
    let world = World::new();
    let built = world.environment();
    let store = built.store().unwrap();
    for _ in 0..20 {
        let now = millis(world.now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let key = rows::row_key(store, Some(&ada()), "never stored");
        let claimant = slots::Claimant { task: key, address: None, lifetime: HOUR, now, stored_by: now };
        assert!(slots::take(store, Some(&ada()), claimant).await.unwrap().is_some());
    }
    assert_eq!(world.call("steps").await["isError"], true, "their tasks may be on their way");

    advance(Duration::from_secs(61)).await;
    world.fill_all_places().await;
    assert_eq!(world.call("steps").await["isError"], true, "all are live");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_reads_few_tasks() {
    let world = World::new();
    for _ in 0..20 {
        world.create("steps").await;
    }
    for (seconds, operations) in [(0, 20 + 2), (70, 20 + 2 * 2)] {
        advance(Duration::from_secs(seconds)).await;
        let before = world.store.operations();

        assert_eq!(world.call("steps").await["isError"], true);

        assert_eq!(world.store.operations() - before, operations, "after {seconds} s");
    }
}

/// Runs a step and ends.
async fn quick(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let log = context.state();
    let work = async {
        log.note("quick");
        Ok::<_, HandlerError>(())
    };
    context.once("step", work).await?;
    Ok("done".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_place_runs_no_step() {
    let world = World::new();
    let built = world.environment_of(world.builder().tool(Tool::new("quick", quick).task(Task::ttl(HOUR))));
    let call = |tool: &str| {
        let params = json!({ "name": tool, "arguments": {} });
        world.request_to(&built, Some(ada()), "tools/call", params, false)
    };
    for _ in 0..25 {
        let ended = call("quick").await.unwrap();
        assert_eq!(ended["content"][0]["text"], "done", "a call that ends in its request frees its place");
    }
    for number in 0..20 {
        let handle = call("steps").await.unwrap();
        assert!(handle["content"][0]["text"].as_str().unwrap().contains("get_task_result"), "{number}: {handle}");
    }
    let before = world.log.effects();

    for tool in ["steps", "quick"] {
        let rejected = call(tool).await.unwrap();
        let text = rejected["content"][0]["text"].as_str().unwrap();
        assert!(rejected["isError"] == true && text.contains("wait until one has ended"), "{text}");
    }
    world.store.script(|_, _| Outcome::Failed);
    let away = call("steps").await;
    world.store.end_script();

    assert!(matches!(away, Err(CallError::Unavailable(_))), "{away:?}");
    assert_eq!(world.log.effects(), before, "no step has run");
}

#[tokio::test(start_paused = true)]
async fn one_address_cannot_take_all_places_of_anonymous_callers() {
    let world = World::new();
    for _ in 0..10 {
        assert_eq!(world.call_from("192.0.2.7").await["resultType"], "task");
    }

    assert_eq!(world.call_from("192.0.2.7").await["isError"], true);
    assert_eq!(world.call_from("::ffff:192.0.2.7").await["isError"], true);
    assert_eq!(world.call_from("198.51.100.1").await["resultType"], "task");
}

#[tokio::test(start_paused = true)]
async fn all_clients_of_a_person_share_the_places() {
    let world = World::new();
    let client = |number: u32| Some(Principal { client_id: Some(format!("client {number}")), ..ada() });
    let params = || json!({ "name": "steps", "arguments": {} });
    let mut ids = Vec::new();
    for number in 0..20 {
        let created = world.request(client(number), "tools/call", params(), true).await.unwrap();
        ids.push(created["taskId"].as_str().unwrap().to_owned());
    }

    let rejected = world.request(client(20), "tools/call", params(), true).await.unwrap();
    assert_eq!(rejected["isError"], true, "a person can register any number of clients");

    world.request(client(7), "tasks/cancel", json!({ "taskId": ids[7] }), true).await.unwrap();
    let created = world.request(client(20), "tools/call", params(), true).await.unwrap();
    assert_eq!(created["resultType"], "task");
}
