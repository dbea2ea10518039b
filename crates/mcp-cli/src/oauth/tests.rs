use reqwest::header::HeaderMap;

use super::{http::tests::answering, *};

/// As in one process of its own for each: they share the folder.
pub(super) fn sharing(origin: &str, state: &tempfile::TempDir) -> OAuth {
    let options = OAuthOptions { state_dir: Some(state.path().join("mcpl")), ..OAuthOptions::default() };
    OAuth::new(&format!("{origin}/mcp"), options).unwrap()
}

/// o11: one page that is closed would be followed by one of each other process.
#[tokio::test]
async fn processes_share_a_sign_in_that_fails() {
    let (origin, requests) = answering("HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let state = tempfile::tempdir().unwrap();
    let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
    let challenge = Challenge::of(&HeaderMap::new(), "");
    assert!(one.renew(None, &challenge).await.is_err());
    let of_one = requests.load(Ordering::Relaxed);

    let failed = tokio::join!(one.renew(None, &challenge), two.renew(None, &challenge), three.renew(None, &challenge));

    let failed = [failed.0, failed.1, failed.2].map(|failed| format!("{:#}", failed.unwrap_err()));
    assert_eq!((&failed[1], &failed[2]), (&failed[0], &failed[0]));
    assert_eq!((of_one > 0, requests.load(Ordering::Relaxed)), (true, 2 * of_one));
}

/// A page may be open for minutes, and other calls need tokens all the same.
#[tokio::test]
async fn a_refresh_does_not_wait_for_a_page() {
    let given = r#"{"access_token":"new","token_type":"Bearer"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{given}", given.len());
    let (origin, _) = answering(answer.leak()).await;
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    let kept = serde_json::json!({
        "client_id": "c", "token_response": { "access_token": "t", "refresh_token": "r" }, "granted_scopes": [],
        "token_received_at": 0, "token_endpoint": format!("{origin}/token"),
    });
    oauth.store.keep_credentials(serde_json::from_value(kept).unwrap());
    let _page = oauth.state.lock().await;

    oauth.renew(Some("t"), &Challenge::default()).await.unwrap();

    assert_eq!(oauth.token().await.unwrap().unwrap().text, "new");
}

#[tokio::test]
async fn a_scope_that_was_not_granted_opens_one_page() {
    let (origin, requests) = answering("HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    let kept = serde_json::json!({
        "client_id": "c", "token_response": { "access_token": "t" }, "granted_scopes": ["a"],
        "token_received_at": 0,
    });
    oauth.store.keep_credentials(serde_json::from_value(kept).unwrap());
    // As after a page at which `b` was asked for.
    oauth.state.lock().await.added_scopes = Some(["a", "b"].map(str::to_owned).into());

    for (scope, expected) in [
        ("a b", "the server requires the scope `b`, which the issuer did not grant"),
        ("a", "the server requires the scope `a`, though the issuer has granted it"),
        ("", "the server requires further scopes and does not name them"),
    ] {
        let field = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
        let field = reqwest::header::HeaderValue::from_str(&field).unwrap();
        let challenge = Challenge::of(&HeaderMap::from_iter([(reqwest::header::WWW_AUTHENTICATE, field)]), "");

        let error = oauth.renew(Some("t"), &challenge).await.unwrap_err().to_string();

        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_reason_of_the_server_follows_a_token_that_is_rejected_at_once() {
    let (origin, _) = answering("").await;
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    *oauth.untried() = Some(Untried { token: "t".to_owned(), is_refreshed: false });
    let field = r#"Bearer error="invalid_token", error_description="wrong audience""#;
    let field = reqwest::header::HeaderValue::from_static(field);
    let challenge = Challenge::of(&HeaderMap::from_iter([(reqwest::header::WWW_AUTHENTICATE, field)]), "");

    let error = oauth.renew(Some("t"), &challenge).await.unwrap_err().to_string();

    assert!(error.ends_with("for another server (invalid_token: wrong audience)"), "{error}");
}

#[test]
fn only_secure_urls_are_opened_8_13() {
    for url in ["https://id.example/authorize", "http://127.0.0.1:9/a", "http://localhost/a", "http://[::1]/a"] {
        assert!(is_secure(url), "{url}");
    }
    for url in [
        "http://id.example/a",
        "file:///bin/sh",
        "javascript:alert(1)",
        "vscode://x",
        "http://localhost.evil.example",
        "https://id.example@evil.example",
        "https://evil.example\\@id.example",
        "",
    ] {
        assert!(!is_secure(url), "{url}");
    }
}
