//! Valid and hostile tokens, verified by the whole service.

use std::time::{Duration, SystemTime};

use mcp_lambda::{Env, FromEnv, HttpConfig, McpService};
use mcp_protocol::ProtocolVersion;
use mcp_server::{HandlerError, Invocation, NoArguments, Server, Tool, ToolContext};
use mcp_testing::{
    Provider, TEST_AUDIENCE, TEST_CLIENT, TestIssuer, TestKey, Via, exchange, exchange_via, sign, tools_call,
    tools_list,
};
use serde_json::{Value, json};

use super::{closed_server, server, service};

fn whoami() -> mcp_testing::McpRequest {
    tools_call("closed", json!({}))
}

#[tokio::test]
async fn no_hostile_token_is_accepted_from_any_issuer() {
    let mut counts = Vec::new();
    for provider in Provider::ALL {
        let issuer = TestIssuer::of(provider).await;
        let service = service(server(), &issuer, &[]);

        counts.push(issuer.assert_rejected(&service, &whoami()).await);
    }
    assert!(counts.iter().all(|count| *count >= 80), "{counts:?}");
    println!("hostile tokens by provider: {counts:?}");
}

#[tokio::test]
async fn an_invalid_token_is_rejected_by_public_items_too() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    for request in [tools_call("open", json!({})), tools_list(), mcp_testing::discover()] {
        let anonymous = exchange(&service, request.clone()).await;
        let rejected = exchange(&service, request.bearer(&expired)).await;

        assert_eq!(anonymous.status, 200);
        assert_eq!(rejected.status, 401);
    }
}

