//! Grants in Postgres, shared by three environments.

use std::sync::Arc;

use futures_util::future::join_all;
use http::StatusCode;
use mcp_postgres::{DatabaseConfig, PostgresStore};
use mcp_testing::{IssuerResponse, TestDatabase};
use serde_json::{Value, json};

use crate::support::{
    Browser, World, authorization_query, code_request, documents, form_request, parameter, refresh_request,
};

async fn world(database: &TestDatabase) -> World {
    let get = |name: &str| match name {
        "DATABASE_URL" => Some(database.url()),
        "DB_MIGRATE" => Some("on"),
        _ => None,
    };
    let config = DatabaseConfig::from_env(get).unwrap();
    World::with_store(documents(), |clock| Arc::new(PostgresStore::new(config).with_clock(clock))).await
}

#[tokio::test]
async fn concurrent_refreshes_keep_a_person_signed_in_and_ask_the_identity_provider_once() {
    let database = TestDatabase::create().await;
    let world = world(&database).await;
    let tokens = world.tokens(&Browser::default()).await;
    let token = tokens["refresh_token"].as_str().unwrap();
    let environments = [world.environment(), world.environment(), world.environment()];
    let asked = world.upstream.requests("/token");
    world.upstream.set_response("/token", IssuerResponse::json(&json!({ "refresh_token": "upstream-2" })));
    world.pass(60 * 60);

    let responses = join_all(
        (0..60).map(|index| world.send_to(&environments[index % 3], form_request("/token", &refresh_request(token)))),
    )
    .await;

    assert!(responses.iter().all(|response| response.status() == StatusCode::OK));
    assert_eq!(world.upstream.requests("/token"), asked + 1);
    // Reuse after the grace period revokes the grant.
    world.pass(61);
    assert_eq!(world.post("/token", &refresh_request(token)).await.1["error"], "invalid_grant");
    let newest: Value = serde_json::from_slice(responses[59].body()).unwrap();
    let newest = newest["refresh_token"].as_str().unwrap();
    assert_eq!(world.post("/token", &refresh_request(newest)).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn codes_are_used_once_and_revocation_and_deletion_end_grants() {
    let database = TestDatabase::create().await;
    let world = world(&database).await;
    let environments = [world.environment(), world.environment()];
    let code = parameter(&world.sign_in(&Browser::default(), &authorization_query(&[]), "ada").await, "code");

    let responses = join_all(
        (0..10).map(|index| world.send_to(&environments[index % 2], form_request("/token", &code_request(&code)))),
    )
    .await;

    assert!(responses.iter().filter(|response| response.status() == StatusCode::OK).count() <= 1);
    let refresh = async |tokens: &Value| {
        let token = tokens["refresh_token"].as_str().unwrap();
        world.post("/token", &refresh_request(token)).await
    };
    let (before, other) = (world.tokens(&Browser::default()).await, world.tokens(&Browser::default()).await);
    let person = (world.upstream.issuer(), "ada");
    assert!(world.server.delete_person(world.issuer(), person).await.unwrap() >= 3);
    for tokens in [&before, &other] {
        assert_eq!(refresh(tokens).await.1["error"], "invalid_grant");
    }
    let after = world.tokens(&Browser::default()).await;
    assert_eq!(refresh(&after).await.0, StatusCode::OK);
    world.server.revoke_all(std::time::SystemTime::now()).await.unwrap();
    assert_eq!(refresh(&after).await.1["error"], "invalid_grant");
}
