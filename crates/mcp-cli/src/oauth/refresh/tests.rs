use std::sync::atomic::Ordering;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    super::{http::tests::answering, tests::sharing},
    *,
};

const AWAY: &str = "HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

const GIVEN: &str = r#"{"access_token":"new","token_type":"Bearer","refresh_token":"s"}"#;

fn keep_expired_token(oauth: &OAuth, origin: &str) {
    keep_token(oauth, origin, 1, 0);
}

fn keep_token(oauth: &OAuth, origin: &str, expires_in: u64, received_at: u64) {
    let expired = serde_json::json!({
        "client_id": "c", "token_response": { "access_token": "t", "expires_in": expires_in, "refresh_token": "r" },
        "granted_scopes": [], "token_received_at": received_at, "token_endpoint": format!("{origin}/token"),
    });
    oauth.store.keep_credentials(serde_json::from_value(expired).unwrap());
}

/// An issuer that has read a request.
async fn asked(listener: &TcpListener) -> TcpStream {
    let (mut issuer, _) = listener.accept().await.unwrap();
    assert!(issuer.read(&mut [0; 4096]).await.unwrap() > 0);
    issuer
}

async fn answer(issuer: &mut TcpStream) {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{GIVEN}", GIVEN.len());
    issuer.write_all(answer.as_bytes()).await.unwrap();
}

/// As when a client sends several requests at once: they do not try one after the other.
#[tokio::test]
async fn requests_share_a_refresh_that_fails_o02() {
    let (origin, tries) = answering(AWAY).await;
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    keep_expired_token(&oauth, &origin);

    let (one, two, three) = tokio::join!(oauth.token(), oauth.token(), oauth.token());

    for failed in [one, two, three] {
        assert!(format!("{:#}", failed.unwrap_err()).contains("no success after 4 tries"));
    }
    assert_eq!(tries.load(Ordering::Relaxed), 4);
    assert!(oauth.token().await.is_err());
    assert_eq!(tries.load(Ordering::Relaxed), 8, "a later request tries again");
}

/// o02, o11: each of twenty would wait for those before it, for two minutes each.
#[tokio::test]
async fn processes_share_a_refresh_that_fails() {
    let (origin, tries) = answering(AWAY).await;
    let state = tempfile::tempdir().unwrap();
    let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
    keep_expired_token(&one, &origin);

    let failed = tokio::join!(one.token(), two.token(), three.token());

    for failed in [failed.0, failed.1, failed.2] {
        assert!(format!("{:#}", failed.unwrap_err()).contains("no success after 4 tries"));
    }
    assert_eq!(tries.load(Ordering::Relaxed), 4);
    assert!(two.token().await.is_err());
    assert_eq!(tries.load(Ordering::Relaxed), 8, "a later request tries again");
}

/// o12: a client cancels a call, and the refresh token has been used.
#[tokio::test]
async fn a_refresh_outlives_the_request_that_began_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    keep_expired_token(&oauth, &origin);

    let mut issuer = tokio::select! {
        issuer = asked(&listener) => issuer,
        _ = oauth.token() => unreachable!("the issuer has not answered"),
    };
    answer(&mut issuer).await;
    oauth.settled().await;

    let kept = oauth.credentials().unwrap().unwrap().token_response;
    assert_eq!((kept.access_token.as_str(), kept.refresh_token.as_deref()), ("new", Some("s")));
}

#[tokio::test]
async fn a_refresh_does_not_undo_forget() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let state = tempfile::tempdir().unwrap();
    let [oauth, other] = [(); 2].map(|()| sharing(&origin, &state));
    keep_expired_token(&oauth, &origin);
    let mut kept = oauth.credentials().unwrap().unwrap();
    kept.revocation_endpoint = Some(format!("{origin}/revoke"));
    oauth.store.keep_credentials(kept);
    let mut issuer = tokio::select! {
        issuer = asked(&listener) => issuer,
        _ = oauth.token() => unreachable!("the issuer has not answered"),
    };

    assert!(other.store.forget().unwrap().is_some());
    answer(&mut issuer).await;

    let (mut revoking, _) = listener.accept().await.unwrap();
    let mut request = String::new();
    while !request.contains("token_type_hint") {
        let mut read = [0; 4096];
        let length = revoking.read(&mut read).await.unwrap();
        assert!(length > 0, "{request}");
        request.push_str(&String::from_utf8_lossy(&read[..length]));
    }
    assert!(request.starts_with("POST /revoke ") && request.contains("token=s&"), "{request}");
    revoking.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    oauth.settled().await;
    assert!(other.credentials().unwrap().is_none() && !other.store.file().exists());
}