/// Changes that keep a token valid.
#[tokio::test]
async fn valid_but_unusual_tokens_are_accepted() {
    let issuer = TestIssuer::start().await;
    issuer.publish([
        TestKey::rsa().jwk("rsa"),
        TestKey::p256().jwk("p256"),
        TestKey::p384().jwk("p384"),
        TestKey::ed25519().jwk("ed"),
        without_algorithm(TestKey::other_rsa().jwk("any")),
    ]);
    let service = service(server(), &issuer, &[]);
    let claims = |change: &dyn Fn(&mut Value)| issuer.mint([], |_, claims| change(claims));
    let header = |change: &dyn Fn(&mut Value)| issuer.mint([], |header, _| change(header));
    let by = |algorithm: &str, key_id: &str, key: &TestKey| {
        let token = issuer.token([]);
        let payload = decoded(token.split('.').nth(1).unwrap());
        sign(&json!({ "alg": algorithm, "kid": key_id, "typ": "at+jwt" }).to_string(), &payload, key)
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let origin = TEST_AUDIENCE.strip_suffix("/mcp").unwrap().to_owned();
    for (what, token) in [
        ("ES256", by("ES256", "p256", TestKey::p256())),
        ("ES384", by("ES384", "p384", TestKey::p384())),
        ("EdDSA", by("EdDSA", "ed", TestKey::ed25519())),
        ("Ed25519", by("Ed25519", "ed", TestKey::ed25519())),
        ("RS384 with a key for anything", by("RS384", "any", TestKey::other_rsa())),
        ("RS512", by("RS512", "any", TestKey::other_rsa())),
        ("PS256", by("PS256", "any", TestKey::other_rsa())),
        ("PS384", by("PS384", "any", TestKey::other_rsa())),
        ("PS512", by("PS512", "any", TestKey::other_rsa())),
        ("no typ", header(&|header| drop(header.as_object_mut().unwrap().remove("typ")))),
        ("typ JWT", header(&|header| header["typ"] = json!("JWT"))),
        ("typ in capitals", header(&|header| header["typ"] = json!("AT+JWT"))),
        ("typ as a media type", header(&|header| header["typ"] = json!("application/at+jwt"))),
        ("no kid", header(&|header| drop(header.as_object_mut().unwrap().remove("kid")))),
        ("a jku that is ignored", header(&|header| header["jku"] = json!("https://evil.example/keys"))),
        ("b64 true", header(&|header| header["b64"] = json!(true))),
        ("the origin as audience", claims(&|claims| claims["aud"] = json!(origin))),
        ("the origin with a slash", claims(&|claims| claims["aud"] = json!(format!("{origin}/")))),
        ("a list with the audience", claims(&|claims| claims["aud"] = json!(["https://x.example", TEST_AUDIENCE]))),
        ("nbf within the leeway", claims(&|claims| claims["nbf"] = json!(now + 50))),
        ("iat within the leeway", claims(&|claims| claims["iat"] = json!(now + 50))),
        ("iat long ago", claims(&|claims| claims["iat"] = json!(0))),
        ("no iat", claims(&|claims| drop(claims.as_object_mut().unwrap().remove("iat")))),
        ("a fraction of a second", claims(&|claims| claims["exp"] = json!(now as f64 + 60.5))),
    ] {
        let reply = exchange(&service, whoami().bearer(&token)).await;

        assert_eq!(reply.status, 200, "{what}: {}", reply.body);
        assert!(reply.tool_result().text().contains(r#""subject":"ada""#), "{what}");
    }
}

fn without_algorithm(mut key: Value) -> Value {
    key.as_object_mut().unwrap().remove("alg");
    key
}

fn decoded(part: &str) -> String {
    use base64::Engine as _;
    String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn principal(issuer: &TestIssuer, token: &str, more: &[(&str, &str)]) -> Value {
    let reply = exchange(&service(closed_server(), issuer, more), whoami().bearer(token)).await;
    serde_json::from_str(&reply.tool_result().text()).unwrap()
}

#[tokio::test]
async fn the_claims_of_each_provider_map_to_one_principal() {
    for (provider, expected) in [
        (Provider::Standard, json!({ "name": "Ada Lovelace", "email": "ada@example.com", "email_verified": true })),
        (Provider::Google, json!({ "email": "ada@example.com", "email_verified": true })),
        (Provider::Cognito, json!({ "groups": ["staff"], "email": null })),
        (Provider::Auth0, json!({ "tenant": "org_1" })),
        (Provider::Okta, json!({ "email": null })),
        (
            Provider::Entra,
            json!({ "roles": ["Reader"], "tenant": "9188040d-6c67-4c5b-b112-36a304b66dad", "email_verified": false }),
        ),
        (Provider::Keycloak, json!({ "roles": ["staff"], "email_verified": true })),
    ] {
        let issuer = TestIssuer::of(provider).await;
        let token = issuer.token(["events:read", "events:write"]);

        let principal = principal(&issuer, &token, &[]).await;

        assert_eq!(principal["issuer"], issuer.issuer(), "{provider:?}");
        assert_eq!(principal["client_id"], TEST_CLIENT, "{provider:?}");
        assert_eq!(principal["scopes"], json!(["events:read", "events:write"]), "{provider:?}");
        assert_eq!(principal["may_read"], true, "{provider:?}");
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(principal[name], *value, "{provider:?} {name}");
        }
    }
}

#[tokio::test]
async fn scopes_may_be_a_string_or_a_list_in_either_claim() {
    let issuer = TestIssuer::start().await;
    for (claims, scopes) in [
        (json!({ "scope": "a b" }), json!(["a", "b"])),
        (json!({ "scope": ["a", "b"] }), json!(["a", "b"])),
        (json!({ "scp": "a b" }), json!(["a", "b"])),
        (json!({ "scp": ["a", "b"] }), json!(["a", "b"])),
        (json!({ "scope": "a", "scp": ["b"] }), json!(["a", "b"])),
        (json!({ "scope": " a  b " }), json!(["a", "b"])),
        (json!({ "scope": 7, "scp": { "a": true } }), json!([])),
        (json!({ "scope": null }), json!([])),
        (json!({ "permissions": ["a"], "roles": ["b"] }), json!([])),
    ] {
        let token = issuer.mint([], |_, own| {
            own.as_object_mut().unwrap().remove("scope");
            own.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        });

        assert_eq!(principal(&issuer, &token, &[]).await["scopes"], scopes, "{claims}");
    }
}

#[tokio::test]
async fn only_the_configured_prefix_is_removed_from_scopes() {
    let issuer = TestIssuer::start().await;
    let token = issuer.mint([], |_, claims| {
        claims["scope"] = json!("api/events:read events:write other/api/a api/ API/b api/api/c");
    });

    let principal = principal(&issuer, &token, &[("OIDC_SCOPE_PREFIX", "api/")]).await;

    assert_eq!(principal["scopes"], json!(["api/c", "events:read"]));
}

#[tokio::test]
async fn id_tokens_are_accepted_only_with_a_preset() {
    for provider in Provider::ALL {
        let issuer = TestIssuer::of(provider).await;
        let service = service(closed_server(), &issuer, &[]);

        let reply = exchange(&service, tools_list().bearer(&issuer.id_token())).await;

        let is_accepted = matches!(provider, Provider::Google | Provider::Cognito);
        assert_eq!(reply.status == 200, is_accepted, "{provider:?}: {}", reply.body);
    }
    for provider in [Provider::Standard, Provider::Keycloak] {
        let issuer = TestIssuer::of(provider).await;
        let more = json!({ "audience": TEST_CLIENT, "id_tokens": true });

        let reply = exchange(&configured(&issuer, &more), tools_list().bearer(&issuer.id_token())).await;

        assert_eq!(reply.status, 200, "{provider:?}: {}", reply.body);
    }
}

/// A service that trusts an issuer, with further settings.
fn configured(issuer: &TestIssuer, more: &Value) -> McpService {
    let mut entry = json!({ "issuer": issuer.issuer(), "jwks_uri": issuer.keys_url() });
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let pairs = [("OIDC_ISSUERS", json!([entry]).to_string()), ("MCP_STATE_KEY", super::STATE_KEY.to_owned())];
    McpService::new(closed_server(), HttpConfig::from_env(&Env::from_pairs(pairs)).unwrap()).unwrap()
}

#[tokio::test]
async fn a_client_list_restricts_tokens_to_its_clients() {
    let issuer = TestIssuer::start().await;
    for (clients, status) in [(json!(["other", TEST_CLIENT]), 200), (json!(["other"]), 401), (json!([]), 200)] {
        let service = configured(&issuer, &json!({ "client_ids": clients }));

        let reply = exchange(&service, tools_list().bearer(&issuer.token([]))).await;

        assert_eq!(reply.status, status, "{clients}: {}", reply.body);
    }
}

#[tokio::test]
async fn an_access_token_is_not_accepted_as_an_id_token() {
    let issuer = TestIssuer::of(Provider::Google).await;
    let service = service(closed_server(), &issuer, &[]);
    for token in [
        issuer.mint([], |header, _| header["typ"] = json!("at+jwt")),
        issuer.mint([], |_, claims| claims["token_use"] = json!("access")),
        "ya29.a0AfH6SMBxGarbage".to_owned(),
    ] {
        assert_eq!(exchange(&service, tools_list().bearer(&token)).await.status, 401);
    }
}

#[tokio::test]
async fn a_token_with_contradicting_types_is_rejected() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    for (said, status) in [("access", 200), ("id", 401)] {
        let token = issuer.mint([], |header, claims| {
            (header["typ"], claims["token_use"]) = (json!("at+jwt"), json!(said));
        });

        assert_eq!(exchange(&service, tools_list().bearer(&token)).await.status, status, "{said}");
    }
}

#[tokio::test]
async fn cognito_tokens_need_token_use_and_client_id() {
    let issuer = TestIssuer::of(Provider::Cognito).await;
    let service = service(closed_server(), &issuer, &[]);
    for (what, token, status) in [
        ("no token_use", issuer.mint([], |_, own| drop(own.as_object_mut().unwrap().remove("token_use"))), 401),
        ("another app client", issuer.mint([], |_, own| own["client_id"] = json!("other")), 401),
        ("no app client", issuer.mint([], |_, own| drop(own.as_object_mut().unwrap().remove("client_id"))), 401),
        ("bound to this server", issuer.mint([], |_, own| own["aud"] = json!(TEST_AUDIENCE)), 200),
        ("bound to another server", issuer.mint([], |_, own| own["aud"] = json!("https://other.example")), 401),
        (
            "an ID token of another app client",
            { issuer.mint([], |_, own| (own["token_use"], own["aud"]) = (json!("id"), json!("other"))) },
            401,
        ),
        (
            "an ID token for this server",
            { issuer.mint([], |_, own| (own["token_use"], own["aud"]) = (json!("id"), json!(TEST_AUDIENCE))) },
            401,
        ),
    ] {
        assert_eq!(exchange(&service, tools_list().bearer(&token)).await.status, status, "{what}");
    }
}

#[tokio::test]
async fn an_entra_id_token_is_detected_by_its_missing_client() {
    let issuer = TestIssuer::of(Provider::Entra).await;
    let service = service(closed_server(), &issuer, &[]);
    let id_token = issuer.mint([], |_, claims| {
        claims.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "azp" | "azpacr" | "scp"));
    });

    assert_eq!(exchange(&service, tools_list().bearer(&id_token)).await.status, 401);
}

