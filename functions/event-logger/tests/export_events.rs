//! The `export_events` tool, as a task in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::time::Duration;

use mcp_lambda::{
    Env, FromEnv, McpService,
    transport::{Invocation, respond_buffered},
};
use mcp_testing::{McpRequest, TestBackend, TestIssuer, Via, bounds, event_of, exchange, tools_call, tools_list};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};

mcp_testing::on_both_databases!(crate::support::create:
    an_export_counts_the_events_of_each_day,
    a_client_without_the_extension_waits_for_the_result,
    an_export_requires_the_scope_of_readers,
    a_caller_has_twenty_exports_an_hour_in_all_environments,
    without_a_function_for_tasks_there_is_no_export,
);

async fn service(database: &TestBackend, others: &[(&str, &str)]) -> McpService {
    let mut variables = database.variables();
    for (name, value) in [
        ("MCP_TASKS_FUNCTION", "event-logger-tasks"),
        ("MCP_STATE_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("MCP_AUTH", "dangerously-off"),
    ] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    variables.retain(|(name, _)| others.iter().all(|(other, _)| other != name));
    variables.extend(others.iter().map(|(name, value)| (String::from(*name), String::from(*value))));
    let config = event_logger::Config::from_env(&Env::from_pairs(variables)).unwrap();
    event_logger::service(config).await.unwrap()
}

/// Two events of the day before yesterday, and one of today.
async fn log(database: &TestBackend) {
    let insert = "INSERT INTO events (event_name, timestamp) VALUES
        ('a', date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '48 hours'),
        ('b', date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '24 hours' - interval '1 microsecond'),
        ('c', now())";
    database.connect().await.execute(AssertSqlSafe(insert)).await.unwrap();
}

/// Sends a request of a client with the extension, whose messages the schemas of the revision do not have.
async fn task(service: &McpService, request: McpRequest) -> Value {
    let extension = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let event = event_of(Via::FunctionUrl, &request.capabilities(extension).into_http()).to_string();
    let response = respond_buffered(service, event.as_bytes(), Invocation::default()).await.unwrap();
    let response = serde_json::to_value(&response).unwrap();
    let message: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    message["result"].clone()
}

fn export(days: i64) -> McpRequest {
    tools_call("export_events", json!({ "days": days }))
}

fn counts(export: &Value) -> Vec<i64> {
    export["days"].as_array().unwrap().iter().map(|day| day["count"].as_i64().unwrap()).collect()
}

async fn an_export_counts_the_events_of_each_day(database: TestBackend) {
    log(&database).await;
    let service = service(&database, &[]).await;

    let created = task(&service, export(4)).await;

    let id = created["taskId"].as_str().unwrap();
    let mut state = json!(null);
    for _ in 0..3000 {
        state = task(&service, McpRequest::new("tasks/get", json!({ "taskId": id })).header("mcp-name", id)).await;
        if state["status"] != "working" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((&created["status"], &state["status"]), (&json!("working"), &json!("completed")), "{state}");
    let exported = &state["result"]["structuredContent"];
    assert_eq!((counts(exported), &exported["total"]), (vec![0, 2, 0, 1], &json!(3)));
    let text = state["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(text.lines().count(), 4);
    assert!(text.ends_with(": 1") && text.starts_with("20"), "{text}");
}

async fn a_client_without_the_extension_waits_for_the_result(database: TestBackend) {
    log(&database).await;
    let service = service(&database, &[]).await;

    let result = exchange(&service, export(3)).await.tool_result();

    let exported: Value = serde_json::from_str(result.structured_content.as_ref().unwrap().get()).unwrap();
    assert_eq!(counts(&exported), [2, 0, 1]);
    assert_eq!(bounds::assert_enforced(&service, "export_events", &json!({ "days": 5 })).await, 2);
}

async fn an_export_requires_the_scope_of_readers(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let own = issuer.variables();
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let service = service(&database, &own.chain([("MCP_AUTH", "required")]).collect::<Vec<_>>()).await;

    let writer = exchange(&service, export(1).bearer(&issuer.token(["events:write"]))).await;
    let reader = exchange(&service, export(1).bearer(&issuer.token(["events:read"]))).await;

    assert_eq!((writer.status.as_u16(), reader.status.as_u16()), (403, 200));
    assert_eq!(reader.tool_result().is_error, None);
}

async fn a_caller_has_twenty_exports_an_hour_in_all_environments(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let own = issuer.variables();
    let own: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let variables = [&own[..], &[("MCP_AUTH", "required")]].concat();
    let environments = [service(&database, &variables).await, service(&database, &variables).await];
    let token = issuer.token(["events:read"]);
    let mut served = 0;
    for environment in &environments {
        while exchange(environment, export(1).bearer(&token)).await.tool_result().is_error.is_none() {
            served += 1;
        }
    }
    let limited = exchange(&environments[0], export(1).bearer(&token)).await.tool_result();

    assert_eq!(served, 20);
    assert!(limited.text().contains("at most 20 calls of `export_events` in 3600 seconds"), "{}", limited.text());
    let lists = exchange(&environments[0], tools_list().bearer(&token)).await;
    assert_eq!(lists.status.as_u16(), 200, "other requests are not limited");
}

async fn without_a_function_for_tasks_there_is_no_export(database: TestBackend) {
    let service = service(&database, &[("MCP_TASKS_FUNCTION", "")]).await;

    let tools = exchange(&service, tools_list()).await.result()["tools"].clone();

    let names: Vec<&str> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["log_event", "get_latest_events"]);
}
