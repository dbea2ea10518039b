//! The function's contract: the definitions that clients receive, and the behavior that they rely on; against a real
//! Postgres, and against Aurora DSQL by its emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::time::{Duration, Instant};

use event_logger::service;
use mcp_lambda::{McpService, Principal, ProtocolVersion, transport::Invocation};
use mcp_testing::{
    CallToolResult, McpRequest, Reply, TestBackend, TestIssuer, Via, as_caller, assert_contract, assert_text_has,
    bounds, discover, exchange, exchange_via, on_both_databases, resources_read, tools_call, tools_list,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};
use support::{config, service_of};

async fn event_logger(database: &TestBackend) -> McpService {
    service_of(database).await
}

async fn guarded(database: &TestBackend, issuer: &TestIssuer) -> McpService {
    let variables = [issuer.variables(), database.variables()].concat();
    let pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    service(config(&pairs).unwrap()).await.unwrap()
}

on_both_databases!(
    crate::support::create:
    definitions_match_the_golden_file,
    events_are_listed_newest_first_as_log_lines,
    the_text_of_a_result_contains_the_arguments_of_further_calls,
    events_of_the_same_time_have_a_stable_order,
    an_index_serves_the_latest_events,
    a_key_deduplicates_calls,
    a_key_belongs_to_its_caller,
    a_key_can_be_reused_after_thirty_days,
    an_invocation_logs_an_event_once,
    calls_of_one_batch_are_separate_events,
    schema_bounds_are_enforced,
    blank_names_and_control_characters_are_rejected,
    events_can_be_read_as_resources,
    every_revision_can_log_and_list,
    no_hostile_token_logs_an_event,
    logging_requires_a_scope_and_names_the_caller,
    the_caller_of_an_event_is_shown_only_with_the_read_scope,
);

/// A request that needs no database does not wake it.
#[tokio::test]
async fn only_calls_that_need_the_database_open_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let is_reached = || listener.accept().is_ok();
    let url = format!("postgres://app:x@{}/events", listener.local_addr().unwrap());
    let issuer = TestIssuer::start().await;
    let variables = issuer.variables();
    let mut pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.extend([("DATABASE_URL", url.as_str()), ("DB_WARM", "off")]);

    let service = service(config(&pairs).unwrap()).await.unwrap();
    let call = || tools_call("log_event", json!({ "event_name": "login" }));
    for (request, status) in [
        (discover(), 200),
        (tools_list(), 200),
        (McpRequest::new("resources/list", json!({})), 200),
        (resources_read("events://latest"), 401),
        (call(), 401),
        (call().bearer("x"), 401),
        (call().bearer(&issuer.token(["events:read"])), 403),
        (tools_call("log_event", json!({})).bearer(&issuer.token(["events:write"])), 200),
        (discover().http_method("GET".parse().unwrap()).path("/favicon.ico"), 404),
    ] {
        let name = format!("{} {status}", request.message());
        assert_eq!(exchange(&service, request).await.status, status, "{name}");
        assert!(!is_reached(), "{name}");
    }

    let soon = Instant::now().checked_add(Duration::from_millis(1500));
    let invocation = Invocation { deadline: soon, ..Invocation::default() };
    let permitted = call().bearer(&issuer.token(["events:write"]));
    exchange_via(Via::FunctionUrl, &service, permitted, invocation).await;
    assert!(is_reached(), "a call that may log an event opens it");
}

async fn log(service: &McpService, arguments: Value) -> CallToolResult {
    exchange(service, tools_call("log_event", arguments)).await.tool_result()
}

async fn latest(service: &McpService, arguments: Value) -> CallToolResult {
    exchange(service, tools_call("get_latest_events", arguments)).await.tool_result()
}

fn structured(result: &CallToolResult) -> Value {
    serde_json::from_str(result.structured_content.as_ref().unwrap().get()).unwrap()
}

async fn count(database: &TestBackend) -> i64 {
    let row = database.connect().await.fetch_one("SELECT count(*) FROM events").await.unwrap();
    row.try_get(0).unwrap()
}

async fn definitions_match_the_golden_file(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let service = guarded(&database, &issuer).await;

    assert_contract(&service, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), Some(&issuer.token(["events:read"])))
        .await;
}

