//! Results and cancellation of `TestCall`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use garde::Validate;
use mcp_protocol::LoggingLevel;
use mcp_server::{CallError, HandlerError, InteractiveContext, NoArguments, Principal, Tool, ToolContext};
use mcp_testing::TestCall;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct CountArgs {
    #[garde(range(max = 1000))]
    to: u32,
}

/// Counts and stores the current number in its state.
async fn count(context: ToolContext<Arc<AtomicU32>>, args: CountArgs) -> Result<&'static str, HandlerError> {
    for number in 1..=args.to {
        context.state().store(number, Ordering::Relaxed);
        context.progress(number, args.to, None).await;
    }
    Ok("counted")
}

fn counting() -> TestCall<Arc<AtomicU32>> {
    TestCall::new(Tool::new("count", count)).arguments(json!({ "to": 3 }))
}

#[tokio::test]
async fn result_and_notifications_are_returned() {
    let reply = counting().state(Arc::default()).await;

    assert_eq!((reply.text().as_str(), reply.progress()), ("counted", vec![1.0, 2.0, 3.0]));
    assert_eq!(reply.notifications[0]["params"]["total"], 3.0);
    assert!(!reply.is_cancelled() && reply.error().is_none());
}

#[tokio::test]
async fn call_is_cancelled_after_a_number_of_notifications() {
    for (after, sent, reached) in [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 3)] {
        let state = Arc::<AtomicU32>::default();

        let reply = counting().state(Arc::clone(&state)).cancel_after(after).await;

        assert_eq!(reply.is_cancelled(), after < 3, "{after}: the handler completes with the third notification");
        assert_eq!(reply.notifications.len(), sent, "{after}");
        assert_eq!(state.load(Ordering::Relaxed), reached, "{after}: the handler is dropped at its next notification");
        assert_eq!(Arc::strong_count(&state), 1, "{after}: the handler is dropped");
    }
}

#[tokio::test]
async fn call_is_cancelled_at_any_await_point() {
    async fn waits(context: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        context.log(LoggingLevel::Debug, Some("test"), "waiting").await;
        std::future::pending().await
    }

    let reply = TestCall::new(Tool::new("waits", waits)).cancel_after(1).await;

    assert!(reply.is_cancelled());
    assert_eq!(reply.notifications[0]["params"]["data"], "waiting");
}

#[tokio::test]
async fn access_rules_are_enforced_for_a_caller() {
    async fn greet(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
        Ok(context.principal().map_or_else(String::new, |caller| caller.subject.clone()))
    }
    let call = || TestCall::new(Tool::new("greet", greet).require_scope("greet"));
    let ada = || Principal::new("https://issuer.example", "ada");

    let anonymous = call().await;
    let permitted = call().caller(ada().with_scopes(["greet".to_owned()])).await;
    let rejected = call().caller(ada()).await;

    assert_eq!((anonymous.text().as_str(), permitted.text().as_str()), ("", "ada"));
    assert!(matches!(rejected.error(), Some(CallError::InsufficientScope { scopes }) if scopes == &["greet"]));
}

#[tokio::test(start_paused = true)]
async fn deadline_limits_the_handler() {
    async fn sleeps(context: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        context.log(LoggingLevel::Info, None, json!(context.deadline().is_some())).await;
        std::future::pending().await
    }
    let call = || TestCall::new(Tool::new("sleeps", sleeps));

    let late = call().deadline(Duration::from_secs(5)).await;
    let at_once = call().deadline(Duration::ZERO).await;

    assert!(matches!(late.error(), Some(CallError::DeadlineExceeded)));
    assert_eq!(late.notifications[0]["params"]["data"], true);
    assert!(matches!(at_once.error(), Some(CallError::DeadlineExceeded)) && at_once.notifications.is_empty());
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct Name {
    name: String,
}

async fn greet(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    context.progress(1, None, None).await;
    let name = context.elicit::<Name>("name", "Who are you?").await.accepted();
    Ok(format!("Hello, {}!", name.map_or_else(String::new, |name| name.name)))
}

#[tokio::test]
async fn input_request_takes_a_further_round_trip() {
    let reply = TestCall::new(Tool::new("greet", greet))
        .on_input_request(|_, _| json!({ "action": "accept", "content": { "name": "Ada" } }))
        .await;

    assert_eq!(reply.text(), "Hello, Ada!");
    assert_eq!(reply.progress(), [1.0, 1.0], "the handler ran twice");
}

#[tokio::test]
#[should_panic(expected = "respond to it with `on_input_request`")]
async fn unanswered_input_request_panics() {
    TestCall::new(Tool::new("greet", greet)).await;
}

#[tokio::test]
#[should_panic(expected = "tool `count` needs a state: set it with `state`")]
async fn missing_state_panics() {
    counting().await;
}

#[tokio::test]
async fn fault_is_separate_from_the_result() {
    async fn fails(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
        Err(HandlerError::internal("the disk is full"))
    }

    let reply = TestCall::new(Tool::new("fails", fails)).await;

    assert_eq!((reply.text().as_str(), reply.fault()), ("The tool failed.", Some("the disk is full")));
}

#[cfg(feature = "tasks")]
mod tasks {
    use mcp_server::{Json, Task};
    use serde::Serialize;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema, Validate)]
    struct Name {
        #[garde(skip)]
        name: String,
    }

    /// A step, a wait of a day, a question, and a step.
    async fn report(context: InteractiveContext<Arc<AtomicU32>>, args: CountArgs) -> Result<Json<Name>, HandlerError> {
        let count = async || Ok::<_, HandlerError>(context.state().fetch_add(1, Ordering::Relaxed));
        context.once("first", count()).await?;
        context.status("waits");
        context.sleep("day", Duration::from_secs(24 * 60 * 60)).await;
        if args.to == 0 {
            return Err(HandlerError::from(std::io::Error::other("the disk is full")));
        }
        let name = context.elicit::<Name>("name", "Whose report?").await.accepted();
        context.once("second", count()).await?;
        Ok(Json(name.ok_or_else(|| HandlerError::failed("declined"))?))
    }

    fn call(task: Task, to: u32) -> TestCall<Arc<AtomicU32>> {
        TestCall::new(Tool::new("report", report).task(task)).arguments(json!({ "to": to }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_runs_to_its_end() {
        let hour = Duration::from_secs(60 * 60);
        for task in [Task::ttl(hour), Task::ttl(hour).requires_extension(), Task::ttl(hour).answer_within(hour / 60)] {
            let effects = Arc::<AtomicU32>::default();
            let answer = |_: &str, _: &_| json!({ "action": "accept", "content": { "name": "Ada" } });

            let reply = call(task, 1).state(Arc::clone(&effects)).on_input_request(answer).await;

            assert_eq!(reply.structured(), json!({ "name": "Ada" }));
            assert_eq!(effects.load(Ordering::Relaxed), 2, "each step runs once, although the handler runs twice");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fault_of_a_task_is_returned() {
        let task = Task::ttl(Duration::from_secs(60));

        let reply = call(task, 0).state(Arc::default()).deadline(Duration::from_secs(1)).await;

        assert_eq!((reply.result().is_error, reply.fault()), (Some(true), Some("the disk is full")));
    }
}
