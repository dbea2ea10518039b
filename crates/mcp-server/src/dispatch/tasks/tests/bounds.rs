//! Tasks that grow to the size of a row.

use super::*;
use crate::{
    store::SealedStore,
    tasks::rows::{self, Change},
};

impl World {
    /// Lets the row of a task grow until this number of bytes is left.
    async fn fill(&self, key: RowKey, left: usize) {
        let built = self.environment();
        let store = built.store().unwrap();
        let mut held = rows::by_key(store, key).await.unwrap().unwrap();
        // The next run is the tenth, which takes more space than the ninth.
        (held.record.attempt, held.record.idle_attempts) = (9, 9);
        let bytes = serde_json::to_vec(&held.record).unwrap().len();
        let value = "x".repeat(SealedStore::MAX_VALUE_BYTES - left - bytes - r#","fill":"""#.len());
        held.record.state.kept.insert("fill".to_owned(), serde_json::value::to_raw_value(&value).unwrap());
        let now = u64::try_from(self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
        rows::replace(store, key, &held, Change::State, now).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_without_space_for_a_run_fails_and_frees_its_place() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    world.fill(key, 0).await;

    assert_eq!(world.run(key).await, TaskEnd::Idle);

    let failed = world.get(&id).await;
    assert_eq!(failed["status"], "failed");
    assert!(failed["error"]["message"].as_str().unwrap().contains("too large"), "{failed}");
    for _ in 0..20 {
        world.create("steps").await;
    }
}

#[tokio::test(start_paused = true)]
async fn white_space_of_arguments_is_not_stored() {
    let world = World::new();
    let raw = format!(r#"{{"name":"measures","arguments":{{"text":{}"a  b"}}}}"#, " ".repeat(500_000));
    let raw = RawValue::from_string(raw).unwrap();
    let built = world.environment();
    let mut capabilities = mcp_protocol::ClientCapabilities::elicitation();
    capabilities.extensions = tasks::client_capabilities().extensions;
    let meta = RequestMeta { client_capabilities: Some(capabilities), ..RequestMeta::default() };
    let invocation = Arc::new(world.invocation(Some(ada())));
    let params = RequestParams::read(Some(&raw)).unwrap();
    let resolved = built.resolve(ProtocolVersion::LATEST, "tools/call", params, &invocation);
    let call = Call { id: RequestId::Integer("1".into()), meta, notifications: None };
    let created = resolved.run(call).outcome().await.result.unwrap();
    // Unbounded JSON: a response of this server.
    let created: Value = serde_json::from_str(created.as_str()).unwrap();
    let key = world.log.wakes()[0];
    let stored = rows::by_key(built.store().unwrap(), key).await.unwrap().unwrap();

    assert_eq!(stored.record.arguments.unwrap().get(), r#"{"text":"a  b"}"#);
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(created["taskId"].as_str().unwrap()).await["result"]["content"][0]["text"], "4");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_too_large_arguments_runs_no_step() {
    let world = World::new();
    let built = world.environment_of(world.builder().tool(Tool::new("notes", notes).task(Task::ttl(HOUR))));
    for is_extended in [false, true] {
        let params = json!({ "name": "notes", "arguments": { "text": "x".repeat(65 * 1024) } });
        let rejected = world.request_to(&built, Some(ada()), "tools/call", params, is_extended).await.unwrap();
        let text = rejected["content"][0]["text"].as_str().unwrap();
        assert!(rejected["isError"] == true && text.contains("65536 bytes"), "{text}");
    }
    assert!(world.log.effects().is_empty());
}

/// A step with an effect.
async fn notes(context: InteractiveContext<Log>, args: Text) -> Result<String, HandlerError> {
    let work = async {
        context.state().note("noted");
        Ok::<_, HandlerError>(args.text.len())
    };
    Ok(context.once("note", work).await?.to_string())
}

#[tokio::test(start_paused = true)]
async fn arguments_steps_and_answers_leave_space_for_runs() {
    let world = World::new();
    let call = async |bytes: usize| {
        let params = json!({ "name": "measures", "arguments": { "text": "x".repeat(bytes) } });
        world.request(Some(ada()), "tools/call", params, true).await.unwrap()
    };
    assert_eq!(call(64 * 1024).await["isError"], true);
    assert_eq!(call(63 * 1024).await["resultType"], "task");
    assert_eq!(world.run(world.log.wakes()[0]).await, TaskEnd::Ended);

    let (id, key) = world.create("asks").await;
    world.run(key).await;
    world.fill(key, 17 * 1024).await;
    let params = json!({ "taskId": id, "inputResponses": { "first": accept(&"x".repeat(2000)) } });
    let refused = world.request(Some(ada()), "tasks/update", params, true).await;
    assert!(matches!(refused, Err(CallError::InvalidInput(_))), "{refused:?}");
    world.update(&id, json!({ "first": accept("Ada"), "second": accept("Eve") })).await;
    assert_eq!(world.log.wakes(), [key]);
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["status"], "completed");

    let (id, key) = world.create("hangs").await;
    world.fill(key, 16 * 1024).await;
    world.log.note("not the first run");
    assert_eq!(world.run(key).await, TaskEnd::Lost, "no space for the step");
    assert_eq!(world.get(&id).await["status"], "failed");
}
