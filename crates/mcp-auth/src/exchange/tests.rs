use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use mcp_testing::{ScriptedServer, TEST_AWS_CREDENTIALS, TEST_SECRET_ARN as ARN};
use serde_json::{Value, json};

use super::*;

mod cache;

fn granted(token: &str) -> (u16, String) {
    let response = json!({
        "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 600,
    });
    (200, response.to_string())
}

fn exchanger(endpoint: &str, more: &[(&str, &str)]) -> TokenExchange {
    let mut pairs = vec![("OIDC_EXCHANGE_CLIENT_ID", "mcp server"), ("OIDC_EXCHANGE_TOKEN_ENDPOINT", endpoint)];
    pairs.extend_from_slice(more);
    if !more.iter().any(|(name, _)| name.ends_with("_ARN")) {
        pairs.push(("OIDC_EXCHANGE_CLIENT_SECRET", "s3cret:+ü"));
    }
    let config = ExchangeConfig::from_env(lookup(&pairs), 1).unwrap().unwrap();
    TokenExchange::new("https://issuer.example".to_owned(), Arc::new(config))
}

pub(super) fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
    |name| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
}

const TARGET: TokenTarget<'static> = TokenTarget::Audience("billing api");

async fn exchange(exchanger: &TokenExchange) -> Result<ExchangedToken, ExchangeError> {
    let subject = SubjectToken::new("caller.token");
    exchanger.exchange(&subject, TARGET, &["b", "a"], SystemTime::now, None).await
}

