use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use mcp_https::StatusCode;
use mcp_server::store::MemoryStore;

use super::*;
use crate::{
    FetchDocumentError, FetchedDocument,
    test_support::{at, sealed_store},
};

const ID: &str = "https://app.example/client.json";

/// Clients of one store, with documents that are set.
struct Setup {
    clients: Clients,
    seconds: Arc<AtomicU64>,
    body: Arc<Mutex<Option<String>>>,
    /// The status without a body.
    status: Arc<Mutex<StatusCode>>,
    fetches: Arc<AtomicUsize>,
}

fn setup(policy: RegistrationPolicy) -> Setup {
    let seconds = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&seconds);
    let store = MemoryStore::with_clock(Arc::new(move || at(clock.load(Ordering::SeqCst))));
    let body = Arc::new(Mutex::new(Some(
        json!({ "client_id": ID, "client_name": "App", "redirect_uris": ["https://app.example/callback"] }).to_string(),
    )));
    let fetches = Arc::new(AtomicUsize::new(0));
    let status = Arc::new(Mutex::new(StatusCode::NOT_FOUND));
    let (own, own_status, count) = (Arc::clone(&body), Arc::clone(&status), Arc::clone(&fetches));
    let documents = DocumentSource::new(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let fetched = match own.lock().unwrap().clone() {
            Some(body) => {
                Ok(FetchedDocument { body: body.into_bytes(), cache_control: Some("max-age=600".to_owned()) })
            }
            None => Err(FetchDocumentError::Status(*own_status.lock().unwrap())),
        };
        Box::pin(async { fetched })
    });
    let configured = ["public", "confidential"].map(|id| ConfiguredClient {
        id: id.to_owned(),
        name: "Portal".to_owned(),
        redirect_uris: vec![RedirectUri::parse("https://portal.example/callback").unwrap()],
        // SHA-256 of `s3cret`.
        secret_sha256: (id == "confidential")
            .then(|| BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, b"s3cret"))),
    });
    let clients = Clients::new(configured.to_vec(), policy, documents, sealed_store(Arc::new(store)));
    Setup { clients, seconds, body, status, fetches }
}

impl Setup {
    fn now(&self) -> SystemTime {
        at(self.seconds.load(Ordering::SeqCst))
    }
}

fn known() -> RegistrationPolicy {
    RegistrationPolicy::Known(vec!["portal.example".to_owned()])
}

async fn register(setup: &Setup, uris: &[&str]) -> Result<Value, ClientError> {
    let body =
        json!({ "client_name": "App", "redirect_uris": uris, "token_endpoint_auth_method": "client_secret_basic" });
    setup.clients.register(body.to_string().as_bytes(), None, at(5)).await
}

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

#[tokio::test]
async fn a_document_is_fetched_once_and_again_after_its_lifetime() {
    let setup = setup(known());
    let find = || setup.clients.find(ID, None, setup.now(), None);

    assert_eq!(find().await.unwrap().name.as_deref(), Some("App"));
    *setup.body.lock().unwrap() = None;
    assert_eq!(find().await.unwrap().kind, ClientKind::Document);
    assert_eq!(setup.fetches.load(Ordering::SeqCst), 1);

    setup.seconds.fetch_add(601, Ordering::SeqCst);
    assert!(matches!(find().await, Err(ClientError::Document(_))));
    assert!(matches!(find().await, Err(ClientError::Document(_))), "it is not kept");
}

#[tokio::test]
async fn a_document_that_cannot_be_fetched_again_is_used_for_a_week() {
    let setup = setup(known());
    let find = || setup.clients.find(ID, address(1), setup.now(), None);
    find().await.unwrap();
    let valid = setup.body.lock().unwrap().take();
    *setup.status.lock().unwrap() = StatusCode::SERVICE_UNAVAILABLE;
    setup.seconds.fetch_add(601, Ordering::SeqCst);

    for _ in 0..3 {
        assert_eq!(find().await.unwrap().name.as_deref(), Some("App"));
    }
    assert_eq!(setup.fetches.load(Ordering::SeqCst), 2, "the next attempt is five minutes later");
    // New client ids of the same network reach their limit, and not that of known ones.
    for number in 0..PER_NETWORK {
        let id = format!("https://a{number}.example/client.json");
        let _ = setup.clients.find(&id, address(1), setup.now(), None).await;
    }
    setup.seconds.fetch_add(301, Ordering::SeqCst);
    *setup.body.lock().unwrap() = valid.map(|body| body.replace("App", "New"));
    assert_eq!(find().await.unwrap().name.as_deref(), Some("New"));
    setup.body.lock().unwrap().take();
    setup.seconds.fetch_add(600 + KEPT.as_secs() - 1, Ordering::SeqCst);
    assert!(find().await.is_ok());
    setup.seconds.fetch_add(1, Ordering::SeqCst);
    assert!(find().await.is_err(), "a week later");
}

