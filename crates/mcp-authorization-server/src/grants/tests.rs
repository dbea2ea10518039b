mod store;

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;

use self::store::TestStore;
use super::{row::MAX_SUPERSEDED, *};
use crate::{Client, ClientKind, Parameters, RedirectUri, Resources, test_support::state_key};

const ISSUER: &str = "https://auth.example";
const CLIENT: &str = "https://app.example/client.json";
const CALLBACK: &str = "https://app.example/callback";
// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const UPSTREAM_TOKEN: &str = "refresh token of the identity provider";
const START: u64 = 1_000_000;

fn resources() -> Resources {
    let scopes = r#"[{"name":"read","text":"Read"},{"name":"write","text":"Write"}]"#;
    let one = |host: &str| format!(r#"{{"url":"https://{host}/mcp","name":"a","scopes":{scopes}}}"#);
    Resources::parse(&format!("[{},{}]", one("mcp.example"), one("other.example"))).unwrap()
}

fn request() -> AuthorizationRequest {
    let client = Client {
        id: CLIENT.to_owned(),
        kind: ClientKind::Document,
        name: None,
        redirect_uris: vec![RedirectUri::parse(CALLBACK).unwrap()],
        refreshes: true,
    };
    let query = format!(
        "response_type=code&client_id={CLIENT}&redirect_uri={CALLBACK}&code_challenge={CHALLENGE}\
         &code_challenge_method=S256&resource=https://mcp.example"
    );
    let parameters = Parameters::parse(query.as_bytes()).unwrap();
    AuthorizationRequest::validate(&parameters, &client, &resources(), ISSUER).unwrap()
}

async fn code_of(grants: &Grants, subject: &str, refreshes: bool, now: SystemTime) -> String {
    let client = ClientSummary { kind: ClientKind::Document, name: None, refreshes };
    let scopes = vec!["read".to_owned(), "write".to_owned()];
    let upstream_token = Some(UPSTREAM_TOKEN.to_owned());
    let new = NewGrant { subject, request: &request(), scopes, client, upstream_token };
    grants.issue_code(ISSUER, new, now).await.unwrap()
}

static RESOURCES: LazyLock<Resources> = LazyLock::new(resources);

fn of_client() -> TokenRequest<'static> {
    TokenRequest { client_id: CLIENT, is_configured: false, resources: &RESOURCES, resource: None }
}

fn redemption() -> CodeRequest<'static> {
    CodeRequest { request: of_client(), code_verifier: Some(VERIFIER), redirect_uri: None }
}

/// A refresh token of a new grant.
async fn token_of(grants: &Grants, now: SystemTime) -> String {
    let code = code_of(grants, "ada", true, now).await;
    grants.redeem_code(ISSUER, &code, &redemption(), now).await.unwrap().refresh_token.unwrap()
}

