//! Hostile events and responses at routes and layers.

use std::{
    convert::Infallible,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use mcp_lambda::{
    HttpConfig, McpService, Principal, Server,
    transport::{Body, Invocation, InvokeMode, PublicUrl, respond_buffered},
};
use mcp_testing::{TestIssuer, Via, event_of};
use serde_json::{Value, json};
use tower::{service_fn, util::MapResponseLayer};

use crate::authorization;

const ALL: [Via; 4] = [Via::FunctionUrl, Via::RestApi, Via::LoadBalancer, Via::LoadBalancerMultiValue];

fn base() -> McpService {
    McpService::new(Server::new("test", "0.0.0", ()), HttpConfig::default()).unwrap()
}

fn event(via: Via, path: &str) -> Value {
    event_of(via, &Request::builder().method(Method::GET).uri(path).body(Bytes::new()).unwrap())
}

async fn send(service: &McpService, event: &Value) -> Value {
    let deadline = Some(Instant::now() + Duration::from_secs(60));
    let invocation = Invocation { deadline, ..Invocation::default() };
    let response = respond_buffered(service, event.to_string().as_bytes(), invocation).await.unwrap();
    serde_json::from_slice(&serde_json::to_vec(&response).unwrap()).unwrap()
}

async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let headers = request.headers();
    let cookies: Vec<_> = headers.get_all("cookie").iter().map(|own| own.to_str().unwrap().to_owned()).collect();
    let caller = request.extensions().get::<Arc<Principal>>().map(|caller| caller.subject.clone());
    let echoed = json!({
        "cookies": cookies, "caller": caller, "has_token": headers.contains_key("authorization"),
        "query_bytes": request.uri().query().unwrap_or_default().len(),
    });
    Ok(Response::new(Body::whole(echoed.to_string())))
}

fn frames(frames: Vec<io::Result<Bytes>>) -> Body {
    Body::new(StreamBody::new(stream::iter(frames.into_iter().map(|own| own.map(Frame::data)))))
}

#[tokio::test]
async fn a_response_that_cannot_be_sent_is_a_500() {
    for (status, name, value, expected) in [
        (200, "content-disposition", &b"\xff"[..], 500),
        (200, "content-disposition", "é".as_bytes(), 500),
        (200, "set-cookie", "n=é".as_bytes(), 500),
        (200, "content-disposition", b"inline", 200),
        (100, "x-a", b"a", 500),
        (101, "x-a", b"a", 500),
        (999, "x-a", b"a", 500),
        (204, "x-a", b"a", 204),
    ] {
        let service = base().public_route(
            "/hook",
            0,
            service_fn(move |_: Request<Body>| async move {
                let mut response = Response::builder().status(status).body(Body::default()).unwrap();
                response.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
                Ok::<_, Infallible>(response)
            }),
        );
        for via in ALL {
            let answer = send(&service, &event(via, "/hook")).await;

            assert_eq!(answer["statusCode"], expected, "{via:?} {status} {name} {value:?} {answer}");
        }
    }
}

#[tokio::test]
async fn response_headers_are_limited_by_event_source() {
    for via in ALL {
        let is_load_balancer = matches!(via, Via::LoadBalancer | Via::LoadBalancerMultiValue);
        let limit = if is_load_balancer { 32 * 1024 } else { 64 * 1024 };
        for (bytes, expected) in [(limit, 200), (limit + 1, 500)] {
            let service = base().public_route(
                "/hook",
                0,
                service_fn(move |_: Request<Body>| async move {
                    let response = Response::builder().header("x-a", "a".repeat(bytes - 6)).header("x-b", "");
                    Ok::<_, Infallible>(response.body(Body::default()).unwrap())
                }),
            );

            let answer = send(&service, &event(via, "/hook")).await;

            assert_eq!(answer["statusCode"], expected, "{via:?} {bytes}");
        }
    }
}

