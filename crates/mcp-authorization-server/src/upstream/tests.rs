use mcp_testing::{IssuerResponse, TestIssuer};

use super::*;
use crate::Parameters;

const CLIENT: &str = "authorization-server";
const NONCE: &str = "n-1";
const SECRETS: SignInSecrets<'static> = SignInSecrets { nonce: NONCE, code_verifier: "verifier" };
const REDIRECT: &str = "https://auth.example/callback";

/// What a provider is like, and what it gets.
struct Preset {
    provider: Provider,
    /// Members of its metadata, beside the endpoints.
    metadata: Value,
    /// Claims of its ID tokens, beside those that all have.
    claims: Value,
    scope: &'static str,
    prompt: Option<&'static str>,
    access_type: Option<&'static str>,
    has_pkce: bool,
}

fn presets() -> [Preset; 8] {
    let scopes = |names: &[&str]| json!({ "scopes_supported": names });
    let with_methods = |mut metadata: Value, methods: &[&str]| {
        metadata["token_endpoint_auth_methods_supported"] = json!(methods);
        metadata
    };
    let with_pkce = |mut metadata: Value| {
        metadata["code_challenge_methods_supported"] = json!(["S256", "plain"]);
        metadata
    };
    let both = ["client_secret_basic", "client_secret_post"];
    [
        Preset {
            provider: Provider::Cognito,
            metadata: with_methods(scopes(&["openid", "email", "phone", "profile"]), &both),
            claims: json!({ "token_use": "id", "cognito:groups": ["staff"], "cognito:username": "ada" }),
            scope: "openid email profile",
            prompt: None,
            access_type: None,
            has_pkce: true,
        },
        Preset {
            provider: Provider::Entra,
            metadata: with_methods(
                scopes(&["openid", "profile", "email", "offline_access"]),
                &["client_secret_post", "private_key_jwt", "client_secret_basic"],
            ),
            claims: json!({ "ver": "2.0", "tid": "t", "oid": "o", "groups": ["9f4f"] }),
            scope: "openid email profile offline_access",
            prompt: Some("select_account"),
            access_type: None,
            has_pkce: true,
        },
        Preset {
            provider: Provider::Google,
            metadata: with_pkce(with_methods(
                scopes(&["openid", "email", "profile"]),
                &["client_secret_post", "client_secret_basic"],
            )),
            claims: json!({ "azp": CLIENT, "hd": "example.com", "email": "ada@example.com", "email_verified": true }),
            scope: "openid email profile",
            prompt: Some("select_account consent"),
            access_type: Some("offline"),
            has_pkce: true,
        },
        Preset {
            provider: Provider::Okta,
            metadata: with_pkce(with_methods(
                scopes(&["openid", "email", "profile", "address", "phone", "offline_access", "groups"]),
                &both,
            )),
            claims: json!({ "ver": 1, "groups": ["staff"] }),
            scope: "openid email profile groups offline_access",
            prompt: None,
            access_type: None,
            has_pkce: true,
        },
        // A server other than the organization's rejects the scope `groups`.
        Preset {
            provider: Provider::Okta,
            metadata: with_pkce(scopes(&["openid", "offline_access"])),
            claims: json!({ "staff": true }),
            scope: "openid email profile offline_access",
            prompt: None,
            access_type: None,
            has_pkce: true,
        },
        Preset {
            provider: Provider::Auth0,
            metadata: with_pkce(with_methods(
                scopes(&["openid", "profile", "offline_access", "name", "email"]),
                &["client_secret_basic", "client_secret_post", "private_key_jwt"],
            )),
            claims: json!({ "https://example.com/groups": ["staff"], "sid": "x" }),
            scope: "openid email profile offline_access",
            prompt: None,
            access_type: None,
            has_pkce: true,
        },
        Preset {
            provider: Provider::Keycloak,
            metadata: with_pkce(with_methods(
                scopes(&["openid", "profile", "email", "offline_access", "roles"]),
                &["private_key_jwt", "client_secret_basic", "client_secret_post"],
            )),
            claims: json!({ "typ": "ID", "azp": CLIENT, "groups": ["staff"] }),
            scope: "openid email profile offline_access",
            prompt: None,
            access_type: None,
            has_pkce: true,
        },
        Preset {
            provider: Provider::Other,
            metadata: with_methods(scopes(&["openid", "offline_access"]), &["client_secret_post"]),
            claims: json!({}),
            scope: "openid email profile offline_access",
            prompt: Some("consent"),
            access_type: None,
            has_pkce: false,
        },
    ]
}

