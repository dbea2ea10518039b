//! Responses of routes and layers that cannot be sent, from a function as a separate process: the caller gets a 500, and the
//! execution environment serves the next request.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use mcp_lambda::{BoxError, HttpConfig, InitError, McpService, transport::Body};
use mcp_testing::tools_call;
use serde_json::{Value, json};
use tower::{Service, layer::layer_fn, service_fn};

use crate::{
    common::server,
    process::{RuntimeApi, Seen},
};

/// The limit of a response's headers, in bytes of names and values.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// An invalid response of the given kind.
fn invalid_response(kind: &str) -> Result<Response<Body>, BoxError> {
    let mut response = Response::new(Body::whole("of the author"));
    let headers = response.headers_mut();
    let mut add = |name: &'static str, value: &[u8]| {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
    };
    match kind {
        "good" => {}
        "latin1" => _ = add("x-a", b"\xff"),
        "utf8" => _ = add("x-a", "é".as_bytes()),
        "cookie" => _ = add("set-cookie", "n=é".as_bytes()),
        "injected" => _ = headers.append("x-a", HeaderValue::from_str("a\r\nx-b: c")?),
        // A route adds `Vary`.
        "fits" => _ = add("x-a", &vec![b'"'; MAX_HEADER_BYTES - "x-a".len() - "varyOrigin".len()]),
        "large" => _ = add("x-a", &vec![b'a'; MAX_HEADER_BYTES - "x-a".len() + 1]),
        "large-cookie" => _ = add("set-cookie", &vec![b'a'; MAX_HEADER_BYTES]),
        "huge" => _ = add("x-a", &vec![b'a'; 8 * 1024 * 1024]),
        "many" => (0..20_000).for_each(|_| _ = add("x-a", b"a")),
        // More than `HeaderMap` can hold: it panics.
        "too-many" => (0..40_000).for_each(|_| _ = add("x-a", b"a")),
        status => *response.status_mut() = status.parse()?,
    }
    Ok(response)
}

/// A service with a route, a public route and a layer that return such a response.
pub(super) fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let spoil = service_fn(async |request: Request<Body>| invalid_response(request.uri().query().unwrap_or_default()));
    let layer = layer_fn(|inner: McpService| {
        service_fn(move |request: Request<Body>| {
            let mut inner = inner.clone();
            async move {
                match (request.uri().path(), request.uri().query()) {
                    ("/layer", Some(kind)) => invalid_response(kind),
                    _ => Ok(inner.call(request).await?),
                }
            }
        })
    });
    Ok(McpService::new(server(), config)?.route("/route", spoil).public_route("/public", 0, spoil).layer(layer))
}

/// The status and the text of a response, in both invoke modes.
fn response(seen: &Seen) -> (Value, String) {
    assert!(seen.line.starts_with("POST /2018-06-01/runtime/invocation/req-1/response"), "{}", seen.line);
    match seen.body.split_once("\0\0\0\0\0\0\0\0") {
        Some((prelude, body)) => {
            let prelude: Value = serde_json::from_str(prelude).unwrap();
            (prelude["statusCode"].clone(), body.to_owned())
        }
        None => (seen.json()["statusCode"].clone(), seen.json()["body"].as_str().unwrap_or_default().to_owned()),
    }
}

#[test]
fn a_response_that_cannot_be_sent_is_a_500_and_the_next_request_is_served() {
    let kinds = [
        ("good", 200),
        ("fits", 200),
        ("200", 200),
        ("599", 599),
        ("latin1", 500),
        ("utf8", 500),
        ("cookie", 500),
        ("injected", 500),
        ("large", 500),
        ("large-cookie", 500),
        ("huge", 500),
        ("many", 500),
        ("too-many", 500),
        ("100", 500),
        ("199", 500),
        ("600", 500),
        ("999", 500),
    ];
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("responses", &[("MCP_INVOKE_MODE", mode)]);
        for path in ["/route", "/public", "/layer"] {
            for (kind, expected) in kinds {
                let own = Request::get(format!("{path}?{kind}")).body(Bytes::new()).unwrap();

                let (status, text) = response(&api.answer_http(&own));
                let (next, _) = response(&api.answer(tools_call("simple", json!({}))));

                assert_eq!(status, expected, "{mode} {path} {kind}: {text}");
                let expected = if expected == 500 { "internal error; request id: req-1" } else { "of the author" };
                assert!(text.contains(expected), "{mode} {path} {kind}: {text}");
                assert_eq!(next, 200, "{mode} after {path} {kind}");
            }
        }
        let output = function.kill();

        assert!(output.contains("a response cannot be sent"), "{output}");
        assert!(output.contains("the headers have 65537 bytes; the limit is 65536"), "{output}");
    }
}
