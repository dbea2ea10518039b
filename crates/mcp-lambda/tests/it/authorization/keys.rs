//! The issuer's keys over time: fetched when needed, kept while good, and never a reason to let the wrong one in.
//!
//! Time is the invocation's, so that nothing is waited for.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use mcp_lambda::{Env, FromEnv, HttpConfig, McpService};
use mcp_server::Invocation;
use mcp_testing::{IssuerResponse, Reply, TestIssuer, TestKey, Via, exchange_via, sign, tools_call, tools_list};
use serde_json::{Value, json};

use super::{closed_server, service};

/// A request that came so many seconds after the test began.
struct Clock(SystemTime);

impl Clock {
    fn start() -> Self {
        Self(SystemTime::now())
    }

    fn at(&self, seconds: u64) -> Invocation {
        Invocation { received: self.0 + Duration::from_secs(seconds), ..Invocation::default() }
    }
}

async fn send(service: &McpService, token: &str, invocation: Invocation) -> Reply {
    exchange_via(Via::FunctionUrl, service, tools_list().bearer(token), invocation).await
}

/// A token for a day, by a key of some name.
fn token(issuer: &TestIssuer, key_id: &str, key: &TestKey) -> String {
    token_of(issuer, "ada", key_id, key)
}

fn token_of(issuer: &TestIssuer, subject: &str, key_id: &str, key: &TestKey) -> String {
    token_by(issuer, subject, &json!({ "alg": "RS256", "kid": key_id }), key)
}

fn token_by(issuer: &TestIssuer, subject: &str, header: &Value, key: &TestKey) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": issuer.issuer(), "aud": mcp_testing::TEST_AUDIENCE, "sub": subject, "exp": now + 100_000,
    });
    sign(&header.to_string(), &claims.to_string(), key)
}

fn statuses(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.status.as_u16()).collect()
}

#[tokio::test]
async fn keys_are_fetched_once_for_concurrent_first_tokens() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    let tokens: Vec<_> =
        (0..50).map(|number| token_of(&issuer, &format!("user {number}"), "rsa", TestKey::rsa())).collect();
    assert_eq!(issuer.key_fetches(), 0);

    let replies = join_all(tokens.iter().map(|token| send(&service, token, clock.at(0)))).await;

    assert_eq!(statuses(&replies), [200; 50]);
    assert_eq!((issuer.key_fetches(), issuer.requests("/.well-known/openid-configuration")), (1, 1));
}

#[tokio::test]
async fn an_unknown_key_id_causes_a_fetch_after_a_cooldown() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    assert_eq!(send(&service, &token(&issuer, "rsa", TestKey::rsa()), clock.at(0)).await.status, 200);

    // A rotation right after the first fetch is detected at once.
    issuer.publish([TestKey::rsa().jwk("rsa"), TestKey::other_rsa().jwk("new")]);
    assert_eq!(send(&service, &token(&issuer, "new", TestKey::other_rsa()), clock.at(1)).await.status, 200);
    assert_eq!(issuer.key_fetches(), 2);

    // Random key ids cause one fetch in 30 s.
    for second in 2..62 {
        let made_up = token(&issuer, &format!("made up {second}"), TestKey::other_rsa());
        assert_eq!(send(&service, &made_up, clock.at(second)).await.status, 401, "after {second} s");
    }
    assert_eq!(issuer.key_fetches(), 4);
}

