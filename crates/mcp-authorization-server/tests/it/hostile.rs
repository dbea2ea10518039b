//! Hostile requests: none gets a token, a code, or a redirect to another place.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use mcp_testing::IssuerResponse;
use serde_json::{Value, json};

use crate::support::{
    Browser, CALLBACK, CHALLENGE, CLIENT, NATIVE, UPSTREAM_CLIENT, VERIFIER, World, authorization_query, code_request,
    decision_request, encode, form_of, has_parameter, header_text, link, location, parameter, text,
};

/// Starts a sign-in, and returns the redirect to the identity provider.
async fn approved(world: &World, browser: &Browser) -> String {
    let page = browser.get(world, &format!("/authorize?{}", authorization_query(&[]))).await;
    match page.status() {
        StatusCode::OK => location(&browser.decide(world, &page, "approve").await),
        _ => location(&page),
    }
}

fn callback(upstream: &str) -> String {
    format!("/callback?code=c-1&state={}", parameter(upstream, "state"))
}

#[tokio::test]
pub(crate) async fn a_callback_is_valid_once_in_its_own_browser_for_ten_minutes() {
    let world = World::new().await;
    let (own, other) = (Browser::default(), Browser::default());
    let upstream = approved(&world, &own).await;
    world.signs_in(&parameter(&upstream, "nonce"), |_| {});
    // A browser of an attacker, with a sign-in of its own, and one without cookies (login CSRF).
    approved(&world, &other).await;
    for browser in [&other, &Browser::default()] {
        let page = browser.get(&world, &callback(&upstream)).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST);
        assert!(text(&page).contains("cookies"));
    }

    assert!(has_parameter(&location(&own.get(&world, &callback(&upstream)).await), "code"));
    for replay in 0..3 {
        assert_eq!(own.get(&world, &callback(&upstream)).await.status(), StatusCode::BAD_REQUEST, "{replay}");
    }
    let late = approved(&world, &own).await;
    world.signs_in(&parameter(&late, "nonce"), |_| {});
    world.pass(600);
    assert_eq!(own.get(&world, &callback(&late)).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
pub(crate) async fn malformed_callbacks_are_rejected() {
    let world = World::new().await;
    let browser = Browser::default();
    let upstream = approved(&world, &browser).await;
    let state = parameter(&upstream, "state");
    world.signs_in(&parameter(&upstream, "nonce"), |_| {});
    for query in [
        String::new(),
        "code=c-1".to_owned(),
        "code=c-1&state=".to_owned(),
        format!("code=c-1&state={}", &state[1..]),
        format!("code=c-1&state={}", "A".repeat(43)),
        format!("code=c-1&state={state}&state={state}"),
        format!("code=c-1&code=c-2&state={state}"),
        format!("code=c-1&state={state}&iss=a&iss=b"),
        format!("code=%FF&state={state}"),
        format!("code={}&state={state}", "x".repeat(20_000)),
    ] {
        let page = browser.get(&world, &format!("/callback?{query}")).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    let posted = Request::post(callback(&upstream)).body(Bytes::new()).unwrap();
    assert_eq!(browser.send(&world, posted).await.status(), StatusCode::METHOD_NOT_ALLOWED);

    assert!(has_parameter(&location(&browser.get(&world, &callback(&upstream)).await), "code"), "unharmed");
}

#[tokio::test]
pub(crate) async fn a_response_of_another_issuer_is_a_mix_up() {
    let world = World::new().await;
    for iss in ["https://evil.example", "http://127.0.0.1", "x"] {
        let browser = Browser::default();
        let upstream = approved(&world, &browser).await;
        world.signs_in(&parameter(&upstream, "nonce"), |_| {});

        let url = link(&browser.get(&world, &format!("{}&{}", callback(&upstream), encode(&[("iss", iss)]))).await);

        assert_eq!(parameter(&url, "error"), "server_error", "{iss}");
        assert!(!has_parameter(&url, "code"));
    }
    let browser = Browser::default();
    let upstream = approved(&world, &browser).await;
    world.signs_in(&parameter(&upstream, "nonce"), |_| {});
    let iss = encode(&[("iss", world.upstream.issuer())]);
    assert!(has_parameter(&location(&browser.get(&world, &format!("{}&{iss}", callback(&upstream))).await), "code"));
}

#[tokio::test]
pub(crate) async fn a_response_without_the_issuer_that_the_provider_always_sends_is_a_mix_up() {
    let world = World::new().await;
    let metadata = json!({
        "issuer": world.upstream.issuer(), "jwks_uri": world.upstream.keys_url(),
        "authorization_endpoint": format!("{}/authorize", world.upstream.origin()),
        "token_endpoint": format!("{}/token", world.upstream.origin()),
        "authorization_response_iss_parameter_supported": true,
    });
    world.upstream.set_response("/.well-known/openid-configuration", IssuerResponse::json(&metadata));
    let iss = encode(&[("iss", world.upstream.issuer())]);
    for (parameter_of_issuer, is_accepted) in [(String::new(), false), (format!("&{iss}"), true)] {
        let browser = Browser::default();
        let upstream = approved(&world, &browser).await;
        world.signs_in(&parameter(&upstream, "nonce"), |_| {});

        let response = browser.get(&world, &format!("{}{parameter_of_issuer}", callback(&upstream))).await;

        match is_accepted {
            true => assert!(has_parameter(&location(&response), "code")),
            false => assert_eq!(parameter(&link(&response), "error"), "server_error"),
        }
    }
}

#[tokio::test]
pub(crate) async fn id_tokens_of_other_sign_ins_clients_and_issuers_are_rejected() {
    let world = World::new().await;
    let browser = Browser::default();
    let mut seen = BTreeSet::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |name: &'static str, value: Value| -> (String, Change) {
        (format!("{name} {value}"), Box::new(move |claims| claims[name] = value.clone()))
    };
    let remove = |name: &'static str| -> (String, Change) {
        (format!("no {name}"), Box::new(move |claims| drop(claims.as_object_mut().unwrap().remove(name))))
    };
    for (what, change) in [
        set("nonce", json!("A".repeat(43))),
        set("nonce", json!("")),
        set("nonce", json!(["x"])),
        remove("nonce"),
        set("aud", json!("other-client")),
        set("aud", json!([])),
        set("aud", json!(["other-client"])),
        set("aud", json!([UPSTREAM_CLIENT, "other-client"])),
        remove("aud"),
        set("azp", json!("other-client")),
        set("iss", json!("https://evil.example")),
        set("iss", json!([world.upstream.issuer()])),
        remove("iss"),
        set("exp", json!(now - 1)),
        remove("exp"),
        set("iat", json!(now + 3600)),
        set("nbf", json!(now + 3600)),
        set("sub", json!("")),
        set("sub", json!("x".repeat(256))),
        set("sub", json!(["ada"])),
        remove("sub"),
        set("cnf", json!({ "jkt": "x" })),
        set("events", json!({})),
        set("token_use", json!("refresh")),
    ] {
        let upstream = approved(&world, &browser).await;
        for name in ["nonce", "code_challenge", "state"] {
            assert!(seen.insert(parameter(&upstream, name)), "{name} is that of another sign-in");
        }
        world.signs_in(&parameter(&upstream, "nonce"), change);

        let url = link(&browser.get(&world, &callback(&upstream)).await);

        assert_eq!(parameter(&url, "error"), "server_error", "{what}");
        assert!(url.starts_with(CALLBACK) && !has_parameter(&url, "code"), "{what}");
    }
}

