//! Tests of the written log events.

use std::sync::{Arc, Mutex};

use mcp_server::{HandlerError, Server, Tool, ToolContext};
use serde_json::{Value, json};

use super::{json::MAX_DIMENSION_BYTES, *};
use crate::{Authentication, HttpConfig, McpService, transport::respond_buffered};

/// The output while `log` runs.
fn written(variables: &[(&str, &str)], log: impl FnOnce()) -> String {
    let env = Env::from_pairs(variables.iter().copied());
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let write = move |line: &[u8]| sink.lock().unwrap().extend_from_slice(line);
    let (filter, _) = filter(env.get(RUST_LOG));
    tracing::subscriber::with_default(Logs::new(&env, filter, write), log);
    String::from_utf8(std::mem::take(&mut lines.lock().unwrap())).unwrap()
}

fn json_line(variables: &[(&str, &str)], log: impl FnOnce()) -> Value {
    let line = written(&[&[(LOG_FORMAT, "JSON")], variables].concat(), log);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn an_event_is_one_json_object_with_any_content() {
    let hostile = "a \"quote\",\na line, {\"level\":\"ERROR\"} and \u{1}";

    let line =
        json_line(&[], || tracing::warn!(text = hostile, shown = %hostile, number = 1.5, yes = true, "{hostile}"));

    assert_eq!((&line["level"], &line["target"]), (&json!("WARN"), &json!(module_path!())));
    assert_eq!((&line["text"], &line["shown"], &line["message"]), (&json!(hostile), &json!(hostile), &json!(hostile)));
    assert_eq!((&line["number"], &line["yes"]), (&json!(1.5), &json!(true)));
    humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
}

/// Every character that is escaped.
fn hostile() -> impl Iterator<Item = char> {
    let bidirectional = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
    let marks = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
    ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain(bidirectional).chain(marks)
}

/// For every character, in every kind of field and in the message.
#[test]
fn control_and_bidirectional_characters_are_escaped() {
    let (mut all, mut count) = (String::new(), 0);
    for own in '\0'..=char::MAX {
        all.push(own);
        if all.len() < 60_000 && own != char::MAX {
            continue;
        }
        count += all.chars().count();
        let text = std::mem::take(&mut all);
        let log = || tracing::warn!(text, shown = %text, debug = ?text, "{text}");

        let json = written(&[(LOG_FORMAT, "JSON")], log);
        let plain = written(&[(LOG_FORMAT, "Text")], log);

        for line in [&json, &plain] {
            let raw: Vec<char> = hostile().filter(|own| line.trim_end_matches('\n').contains(*own)).collect();
            assert_eq!((raw, line.matches('\n').count()), (vec![], 1));
        }
        let line: Value = serde_json::from_str(&json).unwrap();
        for field in ["text", "shown", "message"] {
            assert_eq!(line[field], json!(text));
        }
    }
    assert_eq!(count, 0x11_0000 - 0x800, "all but surrogates");
}

/// A quoted value cannot forge other fields.
#[test]
fn no_value_and_no_message_can_forge_fields() {
    for text in ["x outcome=ok", "x\" outcome=\"ok", "x\\\" outcome=ok", "x\n2026-11-26T00:00:00Z ERROR forged"] {
        let line = written(&[(LOG_FORMAT, "Text")], || tracing::info!(shown = %text, last = 1, "{text}"));

        let rest = line.split_once(module_path!()).unwrap().1;
        let quoted = json!(text).to_string();
        assert_eq!(rest, format!(": {quoted} shown={quoted} last=1\n"));
    }
}

/// In every logged property of a request.
#[test]
fn caller_supplied_text_is_escaped_in_both_formats() {
    #[derive(serde::Deserialize, schemars::JsonSchema, garde::Validate)]
    struct Args {
        #[garde(skip)]
        text: String,
    }
    async fn panics(_: ToolContext<()>, args: Args) -> Result<String, HandlerError> {
        panic!("{}", args.text)
    }
    async fn fails(_: ToolContext<()>, args: Args) -> Result<String, HandlerError> {
        Err(HandlerError::internal(std::io::Error::other(args.text)))
    }
    let authentication = Authentication::Iam { grant_scopes: Vec::new() };
    let config = HttpConfig { authentication, logs_subjects: true, ..HttpConfig::default() };
    let server = Server::new("test", "0", ()).tool(Tool::new("panics", panics)).tool(Tool::new("fails", fails));
    let service = McpService::new(server, config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for own in hostile() {
        let text = format!("a{own}b\" outcome=\"ok");
        let text = text.as_str();
        for (version, origin, method, tool) in [
            ("2026-07-28", Some(text), "tools/call", "fails"),
            ("2026-07-28", None, "tools/call", "fails"),
            ("2026-07-28", None, "tools/call", "panics"),
            ("2025-11-25", None, text, "fails"),
            ("2025-11-25", None, "tools/call", text),
        ] {
            let mut meta = json!({
                "traceparent": text, "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": text, "version": text },
            });
            let mut headers = json!({
                "accept": "application/json, text/event-stream", "content-type": "application/json",
                "mcp-protocol-version": version, "origin": origin, "user-agent": text,
            });
            if version == "2026-07-28" {
                meta["io.modelcontextprotocol/protocolVersion"] = json!(version);
                (headers["mcp-method"], headers["mcp-name"]) = (json!(method), json!(tool));
            }
            let params = json!({ "name": tool, "arguments": { "text": text }, "_meta": meta });
            let body = json!({ "jsonrpc": "2.0", "id": text, "method": method, "params": params });
            let event = json!({
                "version": "2.0", "rawPath": "/mcp", "rawQueryString": text, "body": body.to_string(), "headers": headers,
                "requestContext": {
                    "http": { "method": "POST", "userAgent": text, "path": text },
                    "authorizer": { "iam": { "accountId": text, "userArn": text, "userId": text } },
                },
            })
            .to_string();
            let log = || {
                let invocation = crate::LambdaInvocation::traced(text, format!("Root={text}"));
                let answer = respond_buffered(&service, event.as_bytes(), invocation);
                runtime.block_on(answer).unwrap();
            };

            let json = written(&[(LOG_FORMAT, "JSON")], log);
            let plain = written(&[(LOG_FORMAT, "Text")], log);

            for line in json.lines().chain(plain.lines()) {
                assert!(!hostile().any(|own| line.contains(own)), "{method:?} {tool:?}: {line:?}");
            }
            for line in json.lines().map(serde_json::from_str::<Value>) {
                assert_eq!(line.unwrap()["request_id"], text);
            }
            assert!(!plain.contains(" outcome=\"ok"), "{plain}");
            assert_eq!((json.lines().count(), plain.lines().count()), (1, 1));
            // A header value must not have such characters: the request is malformed.
            let is_malformed = origin.is_some() && own.is_ascii() && own != '\t';
            assert_eq!(json.contains("request rejected: malformed event"), is_malformed, "{json}");
        }
    }
}

#[test]
fn metrics_are_embedded_in_the_event() {
    let log = || {
        tracing::info!(dimension.item = "greet", monotonic_counter.faults = 1, histogram.duration_ms = 1.25, "called");
    };

    let line = json_line(&[(FUNCTION_NAME, "greeter")], log);

    let expected = json!([{
        "Namespace": "mcp",
        "Dimensions": [["function_name"], ["function_name", "item"]],
        "Metrics": [{ "Name": "faults", "Unit": "Count" }, { "Name": "duration_ms", "Unit": "Milliseconds" }],
    }]);
    assert_eq!(line["_aws"]["CloudWatchMetrics"], expected);
    assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!((&line["function_name"], &line["item"]), (&json!("greeter"), &json!("greet")));
    assert_eq!((&line["faults"], &line["duration_ms"]), (&json!(1), &json!(1.25)));

    let off = json_line(&[(FUNCTION_NAME, "greeter"), (METRICS, "off")], log);
    assert_eq!((off.get("_aws"), &off["faults"]), (None, &json!(1)));
}

#[test]
fn values_that_cloudwatch_rejects_are_not_declared_as_metrics() {
    let variables = &[(FUNCTION_NAME, "greeter")];
    for not_a_number in [f64::NAN, f64::INFINITY] {
        let line = json_line(variables, || {
            tracing::info!(monotonic_counter.faults = 1, histogram.ratio = not_a_number, "called");
        });
        let metrics = &line["_aws"]["CloudWatchMetrics"][0]["Metrics"];
        assert_eq!(metrics, &json!([{ "Name": "faults", "Unit": "Count" }]));
    }
    let line = json_line(variables, || tracing::info!(histogram.duration_ms = "long", "called"));
    assert_eq!((line.get("_aws"), &line["duration_ms"]), (None, &json!("long")));

    for (item, value) in
        [("grüße", "gr??e"), (" ", "unknown"), ("", "unknown"), ("a\tb", "a?b"), ("events://{id}", "events://{id}")]
    {
        let line =
            json_line(variables, || tracing::info!(dimension.item = item, monotonic_counter.faults = 1, "called"));
        assert_eq!(line["item"], value);
    }
    let long = "é".repeat(2000);
    let line = json_line(variables, || tracing::info!(dimension.item = long, monotonic_counter.faults = 1, "called"));
    assert_eq!(line["item"].as_str().unwrap().len(), MAX_DIMENSION_BYTES);
}

#[test]
fn the_text_format_has_plain_fields() {
    let line = written(&[(LOG_FORMAT, "Text")], || {
        tracing::error!(dimension.item = "greet", histogram.duration_ms = 2, "it {}", "broke");
    });

    let rest = line.split_once(' ').unwrap().1;
    assert_eq!(rest, format!("ERROR {}: it broke item=\"greet\" duration_ms=2\n", module_path!()));
}

#[test]
fn filtered_events_and_spans_are_not_written() {
    let log = || {
        tracing::debug!("a detail");
        let _span = tracing::info_span!("a span").entered();
    };

    assert_eq!(written(&[], log), "");
    assert!(written(&[(RUST_LOG, "debug")], log).contains("a detail"));
    assert_eq!(written(&[(RUST_LOG, "off")], || tracing::error!("the end")), "");
}

/// Rejections as calls log them: 10 that are written, 2 × 100 that are summarized, and 30 that still wait.
fn flood() {
    for own in 0..240_u16 {
        tracing::info!(
            name: REJECTION,
            target: "mcp_lambda::call",
            status = 401_u16,
            dimension.item = "log_event",
            histogram.duration_ms = f64::from(own),
            monotonic_counter.refused_calls = 1_u64,
            "a request was answered"
        );
    }
}

#[test]
fn a_flood_of_rejections_is_a_few_lines_with_all_values_of_the_metrics() {
    let lines = written(&[(LOG_FORMAT, "JSON"), (FUNCTION_NAME, "events")], flood);

    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 12);
    let summary = &lines[10];
    assert_eq!((&summary["message"], &summary["repeats"]), (&json!("further rejections were counted"), &json!(100)));
    assert_eq!((&summary["repeated"], &summary["status"]), (&json!("a request was answered"), &json!(401)));
    assert_eq!((&summary["item"], &summary["refused_calls"]), (&json!("log_event"), &json!(100)));
    let values: Vec<f64> = (10..110).map(f64::from).collect();
    assert_eq!(summary["duration_ms"], json!(values));
    let definition = &summary["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(definition["Dimensions"], json!([["function_name"], ["function_name", "item"]]));
    let metrics =
        json!([{ "Name": "refused_calls", "Unit": "Count" }, { "Name": "duration_ms", "Unit": "Milliseconds" }]);
    assert_eq!(definition["Metrics"], metrics);
}

#[test]
fn a_summary_is_text_too() {
    let lines = written(&[(LOG_FORMAT, "Text")], flood);

    let summary = lines.lines().nth(10).unwrap();
    let expected =
        r#"further rejections were counted repeats=100 repeated="a request was answered" status=401 item="log_event""#;
    assert!(summary.ends_with(expected), "{summary}");
}

#[test]
fn without_metrics_a_summary_defines_none() {
    let lines = written(&[(LOG_FORMAT, "JSON"), (FUNCTION_NAME, "events"), (METRICS, "off")], flood);

    assert!(lines.contains("further rejections") && !lines.contains("_aws"), "{lines}");
}

#[test]
fn at_debug_each_rejection_is_written() {
    let lines = written(&[(LOG_FORMAT, "JSON"), (RUST_LOG, "debug")], flood);

    assert_eq!(lines.lines().count(), 240);
    assert!(!lines.contains("further rejections"), "{lines}");
}

#[test]
fn a_flush_writes_what_was_counted() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let write = move |line: &[u8]| sink.lock().unwrap().extend_from_slice(line);
    let env = Env::from_pairs([(LOG_FORMAT, "JSON")]);
    let logs = Arc::new(Logs::new(&env, filter(None).0, write));
    tracing::subscriber::with_default(Arc::clone(&logs), flood);
    lines.lock().unwrap().clear();

    logs.flush();
    logs.flush();

    let line: Value = serde_json::from_slice(&lines.lock().unwrap()).unwrap();
    assert_eq!((&line["repeats"], &line["refused_calls"]), (&json!(30), &json!(30)));
}
