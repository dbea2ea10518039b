//! Faults of the server, which alarms count: no caller can cause one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use mcp_server::store::{
    Content, DueRow, Granted, Increment, Kind, RowKey, RowTag, Store, StoreError, StoreFuture, StoredValue,
    SubjectDeletion, SubjectKey, Version,
};

use crate::support::{
    Browser, World, authorization_query, documents, form_request, header_text, location, parameter, text,
};

#[tokio::test]
async fn no_caller_causes_a_fault_of_the_server() {
    let world = World::new().await;
    let browser = Browser::default();
    for (state, expected) in [("\u{1}".repeat(341), 200), ("\u{1}".repeat(2048), 400), ("x".repeat(2048), 200)] {
        let query = authorization_query(&[("state", Some(&state))]);
        assert_eq!(browser.get(&world, &format!("/authorize?{query}")).await.status().as_u16(), expected);
    }
    for response in ["error=x", "error=server_error", "", "code=", "code=c&iss=https%3A%2F%2Fevil.example"] {
        browser.get(&world, "/grants").await;
        let for_grants = location(&browser.send(&world, form_request("/grants", &[("sign_in", "yes")])).await);
        let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;
        let for_client = match page.status() {
            StatusCode::OK => location(&browser.decide(&world, &page, "approve").await),
            _ => location(&page),
        };
        for upstream in [for_client, for_grants] {
            let callback = format!("/callback?{response}&state={}", parameter(&upstream, "state"));
            assert_eq!(browser.get(&world, &callback).await.status(), StatusCode::BAD_REQUEST, "{response}");
        }
    }
    // The code of another sign-in, at an identity provider that ignores the challenge.
    let browser = Browser::default();
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;
    let upstream = location(&browser.decide(&world, &page, "approve").await);
    world.signs_in(&"A".repeat(43), |_| {});
    let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
    let injected = browser.get(&world, &callback).await;
    assert_eq!(injected.status(), StatusCode::BAD_REQUEST, "{}", text(&injected));
    let mut last = None;
    for _ in 0..21 {
        let body = Bytes::from_static(br#"{"redirect_uris":["http://localhost/"]}"#);
        let request = Request::post("/register").header("content-type", "application/json").body(body).unwrap();
        last = Some(world.send_from(1, request).await);
    }
    let last = last.unwrap();
    assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS, "{}", text(&last));
    assert_eq!(header_text(last.headers(), "retry-after"), "3600");
}

/// A store that cannot be reached.
struct NoStore;

macro_rules! unavailable {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name<'a>(&'a self, $($argument: $type),*) -> StoreFuture<'a, $result> {
            $(let _ = $argument;)*
            Box::pin(async { Err(StoreError::Unavailable("no connection".into())) })
        }
    )*};
}

impl Store for NoStore {
    unavailable! {
        put_if_absent(key: RowKey, tag: RowTag, content: Content<'a>) -> Option<Version>;
        get(key: RowKey) -> Option<StoredValue>;
        compare_and_set(key: RowKey, version: Version, content: Content<'a>) -> Option<Version>;
        increment(key: RowKey, tag: RowTag, increment: Increment) -> Granted;
        delete(key: RowKey) -> ();
        due(kind: Kind, within: Duration, limit: usize) -> Vec<DueRow>;
        delete_subject(subject: SubjectKey, limit: usize) -> SubjectDeletion;
        purge(limit: usize) -> u64;
    }
}

#[tokio::test]
async fn without_its_store_the_server_is_not_available() {
    let world = World::with_store(documents(), |_| Arc::new(NoStore)).await;
    let register = Bytes::from_static(br#"{"redirect_uris":["http://localhost/"]}"#);
    let register = Request::post("/register").header("content-type", "application/json").body(register).unwrap();
    let authorize = format!("/authorize?{}", authorization_query(&[]));
    let callback = format!("/callback?code=c&state={}", "A".repeat(43));
    let browser = Browser::default();
    browser.get(&world, "/grants").await;

    for response in [
        world.send(register).await,
        browser.get(&world, &authorize).await,
        browser.get(&world, &callback).await,
        browser.send(&world, form_request("/grants", &[("sign_in", "yes")])).await,
    ] {
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", text(&response));
    }
}