#[tokio::test]
async fn a_new_document_that_is_invalid_ends_the_old_one() {
    let setup = setup(known());
    let find = || setup.clients.find(ID, None, setup.now(), None);
    find().await.unwrap();
    *setup.body.lock().unwrap() = Some("{}".to_owned());
    setup.seconds.fetch_add(601, Ordering::SeqCst);

    for _ in 0..2 {
        assert!(matches!(find().await, Err(ClientError::OAuth(_))));
    }
}

#[tokio::test]
async fn an_invalid_document_is_not_cached() {
    let setup = setup(known());
    let other = "https://app.example/other.json";

    for id in [other, "https://app.example/../client.json", "https://app.example"] {
        let error = setup.clients.find(id, None, at(5), None).await.unwrap_err();
        assert!(matches!(error, ClientError::OAuth(own) if own.code == ErrorCode::InvalidClientMetadata), "{id}");
    }
    // The URLs that are malformed were not fetched.
    assert_eq!(setup.fetches.load(Ordering::SeqCst), 1);
    let body = json!({ "client_id": other, "redirect_uris": ["https://app.example/callback"] });
    *setup.body.lock().unwrap() = Some(body.to_string());
    assert!(setup.clients.find(other, None, at(5), None).await.is_ok());
}

#[tokio::test]
async fn registrations_are_limited_to_known_redirect_uris() {
    let (own, off, open) = (setup(known()), setup(RegistrationPolicy::Off), setup(RegistrationPolicy::Open));
    for (uris, is_known) in [
        (&["http://localhost:3118/callback", "http://127.0.0.1/callback"][..], true),
        (&["https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"], true),
        (&["https://portal.example/callback"], true),
        (&["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1:33418/"], true),
        (&["http://[::1]/"], true),
        (&["https://evil.example/callback"], false),
        (&["http://localhost/callback", "https://evil.example/callback"], false),
        (&["https://chatgpt.com/connector_platform_oauth_redirect"], true),
        (&["https://chatgpt.com/connector/oauth/Ab_c-1"], true),
        (&["https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"], true),
        (&["https://www.cursor.com/agents/mcp/oauth/other"], false),
        (&["https://chatgpt.com/connector/oauth/"], false),
        (&["https://chatgpt.com/connector/oauth/../x"], false),
        (&["https://claude.ai/redirect?to=https://evil.example"], false),
        (&["https://claude.ai/api/mcp/auth_callback?x"], false),
        (&["https://claude.ai.evil.example/callback"], false),
        (&["https://evil.example/?claude.ai"], false),
        (&["https://evilclaude.ai/callback"], false),
        (&["https://sub.portal.example/callback"], false),
        (&["https://localhost/callback"], false),
    ] {
        let registered = register(&own, uris).await;
        assert_eq!(registered.is_ok(), is_known, "{uris:?} {registered:?}");
        assert!(register(&open, uris).await.is_ok() && register(&off, uris).await.is_err());
    }
    for body in ["", "[]", "{}", "\"x\"", r#"{"redirect_uris":["http://localhost/"],"client_name":7}"#] {
        assert!(
            matches!(own.clients.register(body.as_bytes(), None, at(5)).await, Err(ClientError::OAuth(_))),
            "{body}"
        );
    }
    let large = vec![b' '; MAX_REGISTRATION_BYTES + 1];
    assert!(matches!(own.clients.register(&large, None, at(5)).await, Err(ClientError::OAuth(_))));
}

#[tokio::test]
async fn the_private_scheme_of_cursor_is_left_out_of_its_registration() {
    let setup = setup(known());
    let uris = ["cursor://anysphere.cursor-mcp/oauth/callback", "http://localhost:8787/callback"];

    assert_eq!(register(&setup, &uris).await.unwrap()["redirect_uris"], json!(uris[1..]));
    for uris in [&uris[..1], &["cursor://anysphere.cursor-mcp/other", uris[1]]] {
        assert!(matches!(register(&setup, uris).await, Err(ClientError::OAuth(_))), "{uris:?}");
    }
}

