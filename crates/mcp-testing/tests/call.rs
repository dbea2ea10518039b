//! `TestCall`: what it reports of a call, and where it cancels one.

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

/// Counts, and notes in its state how far it came.
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
async fn a_call_returns_its_result_and_its_notifications() {
    let reply = counting().state(Arc::default()).await;

    assert_eq!((reply.text().as_str(), reply.progress()), ("counted", vec![1.0, 2.0, 3.0]));
    assert_eq!(reply.notifications[0]["params"]["total"], 3.0);
    assert!(!reply.is_cancelled() && reply.error().is_none());
}

#[tokio::test]
async fn a_call_is_cancelled_at_a_counted_notification() {
    for (after, sent, reached) in [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 3)] {
        let state = Arc::<AtomicU32>::default();

        let reply = counting().state(Arc::clone(&state)).cancel_after(after).await;

        assert_eq!(reply.is_cancelled(), after < 3, "{after}: with the third the handler is done");
        assert_eq!(reply.notifications.len(), sent, "{after}");
        assert_eq!(state.load(Ordering::Relaxed), reached, "{after}: it was dropped at its next notification");
        assert_eq!(Arc::strong_count(&state), 1, "{after}: the handler is gone");
    }
}

#[tokio::test]
async fn a_handler_that_waits_for_something_else_is_cancelled_there() {
    async fn waits(context: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        context.log(LoggingLevel::Debug, Some("test"), "waiting").await;
        std::future::pending().await
    }

    let reply = TestCall::new(Tool::new("waits", waits)).cancel_after(1).await;

    assert!(reply.is_cancelled());
    assert_eq!(reply.notifications[0]["params"]["data"], "waiting");
}

#[tokio::test]
async fn a_caller_has_the_tools_access_rules() {
    async fn greet(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
        Ok(context.principal().map_or_else(String::new, |caller| caller.subject.clone()))
    }
    let call = || TestCall::new(Tool::new("greet", greet).require_scope("greet"));
    let ada = || Principal::new("https://issuer.example", "ada");

    let anyone = call().await;
    let permitted = call().caller(ada().with_scopes(["greet".to_owned()])).await;
    let refused = call().caller(ada()).await;

    assert_eq!((anyone.text().as_str(), permitted.text().as_str()), ("", "ada"));
    assert!(matches!(refused.error(), Some(CallError::InsufficientScope { scopes }) if scopes == &["greet"]));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_what_the_handler_has_left() {
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
async fn a_question_is_answered_in_a_round_of_its_own() {
    let reply = TestCall::new(Tool::new("greet", greet))
        .answering(|_, _| json!({ "action": "accept", "content": { "name": "Ada" } }))
        .await;

    assert_eq!(reply.text(), "Hello, Ada!");
    assert_eq!(reply.progress(), [1.0, 1.0], "the handler ran twice");
}

#[tokio::test]
#[should_panic(expected = "answer it with `answering`")]
async fn a_question_that_is_not_answered_fails_the_test() {
    TestCall::new(Tool::new("greet", greet)).await;
}

#[tokio::test]
#[should_panic(expected = "tool `count` has a state: give it one with `state`")]
async fn a_state_that_is_missing_fails_the_test() {
    counting().await;
}

#[tokio::test]
async fn a_fault_is_reported_apart_from_the_result() {
    async fn fails(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
        Err(HandlerError::internal("the disk is full"))
    }

    let reply = TestCall::new(Tool::new("fails", fails)).await;

    assert_eq!((reply.text().as_str(), reply.fault()), ("The tool failed.", Some("the disk is full")));
}