async fn events_are_listed_newest_first_as_log_lines(database: TestBackend) {
    let service = event_logger(&database).await;
    let empty = latest(&service, json!({})).await;
    for number in 1..=7 {
        assert_eq!(log(&service, json!({ "event_name": format!("event {number}") })).await.is_error, None);
    }

    let five = latest(&service, json!({})).await;
    let two = latest(&service, json!({ "limit": 2 })).await;

    assert_eq!(empty.text(), "No events have been logged yet.");
    let names: Vec<String> = five.text().lines().map(|line| line[22..].to_owned()).collect();
    assert_eq!(names, ["#7 event 7", "#6 event 6", "#5 event 5", "#4 event 4", "#3 event 3"]);
    let text = two.text();
    let line = text.lines().next().unwrap();
    assert!(line.starts_with("[20") && &line[20..22] == "] ", "{line}");
    let events = structured(&two)["events"].clone();
    assert_eq!(events.as_array().unwrap().len(), 2);
    let timestamp = events[0]["timestamp"].as_str().unwrap();
    assert!(timestamp.starts_with(&line[1..11]) && timestamp.ends_with('Z'), "{timestamp} {line}");
    assert_eq!(events[0]["logged_by"], json!({ "issuer": "", "subject": "", "email": "" }));
}

/// Half of the clients show the model only the text.
async fn the_text_of_a_result_contains_the_arguments_of_further_calls(database: TestBackend) {
    let service = event_logger(&database).await;

    let logged = log(&service, json!({ "event_name": "login" })).await;
    log(&service, json!({ "event_name": "logout" })).await;
    let listed = latest(&service, json!({})).await;

    assert_eq!(assert_text_has(&logged, &["id", "event_name"]), 2);
    assert_eq!(assert_text_has(&listed, &["id", "event_name"]), 4);
}

async fn events_of_the_same_time_have_a_stable_order(database: TestBackend) {
    let service = event_logger(&database).await;
    let insert = "INSERT INTO events (event_name, timestamp) SELECT 'event ' || n, '2026-01-02 03:04:05Z' FROM generate_series(1, 9) n";
    database.connect().await.execute(insert).await.unwrap();

    let text = latest(&service, json!({ "limit": 3 })).await.text();

    let lines: Vec<String> =
        (7..=9).rev().map(|number| format!("[2026-01-02 03:04:05] #{number} event {number}")).collect();
    assert_eq!(text, lines.join("\n"));
}

async fn an_index_serves_the_latest_events(database: TestBackend) {
    let mut connection = database.connect().await;
    let insert = "INSERT INTO events (event_name) SELECT 'event ' || n FROM generate_series(1, 5000) n; ANALYZE events";
    connection.execute(sqlx::raw_sql(insert)).await.unwrap();

    let plan = connection
        .fetch_all("EXPLAIN SELECT id, event_name FROM events ORDER BY timestamp DESC, id DESC LIMIT 5")
        .await
        .unwrap();

    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.concat().contains("events_by_time"), "{plan:?}");
}

async fn a_key_deduplicates_calls(database: TestBackend) {
    let service = event_logger(&database).await;
    let arguments = json!({ "event_name": "paid", "idempotency_key": "k1" });

    let first = log(&service, arguments.clone()).await;
    let second = log(&service, arguments).await;
    let other_event = log(&service, json!({ "event_name": "refunded", "idempotency_key": "k1" })).await;

    assert_eq!(structured(&first), structured(&second));
    assert_eq!(other_event.is_error, Some(true));
    assert!(other_event.text().contains("`idempotency_key`"), "{}", other_event.text());
    assert_eq!(count(&database).await, 1);
}

