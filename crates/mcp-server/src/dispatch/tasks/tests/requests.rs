//! Requests about tasks, and calls that become tasks.

use super::*;

#[tokio::test(start_paused = true)]
async fn answers_are_merged_and_a_question_that_is_repeated_has_another_key() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    assert_eq!(world.run(key).await, TaskEnd::Parked);
    let open = world.get(&id).await;
    assert_eq!(open["status"], "input_required");
    assert_eq!(open["inputRequests"]["first"]["method"], "elicitation/create");

    world.update(&id, json!({ "second": accept("Eve"), "other": accept("Bob") })).await;
    assert!(world.log.wakes().is_empty(), "a question is open");
    let open = world.get(&id).await;
    assert_eq!(open["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first"]);
    world.update(&id, json!({ "second": accept("Bob") })).await;
    world.update(&id, json!({ "first": accept("ab") })).await;
    assert_eq!(world.log.wakes(), [key]);

    assert_eq!(world.run(key).await, TaskEnd::Parked, "the answer is too short");
    let open = world.get(&id).await;
    assert_eq!(open["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first~2"]);
    world.update(&id, json!({ "first": accept("Ada"), "first~2": 12345 })).await;
    assert_eq!(world.run(key).await, TaskEnd::Parked, "the answer is malformed");
    world.update(&id, json!({ "first~3": accept("Ada") })).await;
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["result"]["content"][0]["text"], "Ada Eve");
}

#[tokio::test(start_paused = true)]
async fn other_callers_get_the_error_of_an_unknown_id() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    world.run(key).await;
    let others = [
        None,
        Some(Principal { subject: "eve".to_owned(), ..ada() }),
        Some(Principal { issuer: "https://other".to_owned(), ..ada() }),
        Some(Principal { client_id: Some("phone".to_owned()), ..ada() }),
        Some(Principal { client_id: None, ..ada() }),
    ];
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let mut errors = Vec::new();
        for (caller, id) in others.iter().map(|other| (other.clone(), id.as_str())).chain([
            (Some(ada()), "AAAAAAAAAAAAAAAAAAAAAA"),
            (Some(ada()), ""),
            (Some(ada()), &"x".repeat(100_000)),
        ]) {
            let params = json!({ "taskId": id, "inputResponses": { "first": accept("Eve"), "second": accept("Eve") } });
            // An anonymous caller may use nothing here.
            match world.request(caller, method, params, true).await.unwrap_err() {
                CallError::Unauthenticated { .. } => {}
                error => errors.push(error.to_string()),
            }
        }
        assert_eq!(errors.len(), 7);
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    }
    assert_eq!(world.get(&id).await["inputRequests"].as_object().unwrap().len(), 2, "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn an_anonymous_caller_who_can_have_no_task_never_reaches_the_store() {
    let world = World::new();
    let (id, _) = world.create("asks").await;
    let ping = async |_: crate::ToolContext<Log>, _: NoArguments| Ok::<_, HandlerError>("pong");
    let public = || Tool::new("ping", ping).public();
    let without = world.environment_of(world.builder().tool(public()));
    let open = Tool::new("open", steps).task(Task::ttl(HOUR)).public();
    let with = world.environment_of(world.builder().tool(open));
    for (built, operations) in [(&without, 0), (&with, 1)] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let before = world.store.operations();
            let params = json!({ "taskId": id, "inputResponses": {} });
            let refused = world.request_to(built, None, method, params, true).await;
            assert!(matches!(refused, Err(CallError::InvalidInput(_))), "{refused:?}");
            assert_eq!(world.store.operations() - before, operations, "{method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rule_of_the_tool_is_checked_for_each_request() {
    let world = World::new();
    let (id, _) = world.create("secret").await;
    let caller = Principal { scopes: Default::default(), ..ada() };

    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({ "taskId": id, "inputResponses": {} });
        let refused = world.request(Some(caller.clone()), method, params, true).await;
        assert!(matches!(refused, Err(CallError::InsufficientScope { .. })), "{refused:?}");
    }
    let params = json!({ "name": "get_task_result", "arguments": { "task_id": id } });
    let refused = world.request(Some(caller), "tools/call", params, true).await;
    assert!(matches!(refused, Err(CallError::InsufficientScope { .. })), "{refused:?}");
    assert_eq!(world.get(&id).await["status"], "working");
}

