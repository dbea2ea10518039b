//! Routes at other paths, and layers around the service.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use mcp_lambda::{
    HttpConfig, McpService, Principal, Server,
    transport::{Authentication, Body, EventSource, Invocation, InvokeMode, PublicUrl, Transport, respond_buffered},
};
use mcp_testing::{TestIssuer, Via, event_of, exchange, tools_call, tools_list};
use serde_json::{Value, json};
use tower::{
    ServiceExt, service_fn,
    util::{MapRequestLayer, MapResponseLayer},
};

use crate::{
    authorization,
    common::{capture_logs, config, server},
};

/// Returns the properties of the request.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Arc<Principal>>().map(|caller| caller.subject.clone());
    let invocation = parts.extensions.get::<Invocation>().unwrap();
    assert_eq!(invocation.principal.as_ref().map(|caller| caller.subject.clone()), caller);
    let cookies: Vec<_> = parts.headers.get_all("cookie").iter().map(|own| own.to_str().unwrap().to_owned()).collect();
    let echoed = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "cookies": cookies,
        "caller": caller,
        "body": String::from_utf8_lossy(&body.bytes().await),
    });
    Ok(Response::new(Body::whole(echoed.to_string())))
}

fn open() -> McpService {
    McpService::new(server(), config()).unwrap().route("/export", service_fn(echo)).public_route(
        "/hook",
        100,
        service_fn(echo),
    )
}

fn guarded(issuer: &TestIssuer, more: &[(&str, &str)]) -> McpService {
    authorization::service(authorization::server(), issuer, more).route("/export", service_fn(echo)).public_route(
        "/hook",
        100,
        service_fn(echo),
    )
}