#[tokio::test]
async fn the_second_issuer_name_of_google_is_accepted() {
    let issuer = TestIssuer::of(Provider::Google).await;
    let token = issuer.mint([], |_, claims| claims["iss"] = json!("accounts.google.com"));

    assert_eq!(principal(&issuer, &token, &[]).await["issuer"], "https://accounts.google.com");
}

#[tokio::test]
async fn granted_scopes_need_a_listed_subject() {
    let issuer = TestIssuer::of(Provider::Google).await;
    let service = service(server(), &issuer, &[]);
    for (what, change, status) in [
        ("of the domain", json!({}), 200),
        ("of the domain, in capitals", json!({ "hd": "EXAMPLE.com" }), 200),
        ("of another domain", json!({ "hd": "other.example" }), 403),
        ("of no domain", json!({ "hd": null }), 403),
        ("of a domain that ends alike", json!({ "hd": "evil-example.com" }), 403),
        ("an address of the domain, and no account", json!({ "hd": null, "email": "eve@example.com" }), 403),
    ] {
        let token =
            issuer.mint([], |_, claims| claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone()));
        let reply = exchange(&service, tools_call("write", json!({})).bearer(&token)).await;

        assert_eq!(reply.status, status, "{what}: {}", reply.body);
        assert!(!reply.headers.contains_key("www-authenticate"), "another token would not help");
    }
}