/// o12: the issuer wakes, has rotated the refresh token, and would end the grant if it got the old one again.
#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_gets_the_refresh_token_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let state = tempfile::tempdir().unwrap();
    let [one, two] = [(); 2].map(|()| sharing(&origin, &state));
    keep_expired_token(&one, &origin);

    let (mut issuer, late) = tokio::join!(asked(&listener), one.token());
    let began = Instant::now();
    let (again, of_another) = tokio::join!(one.token(), two.token());

    for late in [late, again, of_another] {
        let error = format!("{:#}", late.unwrap_err());
        assert!(error.contains("has not answered for 120 s: mcpl waits for its answer"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let sent_again = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
    assert!(sent_again.is_err(), "the refresh token was sent again");
    tokio::time::resume();
    answer(&mut issuer).await;
    one.settled().await;
    assert_eq!(two.token().await.unwrap().unwrap().text, "new");
}

/// The process that waited was killed: its lock is free, and what it noted no longer holds.
#[tokio::test]
async fn a_refresh_whose_process_has_ended_is_not_waited_for() {
    let (origin, tries) = answering(AWAY).await;
    let state = tempfile::tempdir().unwrap();
    let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
    keep_expired_token(&one, &origin);
    one.store.note_failure(Turn::Refresh, &pending(None, POST_TIMEOUT));

    let (two, three) = tokio::join!(two.token(), three.token());

    for failed in [two, three] {
        assert!(format!("{:#}", failed.unwrap_err()).contains("no success after 4 tries"));
    }
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}

/// 8.7: as it is read from the file, where `received` is no less odd.
#[test]
fn a_lifetime_is_any_number() {
    let kept = |lifetime: u64, received: u64| -> Credentials {
        let token = serde_json::json!({ "access_token": "t", "token_type": "Bearer", "expires_in": lifetime });
        let kept = serde_json::json!({
            "client_id": "c", "token_response": token, "granted_scopes": [], "token_received_at": received,
        });
        serde_json::from_value(kept).unwrap()
    };
    let is_expiring = |own: &Credentials| own.lifetime_left().is_some_and(|left| left <= margin(own));

    for received in [0, now(), u64::MAX] {
        assert!(!is_expiring(&kept(u64::MAX, received)), "{received}");
    }
    assert!(!is_expiring(&kept(3600, now())) && is_expiring(&kept(0, now())) && is_expiring(&kept(3600, 0)));
}

/// As when a client calls several tools in the last seconds of a token.
#[tokio::test]
async fn a_token_that_is_not_over_is_used_while_the_issuer_fails() {
    let (origin, tries) = answering(AWAY).await;
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    keep_token(&oauth, &origin, 60, now() - 40);

    for _ in 0..3 {
        assert_eq!(oauth.token().await.unwrap().unwrap().text, "t");
    }

    assert_eq!(tries.load(Ordering::Relaxed), 4, "one refresh, with its tries");
}

/// An option of this process alone is wrong: others have the secret.
#[tokio::test]
async fn a_wrong_secret_does_not_end_the_grant() {
    let answer = "HTTP/1.1 401 X\r\nContent-Length: 26\r\nConnection: close\r\n\r\n{\"error\":\"invalid_client\"}";
    let (origin, _) = answering(answer).await;
    let state = tempfile::tempdir().unwrap();
    for (kept, given, expected) in [
        (None, None, "no client secret"),
        (Some("s"), None, "the client secret that `mcpl install` has kept"),
        (Some("s"), Some("x"), "the client secret that was given"),
    ] {
        let mut oauth = sharing(&origin, &state);
        keep_expired_token(&oauth, &origin);
        let registration = Registration::given("c".to_owned(), kept.map(str::to_owned));
        oauth.store.keep_registration(registration).unwrap();
        if let Some(given) = given {
            oauth.options.client_id = Some("c".to_owned());
            oauth.options.client_secret = Some(given.to_owned());
        }

        let error = format!("{:#}", oauth.token().await.unwrap_err());

        assert!(error.contains(&format!("rejects the client c with {expected}: invalid_client: give")), "{error}");
        let kept = oauth.credentials().unwrap().unwrap().token_response.refresh_token;
        assert_eq!(kept.as_deref(), Some("r"));
    }
    // One that registers itself does so again.
    let oauth = sharing(&origin, &state);
    oauth.store.forget().unwrap();
    keep_expired_token(&oauth, &origin);
    assert_eq!(oauth.token().await.unwrap().unwrap().text, "t");
    assert_eq!(oauth.credentials().unwrap().unwrap().token_response.refresh_token, None);
}

/// An issuer that rotates would end the grant, if the next refresh token were lost.
#[tokio::test]
async fn a_refresh_token_is_not_sent_where_the_next_cannot_be_saved() {
    let (origin, tries) = answering(AWAY).await;
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    keep_expired_token(&oauth, &origin);
    let file = oauth.store.file().to_owned();
    // A disk that is full, or read-only: the file has no place any more.
    let turn = oauth.store.turn(Turn::Refresh).await.unwrap();
    let credentials = oauth.credentials().unwrap().unwrap();
    let client = Client { id: "c".to_owned(), secret: None, auth_method: None };
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file.parent().unwrap(), "").unwrap();

    let refreshed = refresh(&oauth.http, &oauth.store, &oauth.store.generation(), credentials, &client, None).await;

    let error = format!("{:#}", refreshed.err().unwrap());
    assert!(error.starts_with("the refresh token is not used: could not open the store of tokens at "), "{error}");
    assert_eq!(tries.load(Ordering::Relaxed), 0);
    drop(turn);
}

/// The issuer hangs, and the user has said how long an answer may take.
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_refresh_no_longer_than_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let state = tempfile::tempdir().unwrap();
    let mut oauth = sharing(&origin, &state);
    oauth.options.timeout = Some(Duration::from_secs(5));
    keep_expired_token(&oauth, &origin);
    let began = Instant::now();

    let (_issuer, one) = tokio::join!(asked(&listener), oauth.token());
    let two = oauth.token().await;

    for late in [one, two] {
        let error = format!("{:#}", late.unwrap_err());
        assert!(error.contains("has not answered for 5 s: mcpl waits for its answer"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

/// As after an issuer was given another host: what listens at the old one knows nothing of it.
#[tokio::test]
async fn a_token_endpoint_that_has_moved_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let state = tempfile::tempdir().unwrap();
    let oauth = sharing(&origin, &state);
    keep_expired_token(&oauth, &origin);
    let mut kept = oauth.credentials().unwrap().unwrap();
    kept.issuer = Some(origin.clone());
    oauth.store.keep_credentials(kept);
    let serving = origin.clone();
    tokio::spawn(async move {
        let metadata = format!(r#"{{"issuer":"{serving}","token_endpoint":"{serving}/new"}}"#);
        loop {
            let (mut issuer, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = issuer.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let (status, body) = match request.split(' ').nth(1) {
                Some("/new") => ("200 OK", GIVEN),
                Some("/.well-known/oauth-authorization-server") => ("200 OK", metadata.as_str()),
                _ => ("404 Not Found", ""),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            issuer.write_all(answer.as_bytes()).await.unwrap();
        }
    });

    assert_eq!(oauth.token().await.unwrap().unwrap().text, "new");

    let kept = oauth.credentials().unwrap().unwrap();
    assert_eq!(kept.token_endpoint, Some(format!("{origin}/new")));
}
