//! The question to the identity provider on refresh, at most once an hour.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use mcp_testing::IssuerResponse;
use serde_json::{Value, json};

use crate::support::{
    Browser, CLIENT, RESOURCE, VERIFIER, World, authorization_query, code_request, form_request, location, parameter,
    refresh_request, resources,
};

const HOUR: u64 = 60 * 60;

async fn refresh(world: &World, token: &str) -> (StatusCode, Value) {
    world.post("/token", &refresh_request(token)).await
}

fn refresh_token(tokens: &Value) -> String {
    tokens["refresh_token"].as_str().unwrap().to_owned()
}

fn next_upstream_token(world: &World, token: &str) {
    world.upstream.set_response("/token", IssuerResponse::json(&json!({ "refresh_token": token })));
}

#[tokio::test]
async fn concurrent_refreshes_in_three_environments_ask_the_identity_provider_once() {
    let world = World::new().await;
    let token = refresh_token(&world.tokens(&Browser::default()).await);
    let environments = [world.environment(), world.environment(), world.environment()];
    let parallel = |token: String, count: usize| {
        let (world, environments) = (&world, &environments);
        join_all((0..count).map(move |index| {
            let request = form_request("/token", &refresh_request(&token));
            async move { world.send_to(&environments[index % 3], request).await }
        }))
    };
    let before = world.upstream.requests("/token");
    world.pass(HOUR);
    // Others are not to wait for a slow provider, which takes its token once.
    let next = IssuerResponse::json(&json!({ "refresh_token": "upstream-2" }));
    world.upstream.set_response("/token", IssuerResponse::Late(Duration::from_millis(300), next.into()));

    // `grants` has the same test with a thousand, without signatures, which would keep the provider from responding in time.
    let responses = parallel(token, 60).await;

    assert!(responses.iter().all(|response| response.status() == StatusCode::OK));
    assert_eq!(world.upstream.requests("/token"), before + 1);
    let tokens: Value = serde_json::from_slice(responses[59].body()).unwrap();
    next_upstream_token(&world, "upstream-3");
    assert!(parallel(refresh_token(&tokens), 20).await.iter().all(|own| own.status() == StatusCode::OK));
    assert_eq!(world.upstream.requests("/token"), before + 1, "less than an hour later");
}

#[tokio::test]
async fn each_refresh_token_of_the_identity_provider_is_used_once() {
    let world = World::new().await;
    let mut token = refresh_token(&world.tokens(&Browser::default()).await);
    for (used, next) in [("upstream-1", "upstream-2"), ("upstream-2", "upstream-3"), ("upstream-3", "upstream-4")] {
        next_upstream_token(&world, next);
        world.pass(HOUR);

        let (status, tokens) = refresh(&world, &token).await;

        assert_eq!(status, StatusCode::OK);
        let sent = world.upstream.bodies("/token").pop().unwrap();
        assert_eq!(sent, format!("grant_type=refresh_token&refresh_token={used}"));
        token = refresh_token(&tokens);
    }
    // A provider that does not rotate.
    world.upstream.set_response("/token", IssuerResponse::json(&json!({ "access_token": "x" })));
    for _ in 0..2 {
        world.pass(HOUR);
        token = refresh_token(&refresh(&world, &token).await.1);
        assert!(world.upstream.bodies("/token").pop().unwrap().ends_with("upstream-4"));
    }
}

#[tokio::test]
async fn a_person_whom_the_identity_provider_rejects_loses_the_grant() {
    for status in [400, 401, 403] {
        let world = World::new().await;
        let token = refresh_token(&world.tokens(&Browser::default()).await);
        let error = json!({ "error": "invalid_grant", "error_description": "revoked" }).to_string();
        world.upstream.set_response("/token", IssuerResponse::Failure(status, error));
        let early = refresh(&world, &token).await;
        let token = refresh_token(&early.1);
        world.pass(HOUR);

        for attempt in 0..2 {
            let (status, body) = refresh(&world, &token).await;
            assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")), "{attempt}");
        }
    }
}

#[tokio::test]
async fn other_failures_of_the_identity_provider_keep_the_grant() {
    let world = World::new().await;
    let mut token = refresh_token(&world.tokens(&Browser::default()).await);
    let failure = |status, error: &str| IssuerResponse::Failure(status, json!({ "error": error }).to_string());
    for response in [
        failure(400, "invalid_client"),
        failure(400, "invalid_request"),
        failure(400, "temporarily_unavailable"),
        failure(500, "invalid_grant"),
        failure(429, "invalid_grant"),
        IssuerResponse::Status(400),
        IssuerResponse::Status(503),
        IssuerResponse::Endless,
        IssuerResponse::Redirect("https://evil.example/token".to_owned()),
        IssuerResponse::Failure(200, "x".to_owned()),
        IssuerResponse::json(&json!({ "refresh_token": "x".repeat(20_000) })),
    ] {
        let asked = world.upstream.requests("/token");
        world.upstream.set_response("/token", response.clone());
        world.pass(HOUR);

        let (status, tokens) = refresh(&world, &token).await;

        assert_eq!(status, StatusCode::OK, "{response:?}");
        assert_eq!(world.upstream.requests("/token"), asked + 1, "{response:?}");
        token = refresh_token(&tokens);
        token = refresh_token(&refresh(&world, &token).await.1);
        assert_eq!(world.upstream.requests("/token"), asked + 1, "not again within the hour");
    }
}

