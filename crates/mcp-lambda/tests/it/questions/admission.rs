//! A resuming GET passes the admission of a POST: authentication, the access rule of the server, rate limits and the log.

use mcp_testing::{IssuerResponse, TestIssuer};

use super::*;
use crate::authorization;

/// What a client and the operator see of a rejection.
#[derive(Debug, PartialEq)]
struct Rejection {
    status: StatusCode,
    challenge: Option<http::HeaderValue>,
    retry_after: Option<http::HeaderValue>,
    body: String,
    /// Of the log event: outcome, status and reason.
    log: Vec<Value>,
}

async fn rejection(service: &McpService, method: &str, authorization: Option<&str>) -> Rejection {
    let logs = capture_logs();
    let mut request = Client::default().request(method).uri("https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp");
    if method == "GET" {
        request = request.header("last-event-id", "x");
    }
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    // Without a request, whose item could add scopes to the challenge.
    let body = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    let mut request: Request<bytes::Bytes> = request.body(body.into()).unwrap();
    request.extensions_mut().insert(Transport {
        source: EventSource::FunctionUrl,
        domain_name: Some("abcdefghij.lambda-url.eu-west-1.on.aws".to_owned()),
        iam: None,
    });
    let (parts, body) = service.handle(request).await.into_parts();
    let Ok(body) = body.collect().await;
    let calls = logs.calls().into_iter();
    Rejection {
        status: parts.status,
        challenge: parts.headers.get("www-authenticate").cloned(),
        retry_after: parts.headers.get("retry-after").cloned(),
        body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        log: calls.map(|call| json!([call["outcome"], call["status"], call["code"], call["fault"]])).collect(),
    }
}

#[tokio::test]
async fn a_resuming_get_is_rejected_as_a_post_is() {
    let issuer = TestIssuer::start().await;
    let service = |more: &[(&str, &str)]| {
        authorization::service(authorization::closed_server().store(MemoryStore::new()), &issuer, more)
    };
    let basic = "Basic YTpi";
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    let expired = format!("Bearer {expired}");
    for (authorization, status) in
        [(None, 401), (Some("Bearer forged"), 401), (Some(""), 400), (Some(basic), 401), (Some(&*expired), 401)]
    {
        let post = rejection(&service(&[]), "POST", authorization).await;
        let get = rejection(&service(&[]), "GET", authorization).await;

        assert_eq!(post.status, status, "{authorization:?}");
        assert_eq!(post.log.len(), 1);
        assert_eq!(get, post, "{authorization:?}");
    }

    issuer.set_keys_response(IssuerResponse::Status(500));
    let valid = format!("Bearer {}", issuer.token(["events:write"]));
    let post = rejection(&service(&[]), "POST", Some(&valid)).await;
    assert_eq!((post.status, post.retry_after.is_some()), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert_eq!(rejection(&service(&[]), "GET", Some(&valid)).await, post);

    #[cfg(feature = "limits")]
    {
        let service = service(&[("MCP_ANONYMOUS_LIMIT", "2")]);
        let mut statuses = Vec::new();
        // Polls have a count of their own: 10, and two for each second of the window.
        for authorization in [None, Some("Bearer forged")].iter().cycle().take(131) {
            statuses.push(rejection(&service, "GET", *authorization).await.status.as_u16());
        }
        assert_eq!((statuses.pop(), statuses), (Some(429), vec![401; 130]));

        for status in [401, 401, 429] {
            assert_eq!(rejection(&service, "POST", None).await.status, status);
        }
    }
}

async fn public(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("public")
}

async fn asks_everyone(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok(context.elicit::<Name>("name", "Who?").await.accepted().map_or(String::new(), |own| own.name))
}

#[tokio::test]
async fn a_cancellation_of_a_caller_who_cannot_be_asked_never_reaches_the_store() {
    let (issuer, store) = (TestIssuer::start().await, CountingStore::default());
    let transport = Transport {
        source: EventSource::FunctionUrl,
        domain_name: Some("abcdefghij.lambda-url.eu-west-1.on.aws".to_owned()),
        iam: None,
    };
    let request = |client: &Client| {
        let request = client.request("POST").uri("https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp");
        request.extension(transport.clone())
    };
    for is_asked in [false, true] {
        let server = authorization::closed_server().tool(Tool::new("public", public).public());
        let server = match is_asked {
            true => server.tool(Tool::new("asks_everyone", asks_everyone).public()),
            false => server,
        };
        let service = authorization::service(server.store(store.clone()), &issuer, &[]);
        let mut client = Client::default();
        let reply = send(&service, &client, request(&client), initialize("2025-11-25").to_string()).await;
        client.session = Some(reply.headers["mcp-session-id"].to_str().unwrap().to_owned());
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
        let before = store.operations.load(Ordering::SeqCst);

        let reply = send(&service, &client, request(&client), cancel.to_string()).await;

        assert_eq!(reply.status, StatusCode::ACCEPTED);
        assert_eq!(store.operations.load(Ordering::SeqCst) > before, is_asked);
    }
}