#[tokio::test]
async fn only_a_verified_email_matches_the_list() {
    let issuer = TestIssuer::start().await;
    let more = [("OIDC_ALLOWED_EMAILS", "ada@example.com, Bob@Example.com"), ("OIDC_GRANT_SCOPES", "events:write")];
    let service = service(server(), &issuer, &more);
    for (email, verified, status) in [
        (json!("ada@example.com"), json!(true), 200),
        (json!("BOB@example.com"), json!(true), 200),
        (json!("ada@example.com"), json!(false), 403),
        (json!("ada@example.com"), json!(null), 403),
        (json!("ada@example.com"), json!(1), 403),
        (json!("ada@example.com.evil.example"), json!(true), 403),
        (json!(["ada@example.com"]), json!(true), 403),
        (json!(null), json!(true), 403),
    ] {
        let token = issuer
            .mint([], |_, claims| (claims["email"], claims["email_verified"]) = (email.clone(), verified.clone()));

        let reply = exchange(&service, tools_call("write", json!({})).bearer(&token)).await;

        assert_eq!(reply.status, status, "{email} {verified}");
    }
}

/// The same for an access rule in the code.
#[tokio::test]
async fn an_access_rule_on_email_needs_a_verified_email() {
    let issuer = TestIssuer::start().await;
    let pairs = issuer.variables();
    let tool = Tool::new("admin", nothing).require_claim("email", "ada@example.com");
    let config = HttpConfig::from_env(&Env::from_pairs(pairs)).unwrap();
    let service = McpService::new(Server::new("guarded", "1.0.0", ()).tool(tool), config).unwrap();
    for (email, verified, status) in [
        (json!("ada@example.com"), json!(true), 200),
        // Cognito encodes it as a string.
        (json!("ada@example.com"), json!("true"), 200),
        (json!("ada@example.com"), json!(false), 403),
        (json!("ada@example.com"), json!("false"), 403),
        (json!("ada@example.com"), json!(null), 403),
        (json!("ada@example.com"), json!(1), 403),
        (json!("ada@example.com"), json!([true]), 403),
        (json!(["ada@example.com"]), json!(true), 403),
        (json!("ADA@example.com"), json!(true), 200),
        (json!("eve@example.com"), json!(true), 403),
    ] {
        let token = issuer
            .mint([], |_, claims| (claims["email"], claims["email_verified"]) = (email.clone(), verified.clone()));

        let reply = exchange(&service, tools_call("admin", json!({})).bearer(&token)).await;

        assert_eq!(reply.status, status, "{email} {verified}");
    }
}

async fn nothing(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("")
}