async fn refresh(grants: &Grants, token: &str, now: SystemTime) -> Result<String, GrantError> {
    Ok(grants.refresh(ISSUER, token, &of_client(), None, now).await?.refresh_token.unwrap())
}

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: Result<T, GrantError>, code: ErrorCode) {
    match result {
        Err(GrantError::OAuth(error)) => assert_eq!(error.code, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_code_is_redeemed_once_by_its_client_with_its_verifier() {
    let store = TestStore::new();
    let grants = store.grants();
    let code = code_of(&grants, "ada", true, store.now()).await;
    let none = Resources::default();
    let with = |request| CodeRequest { request, ..redemption() };
    let of = |url| with(TokenRequest { resource: Some(url), ..of_client() });

    for (request, expected) in [
        (with(TokenRequest { client_id: "other", ..of_client() }), ErrorCode::InvalidGrant),
        (CodeRequest { code_verifier: None, ..redemption() }, ErrorCode::InvalidGrant),
        (CodeRequest { code_verifier: Some(CHALLENGE), ..redemption() }, ErrorCode::InvalidGrant),
        (CodeRequest { code_verifier: Some(&VERIFIER[1..]), ..redemption() }, ErrorCode::InvalidGrant),
        (CodeRequest { code_verifier: Some(&format!("{VERIFIER} ")), ..redemption() }, ErrorCode::InvalidGrant),
        (CodeRequest { redirect_uri: Some("https://evil.example"), ..redemption() }, ErrorCode::InvalidGrant),
        (CodeRequest { redirect_uri: Some("https://app.example/callback/"), ..redemption() }, ErrorCode::InvalidGrant),
        (of("https://other.example"), ErrorCode::InvalidTarget),
        (of("https://unknown.example"), ErrorCode::InvalidTarget),
        (with(TokenRequest { resources: &none, ..of_client() }), ErrorCode::InvalidTarget),
    ] {
        assert_error(grants.redeem_code(ISSUER, &code, &request, store.now()).await, expected);
    }
    let request = CodeRequest { redirect_uri: Some(CALLBACK), ..of("https://mcp.example") };
    let granted = grants.redeem_code(ISSUER, &code, &request, store.now()).await.unwrap();

    assert_eq!((granted.subject.as_str(), granted.resource.as_str()), ("ada", "https://mcp.example/mcp"));
    assert_eq!(granted.scopes, ["read", "write"]);
    assert!(granted.refresh_token.is_some());
}

#[tokio::test]
async fn a_grant_of_a_configured_client_is_kept_while_the_configuration_lacks_the_client() {
    let store = TestStore::new();
    let grants = store.grants();
    let client = ClientSummary { kind: ClientKind::Configured, name: None, refreshes: true };
    let new = NewGrant { subject: "ada", request: &request(), scopes: Vec::new(), client, upstream_token: None };
    let code = grants.issue_code(ISSUER, new, store.now()).await.unwrap();
    let configured = TokenRequest { is_configured: true, ..of_client() };

    assert_error(grants.redeem_code(ISSUER, &code, &redemption(), store.now()).await, ErrorCode::InvalidClient);
    let request = CodeRequest { request: configured, ..redemption() };
    let token = grants.redeem_code(ISSUER, &code, &request, store.now()).await.unwrap().refresh_token.unwrap();
    for _ in 0..2 {
        assert_error(refresh(&grants, &token, store.now()).await, ErrorCode::InvalidClient);
        store.pass(61);
    }

    assert!(grants.refresh(ISSUER, &token, &configured, None, store.now()).await.is_ok());
}

#[tokio::test]
async fn a_replayed_code_revokes_the_grant() {
    let store = TestStore::new();
    let grants = store.grants();
    let code = code_of(&grants, "ada", true, store.now()).await;
    let token = grants.redeem_code(ISSUER, &code, &redemption(), store.now()).await.unwrap().refresh_token.unwrap();

    // A program without client id, verifier and redirect URI of the first request cannot revoke it.
    for replay in [
        CodeRequest { request: TokenRequest { client_id: "other", ..of_client() }, ..redemption() },
        CodeRequest { code_verifier: Some(CHALLENGE), ..redemption() },
        CodeRequest { code_verifier: None, ..redemption() },
        CodeRequest { redirect_uri: Some("https://evil.example"), ..redemption() },
    ] {
        assert_error(store.grants().redeem_code(ISSUER, &code, &replay, store.now()).await, ErrorCode::InvalidGrant);
    }
    let token = refresh(&grants, &token, store.now()).await.unwrap();
    assert_error(store.grants().redeem_code(ISSUER, &code, &redemption(), store.now()).await, ErrorCode::InvalidGrant);

    assert_error(refresh(&grants, &token, store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn of_concurrent_uses_of_a_code_at_most_one_succeeds_and_the_grant_is_revoked() {
    let store = TestStore::new();
    let environments = [store.grants(), store.grants(), store.grants()];
    let code = code_of(&environments[0], "ada", true, store.now()).await;

    let request = redemption();
    let results = join_all((0..30).map(|index| {
        let grants = &environments[index % 3];
        grants.redeem_code(ISSUER, &code, &request, store.now())
    }))
    .await;

    let tokens: Vec<_> = results.into_iter().filter_map(Result::ok).filter_map(|own| own.refresh_token).collect();
    assert_eq!(tokens.len(), 1);
    assert_error(refresh(&environments[0], &tokens[0], store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn a_code_expires_after_a_minute() {
    let store = TestStore::new();
    let grants = store.grants();
    let [first, second] =
        [code_of(&grants, "ada", true, store.now()).await, code_of(&grants, "ada", true, store.now()).await];

    store.pass(59);
    assert!(grants.redeem_code(ISSUER, &first, &redemption(), store.now()).await.is_ok());
    store.pass(1);
    assert_error(grants.redeem_code(ISSUER, &second, &redemption(), store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn a_client_without_refresh_tokens_gets_none_and_its_code_is_used_once() {
    let store = TestStore::new();
    let grants = store.grants();
    let code = code_of(&grants, "ada", false, store.now()).await;

    let granted = grants.redeem_code(ISSUER, &code, &redemption(), store.now()).await.unwrap();

    assert_eq!(granted.refresh_token, None);
    store.pass(59);
    assert_error(grants.redeem_code(ISSUER, &code, &redemption(), store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn a_forged_or_foreign_text_is_not_a_code_or_token() {
    let store = TestStore::new();
    let grants = store.grants();
    let code = code_of(&grants, "ada", true, store.now()).await;
    let token = token_of(&grants, store.now()).await;
    let other_key = Grants { sealer: Sealer::new(&state_key(&[2]), Arc::default()).unwrap(), ..store.grants() };
    let forged = code_of(&other_key, "ada", true, store.now()).await;

    for text in ["", "x", &token, &forged, &code[1..], &code.to_lowercase(), "null"] {
        assert_error(grants.redeem_code(ISSUER, text, &redemption(), store.now()).await, ErrorCode::InvalidGrant);
    }
    for text in ["", "x", &code, &forged, &token[..token.len() - 1]] {
        assert_error(refresh(&grants, text, store.now()).await, ErrorCode::InvalidGrant);
    }
    let elsewhere = grants.refresh("https://other.example", &token, &of_client(), None, store.now()).await;
    assert_error(elsewhere, ErrorCode::InvalidGrant);
    assert!(refresh(&grants, &token, store.now()).await.is_ok(), "the grant is unharmed");
}

#[tokio::test]
async fn a_thousand_concurrent_refreshes_keep_every_client_signed_in() {
    let store = TestStore::new();
    let environments = [store.grants(), store.grants(), store.grants()];
    let first = token_of(&environments[0], store.now()).await;

    let parallel = |token: &'static str| {
        let (environments, store) = (&environments, &store);
        join_all((0..1000).map(move |index| refresh(&environments[index % 3], token, store.now())))
    };
    let successors: Vec<String> = parallel(first.clone().leak()).await.into_iter().map(Result::unwrap).collect();
    // Each client uses the token that it got, late ones the first token.
    for (index, token) in successors.iter().enumerate().take(20) {
        assert!(refresh(&environments[index % 3], token, store.now()).await.is_ok(), "{index}");
    }
    store.pass(60);
    assert!(refresh(&environments[0], &first, store.now()).await.is_ok(), "within the grace period");
    let last = refresh(&environments[1], &successors[999], store.now()).await.unwrap();
    store.pass(3600);

    let last = refresh(&environments[2], &last, store.now()).await.unwrap();
    assert_error(refresh(&environments[0], &first, store.now()).await, ErrorCode::InvalidGrant);
    assert_error(refresh(&environments[1], &last, store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn of_a_thousand_concurrent_refreshes_one_asks_the_identity_provider() {
    let store = TestStore::new();
    let environments = [store.grants(), store.grants(), store.grants()];
    let mut token = token_of(&environments[0], store.now()).await;
    let request = of_client();
    for round in 0..3 {
        store.pass(3600);

        let refreshed = join_all(
            (0..1000).map(|index| environments[index % 3].refresh(ISSUER, &token, &request, None, store.now())),
        )
        .await;

        let refreshed: Vec<_> = refreshed.into_iter().map(Result::unwrap).collect();
        let checks: Vec<_> = refreshed.iter().filter_map(|own| own.check.as_ref()).collect();
        let [check] = checks[..] else { panic!("{} checks", checks.len()) };
        let expected = if round == 0 { UPSTREAM_TOKEN.to_owned() } else { format!("next {round}") };
        assert_eq!(check.refresh_token(), expected);
        let next = format!("next {}", round + 1);
        environments[1].pass_check(ISSUER, check, Some(&next), None, store.now()).await.unwrap();
        token = refreshed[999].refresh_token.clone().unwrap();
        assert!(!store.has_written(&next) && !format!("{refreshed:?}").contains(&expected));
    }
}

#[tokio::test]
async fn a_token_that_is_used_after_the_grace_period_revokes_the_family() {
    let store = TestStore::new();
    let grants = store.grants();
    let first = token_of(&grants, store.now()).await;
    let second = refresh(&grants, &first, store.now()).await.unwrap();

    store.pass(61);
    assert_error(refresh(&grants, &first, store.now()).await, ErrorCode::InvalidGrant);

    assert_error(refresh(&grants, &second, store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn rotations_within_a_grace_period_are_bounded_and_revoke_nothing() {
    let store = TestStore::new();
    let grants = store.grants();
    let first = token_of(&grants, store.now()).await;
    let mut token = first.clone();

    for _ in 0..100 {
        token = refresh(&grants, &token, store.now()).await.unwrap();
    }
    assert!(refresh(&grants, &first, store.now()).await.is_ok());
    store.pass(61);

    let token = refresh(&grants, &token, store.now()).await.unwrap();
    let owner = Principal::new(ISSUER, "ada");
    let content: TokenContent = grants.sealer.open(ISSUER, Purpose::RefreshToken, &token).await.unwrap();
    let (grant, _) = grants.read(&row(&owner, &content.grant)).await.unwrap().unwrap();
    let Phase::Family { generation, superseded } = grant.phase else { panic!() };
    assert_eq!((generation, superseded.len()), (1 + MAX_SUPERSEDED as u64 + 1, 1));
}

#[tokio::test]
async fn a_refresh_is_bound_to_client_resource_and_scopes() {
    let store = TestStore::new();
    let grants = store.grants();
    let token = token_of(&grants, store.now()).await;
    let of = |url| TokenRequest { resource: Some(url), ..of_client() };

    for (request, scope, expected) in [
        (TokenRequest { client_id: "other", ..of_client() }, None, ErrorCode::InvalidGrant),
        (of("https://other.example/mcp"), None, ErrorCode::InvalidTarget),
        (of("https://unknown.example/mcp"), None, ErrorCode::InvalidTarget),
        (TokenRequest { resources: &Resources::default(), ..of_client() }, None, ErrorCode::InvalidTarget),
        (of_client(), Some("admin"), ErrorCode::InvalidScope),
        (of_client(), Some("read admin"), ErrorCode::InvalidScope),
        (of_client(), Some(" "), ErrorCode::InvalidScope),
    ] {
        // After the grace period too: no attempt has used the token up.
        store.pass(61);
        assert_error(grants.refresh(ISSUER, &token, &request, scope, store.now()).await, expected);
    }
    let same = of("https://mcp.example/mcp");
    let fewer = grants.refresh(ISSUER, &token, &same, Some("write"), store.now()).await.unwrap();
    let all = grants.refresh(ISSUER, &fewer.refresh_token.unwrap(), &of_client(), None, store.now()).await.unwrap();

    assert_eq!(fewer.scopes, ["write"]);
    assert_eq!(all.scopes, ["read", "write"]);
}

#[tokio::test]
async fn a_used_token_is_bound_as_the_newest_one_within_the_grace_period() {
    let store = TestStore::new();
    let grants = store.grants();
    let used = token_of(&grants, store.now()).await;
    let newest = refresh(&grants, &used, store.now()).await.unwrap();
    let of = |url| TokenRequest { resource: Some(url), ..of_client() };

    for (request, scope, expected) in [
        (TokenRequest { client_id: "other", ..of_client() }, None, ErrorCode::InvalidGrant),
        (of("https://other.example/mcp"), None, ErrorCode::InvalidTarget),
        (of_client(), Some("read admin"), ErrorCode::InvalidScope),
    ] {
        assert_error(grants.refresh(ISSUER, &used, &request, scope, store.now()).await, expected);
    }
    let fewer = grants.refresh(ISSUER, &used, &of_client(), Some("read"), store.now()).await.unwrap();

    assert_eq!(fewer.scopes, ["read"]);
    let all = grants.refresh(ISSUER, &newest, &of_client(), None, store.now()).await.unwrap();
    assert_eq!(all.scopes, ["read", "write"]);
}

#[tokio::test]
async fn a_grant_ends_without_use_and_after_its_total_lifetime() {
    const DAY: u64 = 24 * 60 * 60;
    let store = TestStore::new();
    let grants = store.grants();
    let unused = token_of(&grants, store.now()).await;
    let mut used = token_of(&grants, store.now()).await;

    for _ in 0..7 {
        store.pass(25 * DAY);
        used = refresh(&grants, &used, store.now()).await.unwrap();
    }
    assert_error(refresh(&grants, &unused, store.now()).await, ErrorCode::InvalidGrant);
    // 175 days have passed.
    store.pass(5 * DAY);
    assert_error(refresh(&grants, &used, store.now()).await, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn a_client_revokes_its_own_grants_only() {
    let store = TestStore::new();
    let grants = store.grants();
    let [first, second] = [token_of(&grants, store.now()).await, token_of(&grants, store.now()).await];

    assert_error(grants.revoke(ISSUER, &first, "other").await, ErrorCode::InvalidGrant);
    let first = refresh(&grants, &first, store.now()).await.unwrap();
    for text in [first.as_str(), &first, "x", ""] {
        grants.revoke(ISSUER, text, CLIENT).await.unwrap();
    }

    assert_error(refresh(&grants, &first, store.now()).await, ErrorCode::InvalidGrant);
    assert!(refresh(&grants, &second, store.now()).await.is_ok());
}

#[tokio::test]
async fn one_command_revokes_all_grants_that_exist() {
    let store = TestStore::new();
    let grants = store.grants();
    let token = token_of(&grants, store.now()).await;
    let code = code_of(&grants, "bob", true, store.now()).await;

    for earlier in [0, 0, 10] {
        grants.revoke_all(store.now() - Duration::from_secs(earlier)).await.unwrap();
    }
    store.pass(1);
    let later = token_of(&grants, store.now()).await;

    assert_error(refresh(&grants, &token, store.now()).await, ErrorCode::InvalidGrant);
    assert_error(grants.redeem_code(ISSUER, &code, &redemption(), store.now()).await, ErrorCode::InvalidGrant);
    assert!(refresh(&store.grants(), &later, store.now()).await.is_ok());
}

#[tokio::test]
async fn the_rows_of_a_person_are_deleted_together_and_contain_no_token() {
    let store = TestStore::new();
    let grants = store.grants();
    let token = token_of(&grants, store.now()).await;
    code_of(&grants, "ada", true, store.now()).await;
    let code = code_of(&grants, "bob", true, store.now()).await;
    // With the list of the grants of `ada`.
    assert!(store.rows().contains("rows: 4"), "{}", store.rows());
    let successor = refresh(&grants, &token, store.now()).await.unwrap();
    let first = code_of(&grants, "eve", true, store.now()).await;
    grants.redeem_code(ISSUER, &first, &redemption(), store.now()).await.unwrap();
    assert!(store.written.lock().unwrap().len() >= 6);
    // The rows have the client and the challenge too: without encryption they would be found.
    for secret in [&token, &successor, &code, &first, VERIFIER, CHALLENGE, CLIENT, UPSTREAM_TOKEN] {
        assert!(!store.has_written(secret), "{secret}");
    }
    // A code or token is Base64url: its bytes are in no row either.
    for secret in [&token, &successor, &code, &first] {
        let part = secret.rsplit('.').next().unwrap();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let rows = store.written.lock().unwrap();
        assert!(!rows.iter().any(|row| row.windows(bytes.len()).any(|own| own == bytes)), "{secret}");
    }

    let deleted = grants.delete_person(ISSUER, "ada").await.unwrap();

    assert_eq!(deleted, 3);
    assert_eq!(grants.delete_person(ISSUER, "ada").await.unwrap(), 0);
    assert_error(refresh(&grants, &token, store.now()).await, ErrorCode::InvalidGrant);
    assert!(grants.redeem_code(ISSUER, &code, &redemption(), store.now()).await.is_ok());
}
