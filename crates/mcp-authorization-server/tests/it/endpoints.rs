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

#[tokio::test]
async fn the_client_of_the_header_is_that_of_the_body() {
    let world = World::new().await;
    let browser = Browser::default();
    let query = authorization_query(&[("client_id", Some("portal"))]);
    // `portal:s3cret`, and `portal` with the secret `s3cret&id=other` and without one.
    let (own, injected, none) =
        ("Basic cG9ydGFsOnMzY3JldA==", "Basic cG9ydGFsOnMzY3JldCZpZD1vdGhlcg==", "Basic cG9ydGFsOg==");
    for (basic, client, expected) in [
        (own, CLIENT, Some("invalid_request")),
        (own, "PORTAL", Some("invalid_request")),
        (injected, "portal", Some("invalid_client")),
        (none, "portal", Some("invalid_client")),
        (own, "portal", None),
        (own, "", None),
    ] {
        let code = parameter(&world.sign_in(&browser, &query, "ada").await, "code");
        let mut parameters = code_request(&code);
        parameters.retain(|(name, _)| *name != "client_id");
        parameters.push(("client_id", client));
        let mut request = form_request("/token", &parameters);
        request.headers_mut().insert("authorization", basic.parse().unwrap());

        let response = world.send(request).await;

        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"].as_str(), expected, "{basic} {client}");
    }
    let mut twice = form_request("/token", &code_request("x"));
    for _ in 0..2 {
        twice.headers_mut().append("authorization", own.parse().unwrap());
    }
    assert_eq!(world.send(twice).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_body_of_a_request_is_a_plain_form() {
    let world = World::new().await;
    let code = parameter(&world.sign_in(&Browser::default(), &authorization_query(&[]), "ada").await, "code");
    let with = |content_type: &'static str, body: String| {
        Request::post("/token").header("content-type", content_type).body(Bytes::from(body)).unwrap()
    };
    let form = encode(&code_request(&code));
    const FORM: &str = "application/x-www-form-urlencoded";
    let mut compressed = with(FORM, String::new());
    *compressed.body_mut() = Bytes::from_static(&[0x1f, 0x8b, 8]);
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    for request in [
        compressed,
        with("multipart/form-data; boundary=x", form.clone()),
        with("application/x-www-form-urlencoded+json", form.clone()),
        with("text/plain", form.clone()),
        with(FORM, format!("{form}&%63ode=x")),
        with(FORM, format!("{form}&client_id=")),
        with(FORM, format!("{form}&x=%F")),
        with(FORM, format!("{form}&{}", "x&".repeat(64))),
        with(FORM, format!("{form}&x={}", "x".repeat(16 * 1024))),
        Request::post("/token").body(Bytes::from(form.clone())).unwrap(),
    ] {
        let what = format!("{request:?}");
        assert_eq!(world.send(request).await.status(), StatusCode::BAD_REQUEST, "{what}");
    }
    // Parameters in the URL are no others.
    let mut own = with("Application/X-WWW-Form-URLEncoded; charset=UTF-8", form);
    *own.uri_mut() = format!("/token?{}", encode(&[("code", "x"), ("client_id", "portal")])).parse().unwrap();
    assert_eq!(world.send(own).await.status(), StatusCode::OK, "the code is unharmed");
}