#[tokio::test]
pub(crate) async fn responses_of_a_broken_identity_provider_are_errors() {
    let world = World::new().await;
    let browser = Browser::default();
    let failure = |status, error: &str| IssuerResponse::Failure(status, json!({ "error": error }).to_string());
    let json = |body: &str| IssuerResponse::Json { body: body.to_owned(), cache_control: "" };
    for (response, expected) in [
        (failure(400, "invalid_grant"), "access_denied"),
        (failure(403, "invalid_grant"), "access_denied"),
        (failure(500, "invalid_grant"), "temporarily_unavailable"),
        (failure(400, "invalid_client"), "temporarily_unavailable"),
        (failure(400, "x"), "temporarily_unavailable"),
        (IssuerResponse::Status(400), "temporarily_unavailable"),
        (IssuerResponse::Status(401), "temporarily_unavailable"),
        (IssuerResponse::Status(404), "temporarily_unavailable"),
        (IssuerResponse::Status(500), "temporarily_unavailable"),
        (IssuerResponse::Redirect("https://evil.example/token".to_owned()), "temporarily_unavailable"),
        (IssuerResponse::Endless, "temporarily_unavailable"),
        (json(""), "temporarily_unavailable"),
        (json("{}"), "temporarily_unavailable"),
        (json("[]"), "temporarily_unavailable"),
        (json(r#"{"id_token":7}"#), "temporarily_unavailable"),
        (json(r#"{"access_token":"x"}"#), "temporarily_unavailable"),
        (json(r#"{"id_token":"x"}"#), "server_error"),
        (json(r#"{"id_token":"eyJhbGciOiJub25lIn0.e30."}"#), "server_error"),
    ] {
        let upstream = approved(&world, &browser).await;
        world.upstream.set_response("/token", response.clone());

        let url = link(&browser.get(&world, &callback(&upstream)).await);

        assert_eq!(parameter(&url, "error"), expected, "{response:?}");
    }
}

#[tokio::test]
pub(crate) async fn consent_cannot_be_given_by_another_site_or_browser() {
    let world = World::new().await;
    let (own, other) = (Browser::default(), Browser::default());
    let target = format!("/authorize?{}", authorization_query(&[]));
    let form = form_of(&own.get(&world, &target).await);
    let foreign = form_of(&other.get(&world, &target).await);
    let approve = |form: &str| decision_request(form, "approve");
    let with = |form: &str, change: &dyn Fn(&mut Request<Bytes>)| {
        let mut request = approve(form);
        change(&mut request);
        request
    };
    let body = |pairs: &[(&str, &str)]| {
        let body = Bytes::from(encode(pairs));
        with(&form, &|request| *request.body_mut() = body.clone())
    };
    for (what, request) in [
        ("another browser's form", approve(&foreign)),
        ("no form", body(&[("decision", "approve")])),
        ("no decision", body(&[("form", &form)])),
        ("another decision", body(&[("form", &form), ("decision", "Approve")])),
        ("two decisions", body(&[("form", &form), ("decision", "deny"), ("decision", "approve")])),
        ("two forms", body(&[("form", &form), ("form", &form), ("decision", "approve")])),
        ("a changed form", body(&[("form", &form[1..]), ("decision", "approve")])),
        ("a form that is not sealed", body(&[("form", "e30"), ("decision", "approve")])),
        (
            "cross-site",
            with(&form, &|own| drop(own.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap()))),
        ),
        (
            "same-site",
            with(&form, &|own| drop(own.headers_mut().insert("sec-fetch-site", "same-site".parse().unwrap()))),
        ),
        ("by a link", with(&form, &|own| drop(own.headers_mut().insert("sec-fetch-site", "none".parse().unwrap())))),
        ("text", with(&form, &|own| drop(own.headers_mut().insert("content-type", "text/plain".parse().unwrap())))),
        (
            "JSON",
            with(&form, &|own| drop(own.headers_mut().insert("content-type", "application/json".parse().unwrap()))),
        ),
        ("PUT", with(&form, &|own| *own.method_mut() = Method::PUT)),
    ] {
        let response = own.send(&world, request).await;

        assert!(response.status().is_client_error(), "{what}: {}", response.status());
    }
    assert_eq!(world.send(approve(&form)).await.status(), StatusCode::BAD_REQUEST, "no cookies");
    let by_get = own.get(&world, &format!("/authorize?{}", encode(&[("form", &form), ("decision", "approve")]))).await;
    assert_eq!(by_get.status(), StatusCode::BAD_REQUEST);

    location(&own.send(&world, approve(&form)).await);
    world.pass(600);
    assert_eq!(own.send(&world, approve(&form)).await.status(), StatusCode::BAD_REQUEST, "expired");
}

#[tokio::test]
pub(crate) async fn approvals_of_another_browser_or_client_are_not_used() {
    let world = World::new().await;
    let (own, other) = (Browser::default(), Browser::default());
    let target = format!("/authorize?{}", authorization_query(&[]));
    world.sign_in(&own, &authorization_query(&[]), "ada").await;
    other.get(&world, &target).await;
    let stolen = own.cookies.lock().unwrap()["__Host-approvals"].clone();
    other.cookies.lock().unwrap().insert("__Host-approvals".to_owned(), stolen.clone());
    assert_eq!(other.get(&world, &target).await.status(), StatusCode::OK, "another browser");

    for changes in [
        &[("client_id", Some("portal"))][..],
        &[("client_id", Some(NATIVE)), ("redirect_uri", Some("http://localhost/callback"))],
        &[("scope", Some("events:read"))],
        &[("resource", Some("https://other.example/mcp"))],
    ] {
        let page = own.get(&world, &format!("/authorize?{}", authorization_query(changes))).await;
        assert_eq!(page.status(), StatusCode::OK, "{changes:?}");
    }
    for cookie in ["x", "", &stolen[1..]] {
        own.cookies.lock().unwrap().insert("__Host-approvals".to_owned(), cookie.to_owned());
        assert_eq!(own.get(&world, &target).await.status(), StatusCode::OK, "{cookie}");
    }
}

#[tokio::test]
pub(crate) async fn hostile_authorization_requests_are_not_redirected() {
    let world = World::new().await;
    let script = "<script>alert(1)</script>";
    for query in [
        String::new(),
        "%".to_owned(),
        "x".repeat(20_000),
        "a&".repeat(100),
        authorization_query(&[("client_id", None)]),
        authorization_query(&[("client_id", Some(script))]),
        authorization_query(&[("client_id", Some("https://evil.example/client.json"))]),
        authorization_query(&[("client_id", Some("https://169.254.169.254/latest/meta-data"))]),
        authorization_query(&[("client_id", Some("https://app.example@evil.example/client.json"))]),
        authorization_query(&[("client_id", Some("https://app.example/../client.json"))]),
        authorization_query(&[("client_id", Some("https://xn--pp-yka.example/client.json"))]),
        authorization_query(&[("client_id", Some("https://\u{430}pp.example/client.json"))]),
        authorization_query(&[("client_id", Some("file:///etc/passwd"))]),
        authorization_query(&[("redirect_uri", None)]),
        authorization_query(&[("redirect_uri", Some("https://evil.example"))]),
        authorization_query(&[("redirect_uri", Some("https://app.example/callback/../evil"))]),
        authorization_query(&[("redirect_uri", Some("https://app.example.evil.example/callback"))]),
        authorization_query(&[("redirect_uri", Some("https://app.example/callback?next=https://evil.example"))]),
        authorization_query(&[("redirect_uri", Some("http://app.example/callback"))]),
        authorization_query(&[("redirect_uri", Some("//evil.example"))]),
        authorization_query(&[("redirect_uri", Some("javascript:alert(1)"))]),
        authorization_query(&[("client_id", Some(NATIVE)), ("redirect_uri", Some("http://localhost/other"))]),
        authorization_query(&[("client_id", Some(NATIVE)), ("redirect_uri", Some("http://127.0.0.1/callback"))]),
        authorization_query(&[
            ("client_id", Some(NATIVE)),
            ("redirect_uri", Some("http://localhost.evil.example/callback")),
        ]),
        format!("{}&redirect_uri=https://evil.example", authorization_query(&[])),
        format!("redirect_uri=https://evil.example&{}", authorization_query(&[])),
        format!("{}&client_id=portal", authorization_query(&[])),
    ] {
        let page = world.send(Request::get(format!("/authorize?{query}")).body(Bytes::new()).unwrap()).await;

        assert_eq!(page.status(), StatusCode::BAD_REQUEST, "{query}");
        assert!(!page.headers().contains_key("location") && !page.headers().contains_key("set-cookie"), "{query}");
        assert!(!text(&page).contains("<script"), "{query}");
        assert!(header_text(page.headers(), "content-security-policy").contains("frame-ancestors 'none'"));
    }
}

#[tokio::test]
pub(crate) async fn a_downgrade_is_an_error_for_the_client() {
    let world = World::new().await;
    for (changes, expected) in [
        (&[("code_challenge", None)][..], "invalid_request"),
        (&[("code_challenge_method", Some("plain"))], "invalid_request"),
        (&[("code_challenge_method", None), ("code_challenge", Some(VERIFIER))], "invalid_request"),
        (&[("response_type", Some("token"))], "unsupported_response_type"),
        (&[("response_mode", Some("web_message"))], "invalid_request"),
        (&[("resource", None)], "invalid_target"),
        (&[("resource", Some("https://evil.example/mcp"))], "invalid_target"),
        (&[("scope", Some("*"))], "invalid_scope"),
    ] {
        let target = format!("/authorize?{}", authorization_query(changes));
        let url = link(&world.send(Request::get(target).body(Bytes::new()).unwrap()).await);

        assert!(url.starts_with(&format!("{CALLBACK}?error={expected}&")), "{changes:?} {url}");
        assert_eq!(parameter(&url, "iss"), world.issuer());
    }
}

#[tokio::test]
pub(crate) async fn hostile_token_requests_get_no_token() {
    let world = World::new().await;
    let browser = Browser::default();
    let redirect = world.sign_in(&browser, &authorization_query(&[]), "ada").await;
    let code = parameter(&redirect, "code");
    let with = |name: &'static str, value: Option<&'static str>| {
        let mut own = code_request(&code);
        own.retain(|(own, _)| *own != name);
        own.extend(value.map(|value| (name, value)));
        own
    };
    let twice = |name: &'static str, value: &'static str| {
        let mut own = code_request(&code);
        own.push((name, value));
        own
    };
    for (parameters, expected) in [
        (vec![], "invalid_client"),
        (with("grant_type", None), "invalid_request"),
        (with("grant_type", Some("password")), "unsupported_grant_type"),
        (with("grant_type", Some("client_credentials")), "unsupported_grant_type"),
        (with("grant_type", Some("implicit")), "unsupported_grant_type"),
        (with("grant_type", Some("refresh_token")), "invalid_request"),
        (with("client_id", None), "invalid_client"),
        (with("client_id", Some(NATIVE)), "invalid_grant"),
        (with("client_id", Some("portal")), "invalid_client"),
        (with("client_secret", Some("x")), "invalid_client"),
        (with("code", None), "invalid_request"),
        (with("code", Some("x")), "invalid_grant"),
        (with("code_verifier", None), "invalid_grant"),
        (with("code_verifier", Some(CHALLENGE)), "invalid_grant"),
        (with("code_verifier", Some("x")), "invalid_grant"),
        (with("redirect_uri", Some("https://evil.example")), "invalid_grant"),
        (with("resource", Some("https://other.example/mcp")), "invalid_target"),
        (with("resource", Some("https://evil.example/mcp")), "invalid_target"),
        (twice("resource", "https://other.example/mcp"), "invalid_target"),
        (twice("code", "x"), "invalid_request"),
        (twice("client_id", CLIENT), "invalid_request"),
        (twice("code_verifier", "x"), "invalid_request"),
        (twice("grant_type", "refresh_token"), "invalid_request"),
    ] {
        let (status, body) = world.post("/token", &parameters).await;

        assert!(status.is_client_error(), "{parameters:?}");
        assert_eq!(body["error"], expected, "{parameters:?}");
        assert!(body.get("access_token").is_none());
    }
    let request = Request::post("/token").header("content-type", "application/json");
    let as_json = request.body(encode(&code_request(&code)).into()).unwrap();
    assert_eq!(world.send(as_json).await.status(), StatusCode::BAD_REQUEST);
    let in_query = Request::get(format!("/token?{}", encode(&code_request(&code)))).body(Bytes::new()).unwrap();
    assert_eq!(world.send(in_query).await.status(), StatusCode::METHOD_NOT_ALLOWED);

    let (status, tokens) = world.post("/token", &code_request(&code)).await;
    assert_eq!(status, StatusCode::OK, "the code is unharmed");
    assert_eq!(world.post("/token", &code_request(&code)).await.1["error"], "invalid_grant", "a replay");
    let token = tokens["refresh_token"].as_str().unwrap();
    let refresh = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)];
    assert_eq!(world.post("/token", &refresh).await.1["error"], "invalid_grant", "the replay revoked the grant");
}

#[tokio::test]
pub(crate) async fn a_code_of_another_sign_in_cannot_be_injected() {
    let world = World::new().await;
    // The attacker's challenge is not that of the victim's client.
    let attacker = "-".repeat(43);
    let query = authorization_query(&[("code_challenge", Some(&attacker))]);
    let code = parameter(&world.sign_in(&Browser::default(), &query, "mallory").await, "code");

    assert_eq!(world.post("/token", &code_request(&code)).await.1["error"], "invalid_grant");
}

#[tokio::test]
pub(crate) async fn other_paths_methods_and_bodies_are_rejected() {
    let world = World::new().await;
    for path in [
        "/",
        "/mcp",
        "/authorize/",
        "/Authorize",
        "/token/",
        "//token",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/",
        "/.well-known/oauth-authorization-server/mcp",
        "/jwks/",
        "/callback/x",
    ] {
        let response = world.send(Request::get(path).body(Bytes::new()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for (method, path) in [
        (Method::DELETE, "/authorize"),
        (Method::HEAD, "/callback"),
        (Method::GET, "/token"),
        (Method::PUT, "/token"),
        (Method::GET, "/revoke"),
        (Method::GET, "/register"),
        (Method::POST, "/jwks"),
        (Method::DELETE, "/jwks"),
        (Method::POST, "/.well-known/oauth-authorization-server"),
    ] {
        let response = world.send(Request::builder().method(&method).uri(path).body(Bytes::new()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert!(response.headers().contains_key("allow"));
    }
    for (content_type, body) in [
        ("text/plain", "{}"),
        ("application/json", ""),
        ("application/json", "[]"),
        ("application/json", r#"{"redirect_uris":["https://evil.example/callback"]}"#),
        ("application/json", r#"{"redirect_uris":["javascript:alert(1)"]}"#),
        ("application/json", r#"{"redirect_uris":["http://localhost/"],"redirect_uris":["https://evil.example"]}"#),
    ] {
        let request = Request::post("/register").header("content-type", content_type).body(body.into()).unwrap();
        assert_eq!(world.send(request).await.status(), StatusCode::BAD_REQUEST, "{body}");
    }
}
