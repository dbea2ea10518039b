//! Rotation of the state key while environments run.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::StatusCode;
use mcp_server::{BoxError, KeyLoader, LoadStateKey, StateKey};

use crate::support::{
    Browser, World, authorization_query, code_request, has_parameter, location, parameter, refresh_request,
};

const OLD: &str = "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=";
const NEW: &str = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";

/// The secret after the rotation.
#[derive(Default)]
struct Secret(AtomicUsize);

impl LoadStateKey for Secret {
    fn load(&self) -> Pin<Box<dyn Future<Output = Result<StateKey, BoxError>> + Send + '_>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { StateKey::parse(&format!("{NEW},{OLD}")).ok_or_else(|| "no key".into()) })
    }
}

#[tokio::test]
async fn a_refresh_token_of_before_two_rotations_is_used_after_them() {
    const NEWEST: &str = "YSB0aGlyZCBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";
    let mut world = World::new().await;
    world.server = world.environment_with_key(OLD, &Arc::default());
    let browser = Browser::default();
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;
    let upstream = location(&browser.decide(&world, &page, "approve").await);
    world.signs_in(&parameter(&upstream, "nonce"), |_| {});
    let callback = format!("/callback?code=c-1&state={}", parameter(&upstream, "state"));
    let redirect = location(&browser.get(&world, &callback).await);
    let (status, tokens) = world.post("/token", &code_request(&parameter(&redirect, "code"))).await;
    assert_eq!(status, StatusCode::OK, "{tokens}");

    world.server = world.environment_with_key(&format!("{NEWEST},{NEW},{OLD};{OLD}"), &Arc::default());
    let refreshed = world.post("/token", &refresh_request(tokens["refresh_token"].as_str().unwrap())).await;
    assert_eq!(refreshed.0, StatusCode::OK, "{}", refreshed.1);
    // A third rotation: the grant was sealed again by the refresh.
    world.server = world.environment_with_key(&format!("{OLD},{NEWEST},{NEW};{OLD}"), &Arc::default());
    let again = world.post("/token", &refresh_request(refreshed.1["refresh_token"].as_str().unwrap())).await;

    assert_eq!(again.0, StatusCode::OK, "{}", again.1);
}

#[tokio::test]
async fn a_sign_in_and_refreshes_pass_between_environments_of_before_and_after_a_rotation() {
    let mut world = World::new().await;
    for begins_after in [false, true] {
        let (loader, secret) = (Arc::<KeyLoader>::default(), Arc::new(Secret::default()));
        loader.set_source(Arc::clone(&secret) as Arc<dyn LoadStateKey>);
        let mut other = world.environment_with_key(&format!("{NEW},{OLD}"), &Arc::default());
        world.server = world.environment_with_key(OLD, &loader);
        // Each step is in the other environment.
        let mut switch = |world: &mut World| mem::swap(&mut world.server, &mut other);
        if begins_after {
            switch(&mut world);
        }
        let browser = Browser::default();
        let target = format!("/authorize?{}", authorization_query(&[]));

        let page = browser.get(&world, &target).await;
        switch(&mut world);
        let upstream = location(&browser.decide(&world, &page, "approve").await);
        switch(&mut world);
        world.signs_in(&parameter(&upstream, "nonce"), |_| {});
        let callback = format!("/callback?code=c-1&state={}", parameter(&upstream, "state"));
        let redirect = location(&browser.get(&world, &callback).await);
        switch(&mut world);
        let (status, mut tokens) = world.post("/token", &code_request(&parameter(&redirect, "code"))).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        for _ in 0..3 {
            switch(&mut world);
            let refreshed = world.post("/token", &refresh_request(tokens["refresh_token"].as_str().unwrap())).await;
            assert_eq!(refreshed.0, StatusCode::OK, "{}", refreshed.1);
            tokens = refreshed.1;
        }
        // The approval in the cookie is found by both.
        for _ in 0..2 {
            switch(&mut world);
            assert!(has_parameter(&location(&browser.get(&world, &target).await), "nonce"));
        }

        assert_eq!(secret.0.load(Ordering::Relaxed), 1);
    }
}
