//! Rules of the token endpoint, and of pages.

use bytes::Bytes;
use http::{HeaderName, Method, Request, StatusCode};
use serde_json::Value;

use crate::support::{
    Browser, CLIENT, World, authorization_query, code_request, encode, form_request, header_text, parameter,
    refresh_request,
};

#[tokio::test]
async fn tokens_are_not_cached_and_parameters_that_are_unknown_or_in_the_url_are_ignored() {
    let world = World::new().await;
    let code = async || {
        let redirect = world.sign_in(&Browser::default(), &authorization_query(&[]), "ada").await;
        parameter(&redirect, "code")
    };
    let first = code().await;
    let mut unknown = code_request(&first);
    unknown.extend([("x", "y"), ("audience", "https://evil.example"), ("response_type", "token")]);
    let response = world.send(form_request("/token", &unknown)).await;
    let tokens: Value = serde_json::from_slice(response.body()).unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_text(response.headers(), "cache-control"), "no-store");
    let refreshed =
        world.send(form_request("/token", &refresh_request(tokens["refresh_token"].as_str().unwrap()))).await;
    assert_eq!(header_text(refreshed.headers(), "cache-control"), "no-store");
    let second = code().await;
    let mut without = code_request(&second);
    without.retain(|(name, _)| *name != "client_id");
    let mut in_url = form_request("/token", &without);
    *in_url.uri_mut() = format!("/token?{}", encode(&[("client_id", CLIENT)])).parse().unwrap();
    assert_eq!(world.send(in_url).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pages_do_not_support_cors() {
    let world = World::new().await;
    for path in ["/authorize", "/callback", "/grants"] {
        for method in [Method::OPTIONS, Method::GET, Method::POST] {
            let request = Request::builder().method(&method).uri(format!("{path}?{}", authorization_query(&[])));
            let request =
                request.header("origin", "https://evil.example").header("access-control-request-method", "GET");
            let response = world.send(request.body(Bytes::new()).unwrap()).await;

            let is_cors = |name: &HeaderName| name.as_str().starts_with("access-control-");
            assert!(!response.headers().keys().any(is_cors), "{method} {path}");
            assert!(method != Method::OPTIONS || response.status() == StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}
