//! Lambda events of each source.

use http::Method;
use mcp_lambda::transport::{EventError, EventSource, LambdaRequest, respond_buffered};
use mcp_server::Invocation;
use mcp_testing::{Via, event_of, tools_call, tools_list};
use serde_json::{Value, json};

use crate::common::fixture;

/// Documented events of each source; each calls `tools/list` in a legacy revision.
const DOCUMENTED: [(&str, EventSource, &str); 6] = [
    ("function-url", EventSource::FunctionUrl, include_str!("../data/function-url.json")),
    ("http-api", EventSource::FunctionUrl, include_str!("../data/http-api-stage.json")),
    ("rest-api", EventSource::RestApi, include_str!("../data/rest-api.json")),
    ("load-balancer", EventSource::LoadBalancer { multi_value: false }, include_str!("../data/load-balancer.json")),
    (
        "load-balancer-multi-value",
        EventSource::LoadBalancer { multi_value: true },
        include_str!("../data/load-balancer-multi-value.json"),
    ),
    ("cargo-lambda-watch", EventSource::FunctionUrl, include_str!("../data/cargo-lambda-watch.json")),
];

#[tokio::test]
async fn documented_events_are_detected_and_served() {
    for (name, source, event) in DOCUMENTED {
        let request = LambdaRequest::from_event(event.as_bytes()).unwrap();
        assert_eq!(request.source, source, "{name}");
        assert_eq!((request.request.method(), request.request.uri().path()), (&Method::POST, "/mcp"), "{name}");

        let response = respond_buffered(&fixture(), event.as_bytes(), Invocation::default()).await.unwrap();

        let response = serde_json::to_value(response).unwrap();
        assert_eq!(response["statusCode"], 200, "{name}: {response}");
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["result"]["tools"][0]["name"], "simple", "{name}");
    }
}

#[test]
fn documented_events_deserialize_with_aws_lambda_events() {
    use aws_lambda_events::{alb::AlbTargetGroupRequest, apigw, lambda_function_urls::LambdaFunctionUrlRequest};

    for (name, source, event) in DOCUMENTED {
        match source {
            EventSource::FunctionUrl if name == "http-api" => {
                serde_json::from_str::<apigw::ApiGatewayV2httpRequest>(event).map(drop)
            }
            EventSource::FunctionUrl => serde_json::from_str::<LambdaFunctionUrlRequest>(event).map(drop),
            EventSource::RestApi => serde_json::from_str::<apigw::ApiGatewayProxyRequest>(event).map(drop),
            EventSource::LoadBalancer { .. } => serde_json::from_str::<AlbTargetGroupRequest>(event).map(drop),
            other => panic!("{name} comes from {other:?}, which has no type here"),
        }
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

async fn answer(via: Via) -> Value {
    let event = event_of(via, &tools_call("simple", json!({})).header("origin", "https://evil.example").into_http());
    let response = respond_buffered(&fixture(), event.to_string().as_bytes(), Invocation::default()).await.unwrap();
    serde_json::to_value(response).unwrap()
}

#[tokio::test]
async fn each_event_source_gets_its_response_format() {
    let function_url = answer(Via::FunctionUrl).await;
    let rest_api = answer(Via::RestApi).await;
    let load_balancer = answer(Via::LoadBalancer).await;
    let multi_value = answer(Via::LoadBalancerMultiValue).await;

    assert_eq!(function_url["headers"]["content-type"], "application/json");
    assert_eq!(function_url["cookies"], json!([]), "`cargo lambda watch` needs it");
    assert_eq!(rest_api["multiValueHeaders"]["content-type"], json!(["application/json"]));
    assert_eq!(load_balancer["headers"]["content-type"], "application/json");
    assert_eq!(load_balancer["statusDescription"], "403 Forbidden");
    assert_eq!(multi_value["multiValueHeaders"]["content-type"], json!(["application/json"]));
}

#[tokio::test]
async fn an_unknown_event_is_an_error_with_the_expected_kinds() {
    for event in [
        "{}",
        "[]",
        "5",
        "null",
        r#""x""#,
        "not json",
        r#"{"Records":[{"eventSource":"aws:sqs"}]}"#,
        r#"{"requestContext":{}}"#,
        r#"{"httpMethod":"POST","path":"/mcp"}"#,
        r#"{"version":"3.0","requestContext":{"http":{}}}"#,
        r#"{"requestContext":{"http":{"method":"POST"}},"headers":5}"#,
        "",
    ] {
        let error = respond_buffered(&fixture(), event.as_bytes(), Invocation::default()).await.unwrap_err();

        assert!(matches!(error, EventError::Unknown(_)), "{event}");
        assert!(error.to_string().contains("expected the event of a Function URL"), "{error}");
    }
}

#[tokio::test]
async fn a_malformed_request_in_a_valid_event_is_a_bad_request() {
    let event = || event_of(Via::FunctionUrlBase64, &tools_list().into_http());
    let spoil = |path: &str, value: Value| {
        let mut event = event();
        *event.pointer_mut(path).unwrap() = value;
        event
    };
    for event in [
        spoil("/body", json!("no base64!")),
        spoil("/requestContext/http/method", json!("A B")),
        spoil("/headers/accept", json!("a\nb")),
        spoil("/rawPath", json!("/mcp\u{7f} x")),
    ] {
        let response = respond_buffered(&fixture(), event.to_string().as_bytes(), Invocation::default()).await.unwrap();

        let response = serde_json::to_value(response).unwrap();
        assert_eq!(response["statusCode"], 400, "{event}");
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["error"]["code"], -32600);
    }
}

/// An invalid mirrored header is a header mismatch, with its own error code, unlike other malformed headers.
#[tokio::test]
async fn a_control_character_in_a_mirrored_header_is_a_mismatch() {
    for via in [Via::FunctionUrl, Via::RestApi, Via::LoadBalancer, Via::LoadBalancerMultiValue] {
        for name in ["mcp-name", "mcp-method", "mcp-param-region", "mcp-protocol-version"] {
            let call = tools_call("region", json!({ "region": "eu" })).header("mcp-param-region", "eu");
            let mut event = event_of(via, &call.into_http());
            for (headers, value) in [("headers", json!("a\u{1}b")), ("multiValueHeaders", json!(["a\u{1}b"]))] {
                if let Some(headers) = event[headers].as_object_mut() {
                    headers.insert(name.to_owned(), value);
                }
            }

            let reply =
                respond_buffered(&fixture(), event.to_string().as_bytes(), Invocation::default()).await.unwrap();

            let reply = serde_json::to_value(reply).unwrap();
            let body: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&reply["statusCode"], &body["error"]["code"]),
                (&json!(400), &json!(-32020)),
                "{via:?} {name}: {body}"
            );
        }
    }
}