#[tokio::test]
async fn a_removed_key_is_rejected_after_the_maximum_age() {
    for (cache_control, age) in [
        ("", 3600),
        ("max-age=1", 300),
        ("no-store", 300),
        ("public, max-age=7200", 7200),
        ("max-age=31536000", 86_400),
    ] {
        let issuer = TestIssuer::start().await;
        let keys = |names: &[(&str, &TestKey)]| {
            let keys: Vec<Value> = names.iter().map(|(name, key)| key.jwk(name)).collect();
            issuer.set_keys_response(IssuerResponse::Json { body: json!({ "keys": keys }).to_string(), cache_control });
        };
        keys(&[("old", TestKey::rsa()), ("new", TestKey::other_rsa())]);
        let service = service(closed_server(), &issuer, &[]);
        let clock = Clock::start();
        let removed = token(&issuer, "old", TestKey::rsa());
        assert_eq!(send(&service, &removed, clock.at(0)).await.status, 200);
        keys(&[("new", TestKey::other_rsa())]);

        let before = send(&service, &removed, clock.at(age - 1)).await;
        let fetches = issuer.key_fetches();
        let after = send(&service, &removed, clock.at(age)).await;

        assert_eq!((before.status.as_u16(), fetches), (200, 1), "{cache_control}");
        assert_eq!(after.status, 401, "{cache_control}: also a token that was seen before");
        assert_eq!(send(&service, &token(&issuer, "new", TestKey::other_rsa()), clock.at(age)).await.status, 200);
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_for_a_minute_rejects_no_token_whose_key_is_cached() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    let known = token(&issuer, "rsa", TestKey::rsa());
    let unknown = token(&issuer, "new", TestKey::other_rsa());
    assert_eq!(send(&service, &known, clock.at(0)).await.status, 200);
    issuer.set_keys_response(IssuerResponse::Status(500));
    issuer.set_response("/.well-known/openid-configuration", IssuerResponse::Status(500));

    let (mut admitted, mut later) = (0, 0);
    let before = issuer.key_fetches();
    for second in 3600..3660 {
        // Not a cached token: the key is needed.
        let known = token_of(&issuer, &format!("user {second}"), "rsa", TestKey::rsa());
        admitted += usize::from(send(&service, &known, clock.at(second)).await.status == 200);
        let rejected = send(&service, &unknown, clock.at(second)).await;
        assert_eq!(rejected.status_and_code(), (503, 503), "the token may be valid");
        let retry_after: u64 = rejected.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=30).contains(&retry_after));
        assert!(!rejected.headers.contains_key("www-authenticate"));
        later += 1;
    }
    let fetches = issuer.key_fetches() - before + issuer.requests("/.well-known/openid-configuration") - 1;
    println!(
        "60 s without keys: {admitted} of 60 let in by the known key, {later} told to come back, {fetches} fetches"
    );
    assert_eq!(admitted, 60);
    assert!(fetches <= 2, "one in 30 s, not {fetches}");

    issuer.publish([TestKey::rsa().jwk("rsa"), TestKey::other_rsa().jwk("new")]);
    let metadata = json!({ "issuer": issuer.issuer(), "jwks_uri": issuer.keys_url() });
    issuer.set_response("/.well-known/openid-configuration", IssuerResponse::json(&metadata));
    assert_eq!(send(&service, &unknown, clock.at(3661)).await.status, 200);
}

#[tokio::test]
async fn keys_that_could_not_be_refreshed_for_a_day_expire() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    let token = token(&issuer, "rsa", TestKey::rsa());
    assert_eq!(send(&service, &token, clock.at(0)).await.status, 200);
    issuer.set_keys_response(IssuerResponse::Status(500));

    assert_eq!(send(&service, &token, clock.at(86_399)).await.status, 200);
    assert_eq!(send(&service, &token, clock.at(86_400)).await.status, 503);
}

#[tokio::test]
async fn unavailable_keys_are_a_503_and_not_a_401() {
    let issuer = TestIssuer::start().await;
    issuer.publish([]);
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    for second in 0..30 {
        let reply = send(&service, &issuer.token([]), clock.at(second)).await;
        assert_eq!(reply.status, 503);
    }
    assert_eq!(issuer.key_fetches(), 1);
    let (forged, expired) = ("garbage", issuer.mint([], |_, claims| claims["exp"] = json!(1)));
    assert_eq!(send(&service, forged, clock.at(0)).await.status, 401, "invalid with any key");
    assert_eq!(send(&service, &expired, clock.at(0)).await.status, 401);
}

