//! Faults of the server, which alarms count: no caller can cause one.

use bytes::Bytes;
use http::{Request, StatusCode};

use crate::support::{Browser, World, authorization_query, form_request, header_text, location, parameter, text};

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
    let mut last = None;
    for _ in 0..21 {
        let body = Bytes::from_static(br#"{"redirect_uris":["http://localhost/"]}"#);
        let request = Request::post("/register").header("content-type", "application/json").body(body).unwrap();
        last = Some(world.send_from(1, request).await);
    // The code of another sign-in, at an identity provider that ignores the challenge.
    let browser = Browser::default();
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;
    let upstream = location(&browser.decide(&world, &page, "approve").await);
    world.signs_in(&"A".repeat(43), |_| {});
    let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
    let injected = browser.get(&world, &callback).await;
    assert_eq!(injected.status(), StatusCode::BAD_REQUEST, "{}", text(&injected));
    }
    let last = last.unwrap();
    assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS, "{}", text(&last));
    assert_eq!(header_text(last.headers(), "retry-after"), "3600");
}