#[tokio::test]
async fn a_cached_token_expires() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let token = issuer.token([]);
    let at = |seconds: u64| Invocation {
        received: SystemTime::now() + Duration::from_secs(seconds),
        ..Invocation::default()
    };
    for (seconds, status) in [(0, 200), (0, 200), (3590, 200), (3601, 401), (0, 200)] {
        let reply = exchange_via(Via::FunctionUrl, &service, tools_list().bearer(&token), at(seconds)).await;

        assert_eq!(reply.status, status, "after {seconds} s");
    }
}

#[tokio::test]
async fn clock_skew_of_a_minute_applies_to_nbf_and_iat_but_not_to_exp() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (claim, seconds, status) in [
        ("nbf", now + 60, 200),
        ("nbf", now + 61, 401),
        ("iat", now + 60, 200),
        ("iat", now + 61, 401),
        ("exp", now + 1, 200),
        ("exp", now, 401),
    ] {
        let token = issuer.mint([], |_, claims| claims[claim] = json!(seconds));
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let invocation = Invocation { received, ..Invocation::default() };

        let reply = exchange_via(Via::FunctionUrl, &service, tools_list().bearer(&token), invocation).await;

        assert_eq!(reply.status, status, "{claim} {} s after now", seconds - now);
    }
}

#[tokio::test]
async fn the_audience_is_the_url_of_the_request() {
    let issuer = TestIssuer::start().await;
    let named = |url: &'static str| service(closed_server(), &issuer, &[("MCP_PUBLIC_URL", url)]);
    let token = issuer.mint([], |_, claims| claims["aud"] = json!("https://mcp.example.com/mcp"));

    assert_eq!(exchange(&named("https://mcp.example.com"), tools_list().bearer(&token)).await.status, 200);
    assert_eq!(exchange(&named("https://other.example.com"), tools_list().bearer(&token)).await.status, 401);
    assert_eq!(exchange(&named("https://mcp.example.com/tools"), tools_list().bearer(&token)).await.status, 401);
    let configured = service(closed_server(), &issuer, &[("OIDC_AUDIENCE", "api://mine, https://mcp.example.com/mcp")]);
    assert_eq!(exchange(&configured, tools_list().bearer(&token)).await.status, 200);
    let own_name = exchange(&configured, tools_list().bearer(&issuer.token([]))).await;
    assert_eq!(own_name.status, 401, "a configured audience replaces the server's URL");
}

#[tokio::test]
async fn several_issuers_are_verified_with_their_own_keys() {
    let (first, second) = (TestIssuer::start().await, TestIssuer::start().await);
    // Both keys have the key id `rsa`.
    second.publish([TestKey::other_rsa().jwk("rsa")]);
    let entries =
        json!([{ "issuer": first.issuer() }, { "issuer": second.issuer(), "scope_prefix": "two/" }]).to_string();
    let env = Env::from_pairs([("OIDC_ISSUERS", entries.as_str()), ("MCP_STATE_KEY", super::STATE_KEY)]);
    let service = McpService::new(server(), HttpConfig::from_env(&env).unwrap()).unwrap();
    let of_second = |key: &TestKey| {
        let token = second.mint([], |_, claims| claims["scope"] = json!("two/events:write"));
        let mut parts = token.split('.');
        let (header, claims) = (decoded(parts.next().unwrap()), decoded(parts.next().unwrap()));
        sign(&header, &claims, key)
    };
    for (what, token, status) in [
        ("the first", first.token(["events:write"]), 200),
        ("the second", of_second(TestKey::other_rsa()), 200),
        ("the second, signed by the first's key of the same name", of_second(TestKey::rsa()), 401),
    ] {
        let reply = exchange(&service, tools_call("write", json!({})).bearer(&token)).await;

        assert_eq!(reply.status, status, "{what}: {}", reply.body);
    }
}

#[tokio::test]
async fn tokens_work_in_every_revision_and_event_source() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[("MCP_PUBLIC_URL", TEST_AUDIENCE.strip_suffix("/mcp").unwrap())]);
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    for via in Via::ALL {
        for revision in ProtocolVersion::ALL {
            let request = whoami().revision(revision);
            let good = request.clone().bearer(&issuer.token([]));
            let bad = request.clone().bearer(&expired);
            let shouted = request.clone().header("AUTHORIZATION", &format!("bEARER {}", issuer.token([])));

            for (request, status) in [(good, 200), (shouted, 200), (bad, 401), (request, 401)] {
                let reply = exchange_via(via, &service, request, Invocation::default()).await;
                assert_eq!(reply.status, status, "{via:?} {revision}");
            }
        }
    }
}
