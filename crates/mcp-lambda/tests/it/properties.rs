//! Property tests with generated bodies and events. Seeds of failures are stored next to this file.

use bytes::Bytes;
use http::StatusCode;
use mcp_lambda::{
    Env, FromEnv, HttpConfig,
    transport::{LambdaRequest, respond_buffered},
};
use mcp_protocol::ProtocolVersion;
use mcp_server::Invocation;
use mcp_testing::{McpRequest, Via, event_of, tools_list};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{Fixture, fixture};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Any JSON, a few levels deep, in which the members of messages are frequent.
pub(crate) fn json_value() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("jsonrpc".to_owned()),
        Just("id".to_owned()),
        Just("method".to_owned()),
        Just("params".to_owned()),
        Just("_meta".to_owned()),
        Just("name".to_owned()),
        Just("arguments".to_owned()),
        Just("text".to_owned()),
        Just("io.modelcontextprotocol/protocolVersion".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,16}".prop_map(Value::from),
        Just(json!("2.0")),
        Just(json!("tools/call")),
        Just(json!("tools/list")),
        Just(json!("echo")),
        Just(json!("2026-07-28")),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

pub(crate) fn id() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), ".{0,20}".prop_map(Value::from)]
}

/// Asserts that a response is valid HTTP with a JSON-RPC body, if any.
#[track_caller]
pub(crate) fn assert_well_formed(response: &Value) -> Vec<Value> {
    let status = response["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    assert!(status.is_some_and(|status| status.as_u16() >= 200), "{response}");
    let body = response["body"].as_str().unwrap_or_default();
    let messages = match response["headers"]["content-type"].as_str() {
        None => {
            assert_eq!(body, "");
            Vec::new()
        }
        Some("application/json") => match serde_json::from_str(body).unwrap() {
            Value::Array(messages) => messages,
            message => vec![message],
        },
        Some("text/event-stream") => body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect(),
        Some(other) => panic!("unexpected content type {other}"),
    };
    assert!(messages.iter().all(|message| message["jsonrpc"] == "2.0"), "{response}");
    messages
}

fn answer(service: &Fixture, event: &str) -> Option<Value> {
    let response = block_on(respond_buffered(service, event.as_bytes(), Invocation::default())).ok()?;
    Some(serde_json::to_value(response).unwrap())
}

fn answer_to(service: &Fixture, request: McpRequest) -> Value {
    answer(service, &event_of(Via::FunctionUrl, &request.into_http()).to_string()).expect("a known kind of event")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_as_a_body_yield_a_well_formed_response(body in prop::collection::vec(any::<u8>(), 0..512)) {
        assert_well_formed(&answer_to(&fixture(), tools_list().body(Bytes::from(body))));
    }

    #[test]
    fn any_json_as_a_body_yields_a_well_formed_response(body in json_value(), revision in 0..ProtocolVersion::ALL.len()) {
        let request = tools_list().revision(ProtocolVersion::ALL[revision]).body(body.to_string());

        assert_well_formed(&answer_to(&fixture(), request));
    }

    #[test]
    fn any_bytes_as_an_event_are_rejected_or_served(event in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(request) = LambdaRequest::from_event(&event) {
            panic!("these bytes are taken for {request:?}");
        }
    }

    #[test]
    fn any_json_in_an_event_is_rejected_or_served(
        value in json_value(),
        place in prop::sample::select(vec![
            "/body", "/headers", "/headers/accept", "/headers/content-type", "/requestContext", "/rawPath",
            "/requestContext/http", "/requestContext/http/method", "/requestContext/domainName",
            "/isBase64Encoded", "/version",
        ]),
    ) {
        let mut event = event_of(Via::FunctionUrl, &tools_list().into_http());
        *event.pointer_mut(place).unwrap() = value;

        if let Some(response) = answer(&fixture(), &event.to_string()) {
            assert_well_formed(&response);
        }
    }

    #[test]
    fn any_request_gets_exactly_one_response_with_its_id(
        id in id(),
        method in prop_oneof![
            Just("tools/call".to_owned()), Just("tools/list".to_owned()), Just("server/discover".to_owned()),
            Just("ping".to_owned()), Just("initialize".to_owned()), "[a-z/]{1,20}",
        ],
        params in prop::collection::vec(("[a-z_]{0,8}", json_value()), 0..4),
        arguments in json_value(),
        revision in 0..ProtocolVersion::ALL.len(),
    ) {
        let mut params: Value = params.into_iter().filter(|(name, _)| name != "_meta").collect();
        if params.as_object().unwrap().is_empty() {
            params = json!({ "name": "echo", "arguments": arguments });
        }
        let name = params["name"].as_str().filter(|name| name.is_ascii()).unwrap_or("echo").to_owned();
        let name: String = name.chars().filter(|c| !c.is_ascii_control()).collect();
        let request = McpRequest::new(&method, params)
            .id(id.clone())
            .revision(ProtocolVersion::ALL[revision])
            .header("mcp-name", &name);

        let messages = assert_well_formed(&answer_to(&fixture(), request));

        let responses: Vec<_> = messages.iter().filter(|message| message.get("id").is_some()).collect();
        prop_assert_eq!(responses.len(), 1);
        prop_assert_eq!(&responses[0]["id"], &id);
        prop_assert!(responses[0].get("result").is_some() != responses[0].get("error").is_some());
    }

    #[test]
    fn no_environment_variables_make_parsing_panic(pairs in prop::collection::vec(("MCP_[A-Z_]{1,16}", ".{0,40}"), 0..4), url in ".{0,40}") {
        let _ = HttpConfig::from_env(&Env::from_pairs(pairs));
        let _ = HttpConfig::from_env(&Env::from_pairs([("MCP_PUBLIC_URL", url.as_str()), ("MCP_ALLOWED_ORIGINS", &url)]));
    }
}
