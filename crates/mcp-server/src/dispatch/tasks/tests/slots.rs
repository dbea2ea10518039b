//! Places for live tasks that the store's failures leave behind.

use super::*;
use crate::tasks::{clock::millis, rows, slots};

impl World {
    /// Calls a tool that becomes a task, as an anonymous caller with an address.
    async fn call_from(&self, address: &str) -> Value {
        let public = Tool::new("open", steps).task(Task::ttl(HOUR)).public();
        let built = self.environment_of(self.builder().tool(public));
        let raw = RawValue::from_string(r#"{"name":"open","arguments":{}}"#.to_owned()).unwrap();
        let address = Some(address.parse().unwrap());
        let invocation = Arc::new(Invocation { address, ..self.invocation(None) });
        let params = RequestParams::read(Some(&raw)).unwrap();
        let resolved = built.resolve(ProtocolVersion::LATEST, "tools/call", params, &invocation);
        let capabilities = Some(tasks::client_capabilities());
        let meta = RequestMeta { client_capabilities: capabilities, ..RequestMeta::default() };
        let call = Call { id: RequestId::Integer("1".into()), meta, notifications: None };
        let outcome = resolved.run(call).outcome().await;
        // Unbounded JSON: a result of this server.
        serde_json::from_str(outcome.result.unwrap().as_str()).unwrap()
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

    for _ in 0..20 {
        world.create("steps").await;
    }
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
        assert!(slots::take(store, Some(&ada()), None, key, HOUR, now).await.unwrap().is_some());
    }
    assert_eq!(world.call("steps").await["isError"], true, "their tasks may be on their way");

    advance(Duration::from_secs(61)).await;
    for _ in 0..20 {
        world.create("steps").await;
    }
    assert_eq!(world.call("steps").await["isError"], true, "all are live");
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