/// Every kind of hostile response, first without and then with cached keys: no invalid token may be accepted, and no token of a
/// cached key rejected.
#[tokio::test]
async fn a_hostile_key_server_does_not_change_which_tokens_are_valid() {
    let padding = "x".repeat(10 * 1024 * 1024);
    let many: Vec<Value> = (0..10_000).map(|number| TestKey::other_rsa().jwk(&format!("k{number}"))).collect();
    let json = |body: String| IssuerResponse::Json { body, cache_control: "" };
    let secret = TestIssuer::start().await;
    secret.publish([TestKey::other_rsa().jwk("evil")]);
    for (what, answer) in [
        ("10 MB", json(json!({ "keys": [], "padding": padding }).to_string())),
        ("10,000 keys", json(json!({ "keys": many }).to_string())),
        (
            "a redirect to a private address",
            IssuerResponse::Redirect("http://169.254.169.254/latest/meta-data".to_owned()),
        ),
        ("a redirect to another's keys", IssuerResponse::Redirect(secret.keys_url())),
        ("an endless body", IssuerResponse::Endless),
        ("silence", IssuerResponse::Silence),
        (
            "an answer that is late",
            IssuerResponse::Late(Duration::from_secs(60), Box::new(IssuerResponse::Status(200))),
        ),
        ("no JSON", json("<html>".to_owned())),
        ("no set", json("{}".to_owned())),
        (
            "invalid keys",
            json(r#"{"keys":[7,null,"x",{},{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"","e":""}]}"#.to_owned()),
        ),
        ("deep nesting", json(format!("{{\"keys\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)))),
        ("an error", IssuerResponse::Status(404)),
    ] {
        let issuer = TestIssuer::start().await;
        issuer.set_keys_response(answer.clone());
        let fresh = service(closed_server(), &issuer, &[]);
        let warmed = {
            let service = service(closed_server(), &issuer, &[]);
            issuer.publish([TestKey::rsa().jwk("rsa")]);
            let clock = Clock::start();
            assert_eq!(send(&service, &token(&issuer, "rsa", TestKey::rsa()), clock.at(0)).await.status, 200);
            issuer.set_keys_response(answer);
            service
        };
        let clock = Clock::start();
        let good = token(&issuer, "rsa", TestKey::rsa());
        let known = token_of(&issuer, "bob", "rsa", TestKey::rsa());
        let evil = token(&issuer, "evil", TestKey::other_rsa());
        let fetches = issuer.key_fetches();
        let started = Instant::now();

        let cold = send(&fresh, &good, clock.at(0)).await;
        let longest = started.elapsed();
        let again = send(&fresh, &evil, clock.at(1)).await;
        let stale = send(&warmed, &known, clock.at(3601)).await;
        let forged = send(&warmed, &evil, clock.at(3602)).await;

        assert_eq!((cold.status.as_u16(), again.status.as_u16()), (503, 503), "{what}: unknown");
        assert_eq!(stale.status, 200, "{what}: its key is known");
        assert_eq!(forged.status, 503, "{what}: the key may be among those that could not be fetched");
        let fetches = issuer.key_fetches() - fetches;
        println!("{what}: {} at first, {fetches} fetches for four tokens, {:.1} s", cold.status, longest.as_secs_f64());
        assert!(fetches <= 3, "{what}: {fetches}");
        // Claude waits 10 s for a cold start.
        assert!(longest < Duration::from_secs(10), "{what}: {longest:?}");
    }
    assert_eq!(secret.key_fetches(), 0, "a redirect was followed");
}

/// A key set without a usable key is a failed fetch: the cached keys are kept, and the next fetch is 30 s later.
#[tokio::test]
async fn unusable_keys_do_not_replace_usable_ones() {
    let p256 = TestKey::p256().jwk("rsa");
    let with = |base: Value, name: &str, value: Value| {
        let mut key = base;
        key[name] = value;
        key
    };
    let rsa = || TestKey::rsa().jwk("rsa");
    let neutral = format!("AQ{}", "A".repeat(41));
    for (what, key) in [
        ("an exponent of 1", with(rsa(), "e", json!("AQ"))),
        ("an exponent with a zero before it", with(rsa(), "e", json!("AAEAAQ"))),
        ("a point that is not on the curve", with(p256.clone(), "x", p256["y"].clone())),
        ("the point of another curve", with(p256.clone(), "crv", json!("P-384"))),
        ("a point of small order", json!({ "kid": "rsa", "kty": "OKP", "crv": "Ed25519", "x": neutral })),
    ] {
        let issuer = TestIssuer::start().await;
        let service = service(closed_server(), &issuer, &[]);
        let clock = Clock::start();
        let good = |subject: &str| token_of(&issuer, subject, "rsa", TestKey::rsa());
        assert_eq!(send(&service, &good("ada"), clock.at(0)).await.status, 200);
        issuer.publish([key]);

        let stale = [
            send(&service, &good("bob"), clock.at(3600)).await,
            send(&service, &good("eve"), clock.at(3629)).await,
            send(&service, &good("ada"), clock.at(3629)).await,
        ];

        assert_eq!(statuses(&stale), [200; 3], "{what}: the key that is there decides");
        assert_eq!(issuer.key_fetches(), 2, "{what}: a fetch that fails is tried again after 30 s");
        issuer.publish([TestKey::other_rsa().jwk("new")]);
        assert_eq!(send(&service, &good("ada"), clock.at(3630)).await.status, 401, "{what}: until there is a good set");
    }
}

/// A small-order key, for which anyone can forge signatures, next to a valid key.
#[tokio::test]
async fn a_key_of_small_order_verifies_nothing() {
    let issuer = TestIssuer::start().await;
    let neutral = format!("AQ{}", "A".repeat(41));
    let small = json!({ "kid": "small", "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": neutral });
    issuer.publish([TestKey::rsa().jwk("rsa"), small]);
    let service = service(closed_server(), &issuer, &[]);
    let signed = token_by(&issuer, "eve", &json!({ "alg": "EdDSA", "kid": "small" }), TestKey::ed25519());
    // R is the neutral element, S is 0.
    let forged = format!("{}.AQ{}", signed.rsplit_once('.').unwrap().0, "A".repeat(84));

    assert_eq!(send(&service, &token(&issuer, "rsa", TestKey::rsa()), Invocation::default()).await.status, 200);
    assert_eq!(send(&service, &forged, Invocation::default()).await.status, 401);
}

#[tokio::test]
async fn rotation_under_load_rejects_no_valid_and_admits_no_invalid_token() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    let (mut good, mut bad, mut wrong) = (0, 0, 0);
    // One rotation per minute: a key is published before it is used, and kept until its tokens expire.
    for minute in 0..20_u64 {
        let key = |minute: u64| if minute.is_multiple_of(2) { TestKey::rsa() } else { TestKey::other_rsa() };
        let name = |minute: u64| format!("key {minute}");
        issuer.publish([key(minute).jwk(&name(minute)), key(minute + 1).jwk(&name(minute + 1))]);
        let requests = (0..30).map(|number| {
            let subject = format!("{minute} {number}");
            let second = clock.at(minute * 60 + number * 2);
            let (token, is_good) = match number % 3 {
                0 => (token_of(&issuer, &subject, &name(minute), key(minute)), true),
                1 => (token_of(&issuer, &subject, &name(minute + 1), key(minute + 1)), true),
                // Signed by the key of another key id.
                _ => (token_of(&issuer, &subject, &name(minute), key(minute + 1)), false),
            };
            let service = &service;
            async move { (is_good, send(service, &token, second).await.status) }
        });
        for (is_good, status) in join_all(requests).await {
            match (is_good, status.as_u16()) {
                (true, 200) => good += 1,
                (false, 401) => bad += 1,
                _ => wrong += 1,
            }
        }
    }
    let fetches = issuer.key_fetches();
    println!("20 rotations in 20 minutes: {good} accepted, {bad} rejected, {wrong} wrong results, {fetches} fetches");
    assert_eq!((good, bad, wrong), (400, 200, 0));
    assert!(fetches <= 41, "one at most in 30 s, not {fetches}");
}

#[tokio::test]
async fn a_key_fetch_ends_at_the_deadline() {
    let issuer = TestIssuer::start().await;
    issuer.set_keys_response(IssuerResponse::Silence);
    let service = service(closed_server(), &issuer, &[]);
    let deadline = Instant::now().checked_add(Duration::from_millis(900));

    let reply = send(&service, &issuer.token([]), Invocation { deadline, ..Invocation::default() }).await;

    assert_eq!(reply.status_and_code(), (503, 503));
    assert!(deadline.unwrap() > Instant::now(), "the response is sent before the invocation times out");
}

#[tokio::test]
async fn a_token_of_a_cached_key_does_not_wait_for_a_refresh_past_the_deadline() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    let token = token(&issuer, "rsa", TestKey::rsa());
    assert_eq!(send(&service, &token, clock.at(0)).await.status, 200);
    issuer.set_keys_response(IssuerResponse::Silence);
    let deadline = Instant::now().checked_add(Duration::from_millis(900));

    let request = tools_call("closed", json!({})).bearer(&token);
    let reply = exchange_via(Via::FunctionUrl, &service, request, Invocation { deadline, ..clock.at(3600) }).await;

    assert_eq!(reply.status, 200, "and the tool has time left: {}", reply.body);
    assert!(deadline.unwrap() > Instant::now());
}

#[tokio::test]
async fn a_changed_jwks_uri_is_discovered() {
    let (issuer, elsewhere) = (TestIssuer::start().await, TestIssuer::start().await);
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    assert_eq!(send(&service, &token(&issuer, "rsa", TestKey::rsa()), clock.at(0)).await.status, 200);
    elsewhere.publish([TestKey::other_rsa().jwk("new")]);
    let metadata = json!({ "issuer": issuer.issuer(), "jwks_uri": elsewhere.keys_url() });
    issuer.set_response("/.well-known/openid-configuration", IssuerResponse::json(&metadata));

    assert_eq!(send(&service, &token(&issuer, "new", TestKey::other_rsa()), clock.at(1)).await.status, 200);
}

#[tokio::test]
async fn concurrent_requests_share_one_failed_fetch() {
    let issuer = TestIssuer::start().await;
    issuer.set_keys_response(IssuerResponse::Late(Duration::from_millis(50), Box::new(IssuerResponse::Status(500))));
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    // The request that was received last is polled first.
    let requests = (0..20).rev().map(|number| {
        let invocation = Invocation { received: clock.0 + Duration::from_millis(number), ..Invocation::default() };
        let token = token_of(&issuer, &format!("user {number}"), "rsa", TestKey::rsa());
        let service = &service;
        async move { send(service, &token, invocation).await }
    });

    let replies = join_all(requests).await;

    assert_eq!(statuses(&replies), [503; 20]);
    assert_eq!(issuer.key_fetches(), 1);
}

#[tokio::test]
async fn more_tokens_than_the_cache_holds_are_verified() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let clock = Clock::start();
    let tokens: Vec<_> =
        (0..600).map(|number| token_of(&issuer, &format!("user {number}"), "rsa", TestKey::rsa())).collect();
    for token in tokens.iter().chain(&tokens) {
        assert_eq!(send(&service, token, clock.at(0)).await.status, 200);
    }
    assert_eq!(issuer.key_fetches(), 1);
}

#[tokio::test]
async fn the_metadata_must_name_the_issuer() {
    let elsewhere = TestIssuer::start().await;
    let path = "/.well-known/openid-configuration";
    let of = |issuer: &str, keys: String| IssuerResponse::json(&json!({ "issuer": issuer, "jwks_uri": keys }));
    for (what, status, answer) in [
        ("its own", 200, None),
        ("another's", 503, Some(of("https://other.example", elsewhere.keys_url()))),
        ("one with a slash more", 503, Some(of(&format!("{}/", elsewhere.origin()), elsewhere.keys_url()))),
        ("one whose keys are not secure", 503, Some(of("own", "http://keys.example/jwks".to_owned()))),
        ("one without keys", 503, Some(IssuerResponse::json(&json!({ "issuer": "own" })))),
        ("a redirect", 503, Some(IssuerResponse::Redirect(format!("{}{path}", elsewhere.origin())))),
    ] {
        let issuer = TestIssuer::start().await;
        match answer {
            None => {}
            Some(IssuerResponse::Json { body, cache_control }) => {
                let body = body.replace("\"own\"", &format!("\"{}\"", issuer.issuer()));
                issuer.set_response(path, IssuerResponse::Json { body, cache_control });
            }
            Some(answer) => issuer.set_response(path, answer),
        }
        let service = service(closed_server(), &issuer, &[]);

        let reply = send(&service, &issuer.token([]), Invocation::default()).await;

        assert_eq!(reply.status, status, "{what}: {}", reply.body);
    }
    assert_eq!(elsewhere.key_fetches(), 0);
}

#[tokio::test]
async fn metadata_is_discovered_at_three_paths() {
    for path in [
        "/realms/main/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/main",
        "/realms/main/.well-known/oauth-authorization-server",
    ] {
        let server = TestIssuer::start().await;
        let issuer = format!("{}/realms/main", server.origin());
        server.set_response(path, IssuerResponse::json(&json!({ "issuer": issuer, "jwks_uri": server.keys_url() })));
        let pairs = [("OIDC_ISSUER", issuer.as_str()), ("MCP_STATE_KEY", super::STATE_KEY)];
        let config = HttpConfig::from_env(&Env::from_pairs(pairs)).unwrap();
        let service = McpService::new(closed_server(), config).unwrap();
        let token = server.mint([], |_, claims| claims["iss"] = json!(issuer));

        assert_eq!(send(&service, &token, Invocation::default()).await.status, 200, "{path}");
    }
}