/// An issuer on loopback with a provider's metadata.
async fn start(preset: &Preset) -> (TestIssuer, Upstream) {
    let issuer = TestIssuer::start().await;
    let mut metadata = json!({
        "issuer": issuer.issuer(), "jwks_uri": issuer.keys_url(),
        "authorization_endpoint": format!("{}/authorize", issuer.origin()),
        "token_endpoint": format!("{}/token", issuer.origin()),
    });
    metadata.as_object_mut().unwrap().extend(preset.metadata.as_object().unwrap().clone());
    issuer.set_response("/.well-known/openid-configuration", IssuerResponse::json(&metadata));
    let config = UpstreamConfig {
        issuer: issuer.issuer().to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: Source::new(Duration::MAX, || Box::pin(async { Ok("s3cret:/+".to_owned()) })),
        provider: preset.provider,
    };
    (issuer, Upstream::new(config).unwrap())
}

fn id_token(issuer: &TestIssuer, preset: &Preset) -> String {
    issuer.mint([], |header, claims| {
        header["typ"] = json!("JWT");
        *claims = json!({
            "iss": issuer.issuer(), "sub": "a|da", "aud": CLIENT, "iat": claims["iat"], "exp": claims["exp"], "nonce": NONCE,
        });
        claims.as_object_mut().unwrap().extend(preset.claims.as_object().unwrap().clone());
    })
}

#[tokio::test]
async fn each_provider_gets_the_parameters_that_it_needs() {
    for preset in presets() {
        let (_issuer, upstream) = start(&preset).await;

        let url = upstream.authorization_url("s-1", &SECRETS, REDIRECT, SystemTime::now(), None).await.unwrap();

        let (_, query) = url.split_once('?').unwrap();
        let parameters = Parameters::parse(query.as_bytes()).unwrap();
        let provider = preset.provider;
        assert_eq!(parameters.get("scope"), Some(preset.scope), "{provider:?}");
        assert_eq!(parameters.get("prompt"), preset.prompt, "{provider:?}");
        assert_eq!(parameters.get("access_type"), preset.access_type, "{provider:?}");
        assert_eq!(parameters.get("code_challenge_method"), preset.has_pkce.then_some("S256"), "{provider:?}");
        assert_eq!((parameters.get("nonce"), parameters.get("state")), (Some(NONCE), Some("s-1")), "{provider:?}");
    }
}

#[tokio::test]
async fn a_person_of_each_provider_signs_in_and_is_asked_for_by_the_refresh_token() {
    for preset in presets() {
        let (issuer, upstream) = start(&preset).await;
        let response =
            json!({ "id_token": id_token(&issuer, &preset), "refresh_token": "r-1", "token_type": "Bearer" });
        issuer.set_response("/token", IssuerResponse::json(&response));
        let provider = preset.provider;

        let person = upstream.person("c", &SECRETS, REDIRECT, SystemTime::now(), None).await;

        let person = person.unwrap_or_else(|error| panic!("{provider:?}: {error:?}"));
        assert_eq!(person.principal.subject, "a|da");
        for (name, value) in preset.claims.as_object().unwrap() {
            assert_eq!(&person.principal.claims[name], value, "{provider:?}");
        }
        assert_eq!(person.refresh_token.map(|own| own.0).as_deref(), Some("r-1"));
        let body = issuer.bodies("/token").pop().unwrap();
        assert_eq!(body.contains("code_verifier=verifier"), preset.has_pkce, "{provider:?}");
        let posts = body.ends_with("&client_id=authorization-server&client_secret=s3cret%3A%2F%2B");
        assert_eq!(posts, provider == Provider::Other, "{provider:?}: {body}");
        // Without rotation, Cognito and Google return no other refresh token.
        let now = SystemTime::now();
        issuer.set_response("/token", IssuerResponse::json(&json!({ "access_token": "x" })));
        assert!(upstream.refresh("r-1", now, None).await.unwrap().refresh_token.is_none());
        issuer.set_response("/token", IssuerResponse::json(&json!({ "refresh_token": "r-2" })));
        let refreshed = upstream.refresh("r-1", now, None).await.unwrap();
        assert_eq!(refreshed.refresh_token.map(|own| own.0).as_deref(), Some("r-2"));
        assert!(issuer.bodies("/token").pop().unwrap().starts_with("grant_type=refresh_token&refresh_token=r-1"));
    }
}

#[test]
fn equal_subjects_of_two_providers_differ() {
    let subjects = [
        subject("https://a.example", "ada"),
        subject("https://b.example", "ada"),
        subject("https://a.example/", "ada"),
        subject("https://a.example", "b.example#ada"),
        subject("https://a.example", "a|da"),
        subject("https://a.example", "a%7Cda"),
    ];

    for (index, one) in subjects.iter().enumerate() {
        assert!(subjects[..index].iter().all(|other| other != one), "{one}");
        assert_eq!(one.matches('#').count(), 1, "{one}");
    }
}