#[tokio::test(start_paused = true)]
async fn a_caller_has_twenty_live_tasks_at_most() {
    let world = World::new();
    let mut made = Vec::new();
    for _ in 0..20 {
        made.push(world.create("steps").await);
    }

    let refused = world.call("steps").await;
    assert_eq!(refused["isError"], true, "{refused}");
    let other = Principal { subject: "eve".to_owned(), ..ada() };
    let params = json!({ "name": "steps", "arguments": {} });
    let allowed = world.request(Some(other), "tools/call", params, true).await.unwrap();
    assert_eq!(allowed["resultType"], "task");
    world.log.wakes();

    world.request(Some(ada()), "tasks/cancel", json!({ "taskId": made[7].0 }), true).await.unwrap();
    world.create("steps").await;
    assert_eq!(world.call("steps").await["isError"], true);
    advance(HOUR).await;
    world.create("steps").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_without_the_extension_gets_the_result_or_a_handle() {
    let world = World::new();
    let call = |name: &str, arguments: Value| {
        world.request(Some(ada()), "tools/call", json!({ "name": name, "arguments": arguments }), false)
    };
    let begin = Instant::now();
    let handle = call("steps", json!({})).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO, "the wait is longer than the request may take");
    assert_eq!(world.log.effects(), ["one"], "a step runs in the request");
    assert_eq!(handle["isError"], true);
    assert!(handle.get("structuredContent").is_none());
    let text = handle["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("get_task_result"), "{text}");
    let id = text.split('`').nth(3).unwrap().to_owned();

    let waiting = call("get_task_result", json!({ "task_id": id })).await.unwrap();
    assert_eq!(waiting["isError"], true);
    assert!(world.log.wakes().is_empty(), "it sleeps");
    advance(Duration::from_secs(600)).await;
    call("get_task_result", json!({ "task_id": id })).await.unwrap();
    let key = world.log.wakes()[0];
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    let done = call("get_task_result", json!({ "task_id": id })).await.unwrap();
    assert_eq!((&done["content"][0]["text"], done.get("isError")), (&json!("3+6"), None));
    assert_eq!(world.log.effects(), ["one", "second"]);
    let unknown = call("get_task_result", json!({ "task_id": "other" })).await.unwrap();
    assert_eq!(unknown["isError"], true);

    let refused = call("long", json!({})).await;
    assert!(matches!(refused, Err(CallError::MissingClientCapability(_))), "{refused:?}");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let refused = world.request(Some(ada()), method, json!({ "taskId": id, "inputResponses": {} }), false).await;
        assert!(matches!(refused, Err(CallError::MissingClientCapability(_))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn questions_before_the_first_step_are_asked_in_the_request() {
    let world = World::new();
    let asked = world.call("asks_first").await;
    assert_eq!(asked["resultType"], "input_required");
    assert!(world.log.wakes().is_empty());

    let params = json!({
        "name": "asks_first", "arguments": {}, "requestState": asked["requestState"],
        "inputResponses": { "name": accept("Alice") },
    });
    let created = world.request(Some(ada()), "tools/call", params, true).await.unwrap();
    assert_eq!(created["resultType"], "task");
    assert_eq!(world.run(world.log.wakes()[0]).await, TaskEnd::Ended);
    let id = created["taskId"].as_str().unwrap();
    assert_eq!(world.get(id).await["result"]["content"][0]["text"], "Hello, Alice!");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_too_large_is_refused() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    world.run(key).await;
    for bytes in [64 * 1024, 600 * 1024] {
        let params = json!({ "taskId": id, "inputResponses": { "first": accept(&"x".repeat(bytes)) } });
        let refused = world.request(Some(ada()), "tasks/update", params, true).await;
        assert!(matches!(refused, Err(CallError::InvalidInput(_))), "{refused:?}");
    }
    for responses in [json!([]), json!("first"), Value::Null] {
        let params = json!({ "taskId": id, "inputResponses": responses });
        let refused = world.request(Some(ada()), "tasks/update", params, true).await;
        assert!(matches!(refused, Err(CallError::InvalidParams(_))), "{refused:?}");
    }
    assert_eq!(world.get(&id).await["inputRequests"].as_object().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_the_server_makes_wake_ups() {
    let world = World::new();
    let (_, key) = world.create("steps").await;
    let runner = world.environment().tasks().unwrap();
    let text = WakeUp::new(world.environment().store().unwrap(), key).encode();
    assert_eq!(runner.verify(&text).unwrap().task(), key);

    let other = Server::new("other", "1", world.log.clone()).store(world.store.clone());
    let other = other.tool(Tool::new("steps", steps).task(Task::ttl(HOUR)));
    let other = other.build(Settings { state_key: StateKey::parse(KEY), ..Settings::default() }).unwrap();
    assert_eq!(other.tasks().unwrap().verify(&text), None, "of another server");
    let (task, code) = text.split_once('.').unwrap();
    let forged = [
        String::new(),
        task.to_owned(),
        format!("{task}."),
        format!("{task}.{task}"),
        format!("{code}.{code}"),
        format!("{code}.{task}"),
        format!("{}.{code}", RowKey::from_bytes([0; 32]).encode()),
        format!("{text}="),
        format!(" {text}"),
        "x".repeat(100_000),
    ];
    for forged in forged {
        assert_eq!(runner.verify(&forged), None, "{forged:.100}");
    }
    for position in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'Q' } else { b'A' };
        assert_eq!(runner.verify(&String::from_utf8(changed).unwrap()), None, "{position}");
    }
}

#[tokio::test]
async fn tasks_need_a_store_and_are_advertised_by_servers_that_have_them() {
    let world = World::new();
    let settings = || Settings {
        state_key: StateKey::parse(KEY),
        authorization: Authorization::Required(Enforcement::default()),
        ..Settings::default()
    };
    let error = world.builder().build(settings()).unwrap_err();
    assert!(matches!(error, BuildError::NoTaskStore { .. }), "{error}");

    let discover = world.request(Some(ada()), "server/discover", json!({}), false).await.unwrap();
    assert_eq!(discover["capabilities"]["extensions"], json!({ "io.modelcontextprotocol/tasks": {} }));
    let plain = Server::new("s", "1", ()).store(MemoryStore::new()).build(settings()).unwrap();
    assert!(plain.tasks().is_none());
    let invocation = Arc::new(Invocation { principal: Some(Arc::new(ada())), ..Invocation::default() });
    let resolved = plain.resolve(ProtocolVersion::LATEST, "tasks/get", RequestParams::default(), &invocation);
    let call = Call { id: RequestId::Integer("1".into()), meta: RequestMeta::default(), notifications: None };
    let outcome = resolved.run(call).outcome().await;
    assert!(matches!(outcome.result, Err(CallError::MethodNotFound(_))));
}