#[tokio::test]
async fn a_request_has_the_parameters_of_rfc_8693_and_basic_client_authentication() {
    let peer = ScriptedServer::start(|_, _| granted("new")).await;

    let token = exchange(&exchanger(&peer.url("/token"), &[])).await.unwrap();

    assert_eq!(token.as_str(), "new");
    let request = &peer.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    let basic = BASE64_STANDARD.encode("mcp%20server:s3cret%3A%2B%C3%BC");
    assert!(head.contains(&format!("authorization: Basic {basic}\r\n")), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    assert_eq!(
        body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=caller.token\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
         &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
         &audience=billing%20api&scope=a%20b"
    );
}

#[tokio::test]
async fn a_token_is_cached_by_caller_target_and_scopes_until_a_minute_before_it_expires() {
    let peer = ScriptedServer::start(|number, _| granted(&format!("t{number}"))).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let now = SystemTime::now();
    let (ada, bob) = (SubjectToken::new("ada"), SubjectToken::new("bob"));
    let seconds = |seconds| now + Duration::from_secs(seconds);
    let resource = TokenTarget::Resource("https://billing.example");
    for (subject, target, scopes, at, expected) in [
        (&ada, TARGET, &["a", "b"][..], now, "t1"),
        (&ada, TARGET, &["b", "a", "a"], now, "t1"),
        (&bob, TARGET, &["a", "b"], now, "t2"),
        (&ada, TARGET, &["a"], now, "t3"),
        (&ada, TARGET, &[], now, "t4"),
        (&ada, resource, &["a", "b"], now, "t5"),
        (&ada, TokenTarget::Audience("https://billing.example"), &["a", "b"], now, "t6"),
        (&ada, TARGET, &["a", "b"], seconds(539), "t1"),
        (&ada, TARGET, &["a", "b"], seconds(540), "t7"),
        (&ada, TARGET, &["a", "b"], seconds(541), "t7"),
    ] {
        let token = exchanger.exchange(subject, target, scopes, || at, None).await.unwrap();

        assert_eq!(token.as_str(), expected, "{target:?} {scopes:?}");
    }
    assert!(peer.requests()[4].ends_with("&resource=https%3A%2F%2Fbilling.example&scope=a%20b"));
}

#[tokio::test]
async fn a_token_without_a_lifetime_is_not_cached() {
    let response =
        json!({ "access_token": "x", "issued_token_type": ACCESS_TOKEN, "token_type": "bearer" }).to_string();
    let peer = ScriptedServer::start(move |_, _| (200, response.clone())).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);

    for _ in 0..2 {
        exchange(&exchanger).await.unwrap();
    }

    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn concurrent_exchanges_send_one_request() {
    let peer = ScriptedServer::start(|_, _| granted("new")).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);

    let tokens = futures_util::future::join_all((0..20).map(|_| exchange(&exchanger))).await;

    assert!(tokens.iter().all(|token| token.as_ref().is_ok_and(|token| token.as_str() == "new")));
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_malformed_response_is_an_error_that_does_not_quote_it() {
    let with = |name: &str, value: Value| {
        let mut response = json!({
            "access_token": "secret", "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 600,
        });
        match value {
            Value::Null => _ = response.as_object_mut().unwrap().remove(name),
            value => response[name] = value,
        }
        response.to_string()
    };
    for (response, expected) in [
        (String::new(), "not a JSON object"),
        ("<html>secret</html>".to_owned(), "not a JSON object"),
        ("[\"secret\"]".to_owned(), "not a JSON object"),
        ("\"secret\"".to_owned(), "not a JSON object"),
        (format!("{{\"x\":{}", "[".repeat(50_000)), "not a JSON object"),
        (r#"{"access_token":"secret","access_token":"b"}"#.to_owned(), "not a JSON object"),
        ("x".repeat(MAX_RESPONSE_BYTES + 1), "too large"),
        (with("access_token", Value::Null), "`access_token` is missing"),
        (with("access_token", json!(7)), "`access_token` is missing"),
        (with("access_token", json!("")), "not a bearer token"),
        (with("access_token", json!("secret\r\nX-Admin: 1")), "not a bearer token"),
        (with("access_token", json!("x".repeat(20_000))), "not a bearer token"),
        (with("token_type", Value::Null), "`token_type`"),
        (with("token_type", json!("DPoP")), "`token_type`"),
        (with("token_type", json!("N_A")), "`token_type`"),
        (with("issued_token_type", Value::Null), "`issued_token_type` is missing"),
        (with("issued_token_type", json!("urn:ietf:params:oauth:token-type:refresh_token")), "`issued_token_type`"),
        (with("issued_token_type", json!("urn:ietf:params:oauth:token-type:id_token")), "`issued_token_type`"),
        (with("expires_in", json!(-1)), "`expires_in`"),
        (with("expires_in", json!("soon")), "`expires_in`"),
    ] {
        let peer = ScriptedServer::start(move |_, _| (200, response.clone())).await;

        let error = exchange(&exchanger(&peer.url("/token"), &[])).await.unwrap_err();

        assert!(matches!(error, ExchangeError::Malformed(_)), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(expected) && !text.contains("secret"), "{expected}: {text}");
        assert_eq!(error.into_handler_error().to_string(), "internal error");
    }
}

#[tokio::test]
async fn each_error_code_of_the_issuer_becomes_a_handler_error() {
    let unavailable = "The authorization server is not available. Try again in a minute.";
    for (status, code, expected) in [
        (400, "invalid_grant", "did not accept your token"),
        (400, "invalid_request", "did not accept your token"),
        (400, "invalid_target", "issues no token for the service"),
        (400, "invalid_scope", "does not grant you the scopes"),
        (403, "access_denied", "denies you access"),
        (401, "invalid_client", "internal error"),
        (400, "unauthorized_client", "internal error"),
        (400, "unsupported_grant_type", "internal error"),
        (400, "something\nsecret", "internal error"),
        (302, "invalid_grant", "did not accept your token"),
        (500, "server_error", unavailable),
        (503, "invalid_grant", unavailable),
        (429, "slow_down", unavailable),
        (404, "invalid_grant", unavailable),
        (400, "temporarily_unavailable", unavailable),
    ] {
        let response = json!({ "error": code, "error_description": "secret" }).to_string();
        let peer = ScriptedServer::start(move |_, _| (status, response.clone())).await;

        let error = exchange(&exchanger(&peer.url("/token"), &[])).await.unwrap_err();

        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        let handler_error = error.into_handler_error();
        assert!(handler_error.to_string().contains(expected), "{status} {code}: {handler_error}");
        assert_eq!(peer.requests().len(), 1, "{status} {code}");
    }
}

#[tokio::test]
async fn a_silent_token_endpoint_is_unavailable_at_the_deadline() {
    let peer = ScriptedServer::start(|_, _| (0, String::new())).await;
    let (exchanger, subject) = (exchanger(&peer.url("/token"), &[]), SubjectToken::new("caller"));
    let answer_by = Some(Instant::now() + Duration::from_millis(200));

    let exchanged = exchanger.exchange(&subject, TARGET, &[], SystemTime::now, answer_by).await;

    assert!(matches!(exchanged, Err(ExchangeError::Unavailable(_))), "{exchanged:?}");
    let unreachable = tests::exchanger("http://127.0.0.1:1/token", &[]);
    assert!(matches!(exchange(&unreachable).await, Err(ExchangeError::Unavailable(_))));
}

#[tokio::test]
async fn malformed_targets_and_scopes_are_rejected() {
    let exchanger = exchanger("http://127.0.0.1:1/token", &[]);
    let long = "x".repeat(3000);
    for (target, scopes) in [
        (TokenTarget::Audience(""), &[][..]),
        (TokenTarget::Audience("a\nb"), &[]),
        (TokenTarget::Audience(&long), &[]),
        (TokenTarget::Resource("billing"), &[]),
        (TokenTarget::Resource("https://billing.example/#x"), &[]),
        (TARGET, &[""]),
        (TARGET, &["a b"]),
        (TARGET, &["a\"b"]),
        (TARGET, &["ü"]),
        (TARGET, &[&*long, "y", &*long.replace('x', "z")]),
    ] {
        let exchanged = exchanger.exchange(&SubjectToken::new("caller"), target, scopes, SystemTime::now, None).await;

        assert!(matches!(exchanged, Err(ExchangeError::Argument { .. })), "{target:?} {scopes:?}: {exchanged:?}");
    }
}

#[test]
fn debug_redacts_tokens_and_secrets() {
    let exchanger = exchanger("https://issuer.example/token", &[]);
    let exchanged = ExchangedToken { value: Arc::new(Zeroizing::new("s3cret".to_owned())) };

    let shown = format!("{exchanger:?} {:?} {exchanged:?} {:?}", SubjectToken::new("s3cret"), exchanger.config);

    assert!(!shown.contains("s3cret") && shown.contains("SubjectToken(..)"), "{shown}");
}

#[tokio::test]
async fn a_rotated_secret_is_fetched_again_once() {
    let secrets =
        ScriptedServer::start(|number, _| (200, json!({ "SecretString": format!("secret{number}") }).to_string()))
            .await;
    let second = BASE64_STANDARD.encode("mcp%20server:secret2");
    let issuer = ScriptedServer::start(move |_, request| match request.contains(&second) {
        true => granted("new"),
        false => (401, json!({ "error": "invalid_client" }).to_string()),
    })
    .await;
    let endpoint = secrets.url("");
    let mut variables = vec![("OIDC_EXCHANGE_CLIENT_SECRET_ARN", ARN), ("AWS_ENDPOINT_URL", &endpoint)];
    variables.extend(TEST_AWS_CREDENTIALS);
    let exchanger = exchanger(&issuer.url("/token"), &variables);

    assert_eq!(exchange(&exchanger).await.unwrap().as_str(), "new");

    assert_eq!((secrets.requests().len(), issuer.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_secret_is_fetched_with_credentials_of_the_container_endpoint() {
    let credentials = ScriptedServer::start(|_, _| {
        (200, json!({ "AccessKeyId": "AKIDSNAPSHOT", "SecretAccessKey": "x", "Token": "session" }).to_string())
    })
    .await;
    let secrets = ScriptedServer::start(|_, _| (200, json!({ "SecretString": "s3cret" }).to_string())).await;
    let issuer = ScriptedServer::start(|_, _| granted("new")).await;
    let (endpoint, full_uri) = (secrets.url(""), credentials.url("/credentials"));
    let variables = [
        ("OIDC_EXCHANGE_CLIENT_SECRET_ARN", ARN),
        ("AWS_ENDPOINT_URL", &*endpoint),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*full_uri),
    ];

    exchange(&exchanger(&issuer.url("/token"), &variables)).await.unwrap();

    assert!(secrets.requests()[0].contains("Credential=AKIDSNAPSHOT/"), "{}", secrets.requests()[0]);
}

#[tokio::test]
async fn a_rejected_client_fetches_its_secret_once_per_cooldown() {
    let secrets = ScriptedServer::start(|_, _| (200, json!({ "SecretString": "old" }).to_string())).await;
    let issuer = ScriptedServer::start(|_, _| (401, json!({ "error": "invalid_client" }).to_string())).await;
    let endpoint = secrets.url("");
    let mut variables = vec![("OIDC_EXCHANGE_CLIENT_SECRET_ARN", ARN), ("AWS_ENDPOINT_URL", &endpoint)];
    variables.extend(TEST_AWS_CREDENTIALS);
    let exchanger = exchanger(&issuer.url("/token"), &variables);

    for _ in 0..3 {
        assert!(matches!(exchange(&exchanger).await, Err(ExchangeError::Configuration("invalid_client"))));
    }

    assert_eq!((secrets.requests().len(), issuer.requests().len()), (2, 4));
}

#[tokio::test]
async fn an_unreadable_secret_is_an_error_that_does_not_quote_the_response() {
    for (status, response) in [
        (400, json!({ "__type": "ResourceNotFoundException", "message": "s3cret" })),
        (403, json!({})),
        (200, json!({ "SecretBinary": "s3cret" })),
        (200, json!({ "SecretString": " " })),
        (200, json!(["s3cret"])),
    ] {
        let secrets = ScriptedServer::start(move |_, _| (status, response.to_string())).await;
        let endpoint = secrets.url("");
        let mut variables = vec![("OIDC_EXCHANGE_CLIENT_SECRET_ARN", ARN), ("AWS_ENDPOINT_URL", &*endpoint)];
        variables.extend(TEST_AWS_CREDENTIALS);

        let error = exchange(&exchanger("http://127.0.0.1:1/token", &variables)).await.unwrap_err();

        assert!(matches!(error, ExchangeError::Secret(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
}

#[tokio::test]
async fn a_client_with_a_private_key_authenticates_by_a_signed_assertion() {
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    for (algorithm, key) in
        [("ES256", pem(ec.to_pkcs8v1().unwrap().as_ref())), ("RS256", pem(rsa.as_der().unwrap().as_ref()))]
    {
        let secrets = ScriptedServer::start(move |_, _| (200, json!({ "SecretString": key }).to_string())).await;
        let issuer = ScriptedServer::start(|_, _| granted("new")).await;
        let endpoint = secrets.url("");
        let mut variables = vec![
            ("OIDC_EXCHANGE_PRIVATE_KEY_ARN", ARN),
            ("OIDC_EXCHANGE_KEY_ID", "k1"),
            ("AWS_ENDPOINT_URL", &*endpoint),
        ];
        variables.extend(TEST_AWS_CREDENTIALS);

        exchange(&exchanger(&issuer.url("/token"), &variables)).await.unwrap();

        let request = issuer.requests().remove(0);
        assert!(!request.contains("authorization:"), "{request}");
        assert!(request.contains("&client_id=mcp%20server&client_assertion_type=urn%3Aietf"), "{request}");
        let assertion = request.split("client_assertion=").nth(1).unwrap().to_owned();
        let parts: Vec<&str> = assertion.split('.').collect();
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
        assert_eq!(json(parts[0]), json!({ "alg": algorithm, "typ": "JWT", "kid": "k1" }));
        let claims = json(parts[1]);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("mcp server"), &json!("mcp server")));
        assert_eq!(claims["aud"], "https://issuer.example");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        if algorithm == "ES256" {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ec.public_key().as_ref());
            let message = format!("{}.{}", parts[0], parts[1]);
            public.verify(message.as_bytes(), &decode(parts[2])).unwrap();
        }
    }
}

#[tokio::test]
async fn expiry_and_assertion_use_the_time_after_waiting_for_the_lock() {
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = pem(ec.to_pkcs8v1().unwrap().as_ref());
    let secrets = ScriptedServer::start(move |_, _| (200, json!({ "SecretString": key }).to_string())).await;
    let issuer = ScriptedServer::start(|number, _| granted(&format!("t{number}"))).await;
    let endpoint = secrets.url("");
    let mut variables = vec![("OIDC_EXCHANGE_PRIVATE_KEY_ARN", ARN), ("AWS_ENDPOINT_URL", &*endpoint)];
    variables.extend(TEST_AWS_CREDENTIALS);
    let own = exchanger(&issuer.url("/token"), &variables);
    let subject = SubjectToken::new("caller.token");
    let begin = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    // Each read of the clock advances it by 400 s.
    let reads = std::sync::atomic::AtomicU64::new(0);
    let clock = || begin + Duration::from_secs(400 * reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst));

    own.exchange(&subject, TARGET, &[], clock, None).await.unwrap();
    let again = own.exchange(&subject, TARGET, &[], || begin + Duration::from_secs(400 + 540), None).await.unwrap();

    assert_eq!(again.as_str(), "t2", "the lifetime starts after the lock is acquired");
    let request = issuer.requests().remove(0);
    let assertion = request.split("client_assertion=").nth(1).unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(assertion).unwrap()).unwrap();
    assert_eq!(claims["exp"], 1_000_860);
}

#[tokio::test]
async fn the_callers_own_token_or_an_ungranted_scope_is_an_error() {
    for (token, scope, expected) in [
        ("caller.token", json!(null), "the caller's own token"),
        ("new", json!("a c"), "did not grant the scope `b`"),
        ("new", json!(["a", "b"]), "`scope` is not a string"),
    ] {
        let mut response: Value = serde_json::from_str(&granted(token).1).unwrap();
        response["scope"] = scope;
        let peer = ScriptedServer::start(move |_, _| (200, response.to_string())).await;

        let error = exchange(&exchanger(&peer.url("/token"), &[])).await.unwrap_err();

        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut response: Value = serde_json::from_str(&granted("new").1).unwrap();
    response["scope"] = json!("c b a");
    let peer = ScriptedServer::start(move |_, _| (200, response.to_string())).await;
    assert_eq!(exchange(&exchanger(&peer.url("/token"), &[])).await.unwrap().as_str(), "new");
}
