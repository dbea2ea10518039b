//! Requests: endpoints of the authorization server, and nothing else.

use authorization_server::service;
use mcp_authorization_server::MAX_BODY_BYTES;
use mcp_testing::BackendKind;
use serde_json::{Value, json};

use crate::support::{HOST, RESOURCE, capture_logs, config, database, environment, send, send_to};

const CALLBACK: &str = "http://127.0.0.1/callback";

#[tokio::test]
async fn the_issuer_is_the_name_of_the_function_url_or_the_public_url() {
    for (url, issuer) in
        [("", format!("https://{HOST}")), ("https://login.example.com/", "https://login.example.com".to_owned())]
    {
        let service = service(config(&[("MCP_PUBLIC_URL", url)]).unwrap()).await.unwrap();

        let (status, body) = send(&service, "GET", "/.well-known/oauth-authorization-server", None).await;
        let (keys_status, keys) = send(&service, "GET", "/jwks", None).await;

        let metadata: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, keys_status), (200, 200));
        assert_eq!(metadata["issuer"], issuer);
        assert_eq!(metadata["token_endpoint"], format!("{issuer}/token"));
        assert!(keys.contains(r#""alg":"RS256""#), "{keys}");
    }
}

#[tokio::test]
async fn no_mcp_request_is_served() {
    let service = service(config(&[]).unwrap()).await.unwrap();
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();

    for (method, path) in [
        ("POST", "/mcp"),
        ("POST", "/"),
        ("GET", "/"),
        ("GET", "/mcp"),
        ("GET", "/.well-known/oauth-protected-resource"),
        ("GET", "/.well-known/oauth-protected-resource/mcp"),
    ] {
        assert_eq!(send(&service, method, path, Some(&request)).await, (404, String::new()), "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_to_another_name_or_with_a_large_body_is_rejected() {
    let service = service(config(&[]).unwrap()).await.unwrap();
    let large = "x".repeat(MAX_BODY_BYTES + 1);

    let misdirected = send_to("login.example.com", &service, "GET", "/jwks", None).await;
    let too_large = send(&service, "POST", "/register", Some(&large)).await;

    assert_eq!((misdirected.0, too_large.0), (421, 413));
}

#[tokio::test]
async fn the_log_has_the_error_of_a_rejected_request() {
    let (logs, service) = (capture_logs(), service(config(&[]).unwrap()).await.unwrap());

    send(&service, "GET", "/authorize", None).await;
    send(&service, "POST", "/register", Some("x")).await;
    send(&service, "POST", "/authorize", None).await;
    send(&service, "GET", "/jwks", None).await;

    let handled: Vec<Value> =
        logs.lines().into_iter().filter(|own| own["message"] == "a request was handled").collect();
    let errors: Vec<_> = handled.iter().map(|own| (own["error_code"].as_str(), own["reason"].as_str())).collect();
    let client = "the parameter client_id is missing";
    let metadata = "the request is not a JSON object with client metadata";
    let rejected = "invalid_client_metadata";
    assert_eq!(errors[0], (Some("invalid_request"), Some(client)), "{handled:?}");
    assert_eq!(errors[1], (Some(rejected), Some(metadata)), "{handled:?}");
    assert!(errors[2].0 == Some("invalid_request") && errors[2].1.is_some(), "{handled:?}");
    assert_eq!(errors[3], (None, None), "{handled:?}");
}

#[tokio::test]
async fn a_client_that_one_environment_registers_is_known_to_another() {
    for kind in [BackendKind::Postgres, BackendKind::Dsql] {
        let backend = database(kind).await;
        let (one, other) = (environment(&backend).await, environment(&backend).await);
        let metadata = json!({ "client_name": "App", "redirect_uris": [CALLBACK] }).to_string();

        let (status, registered) = send(&one, "POST", "/register", Some(&metadata)).await;

        assert_eq!(status, 201, "{kind:?}: {registered}");
        let client: Value = serde_json::from_str(&registered).unwrap();
        let query = format!(
            "response_type=code&client_id={}&redirect_uri={CALLBACK}&resource={RESOURCE}&code_challenge_method=S256\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            client["client_id"].as_str().unwrap()
        );
        let (status, page) = send(&other, "GET", &format!("/authorize?{query}"), None).await;
        assert_eq!(status, 200, "{kind:?}: {page}");
        assert!(page.contains("Events") && page.contains("<form"), "{page}");
    }
}