#[tokio::test]
async fn without_a_refresh_token_of_the_identity_provider_it_is_not_asked() {
    let world = World::new().await;
    let browser = Browser::default();
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;
    let upstream = location(&browser.decide(&world, &page, "approve").await);
    let id_token = world.id_token(&parameter(&upstream, "nonce"), |_| {});
    world.upstream.set_response("/token", IssuerResponse::json(&json!({ "id_token": id_token })));
    let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
    let code = parameter(&location(&browser.get(&world, &callback).await), "code");
    let (_, tokens) = world.post("/token", &code_request(&code)).await;
    let asked = world.upstream.requests("/token");
    world.pass(2 * HOUR);

    let (status, tokens) = refresh(&world, &refresh_token(&tokens)).await;
    assert_eq!((status, world.upstream.requests("/token")), (StatusCode::OK, asked));
    world.pass(21 * HOUR);
    let token = refresh_token(&refresh(&world, &refresh_token(&tokens)).await.1);
    world.pass(2 * HOUR);
    assert_eq!(refresh(&world, &token).await.1["error"], "invalid_grant", "a day after the sign-in");
}

#[tokio::test]
async fn a_person_keeps_the_scopes_that_the_claims_still_permit() {
    for (groups, subject, expected) in [
        (json!(["staff"]), "ada", Ok("events:read events:write")),
        (json!([]), "ada", Ok("events:read")),
        (json!(["staff"]), "bob", Err("invalid_grant")),
    ] {
        let world = World::new().await;
        let mut token = refresh_token(&world.tokens(&Browser::default()).await);
        world.pass(HOUR);
        let id_token = world.id_token("", |claims| {
            claims.as_object_mut().unwrap().remove("nonce");
            claims["groups"] = groups.clone();
            claims["sub"] = json!(subject);
        });
        world.upstream.set_response("/token", IssuerResponse::json(&json!({ "id_token": id_token })));

        // The second request asks nothing.
        for _ in 0..2 {
            let (_, body) = refresh(&world, &token).await;
            match expected {
                Ok(expected) => {
                    assert_eq!(body["scope"], expected, "{body}");
                    token = refresh_token(&body);
                }
                Err(expected) => assert_eq!(body["error"], expected),
            }
        }
    }
}

#[tokio::test]
async fn a_removed_scope_or_client_gets_no_token() {
    let world = World::new().await;
    let browser = Browser::default();
    let mut fewer = resources();
    fewer[0]["scopes"].as_array_mut().unwrap().retain(|scope| scope["name"] != "events:write");
    fewer[0]["claims"] = json!([]);
    let environment = world.environment_with(&fewer, Vec::new());
    let token = refresh_token(&world.tokens(&browser).await);
    let response = world.send_to(&environment, form_request("/token", &refresh_request(&token))).await;
    let refreshed: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(refreshed["scope"], "events:read");

    let query = authorization_query(&[("client_id", Some("portal"))]);
    let code = parameter(&world.sign_in(&browser, &query, "ada").await, "code");
    let mut request = code_request(&code);
    request.retain(|(name, _)| *name != "client_id");
    request.push(("client_id", "portal"));
    let response = world.send_to(&environment, form_request("/token", &request)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    request.push(("client_secret", "s3cret"));
    assert_eq!(world.post("/token", &request).await.0, StatusCode::OK, "the code was not used up");
}

#[tokio::test]
async fn a_code_and_a_refresh_token_can_be_used_again_after_invalid_target() {
    let world = World::new().await;
    let browser = Browser::default();
    let token = refresh_token(&world.tokens(&browser).await);
    let code = parameter(&world.sign_in(&browser, &authorization_query(&[]), "ada").await, "code");
    let mut removed = resources();
    removed.as_array_mut().unwrap().remove(0);
    let environment = world.environment_with(&removed, Vec::new());
    let of_code =
        vec![("grant_type", "authorization_code"), ("client_id", CLIENT), ("code", &code), ("code_verifier", VERIFIER)];
    // The refresh is repeated after the grace period of a token that was used up.
    for (request, pause) in [(of_code, 0), (refresh_request(&token).to_vec(), 61)] {
        let with = |resource| {
            let resource = Option::map(resource, |url| ("resource", url));
            form_request("/token", &request.iter().copied().chain(resource).collect::<Vec<_>>())
        };
        for (server, resource) in [
            (&world.server, Some("https://other.example/mcp")),
            (&world.server, Some("https://unknown.example/mcp")),
            (&environment, Some(RESOURCE)),
            (&environment, Some("https://other.example/mcp")),
            (&environment, None),
        ] {
            let response = world.send_to(server, with(resource)).await;
            let body: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["error"], "invalid_target", "{resource:?}");
        }
        world.pass(pause);

        assert_eq!(world.send(with(Some(RESOURCE))).await.status(), StatusCode::OK);
    }
}