/// `http::HeaderMap` panics when it has too many headers.
#[tokio::test]
async fn too_many_headers_are_a_bad_request() {
    let of = |via: Via, headers: Vec<(String, Value)>| {
        let mut event = event_of(via, &tools_list().into_http());
        let is_multi = !event["multiValueHeaders"].is_null();
        let own = event[if is_multi { "multiValueHeaders" } else { "headers" }].as_object_mut().unwrap();
        let before: Vec<String> = own.keys().cloned().collect();
        let list = |value: Value| if is_multi && !value.is_array() { json!([value]) } else { value };
        own.extend(headers.into_iter().map(|(name, value)| (name, list(value))));
        (event.to_string(), before)
    };
    let names = |count: usize| (0..count).map(|number| (format!("x-{number}"), json!("1"))).collect::<Vec<_>>();
    let status = async |event: &str| {
        let answer = respond_buffered(&fixture(), event.as_bytes(), Invocation::default()).await.unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        (answer["statusCode"].as_u64().unwrap(), answer["body"].as_str().unwrap().to_owned())
    };
    for via in [Via::FunctionUrl, Via::RestApi, Via::LoadBalancer] {
        let (_, before) = of(via, Vec::new());
        // As many as allowed besides these; ignored headers do not count.
        let room = 256 - before.len();
        let text = |bytes: usize| vec![("x-a".to_owned(), json!("a".repeat(bytes)))];
        for (what, headers, expected) in [
            ("many", names(room), 200),
            ("more than a map holds", names(24_577), 400),
            ("more than allowed", names(257), 400),
            ("many more", names(100_000), 400),
            ("large ones", text(60_000), 200),
            ("too large", text(65_534), 400),
            ("much more", text(5_000_000), 400),
            ("names that are not looked at", (0..300).map(|own| (format!("x-amzn-{own}"), json!("1"))).collect(), 200),
        ] {
            let (event, _) = of(via, headers);

            let (status, body) = status(&event).await;

            assert_eq!(status, expected, "{via:?}, {what}: {body}");
            assert_eq!(
                body.contains("at most 256 with 64 KiB in all are allowed"),
                expected == 400,
                "{via:?}, {what}: {body}"
            );
        }
    }
    let (event, _) = of(Via::RestApi, vec![("x-a".to_owned(), json!(vec!["1"; 30_000]))]);
    assert_eq!(status(&event).await.0, 400, "one name with many values");
}

#[tokio::test]
async fn unexpected_values_of_unused_members_are_ignored() {
    let mut event = event_of(Via::FunctionUrl, &tools_list().into_http());
    event["requestContext"]["authorizer"] = json!({ "iam": { "accessKey": 5, "cognitoIdentity": null } });
    event["requestContext"]["authentication"] = json!({ "clientCert": [] });
    event["headers"]["x-null"] = Value::Null;
    event["cookies"] = json!(["a=b"]);
    event["queryStringParameters"] = json!({ "access_token": "x" });
    event["stageVariables"] = json!(5);
    event["somethingNew"] = json!([[]]);

    let response = respond_buffered(&fixture(), event.to_string().as_bytes(), Invocation::default()).await.unwrap();

    assert_eq!(serde_json::to_value(response).unwrap()["statusCode"], 200);
}

#[test]
fn only_domain_names_set_by_the_platform_are_used() {
    let name = |via| {
        LambdaRequest::from_event(event_of(via, &tools_list().into_http()).to_string().as_bytes()).unwrap().domain_name
    };

    assert_eq!(name(Via::FunctionUrl).as_deref(), Some("abcdefghij.lambda-url.eu-west-1.on.aws"));
    assert_eq!(name(Via::RestApi), None);
    assert_eq!(name(Via::LoadBalancer), None);
}