async fn a_key_belongs_to_its_caller(database: TestBackend) {
    let service = event_logger(&database).await;
    let arguments = json!({ "event_name": "paid", "idempotency_key": "k1" });
    for caller in ["ada", "bob", "ada"] {
        let request = tools_call("log_event", arguments.clone());
        exchange_via(Via::FunctionUrl, &service, request, as_caller(Principal::new("https://issuer.example", caller)))
            .await
            .tool_result();
    }
    log(&service, arguments).await;

    let events = structured(&latest(&service, json!({})).await)["events"].clone();

    let subjects: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["logged_by"]["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["", "bob", "ada"]);
}

async fn a_key_can_be_reused_after_thirty_days(database: TestBackend) {
    let service = event_logger(&database).await;
    log(&service, json!({ "event_name": "rent", "idempotency_key": "monthly" })).await;
    let age = async |interval: &str| {
        let update = format!("UPDATE events SET timestamp = now() - interval '{interval}'");
        database.connect().await.execute(AssertSqlSafe(update)).await.unwrap();
    };

    age("29 days").await;
    let repeated = log(&service, json!({ "event_name": "rent", "idempotency_key": "monthly" })).await;
    let before = count(&database).await;
    age("31 days").await;
    let anew = log(&service, json!({ "event_name": "other", "idempotency_key": "monthly" })).await;

    assert_eq!((repeated.is_error, anew.is_error), (None, None));
    assert_eq!((before, count(&database).await), (1, 2));
}

async fn an_invocation_logs_an_event_once(database: TestBackend) {
    let service = event_logger(&database).await;
    let send = async |request_id: &str, id: i64| {
        let invocation = Invocation { request_id: request_id.to_owned(), ..Invocation::default() };
        let request = tools_call("log_event", json!({ "event_name": "tick" })).id(json!(id));
        exchange_via(Via::FunctionUrl, &service, request, invocation).await.tool_result()
    };

    for (request_id, id) in [("a", 1), ("a", 1), ("a", 2), ("b", 1)] {
        assert_eq!(send(request_id, id).await.is_error, None);
    }

    assert_eq!(count(&database).await, 3);
}

async fn calls_of_one_batch_are_separate_events(database: TestBackend) {
    let service = event_logger(&database).await;
    let legacy = ProtocolVersion::V2025_03_26;
    let log = |id: Value| tools_call("log_event", json!({ "event_name": "tick" })).revision(legacy).id(id).message();
    let batch = Value::Array([json!(1), json!("1"), json!(1)].map(log).to_vec());
    let request = tools_call("log_event", json!({})).revision(legacy).body(batch.to_string());
    let invocation = Invocation { request_id: "a".to_owned(), ..Invocation::default() };

    let reply = exchange_via(Via::FunctionUrl, &service, request, invocation).await;

    assert_eq!(reply.messages.iter().filter(|message| message.get("result").is_some()).count(), 2);
    assert!(reply.body.contains("duplicate request id in batch"), "{}", reply.body);
    assert_eq!(count(&database).await, 2);
}

async fn schema_bounds_are_enforced(database: TestBackend) {
    let service = event_logger(&database).await;

    let log = json!({ "event_name": "x" });
    let bounds = bounds::assert_enforced(&service, "log_event", &log).await
        + bounds::assert_enforced(&service, "get_latest_events", &json!({ "limit": 5 })).await;

    assert_eq!(bounds, 6);
}

async fn blank_names_and_control_characters_are_rejected(database: TestBackend) {
    let service = event_logger(&database).await;

    for name in [" ", "\n\t", "\u{2003}", "a\0b", "x\n[2026-01-01 00:00:00] paid", "x\u{2028}y"] {
        let rejected = log(&service, json!({ "event_name": name })).await;

        assert_eq!(rejected.is_error, Some(true));
        assert!(rejected.text().contains("`event_name`"), "{}", rejected.text());
    }
    assert_eq!(count(&database).await, 0);
}

async fn read(service: &McpService, uri: &str) -> Reply {
    exchange(service, resources_read(uri)).await
}

async fn events_can_be_read_as_resources(database: TestBackend) {
    let service = event_logger(&database).await;
    let logged = structured(&log(&service, json!({ "event_name": "login" })).await);

    let list = read(&service, "events://latest").await;
    let event = read(&service, &format!("events://{}", logged["id"])).await;
    let missing = read(&service, "events://999").await;

    assert!(list.result()["contents"][0]["text"].as_str().unwrap().ends_with("] #1 login"));
    let own: Value = serde_json::from_str(event.result()["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(own, logged);
    assert_eq!(event.result()["contents"][0]["mimeType"], "application/json");
    assert_eq!(missing.status_and_code(), (200, -32602));
}

async fn every_revision_can_log_and_list(database: TestBackend) {
    let service = event_logger(&database).await;
    for revision in ProtocolVersion::ALL {
        let request: McpRequest = tools_call("log_event", json!({ "event_name": revision.as_str() }));
        exchange(&service, request.revision(revision)).await.tool_result();
        let request = tools_call("get_latest_events", json!({ "limit": 1 })).revision(revision);

        assert!(exchange(&service, request).await.tool_result().text().ends_with(revision.as_str()));
    }
}

#[tokio::test]
async fn an_unreachable_database_is_an_error_without_details() {
    let nowhere = "postgres://app:hunter2@127.0.0.1:1/events";
    let config = config(&[("DATABASE_URL", nowhere), ("MCP_AUTH", "dangerously-off")]).unwrap();
    let invocation = || Invocation {
        request_id: "req-7".to_owned(),
        deadline: Instant::now().checked_add(Duration::from_millis(1500)),
        ..Invocation::default()
    };
    let service = service(config).await.unwrap();

    let list = exchange(&service, tools_list()).await;
    let tool = tools_call("log_event", json!({ "event_name": "login" }));
    let tool = exchange_via(Via::FunctionUrl, &service, tool, invocation()).await;
    let resource = exchange_via(Via::FunctionUrl, &service, resources_read("events://latest"), invocation()).await;

    assert_eq!(list.result()["tools"].as_array().unwrap().len(), 2);
    let message = "The database is busy or not available. Try again in a moment.";
    assert_eq!(tool.tool_result().text(), format!("{message} Request id: req-7"));
    assert_eq!(resource.status_and_code(), (200, -32603));
    assert_eq!(resource.response()["error"]["message"], format!("{message}; request id: req-7"));
}

#[tokio::test]
async fn a_missing_or_misspelt_authentication_setting_is_an_init_error() {
    let url = ("DATABASE_URL", "postgres://app@127.0.0.1:1/events");

    let unset = service(config(&[url]).unwrap()).await.unwrap_err().to_string();
    let misspelt = config(&[url, ("MCP_AUTH", "off")]).unwrap_err();

    for part in ["tool `log_event`", "OIDC_ISSUER", "MCP_AUTH=dangerously-off"] {
        assert!(unset.contains(part), "{unset}");
    }
    assert!(misspelt.contains("MCP_AUTH"), "{misspelt}");
}

async fn no_hostile_token_logs_an_event(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let service = guarded(&database, &issuer).await;

    let tried = issuer.assert_rejected(&service, &tools_call("log_event", json!({ "event_name": "login" }))).await;

    assert!(tried >= 80);
    assert_eq!(count(&database).await, 1, "that of the good token");
}

async fn logging_requires_a_scope_and_names_the_caller(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let service = guarded(&database, &issuer).await;
    let log = || tools_call("log_event", json!({ "event_name": "login" }));
    let unverified = issuer.mint(["events:write"], |_, claims| claims["email_verified"] = json!(false));

    let anonymous = exchange(&service, log()).await;
    let reader = exchange(&service, log().bearer(&issuer.token(["events:read"]))).await;
    let writer = exchange(&service, log().bearer(&issuer.token(["events:write"]))).await;
    let unverified = exchange(&service, log().bearer(&unverified)).await;

    assert_eq!((anonymous.status.as_u16(), reader.status.as_u16()), (401, 403));
    for rejected in [anonymous, reader] {
        assert!(rejected.headers["www-authenticate"].to_str().unwrap().contains("scope=\"events:write\""));
    }
    assert_eq!(writer.tool_result().text(), "Event 'login' logged by ada@example.com. Its number is 1.");
    let text = unverified.tool_result().text();
    assert_eq!(text, "Event 'login' logged by ada. Its number is 2.", "an unverified address is not shown");
    assert_eq!(count(&database).await, 2);
}

/// Each request that returns an event, with and without the scope that shows who logged it.
async fn the_caller_of_an_event_is_shown_only_with_the_read_scope(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let service = guarded(&database, &issuer).await;
    let log = || tools_call("log_event", json!({ "event_name": "login", "idempotency_key": "k" }));
    let list = || tools_call("get_latest_events", json!({}));
    let writer = issuer.token(["events:write"]);
    let both = issuer.token(["events:read", "events:write"]);
    let reader = issuer.mint(["events:read"], |_, claims| claims["sub"] = json!("bob"));
    let id = structured(&exchange(&service, log().bearer(&writer)).await.tool_result())["id"].clone();
    let event = || resources_read(&format!("events://{id}"));

    for (what, request, is_shown) in [
        ("the list, anonymous", list(), false),
        ("the list, by a writer", list().bearer(&writer), false),
        ("the list, by a reader", list().bearer(&reader), true),
        ("the list in 2024-11-05, anonymous", list().revision(ProtocolVersion::V2024_11_05), false),
        ("the result of logging, by a writer", log().bearer(&writer), false),
        ("the result of logging, by a reader", log().bearer(&both), true),
        ("the resource, by a reader", event().bearer(&reader), true),
    ] {
        let reply = exchange(&service, request).await;

        assert_eq!(reply.status, 200, "{what}: {}", reply.body);
        assert_eq!(reply.body.contains("logged_by"), is_shown, "{what}: {}", reply.body);
        let names = reply.body.contains(issuer.issuer()) || reply.body.replace("logged by ada@", "").contains("ada@");
        assert_eq!(names, is_shown, "{what}: {}", reply.body);
    }
    for request in [event(), resources_read("events://latest")] {
        assert_eq!(exchange(&service, request.clone()).await.status, 401);
        assert_eq!(exchange(&service, request.bearer(&writer)).await.status, 403);
    }
}