fn request(method: Method, uri: &str) -> http::request::Builder {
    Request::builder().method(method).uri(uri)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Sends a request as a Function URL does, with its domain name.
async fn send(service: &McpService, mut request: Request<Bytes>) -> Answer {
    let domain_name = Some("abcdefghij.lambda-url.eu-west-1.on.aws".to_owned());
    request.extensions_mut().insert(Transport { source: EventSource::FunctionUrl, domain_name, iam: None });
    let (parts, body) = service.handle(request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

async fn get(service: &McpService, uri: &str) -> Answer {
    send(service, request(Method::GET, uri).body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn a_route_gets_every_method_with_its_query_and_body() {
    let service = open();
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let own = request(method.clone(), "/export?a=1&b=%2f").body(Bytes::from_static(b"body")).unwrap();

        let answer = send(&service, own).await;

        let expected = json!({
            "method": method.as_str(), "path": "/export", "query": "a=1&b=%2f", "cookies": [], "caller": null, "body": "body",
        });
        assert_eq!((answer.status, answer.json()), (200, expected));
    }
    let head = send(&service, request(Method::HEAD, "/export").body(Bytes::new()).unwrap()).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(exchange(&service, tools_call("simple", json!({}))).await.status, 200, "the endpoint is unchanged");
}

#[tokio::test]
async fn a_route_matches_its_exact_path_only() {
    let issuer = TestIssuer::start().await;
    let service = guarded(&issuer, &[]);
    for path in [
        "/export/",
        "//export",
        "/Export",
        "/EXPORT",
        "/%65xport",
        "/export%2f",
        "/export%00",
        "/export/x",
        "/exports",
        "/mcp/../export",
        "/./export",
        "/export/.",
        "/export/..",
        "/mcp/export",
        "/hook/",
        "//hook",
        "/Hook",
        "/hoo%6b",
        "/hook/../hook",
        "/mcp/../hook",
        "/mcp/%2e%2e/hook",
        "/mcp/hook",
        "/hook/../mcp",
        "/hook/%2e%2e/mcp",
        "/hook/mcp",
        "/hook;/mcp",
        "/hook%2fmcp",
    ] {
        let answer = get(&service, path).await;

        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
    }
    for path in ["/.well-known/hook", "/.well-known/../hook", "/.well-known/%2e%2e/hook"] {
        assert_eq!(get(&service, path).await.status, 404, "{path}");
    }
    for path in ["/mcp", "/mcp/", "/"] {
        assert_eq!(get(&service, path).await.status, 405, "{path} is the endpoint's");
    }
}

#[tokio::test]
async fn routes_are_below_the_path_of_the_public_url() {
    let public_url = PublicUrl::parse("https://example.com/tools");
    let service = McpService::new(server(), HttpConfig { public_url, ..config() }).unwrap().public_route(
        "/hook",
        100,
        service_fn(echo),
    );

    for (path, status) in
        [("/tools/hook", 200), ("/hook", 200), ("/toolshook", 404), ("/tools/tools/hook", 404), ("/tools", 405)]
    {
        assert_eq!(get(&service, path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_route_needs_a_token_and_gets_the_principal() {
    let issuer = TestIssuer::start().await;
    let service = guarded(&issuer, &[]);
    let logs = capture_logs();
    assert_eq!(exchange(&service, tools_list()).await.status, 200, "discovery is public here");

    let anonymous = get(&service, "/export").await;

    assert_eq!(anonymous.status, 401, "{}", anonymous.text);
    let challenge = anonymous.headers["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.starts_with("Bearer ") && challenge.contains("/.well-known/oauth-protected-resource/mcp\""),
        "{challenge}"
    );
    let endpoint = exchange(&service, tools_call("closed", json!({}))).await;
    assert_eq!(endpoint.headers["www-authenticate"], challenge, "the challenge of the endpoint");
    assert_eq!(anonymous.json()["error"]["code"], 401);
    assert!(logs.lines().iter().any(|line| line["message"] == "request rejected: caller not authorized"));

    let with =
        |value: String| request(Method::GET, "/export").header("authorization", value).body(Bytes::new()).unwrap();
    let known = send(&service, with(format!("Bearer {}", issuer.token([])))).await;
    assert_eq!(known.status, 200, "{}", known.text);
    assert!(known.json()["caller"].is_string(), "{}", known.text);
    for (what, value, status) in [
        ("another scheme", "Basic dTpw".to_owned(), 401),
        ("no token of this issuer's", "Bearer a.b.c".to_owned(), 401),
        ("no scheme", " ".to_owned(), 400),
    ] {
        assert_eq!(send(&service, with(value)).await.status, status, "{what}");
    }
    for token in issuer.hostile_tokens() {
        let answer = send(&service, with(format!("Bearer {}", token.token))).await;
        assert_eq!(answer.status, 401, "{}", token.flaw);
    }
}

#[tokio::test]
async fn a_public_route_ignores_tokens_and_origins() {
    let issuer = TestIssuer::start().await;
    let service = guarded(&issuer, &[("MCP_ANONYMOUS", "deny")]);

    for value in [None, Some("Bearer nonsense".to_owned()), Some(format!("Bearer {}", issuer.token([])))] {
        let mut own = request(Method::POST, "/hook?code=x").header("origin", "https://issuer.example");
        if let Some(value) = value {
            own = own.header("authorization", value);
        }
        let answer = send(&service, own.body(Bytes::from_static(b"state=y")).unwrap()).await;

        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!((answer.json()["caller"].clone(), answer.json()["body"].clone()), (Value::Null, json!("state=y")));
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let mut of_layer = request(Method::GET, "/hook").body(Bytes::new()).unwrap();
    of_layer.extensions_mut().insert(Arc::new(Principal::new("https://issuer.example", "ada")));
    assert_eq!(send(&service, of_layer).await.json()["caller"], Value::Null);
}

#[tokio::test]
async fn with_iam_a_route_authenticates_by_signature() {
    let config = HttpConfig { authentication: Authentication::Iam { grant_scopes: Vec::new() }, ..config() };
    let service = McpService::new(server(), config).unwrap().route("/export", service_fn(echo));
    let own = request(Method::GET, "/export").body(Bytes::new()).unwrap();
    let mut event = event_of(Via::FunctionUrl, &own);

    let unsigned = respond(&service, &event).await;
    event["requestContext"]["authorizer"] =
        json!({ "iam": { "accountId": "1", "userArn": "arn:aws:iam::1:user/ada" } });
    let signed = respond(&service, &event).await;

    assert_eq!((&unsigned["statusCode"], &signed["statusCode"]), (&json!(403), &json!(200)));
    assert!(signed["body"].as_str().unwrap().contains("arn:aws:iam::1:user/ada"));
}

async fn respond(service: &McpService, event: &Value) -> Value {
    let response = respond_buffered(service, event.to_string().as_bytes(), Invocation::default()).await.unwrap();
    serde_json::to_value(response).unwrap()
}

#[tokio::test]
async fn foreign_origins_are_rejected_by_routes() {
    let allowed_origins = vec![mcp_lambda::transport::Origin::parse("https://app.example").unwrap()];
    let service = McpService::new(server(), HttpConfig { allowed_origins, ..config() })
        .unwrap()
        .route("/export", service_fn(echo));
    let from = |method, origin| request(method, "/export").header("origin", origin).body(Bytes::new()).unwrap();

    let foreign = send(&service, from(Method::GET, "https://evil.example")).await;
    let preflight = send(&service, from(Method::OPTIONS, "https://app.example")).await;
    let allowed = send(&service, from(Method::PUT, "https://app.example")).await;

    assert_eq!((foreign.status, foreign.headers.contains_key("access-control-allow-origin")), (403, false));
    assert_eq!((preflight.status, preflight.text.as_str()), (204, ""));
    assert!(preflight.headers["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
    assert_eq!(
        (allowed.status, &allowed.headers["access-control-allow-origin"]),
        (200, &HeaderValue::from_static("https://app.example"))
    );
    assert_eq!(allowed.headers["vary"], "Origin");
}

#[tokio::test]
async fn a_large_body_is_rejected_after_authentication() {
    let issuer = TestIssuer::start().await;
    let service = guarded(&issuer, &[]);
    let post = |path: &str, bytes: usize| request(Method::POST, path).body(Bytes::from(vec![b'x'; bytes])).unwrap();

    assert_eq!(send(&service, post("/hook", 100)).await.status, 200);
    let over = send(&service, post("/hook", 101)).await;
    assert_eq!((over.status, over.json()["error"]["code"].clone()), (413, json!(413)));
    let max = 6 * 1024 * 1024;
    assert_eq!(send(&service, post("/export", max + 1)).await.status, 401, "authentication comes first");
    async fn length(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(Body::whole(request.into_body().bytes().await.len().to_string())))
    }
    let service = open().route("/length", service_fn(length));
    assert_eq!(send(&service, post("/length", max)).await.text, max.to_string());
    assert_eq!(send(&service, post("/length", max + 1)).await.status, 413);

    let encoded = event_of(Via::FunctionUrlBase64, &post("/hook", 100));
    assert_eq!(respond(&service, &encoded).await["statusCode"], 200, "the limit applies to the decoded body");
    let mut spoilt = encoded;
    spoilt["body"] = json!("no base64!");
    assert_eq!(respond(&service, &spoilt).await["statusCode"], 400);
}

/// An OAuth callback gets query and cookies, and returns a redirect with cookies, for each kind of event.
#[tokio::test]
async fn a_callback_gets_query_and_cookies_and_sets_cookies() {
    async fn callback(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (query, cookie) = (request.uri().query().unwrap_or_default(), &request.headers()["cookie"]);
        let mut response = Response::new(Body::whole(format!("{query} {}", cookie.to_str().unwrap())));
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, HeaderValue::from_static("/done"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("a=1; Secure"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("b=2; Secure"));
        Ok(response)
    }
    let service = McpService::new(server(), config()).unwrap().public_route("/callback", 0, service_fn(callback));
    let event = |via| {
        let own = request(Method::GET, "/callback").header("cookie", "s=1; t=2").body(Bytes::new()).unwrap();
        let mut event = event_of(via, &own);
        // As documented by AWS: a REST API decodes the query, the others do not.
        event["rawQueryString"] = json!("code=a%20b&code=c&e=");
        let values = if via == Via::RestApi { json!(["a b", "c"]) } else { json!(["a%20b", "c"]) };
        event["queryStringParameters"] = json!({ "code": values[1], "e": "" });
        if matches!(via, Via::RestApi | Via::LoadBalancerMultiValue) {
            event["multiValueQueryStringParameters"] = json!({ "code": values, "e": [""] });
        }
        event
    };
    let cookies = json!(["a=1; Secure", "b=2; Secure"]);
    for (via, query, at, expected) in [
        (Via::FunctionUrl, "code=a%20b&code=c&e=", "/cookies", cookies.clone()),
        (Via::RestApi, "code=a%20b&code=c&e=", "/multiValueHeaders/set-cookie", cookies.clone()),
        (Via::LoadBalancerMultiValue, "code=a%20b&code=c&e=", "/multiValueHeaders/set-cookie", cookies),
        (Via::LoadBalancer, "code=c&e=", "/headers/set-cookie", json!("b=2; Secure")),
    ] {
        let mut event = event(via);
        if via == Via::FunctionUrl {
            event["headers"].as_object_mut().unwrap().remove("cookie");
            event["cookies"] = json!(["s=1", "t=2"]);
        }

        let response = respond(&service, &event).await;

        assert_eq!(response["statusCode"], 302, "{via:?}: {response}");
        assert_eq!(response["body"], json!(format!("{query} s=1; t=2")), "{via:?}");
        assert_eq!(response.pointer(at), Some(&expected), "{via:?}: {response}");
    }
}

#[tokio::test]
async fn a_hostile_query_is_at_most_a_bad_request() {
    let service = open();
    let event = |via, name: &str, value: Value| {
        let own = request(Method::GET, "/hook").body(Bytes::new()).unwrap();
        let mut event = event_of(via, &own);
        event[name] = value;
        event
    };
    let long = "x".repeat(70_000);
    for (via, name, value, status) in [
        (Via::FunctionUrl, "rawQueryString", json!("a=\"<b>\" \u{1}ä"), 200),
        (Via::FunctionUrl, "rawQueryString", json!(long), 400),
        (Via::FunctionUrl, "queryStringParameters", json!(5), 200),
        (Via::FunctionUrl, "cookies", json!(["a=1\r\nx: y"]), 400),
        (Via::FunctionUrl, "cookies", json!([5]), 400),
        (Via::FunctionUrl, "cookies", json!([]), 200),
        (Via::FunctionUrl, "cookies", json!([long]), 400),
        (Via::RestApi, "queryStringParameters", json!({ "a&b": "c=d#e\r\n" }), 200),
        (Via::RestApi, "queryStringParameters", json!({ "a": 5 }), 400),
        (Via::RestApi, "queryStringParameters", json!({ "a": long }), 400),
        (Via::LoadBalancer, "queryStringParameters", json!({ "a": null }), 200),
        (Via::LoadBalancerMultiValue, "multiValueQueryStringParameters", json!({ "a": [5] }), 400),
        (Via::LoadBalancerMultiValue, "multiValueQueryStringParameters", json!({ "a": vec!["x"; 100_000] }), 400),
    ] {
        let response = respond(&service, &event(via, name, value.clone())).await;

        assert_eq!(response["statusCode"], status, "{via:?} {name}: {response}");
    }
    let smuggled = respond(&service, &event(Via::RestApi, "queryStringParameters", json!({ "a": "b&admin=1" }))).await;
    assert!(smuggled["body"].as_str().unwrap().contains("a=b%26admin%3D1"), "{smuggled}");
}

#[tokio::test]
async fn a_binary_body_is_sent_as_base64() {
    async fn picture(_: Request<Body>) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(Body::whole(vec![0xff, 0xd8, 0])))
    }
    let service = McpService::new(server(), config()).unwrap().route("/picture", service_fn(picture));
    let own = request(Method::GET, "/picture").body(Bytes::new()).unwrap();
    for via in [Via::FunctionUrl, Via::RestApi, Via::LoadBalancer, Via::LoadBalancerMultiValue] {
        let response = respond(&service, &event_of(via, &own)).await;

        assert_eq!((&response["isBase64Encoded"], &response["body"]), (&json!(true), &json!("/9gA")), "{via:?}");
    }
}

/// Fails as selected by the path.
async fn fails(request: Request<Body>) -> Result<Response<Body>, io::Error> {
    match request.uri().query().unwrap_or_default() {
        "panic" => panic!("with a secret"),
        "error" => Err(io::Error::other("no route to the secret host")),
        "hang" => std::future::pending().await,
        "large" => Ok(Response::new(Body::whole(vec![b'"'; 4 * 1024 * 1024]))),
        _ => {
            let body = http_body_util::StreamBody::new(futures_util::stream::iter([
                Ok(http_body::Frame::data(Bytes::from_static(b"begin"))),
                Err(io::Error::other("the stream broke")),
            ]));
            Ok(Response::new(Body::new(body)))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_route_is_a_500_or_504() {
    let logs = capture_logs();
    let service = McpService::new(server(), config()).unwrap().public_route("/fails", 0, service_fn(fails));
    for (query, status) in [("panic", 500), ("error", 500), ("large", 500), ("hang", 504)] {
        let mut own = request(Method::GET, &format!("/fails?{query}")).body(Bytes::new()).unwrap();
        let deadline = Some(std::time::Instant::now() + Duration::from_secs(3));
        own.extensions_mut().insert(Invocation { request_id: "r-1".to_owned(), deadline, ..Invocation::default() });

        let answer = send(&service, own).await;

        assert_eq!(answer.status, status, "{query}: {}", answer.text);
        assert!(!answer.text.contains("secret"), "{}", answer.text);
        assert_eq!(answer.text.contains("request id: r-1"), status == 500, "{}", answer.text);
    }
    let logged = logs.read();
    assert!(logged.contains("a route or layer panicked") && logged.contains("no route to the secret host"), "{logged}");
    assert!(logged.contains("a route or layer was cut: the deadline came first"), "{logged}");
    let calls: Vec<_> = logs.lines().into_iter().filter(|line| line["message"] == "a route was called").collect();
    assert_eq!(calls.len(), 4);
    assert_eq!((&calls[0]["route"], &calls[0]["status"]), (&json!("/fails"), &json!(500)));
}

#[tokio::test(start_paused = true)]
async fn a_route_streams_until_the_deadline() {
    async fn ticks(_: Request<Body>) -> Result<Response<Body>, Infallible> {
        let ticks = futures_util::stream::unfold(0, async |count| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(format!("{count} ")))), count + 1))
        });
        Ok(Response::new(Body::new(http_body_util::StreamBody::new(Box::pin(ticks)))))
    }
    let logs = capture_logs();
    let streaming = HttpConfig { invoke_mode: InvokeMode::Stream, ..config() };
    let with = |config| {
        McpService::new(server(), config).unwrap().public_route("/ticks", 0, service_fn(ticks)).public_route(
            "/fails",
            0,
            service_fn(fails),
        )
    };
    let own = || {
        let mut own = request(Method::GET, "/ticks").body(Bytes::new()).unwrap();
        let deadline = Some(std::time::Instant::now() + Duration::from_millis(3700));
        own.extensions_mut().insert(Invocation { deadline, ..Invocation::default() });
        own
    };

    let stream = send(&with(streaming.clone()), own()).await;
    let whole = send(&with(config()), own()).await;
    let broken = get(&with(streaming), "/fails?stream").await;

    assert_eq!((stream.status, stream.text.as_str()), (200, "0 1 2 "));
    assert_eq!(whole.status, 504, "a buffered URL waits for the complete body");
    assert_eq!((broken.status, broken.text.as_str()), (200, "begin"));
    let logged = logs.read();
    assert!(logged.contains("the body of a response was cut: the deadline came first"), "{logged}");
    assert!(logged.contains("the body of a response was cut: it failed"), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn layers_wrap_everything_and_the_last_is_the_outermost() {
    let mark = |name: &'static str| {
        MapResponseLayer::new(move |mut response: Response<Body>| {
            response.headers_mut().append("x-layer", HeaderValue::from_static(name));
            response
        })
    };
    let service = open().layer(mark("inner")).layer(mark("outer"));
    for path in ["/export", "/hook", "/mcp", "/.well-known/x", "/nothing"] {
        let answer = get(&service, path).await;

        let order: Vec<_> = answer.headers.get_all("x-layer").iter().collect();
        assert_eq!(order, ["inner", "outer"], "{path}");
    }
    let event = event_of(Via::FunctionUrl, &tools_call("about", json!({})).into_http());
    let invocation = Invocation { request_id: "r-1".to_owned(), ..Invocation::default() };
    let response = respond_buffered(&service, event.to_string().as_bytes(), invocation).await.unwrap();
    let response = serde_json::to_value(response).unwrap();
    assert!(response["body"].as_str().unwrap().contains("r-1"), "the invocation passes the layers: {response}");
    assert_eq!(response["headers"]["x-layer"], "inner, outer");
}

#[tokio::test]
async fn a_layer_gets_the_public_url_and_the_language_of_a_browser() {
    let layer = tower::layer::layer_fn(|_: McpService| {
        service_fn(async |request: Request<Body>| {
            let url = request.extensions().get::<PublicUrl>().map_or("", PublicUrl::as_str).to_owned();
            let language = request.headers().get("accept-language").map_or("", |value| value.to_str().unwrap());
            Ok::<_, Infallible>(Response::new(Body::whole(format!("{url} {language}"))))
        })
    });
    let configured = HttpConfig { public_url: PublicUrl::parse("https://mcp.example.com"), ..config() };
    for (config, domain_name, expected) in [
        (config(), "abc.lambda-url.eu-west-1.on.aws", "https://abc.lambda-url.eu-west-1.on.aws pt"),
        (config(), "mcp.example.com", " pt"),
        (configured, "abc.lambda-url.eu-west-1.on.aws", "https://mcp.example.com pt"),
    ] {
        let service = McpService::new(server(), config).unwrap().layer(layer);
        let event = json!({
            "version": "2.0", "rawPath": "/", "headers": { "accept-language": "pt" },
            "requestContext": { "domainName": domain_name, "http": { "method": "GET" } },
        });

        let response = respond_buffered(&service, event.to_string().as_bytes(), Invocation::default()).await.unwrap();

        assert_eq!(serde_json::to_value(response).unwrap()["body"], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_layer_is_a_500_or_504() {
    let rejecting_layer = MapRequestLayer::new(|mut request: Request<Body>| {
        *request.uri_mut() = "/nothing".parse().unwrap();
        request
    });
    assert_eq!(exchange(&open().layer(rejecting_layer), tools_list()).await.status, 404);

    let broken = tower::layer::layer_fn(|_: McpService| {
        service_fn(async |request: Request<Body>| match request.uri().path() {
            "/hang" => std::future::pending().await,
            "/panic" => panic!("in a layer"),
            _ => Err::<Response<Body>, _>(io::Error::other("the layer's own fault")),
        })
    });
    let service = open().layer(broken);
    for (path, status) in [("/panic", 500), ("/mcp", 500), ("/hang", 504)] {
        let mut own = request(Method::GET, path).body(Bytes::new()).unwrap();
        let deadline = Some(std::time::Instant::now() + Duration::from_secs(3));
        own.extensions_mut().insert(Invocation { deadline, ..Invocation::default() });

        assert_eq!(send(&service, own).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn the_body_service_has_the_size_limit_of_the_endpoint() {
    let service = open();
    let (parts, body) = tools_call("simple", json!({})).into_http().into_parts();
    let call = |body: Body| {
        let own = Request::from_parts(parts.clone(), body);
        let service = service.clone();
        async move { service.oneshot(own).await.unwrap() }
    };

    assert_eq!(call(Body::whole(body)).await.status(), 200);
    let endless = http_body_util::StreamBody::new(futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(&[b' '; 65536])))
    }));
    assert_eq!(call(Body::new(endless)).await.status(), 413);
}

#[test]
fn an_invalid_route_panics_with_the_reason() {
    type Build = fn(McpService) -> McpService;
    let message = |build: Build| {
        let service = McpService::new(Server::new("test", "0.0.0", ()), HttpConfig::default()).unwrap();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| build(service))).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let mistakes: [(&str, Build); 5] = [
        ("`/mcp/hook` cannot be a route: it belongs", |own| own.public_route("/mcp/hook", 0, service_fn(echo))),
        ("`/.well-known/x` cannot be a route", |own| own.public_route("/.well-known/x", 0, service_fn(echo))),
        ("`hook` cannot be a route: it must begin", |own| own.route("hook", service_fn(echo))),
        ("two routes have the path `/HOOK`", |own| {
            own.route("/hook", service_fn(echo)).public_route("/HOOK", 0, service_fn(echo))
        }),
        ("is added after a layer", |own| {
            own.layer(MapRequestLayer::new(|request: Request<Body>| request)).route("/hook", service_fn(echo))
        }),
    ];

    for (expected, build) in mistakes {
        let message = message(build);

        assert!(message.contains(expected), "{message}");
    }
}