#[tokio::test]
async fn hop_by_hop_headers_are_removed() {
    let service = base().public_route(
        "/hook",
        0,
        service_fn(async |_: Request<Body>| {
            let response = Response::builder().header("transfer-encoding", "chunked").header("connection", "x");
            let response = response.header("keep-alive", "a").header("upgrade", "a").header("te", "a");
            Ok::<_, Infallible>(response.header("trailer", "a").header("x-kept", "a").body(Body::whole("a")).unwrap())
        }),
    );

    let answer = send(&service, &event(Via::FunctionUrl, "/hook")).await;

    assert_eq!(answer["headers"], json!({ "x-kept": "a" }));
}

#[tokio::test]
async fn a_buffered_body_that_fails_or_panics_is_a_500() {
    let failing = || frames(vec![Ok(Bytes::from_static(b"part")), Err(io::Error::other("the database is gone"))]);
    let panicking = || {
        let steps = stream::unfold(0, async |step| {
            assert_eq!(step, 0, "the second step panics");
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"part"))), step + 1))
        });
        Body::new(StreamBody::new(Box::pin(steps)))
    };
    let service = base()
        .public_route(
            "/failing",
            0,
            service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(failing())) }),
        )
        .public_route(
            "/panicking",
            0,
            service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(panicking())) }),
        );
    for path in ["/failing", "/panicking"] {
        assert_eq!(send(&service, &event(Via::FunctionUrl, path)).await["statusCode"], 500, "{path}");
    }
    let layered = base().layer(MapResponseLayer::new(move |own: Response<Body>| own.map(|_| failing())));
    assert_eq!(send(&layered, &event(Via::FunctionUrl, "/x")).await["statusCode"], 500);
}

#[tokio::test(start_paused = true)]
async fn the_response_body_of_a_layer_is_limited_in_time_and_size() {
    let slow = || {
        let ticks = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        Body::new(StreamBody::new(Box::pin(ticks)))
    };
    let large = || frames((0..7).map(|_| Ok(Bytes::from(vec![b'x'; 1024 * 1024]))).collect());
    let with = |body: fn() -> Body| base().layer(MapResponseLayer::new(move |own: Response<Body>| own.map(|_| body())));

    assert_eq!(send(&with(slow), &event(Via::FunctionUrl, "/x")).await["statusCode"], 504);
    assert_eq!(send(&with(large), &event(Via::FunctionUrl, "/x")).await["statusCode"], 500);
}

#[tokio::test]
async fn the_size_limit_includes_json_escapes() {
    for text in ["12\tab\r\n".repeat(800_000), "\0".repeat(1_200_000), "\u{1b}".repeat(5_900_000)] {
        let text: &'static str = text.leak();
        let service = base().public_route(
            "/big",
            0,
            service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(Body::whole(text))) }),
        );

        let answer = send(&service, &event(Via::FunctionUrl, "/big")).await;

        assert_eq!(answer["statusCode"], 500);
    }
}

#[tokio::test]
async fn a_path_with_a_query_or_fragment_in_it_is_a_400() {
    let service = base().public_route("/hook", 0, service_fn(echo));
    for path in ["/hook?admin=1", "/hook#", "/hook#/../x", "/hook?", "/hook?#", "/mcp?x"] {
        for via in ALL {
            let mut event = event(via, "/hook");
            event["rawPath"] = json!(path);
            event["path"] = json!(path);

            assert_eq!(send(&service, &event).await["statusCode"], 400, "{via:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_query_has_a_limited_number_of_parameters() {
    let service = base().public_route("/hook", 0, service_fn(echo));
    for (count, expected) in [(1000, 200), (1001, 400), (500_000, 400)] {
        let mut event = event(Via::LoadBalancerMultiValue, "/hook");
        event["multiValueQueryStringParameters"] = json!({ "": vec![""; count] });

        assert_eq!(send(&service, &event).await["statusCode"], expected, "{count}");
    }
}

#[tokio::test]
async fn cookies_of_an_event_replace_its_cookie_header() {
    let service = base().public_route("/hook", 0, service_fn(echo));
    let mut event = event(Via::FunctionUrl, "/hook");
    event["headers"]["cookie"] = json!("session=a");
    event["cookies"] = json!(["session=b", "t=1"]);

    let answer = send(&service, &event).await;

    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["cookies"], json!(["session=b; t=1"]));
}

#[tokio::test]
async fn a_route_gets_the_caller_and_no_token() {
    let issuer = TestIssuer::start().await;
    let service = authorization::service(authorization::server(), &issuer, &[]).route("/export", service_fn(echo));
    let token = format!("Bearer {}", issuer.token([]));
    let own = Request::builder().uri("/export").header("authorization", token).body(Bytes::new()).unwrap();

    let answer = send(&service, &event_of(Via::FunctionUrl, &own)).await;

    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["has_token"], body["caller"].is_string()), (&json!(false), true), "{body}");
}

