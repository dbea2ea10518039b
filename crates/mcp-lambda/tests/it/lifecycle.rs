//! Deadlines, and panics of an invalid server definition.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::ProtocolVersion;
use mcp_server::{HandlerError, Invocation, NoArguments, Server, Settings, Tool, ToolContext};
use mcp_testing::{Via, exchange_via, tools_call, tools_list};
use serde_json::json;

use crate::common::{State, fixture};

fn ends_in(duration: Duration) -> Invocation {
    Invocation { deadline: Instant::now().checked_add(duration), ..Invocation::default() }
}

#[tokio::test]
async fn a_timeout_response_is_sent_before_the_invocation_times_out() {
    let request = tools_call("sleeps", json!({}));

    let reply = exchange_via(Via::FunctionUrl, &fixture(), request, ends_in(Duration::from_millis(600))).await;

    assert_eq!(reply.status_and_code(), (504, 504));
    assert_eq!(reply.response()["id"], 1);
}

#[tokio::test]
async fn a_call_that_ends_before_the_deadline_succeeds() {
    let request = tools_call("simple", json!({}));

    let reply = exchange_via(Via::FunctionUrl, &fixture(), request, ends_in(Duration::from_secs(60))).await;

    assert_eq!(reply.tool_result().text(), "simple");
}

/// After a handler that blocks past the deadline, no other handler runs, not even in a batch.
#[tokio::test]
async fn no_handler_is_polled_after_its_deadline() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polls);
    let tool = Tool::new("computes", move |context: ToolContext<State>, _: NoArguments| {
        let counter = Arc::clone(&counter);
        async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                // Blocks: it cannot be interrupted.
                while context.remaining().is_some_and(|remaining| !remaining.is_zero()) {}
                tokio::task::yield_now().await;
            }
            #[expect(unreachable_code, reason = "says what the handler would return")]
            Ok::<String, HandlerError>(String::new())
        }
    });
    let service = McpService::new(Server::new("test", "0.0.0", State).tool(tool), HttpConfig::default()).unwrap();
    let call =
        |id: usize| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"computes"}}}}"#);
    let batch = format!("[{}]", (0..5).map(call).collect::<Vec<_>>().join(","));
    let request = tools_list().revision(ProtocolVersion::V2025_03_26).body(batch);

    let reply = exchange_via(Via::FunctionUrl, &service, request, ends_in(Duration::from_millis(550))).await;

    assert_eq!(polls.load(Ordering::Relaxed), 1);
    let codes: Vec<_> = reply.messages.iter().map(|message| message["error"]["code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [504; 5]);
    let late =
        exchange_via(Via::FunctionUrl, &service, tools_call("computes", json!({})), ends_in(Duration::ZERO)).await;
    assert_eq!((late.status_and_code(), polls.load(Ordering::Relaxed)), ((504, 504), 1));
}

#[tokio::test]
async fn work_on_another_thread_is_cancelled_at_the_deadline() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
    let tool = Tool::new("spawns", move |context: ToolContext<State>, _: NoArguments| {
        let sender = sender.clone();
        async move {
            let token = context.cancellation().clone();
            tokio::spawn(async move {
                token.cancelled().await;
                sender.send(()).await
            });
            std::future::pending::<Result<String, HandlerError>>().await
        }
    });
    let service = McpService::new(Server::new("test", "0.0.0", State).tool(tool), HttpConfig::default()).unwrap();

    let request = tools_call("spawns", json!({}));
    exchange_via(Via::Http, &service, request, ends_in(Duration::from_millis(550))).await;

    assert_eq!(receiver.recv().await, Some(()));
}

async fn nothing(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    Ok(String::new())
}

async fn takes_a_string(_: ToolContext<State>, _: Text) -> Result<String, HandlerError> {
    Ok(String::new())
}

#[derive(serde::Deserialize, schemars::JsonSchema, garde::Validate)]
struct Text(
    #[garde(skip)]
    #[expect(dead_code, reason = "only its schema matters")]
    String,
);

fn server() -> Server<State> {
    Server::new("test", "0.0.0", State)
}

type Mistake = (&'static str, Box<dyn Fn()>);

#[test]
fn a_build_panic_names_the_tool() {
    let broken_schema = json!({ "type": "object", "properties": 5 });
    let foreign_reference = json!({ "type": "object", "$ref": "https://example.com/schema" });
    let mirrored_twice = json!({ "type": "object", "properties": {
        "a": { "type": "string", "x-mcp-header": "A" }, "b": { "type": "string", "x-mcp-header": "a" },
    } });
    let mistakes: [Mistake; 8] = [
        (
            "two tools named `twice`",
            Box::new(|| {
                drop(server().tool(Tool::new("twice", nothing)).tool(Tool::new("twice", nothing)));
            }),
        ),
        ("tool name `two words`", Box::new(|| drop(Tool::new("two words", nothing)))),
        ("tool name ``", Box::new(|| drop(Tool::new("", nothing)))),
        ("tool `text`: its arguments must be an object", Box::new(|| drop(Tool::new("text", takes_a_string)))),
        (
            "tool `broken`: its schema",
            Box::new(move || {
                drop(
                    server()
                        .tool(Tool::raw("broken", broken_schema.clone(), |_: ToolContext<State>, _| async { Ok("") }))
                        .build(Settings::default()),
                );
            }),
        ),
        (
            "tool `foreign`: its schema",
            Box::new(move || {
                drop(
                    server()
                        .tool(Tool::raw("foreign", foreign_reference.clone(), |_: ToolContext<State>, _| async {
                            Ok("")
                        }))
                        .build(Settings::default()),
                );
            }),
        ),
        (
            "tool `mirrored`: duplicate `x-mcp-header`",
            Box::new(move || {
                drop(Tool::<State>::raw("mirrored", mirrored_twice.clone(), |_: ToolContext<State>, _| async {
                    Ok("")
                }));
            }),
        ),
        (
            "tool `typed`: only a tool created with `Tool::raw`",
            Box::new(|| drop(Tool::new("typed", nothing).unvalidated())),
        ),
    ];
    for (expected, mistake) in mistakes {
        let panic = catch_unwind(AssertUnwindSafe(&mistake)).expect_err(expected);

        let message = panic.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}
