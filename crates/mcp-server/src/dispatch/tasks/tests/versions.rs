//! Tasks that another version of the server continues.

use super::*;
use crate::Json;

#[derive(Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct Amount {
    /// The amount.
    #[serde(default)]
    amount: u32,
}

#[derive(serde::Serialize, JsonSchema)]
struct Paid {
    /// The amount that was paid.
    paid: u32,
}

async fn pay(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let paid = context.once("pay", async { Ok::<u32, HandlerError>(5) }).await?;
    context.sleep("settle", Duration::from_secs(60)).await;
    Ok(paid.to_string())
}

async fn pay_amount(context: InteractiveContext<Log>, args: Amount) -> Result<String, HandlerError> {
    let paid = context.once("pay", async { Ok::<u32, HandlerError>(args.amount) }).await?;
    Ok(paid.to_string())
}

async fn pay_typed(context: InteractiveContext<Log>, _: NoArguments) -> Result<Json<Paid>, HandlerError> {
    let paid = context.once("pay", async { Ok::<u32, HandlerError>(5) }).await?;
    Ok(Json(Paid { paid }))
}

/// The tool, as a later version of the server has it.
type Later = fn() -> Option<Tool<Log>>;

#[tokio::test(start_paused = true)]
async fn a_task_whose_tool_was_restricted_ends_without_a_run() {
    let world = World::new();
    let old = world.environment_of(world.builder().tool(Tool::new("pay", pay).task(Task::ttl(HOUR))));
    let params = json!({ "name": "pay", "arguments": {} });
    let created = world.request_to(&old, Some(ada()), "tools/call", params, true).await.unwrap();
    let restricted = Tool::new("pay", steps).task(Task::ttl(HOUR)).require_scope("pay:write");
    let new = world.environment_of(world.builder().tool(restricted));

    let end = new.tasks().unwrap().run(world.log.wakes()[0], world.invocation(None)).await.unwrap();

    assert_eq!(end, TaskEnd::Ended);
    assert!(world.log.effects().is_empty());
    let params = json!({ "taskId": created["taskId"] });
    let refused = world.request_to(&new, Some(ada()), "tasks/get", params.clone(), true).await;
    assert!(matches!(refused, Err(CallError::InsufficientScope { .. })), "{refused:?}");
    let ended = world.request_to(&old, Some(ada()), "tasks/get", params, true).await.unwrap();
    assert_eq!(ended["error"]["message"], "the caller of the task may no longer use its tool");
}

#[tokio::test(start_paused = true)]
async fn a_task_of_another_version_ends_and_never_uses_its_values() {
    let later: [(Later, &str); 6] = [
        (|| Some(Tool::new("pay", pay).task(Task::ttl(HOUR).poll_interval(Duration::from_secs(9)))), "completed"),
        (|| Some(Tool::new("pay", pay).description("Pays.").task(Task::ttl(HOUR))), "completed"),
        (|| Some(Tool::new("pay", pay).task(Task::ttl(HOUR).revision(1))), "failed"),
        (|| Some(Tool::new("pay", pay_amount).task(Task::ttl(HOUR))), "failed"),
        (|| Some(Tool::new("pay", pay_typed).task(Task::ttl(HOUR))), "failed"),
        (|| None, "failed"),
    ];
    for (number, (version, expected)) in later.into_iter().enumerate() {
        let world = World::new();
        let old = world.environment_of(world.builder().tool(Tool::new("pay", pay).task(Task::ttl(HOUR))));
        let params = json!({ "name": "pay", "arguments": {} });
        let created = world.request_to(&old, Some(ada()), "tools/call", params, true).await.unwrap();
        let (id, key) = (created["taskId"].as_str().unwrap().to_owned(), world.log.wakes()[0]);
        assert_eq!(old.tasks().unwrap().run(key, world.invocation(None)).await.unwrap(), TaskEnd::Parked);
        advance(Duration::from_secs(61)).await;

        let new = world.environment_of(version().into_iter().fold(world.builder(), Server::tool));
        assert_eq!(new.tasks().unwrap().run(key, world.invocation(None)).await.unwrap(), TaskEnd::Ended);

        let ended = world.request_to(&old, Some(ada()), "tasks/get", json!({ "taskId": id }), true).await.unwrap();
        assert_eq!(ended["status"], expected, "{number}");
        match expected {
            "completed" => assert_eq!(ended["result"]["content"][0]["text"], "5"),
            _ => assert_eq!(
                ended["error"]["message"], "the server was updated while the task was open: call again",
                "{number}"
            ),
        }
    }
}