#[tokio::test]
async fn a_route_rejects_callers_with_the_statuses_of_the_endpoint() {
    let down = TestIssuer::start().await;
    down.publish([]);
    let issuer = TestIssuer::start().await;
    let scoped = authorization::closed_server().require_scope("events:write");
    for (what, issuer, server, more, via, expected) in [
        ("no name", &issuer, authorization::server(), &[][..], Via::RestApi, 500),
        ("no keys", &down, authorization::server(), &[], Via::FunctionUrl, 503),
        (
            "not listed",
            &issuer,
            authorization::server(),
            &[("OIDC_ALLOWED_EMAILS", "bob@example.com")],
            Via::FunctionUrl,
            403,
        ),
        ("no scope", &issuer, scoped, &[], Via::FunctionUrl, 403),
        // The rule of the server applies to routes, even if discovery is public.
        ("no scope", &issuer, authorization::server().require_scope("events:write"), &[], Via::FunctionUrl, 403),
    ] {
        let service = authorization::service(server, issuer, more).route("/export", service_fn(echo));
        let token = format!("Bearer {}", issuer.token([]));
        let own = Request::builder().uri("/export").header("authorization", token).body(Bytes::new()).unwrap();

        let answer = send(&service, &event_of(via, &own)).await;

        assert_eq!(answer["statusCode"], expected, "{what}: {answer}");
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["error"]["code"], expected, "{what}: {body}");
        assert_eq!(answer["headers"]["retry-after"].is_string(), expected == 503, "{what}: {answer}");
        let challenge = answer["headers"]["www-authenticate"].as_str().unwrap_or_default();
        assert_eq!(challenge.contains("insufficient_scope"), what == "no scope", "{what}: {answer}");
    }
}

/// CORS headers repeat request headers, but the size of response headers is limited.
#[tokio::test]
async fn cors_headers_never_exceed_the_header_limit() {
    let own = "https://abcdefghij.lambda-url.eu-west-1.on.aws";
    let params = |bytes: usize| "mcp-param-,".repeat(bytes / "mcp-param-,".len());
    let long_port = |bytes: usize| format!("{own}:{}443", "0".repeat(bytes));
    let service = base().route("/export", service_fn(echo));
    for path in ["/export", "/mcp"] {
        for (origin, params, expected, has_params) in [
            (own.to_owned(), params(16_000), 204, true),
            (own.to_owned(), params(65_000), 204, false),
            (long_port(400), params(100), 204, true),
            (long_port(65_000), params(100), 403, false),
        ] {
            let asked = Request::builder().method(Method::OPTIONS).uri(path).header("origin", &origin);
            let asked = asked.header("access-control-request-headers", params).body(Bytes::new()).unwrap();

            let answer = send(&service, &event_of(Via::FunctionUrl, &asked)).await;

            assert_eq!(answer["statusCode"], expected, "{path} {}", origin.len());
            let allowed = answer["headers"]["access-control-allow-headers"].as_str().unwrap_or_default();
            assert_eq!(allowed.contains("mcp-param-"), has_params, "{path} {}", origin.len());
        }
    }
}

#[test]
#[should_panic(expected = "is under the path of MCP_PUBLIC_URL")]
fn a_route_under_the_path_of_the_public_url_panics() {
    let public_url = PublicUrl::parse("https://example.com/hook");
    let config = HttpConfig { public_url, invoke_mode: InvokeMode::Buffered, ..HttpConfig::default() };
    let service = McpService::new(Server::new("test", "0.0.0", ()), config).unwrap();
    let _ = service.public_route("/hook/x", 0, service_fn(echo));
}