#[tokio::test]
async fn a_registration_is_public_and_expires_unless_it_is_used() {
    let setup = setup(known());
    let response = register(&setup, &["http://localhost/callback"]).await.unwrap();
    let unused = register(&setup, &["http://localhost/callback"]).await.unwrap();
    let id = response["client_id"].as_str().unwrap();
    let find = |id: &str| {
        let id = id.to_owned();
        let clients = &setup.clients;
        async move { clients.find(&id, None, at(5), None).await }
    };

    assert_eq!(response["token_endpoint_auth_method"], "none");
    assert_eq!(response["client_id_issued_at"], 5);
    assert!(response.get("client_secret").is_none());
    assert_eq!(find(id).await.unwrap().kind, ClientKind::Registered);

    setup.clients.extend(id).await.unwrap();
    setup.seconds.fetch_add(DAY.as_secs(), Ordering::SeqCst);
    assert!(find(id).await.is_ok());
    assert!(find(unused["client_id"].as_str().unwrap()).await.is_err());
    setup.seconds.fetch_add(USED.as_secs(), Ordering::SeqCst);
    for unknown in [id, "", "other", "client"] {
        assert!(matches!(find(unknown).await, Err(ClientError::OAuth(own)) if own.code == ErrorCode::InvalidClient));
    }
}

#[tokio::test]
async fn a_flood_of_registrations_is_limited_by_address_and_in_all() {
    let setup = setup(known());
    let body = br#"{"redirect_uris":["http://localhost/"]}"#;
    let register = |address| setup.clients.register(body, address, at(setup.seconds.load(Ordering::SeqCst)));
    let in_network = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));

    for _ in 0..PER_NETWORK {
        register(address(1)).await.unwrap();
    }
    for limited in 0..3 {
        assert!(matches!(register(address(1)).await, Err(ClientError::Limited)), "{limited}");
    }
    // An IPv4 address in an IPv6 address is the same address.
    let mapped = Some(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x201]));
    assert!(matches!(register(mapped).await, Err(ClientError::Limited)));
    for last in 0..20 {
        register(in_network(last)).await.unwrap();
    }
    assert!(matches!(register(in_network(999)).await, Err(ClientError::Limited)));
    for number in 0..u32::try_from(IN_ALL - 2 * PER_NETWORK).unwrap() {
        register(Some(IpAddr::from(number.to_be_bytes()))).await.unwrap();
    }
    assert!(matches!(register(address(2)).await, Err(ClientError::Limited)));
    assert!(setup.clients.find(ID, address(1), at(5), None).await.is_ok(), "documents are counted separately");

    setup.seconds.fetch_add(HOUR.as_secs(), Ordering::SeqCst);
    assert!(register(address(1)).await.is_ok());
}

#[tokio::test]
async fn fetches_of_documents_are_limited() {
    let setup = setup(known());
    *setup.body.lock().unwrap() = None;

    for number in 0..PER_NETWORK + 5 {
        let id = format!("https://a{number}.example/client.json");
        let error = setup.clients.find(&id, address(1), at(5), None).await.unwrap_err();
        assert_eq!(matches!(error, ClientError::Limited), number >= PER_NETWORK, "{number}");
    }
    assert_eq!(setup.fetches.load(Ordering::SeqCst) as u64, PER_NETWORK);
}

#[tokio::test]
async fn a_confidential_client_needs_its_secret_and_a_public_one_has_none() {
    let setup = setup(known());
    for (client_id, secret, expected) in [
        ("public", None, true),
        ("public", Some("s3cret"), false),
        (ID, None, true),
        (ID, Some("s3cret"), false),
        ("confidential", Some("s3cret"), true),
        ("confidential", Some("s3cret "), false),
        ("confidential", Some(""), false),
        ("confidential", None, false),
        ("CONFIDENTIAL", None, true),
    ] {
        let result = setup.clients.authenticate(&Credentials { client_id, secret }, None, at(5)).await;
        assert_eq!(result.is_ok(), expected, "{client_id} {secret:?}");
    }
}

#[tokio::test]
async fn guesses_of_a_secret_are_limited_by_network() {
    let setup = setup(known());
    let authenticate = async |secret, address| {
        let credentials = Credentials { client_id: "confidential", secret: Some(secret) };
        setup.clients.authenticate(&credentials, address, setup.now()).await.is_ok()
    };
    for _ in 0..20 {
        assert!(!authenticate("guess", address(1)).await);
    }
    assert!(authenticate("s3cret", address(1)).await, "20 may be wrong");

    assert!(!authenticate("guess", address(1)).await);
    assert!(!authenticate("s3cret", address(1)).await, "a right guess is rejected");
    assert!(authenticate("s3cret", address(2)).await, "another network");
    setup.seconds.fetch_add(60 * 60, Ordering::SeqCst);
    assert!(authenticate("s3cret", address(1)).await);
}

#[tokio::test]
async fn a_configured_client_is_found_by_its_exact_id() {
    let setup = setup(known());

    assert_eq!(setup.clients.find("confidential", None, at(5), None).await.unwrap().kind, ClientKind::Configured);
    assert!(setup.clients.find("CONFIDENTIAL", None, at(5), None).await.is_err());
}
