//! Sign-ins of people, from the client's request to a verified token.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, StatusCode};
use mcp_auth::{OidcConfig, Verifier};
use mcp_authorization_server::{ErrorCode, OAuthError};
use mcp_testing::IssuerResponse;
use serde_json::{Value, json};

use crate::support::{
    Browser, CALLBACK, CLIENT, FORGED, NATIVE, RESOURCE, World, authorization_query, code_request, encode,
    has_parameter, header_text, link, location, parameter, text,
};

#[tokio::test]
pub(crate) async fn a_token_of_a_sign_in_verifies_with_the_issuer_alone() {
    let world = World::new().await;
    let tokens = world.tokens(&Browser::default()).await;
    // What a verifier fetches.
    world.front.set_response("/.well-known/openid-configuration", IssuerResponse::Status(404));
    for path in ["/.well-known/oauth-authorization-server", "/jwks"] {
        let document = world.send(Request::get(path).body(Bytes::new()).unwrap()).await;
        let document: Value = serde_json::from_slice(document.body()).unwrap();
        world.front.set_response(path, IssuerResponse::json(&document));
    }
    let issuer = world.issuer();
    let config = OidcConfig::from_env(|name| (name == "OIDC_ISSUER").then_some(issuer)).unwrap().unwrap();
    let verifier = Verifier::new(config);

    let token = tokens["access_token"].as_str().unwrap();
    let person = verifier.verify(token, "https://mcp.example", SystemTime::now(), None).await.unwrap();
    let elsewhere = verifier.verify(token, "https://other.example", SystemTime::now(), None).await;

    assert_eq!(person.subject, format!("{}#ada", world.upstream.issuer()));
    assert_eq!(person.client_id.as_deref(), Some(CLIENT));
    assert_eq!(person.scopes.iter().collect::<Vec<_>>(), ["events:read", "events:write"]);
    assert_eq!(person.claims["aud"], RESOURCE);
    assert!(elsewhere.is_err());
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(tokens["scope"], "events:read events:write");
}

#[tokio::test]
pub(crate) async fn the_redirect_to_the_client_has_code_state_and_issuer() {
    let world = World::new().await;

    let redirect = world.sign_in(&Browser::default(), &authorization_query(&[]), "ada").await;

    assert!(redirect.starts_with(&format!("{CALLBACK}?code=")));
    assert_eq!(parameter(&redirect, "state"), "s-1");
    assert_eq!(parameter(&redirect, "iss"), world.issuer());
}

#[tokio::test]
pub(crate) async fn a_refresh_token_is_rotated_and_revoked() {
    let world = World::new().await;
    let tokens = world.tokens(&Browser::default()).await;
    let first = tokens["refresh_token"].as_str().unwrap();
    let refresh = |token: &str| {
        let token = token.to_owned();
        let world = &world;
        async move {
            world
                .post("/token", &[("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &token)])
                .await
        }
    };

    let (status, refreshed) = refresh(first).await;
    let second = refreshed["refresh_token"].as_str().unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first, second);
    assert_ne!(tokens["access_token"], refreshed["access_token"]);
    let (status, _) = world.post("/revoke", &[("client_id", CLIENT), ("token", second)]).await;

    assert_eq!(status, StatusCode::OK);
    let (status, error) = refresh(second).await;
    assert_eq!((status, &error["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
}

#[tokio::test]
pub(crate) async fn revoking_everything_ends_all_grants() {
    let world = World::new().await;
    let tokens = world.tokens(&Browser::default()).await;
    let token = tokens["refresh_token"].as_str().unwrap();

    world.server.revoke_all(SystemTime::now()).await.unwrap();

    let refresh = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)];
    assert_eq!(world.post("/token", &refresh).await.1["error"], "invalid_grant");
}

#[tokio::test]
pub(crate) async fn a_second_sign_in_needs_no_consent_and_three_invocations() {
    let world = World::new().await;
    let browser = Browser::default();
    world.sign_in(&browser, &authorization_query(&[]), "ada").await;

    let upstream = location(&browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await);
    world.signs_in(&parameter(&upstream, "nonce"), |_| {});
    let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
    let redirect = location(&browser.get(&world, &callback).await);

    assert!(has_parameter(&redirect, "code"));
    let more = [("scope", Some("events:read"))];
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&more))).await;
    assert_eq!(page.status(), StatusCode::OK, "other scopes are asked for");
    world.pass(91 * 24 * 60 * 60);
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;
    assert_eq!(page.status(), StatusCode::OK, "an approval expires");
}

#[tokio::test]
pub(crate) async fn another_person_in_the_same_browser_approves_the_client_too() {
    let world = World::new().await;
    let browser = Browser::default();
    world.sign_in(&browser, &authorization_query(&[]), "ada").await;

    let upstream = location(&browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await);
    world.signs_in(&parameter(&upstream, "nonce"), |claims| claims["sub"] = json!("bob"));
    let page = browser.get(&world, &format!("/callback?code=c&state={}", parameter(&upstream, "state"))).await;
    assert!(text(&page).contains("app.example") && !text(&page).contains("Next, you sign in"));
    let redirect = location(&browser.decide(&world, &page, "approve").await);

    let code = parameter(&redirect, "code");
    assert_eq!(world.post("/token", &code_request(&code)).await.0, StatusCode::OK);
    assert_eq!(browser.decide(&world, &page, "approve").await.status(), StatusCode::BAD_REQUEST, "valid once");
    let again = world.sign_in(&browser, &authorization_query(&[]), "bob").await;
    assert!(has_parameter(&again, "code"), "remembered");
}

#[tokio::test]
pub(crate) async fn a_client_on_loopback_is_asked_for_each_time_with_a_warning() {
    let world = World::new().await;
    let browser = Browser::default();
    let query =
        authorization_query(&[("client_id", Some(NATIVE)), ("redirect_uri", Some("http://localhost:51004/callback"))]);

    let redirect = world.sign_in(&browser, &query, "ada").await;
    let page = browser.get(&world, &format!("/authorize?{query}")).await;

    assert!(redirect.starts_with("http://localhost:51004/callback?code="));
    let html = text(&page);
    assert!(html.contains("native.example") && html.contains("localhost:51004") && html.contains("Any program"));
}

#[tokio::test]
pub(crate) async fn the_consent_page_says_who_asks_for_what_and_is_plain_html() {
    let world = World::new().await;
    let get = |language: &'static str| {
        let request = Request::get(format!("/authorize?{}", authorization_query(&[])));
        let request = request.header("accept-language", language).body(Bytes::new()).unwrap();
        world.send(request)
    };

    let (english, portuguese, spanish) = (get("fr").await, get("pt-BR").await, get("es").await);

    let html = text(&english);
    let (_, upstream) = world.upstream.issuer().split_once("://").unwrap();
    for own in [
        "<strong>app.example</strong>",
        "&lt;b&gt;App&lt;/b&gt;",
        "Event &lt;logger&gt; (mcp.example)",
        "Read events",
        "<code>app.example</code>",
        &format!("Next, you sign in at <code>{}</code>", upstream.split('/').next().unwrap()),
        "not verified",
    ] {
        assert!(html.contains(own), "{own}: {html}");
    }
    for unwanted in ["<b>", "<script", "<img", "<link", "http:", "https:"] {
        assert!(!html.contains(unwanted), "{unwanted}: {html}");
    }
    assert!(text(&portuguese).contains("Ler eventos") && text(&portuguese).contains("lang=\"pt\""));
    assert!(text(&spanish).contains("¿Permitir"));
    let policy = header_text(english.headers(), "content-security-policy");
    for own in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"] {
        assert!(policy.contains(own), "{policy}");
    }
    assert_eq!(header_text(english.headers(), "x-frame-options"), "DENY");
    assert_eq!(header_text(english.headers(), "cache-control"), "no-store");
    assert_eq!(header_text(english.headers(), "referrer-policy"), "no-referrer");
}

#[tokio::test]
pub(crate) async fn denials_are_returned_to_the_client() {
    let world = World::new().await;
    for client in [CLIENT, "portal"] {
        let browser = Browser::default();
        let query = authorization_query(&[("client_id", Some(client))]);
        let page = browser.get(&world, &format!("/authorize?{query}")).await;
        let denied = link(&browser.decide(&world, &page, "deny").await);
        assert!(denied.starts_with(&format!("{CALLBACK}?error=access_denied&")), "{denied}");
        assert_eq!(parameter(&denied, "state"), "s-1");
        assert_eq!(parameter(&denied, "iss"), world.issuer());

        for (error, expected) in
            [("access_denied", "access_denied"), ("login_required", "access_denied"), ("x", "server_error")]
        {
            let upstream = location(&browser.decide(&world, &page, "approve").await);
            let callback = format!("/callback?error={error}&state={}", parameter(&upstream, "state"));
            let url = link(&browser.get(&world, &callback).await);
            assert_eq!(parameter(&url, "error"), expected);
            assert!(!has_parameter(&url, "code"));
        }
    }
}

#[tokio::test]
pub(crate) async fn errors_before_the_sign_in_are_not_redirected() {
    let world = World::new().await;
    for client in [CLIENT, "portal"] {
        let browser = Browser::default();
        let query = authorization_query(&[("client_id", Some(client)), ("scope", Some("none"))]);
        let invalid = link(&browser.get(&world, &format!("/authorize?{query}")).await);
        assert_eq!(parameter(&invalid, "error"), "invalid_scope", "{client}");

        let query = authorization_query(&[("client_id", Some(client))]);
        let page = browser.get(&world, &format!("/authorize?{query}")).await;
        let upstream = location(&browser.decide(&world, &page, "approve").await);
        world.upstream.set_response("/token", IssuerResponse::Status(500));
        let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
        let failed = link(&browser.get(&world, &callback).await);
        assert_eq!(parameter(&failed, "error"), "temporarily_unavailable", "{client}");
    }
    let target = format!("/authorize?{}", authorization_query(&[("scope", Some("none"))]));
    let request = Request::get(target).header("accept-language", "pt").body(Bytes::new()).unwrap();
    let html = text(&world.send(request).await);
    assert!(html.contains("Voltar à aplicação</a> (app.example)"), "{html}");
}

#[tokio::test]
pub(crate) async fn a_denial_after_the_sign_in_is_redirected() {
    let world = World::new().await;
    let browser = Browser::default();
    world.sign_in(&browser, &authorization_query(&[]), "ada").await;
    let upstream = location(&browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await);
    world.signs_in(&parameter(&upstream, "nonce"), |claims| claims["sub"] = json!("bob"));
    let page = browser.get(&world, &format!("/callback?code=c&state={}", parameter(&upstream, "state"))).await;

    let denied = location(&browser.decide(&world, &page, "deny").await);

    assert_eq!(parameter(&denied, "error"), "access_denied");
}

#[tokio::test]
pub(crate) async fn scopes_are_those_of_the_persons_claims() {
    let world = World::new().await;
    let browser = Browser::default();
    for (groups, scope, expected) in [
        (json!(["admins"]), None, Some("events:read events:delete")),
        (json!([]), None, Some("events:read")),
        (json!(["staff"]), Some("events:delete events:write openid"), Some("events:write")),
        (json!(["other"]), Some("events:delete"), None),
    ] {
        let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[("scope", scope)]))).await;
        let upstream = match page.status() {
            StatusCode::OK => location(&browser.decide(&world, &page, "approve").await),
            _ => location(&page),
        };
        world.signs_in(&parameter(&upstream, "nonce"), |claims| claims["groups"] = groups.clone());
        let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
        let response = browser.get(&world, &callback).await;
        let error = response.extensions().get::<OAuthError>();
        assert_eq!(error.map(|own| own.code), expected.is_none().then_some(ErrorCode::AccessDenied));
        match expected {
            Some(expected) => {
                let code = parameter(&location(&response), "code");
                assert_eq!(world.post("/token", &code_request(&code)).await.1["scope"], expected);
            }
            None => {
                let url = link(&response);
                assert!(url.starts_with(CALLBACK) && text(&response).contains("To use another account"));
                assert_eq!(parameter(&url, "error"), "access_denied");
            }
        }
    }
}

#[tokio::test]
pub(crate) async fn the_page_of_an_invalid_document_has_the_reason() {
    let world = World::new().await;
    for (number, expected) in [
        (1, "the metadata document of the client is malformed"),
        (7, "the client_id in the metadata document is not its URL"),
        (12, "the metadata document must have no client_secret"),
        (13, "redirect_uris has no https URL"),
    ] {
        let client = format!("{FORGED}{number}");
        let query = authorization_query(&[("client_id", Some(&client))]);
        let page = Browser::default().get(&world, &format!("/authorize?{query}")).await;

        assert_eq!(page.status(), StatusCode::BAD_REQUEST);
        assert!(text(&page).contains(expected), "{}", text(&page));
    }
}

#[tokio::test]
pub(crate) async fn a_registered_client_signs_in() {
    let world = World::new().await;
    let body = json!({ "client_name": "CLI", "redirect_uris": ["http://127.0.0.1/cb"] }).to_string();
    let request = Request::post("/register").header("content-type", "application/json").body(body.into()).unwrap();
    let registered = world.send(request).await;
    assert_eq!(registered.status(), StatusCode::CREATED);
    let registered: Value = serde_json::from_slice(registered.body()).unwrap();
    let client = registered["client_id"].as_str().unwrap();

    let query = authorization_query(&[("client_id", Some(client)), ("redirect_uri", Some("http://127.0.0.1:9999/cb"))]);
    let redirect = world.sign_in(&Browser::default(), &query, "ada").await;

    let code = parameter(&redirect, "code");
    let request = [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", &code),
        ("code_verifier", crate::support::VERIFIER),
    ];
    assert_eq!(world.post("/token", &request).await.0, StatusCode::OK);
}

#[tokio::test]
pub(crate) async fn a_confidential_client_authenticates_by_its_secret() {
    let world = World::new().await;
    let browser = Browser::default();
    let query = authorization_query(&[("client_id", Some("portal"))]);
    let code = async || parameter(&world.sign_in(&browser, &query, "ada").await, "code");
    let request = |code: String, basic: Option<&str>, secret: Option<&str>| {
        let mut parameters = code_request(&code);
        parameters.retain(|(name, _)| *name != "client_id" || basic.is_none());
        for (name, value) in &mut parameters {
            if *name == "client_id" {
                *value = "portal";
            }
        }
        parameters.extend(secret.map(|secret| ("client_secret", secret)));
        let mut own = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
        if let Some(basic) = basic {
            own = own.header("authorization", basic);
        }
        own.body(Bytes::from(encode(&parameters))).unwrap()
    };

    // `portal:s3cret` and `portal:wrong`.
    let (good, wrong) = ("Basic cG9ydGFsOnMzY3JldA==", "Basic cG9ydGFsOndyb25n");
    for (basic, secret, status) in [
        (Some(good), None, StatusCode::OK),
        (None, Some("s3cret"), StatusCode::OK),
        (Some(wrong), None, StatusCode::UNAUTHORIZED),
        (None, Some("wrong"), StatusCode::UNAUTHORIZED),
        (None, None, StatusCode::UNAUTHORIZED),
        (Some(good), Some("s3cret"), StatusCode::BAD_REQUEST),
        (Some("Bearer x"), None, StatusCode::UNAUTHORIZED),
        (Some("Basic ???"), None, StatusCode::UNAUTHORIZED),
    ] {
        let response = world.send(request(code().await, basic, secret)).await;

        assert_eq!(response.status(), status, "{basic:?} {secret:?} {}", text(&response));
        assert_eq!(response.headers().contains_key("www-authenticate"), status == StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
pub(crate) async fn metadata_name_what_clients_look_for() {
    let world = World::new().await;
    let response =
        world.send(Request::get("/.well-known/oauth-authorization-server").body(Bytes::new()).unwrap()).await;
    let metadata: Value = serde_json::from_slice(response.body()).unwrap();

    assert_eq!(metadata["issuer"], world.issuer());
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    assert_eq!(metadata["software_id"], "mcp-authorization-server");
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    assert!(metadata["token_endpoint_auth_methods_supported"].as_array().unwrap().contains(&json!("none")));
    for (member, path) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("registration_endpoint", "/register"),
        ("revocation_endpoint", "/revoke"),
        ("jwks_uri", "/jwks"),
    ] {
        assert_eq!(metadata[member], format!("{}{path}", world.issuer()));
    }
    assert_eq!(header_text(response.headers(), "access-control-allow-origin"), "*");
}

#[tokio::test]
pub(crate) async fn the_sign_in_at_the_identity_provider_has_pkce_and_a_nonce() {
    let world = World::new().await;
    let browser = Browser::default();
    let page = browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await;

    let upstream = location(&browser.decide(&world, &page, "approve").await);

    assert!(upstream.starts_with(&format!("{}/authorize?response_type=code&", world.upstream.origin())));
    assert_eq!(parameter(&upstream, "redirect_uri"), format!("{}/callback", world.issuer()));
    assert_eq!(parameter(&upstream, "client_id"), "authorization-server");
    assert_eq!(parameter(&upstream, "code_challenge_method"), "S256");
    assert_eq!(parameter(&upstream, "scope"), "openid email profile");
    for name in ["state", "nonce", "code_challenge"] {
        assert_eq!(parameter(&upstream, name).len(), 43, "{name}");
        assert_ne!(parameter(&upstream, name), crate::support::CHALLENGE);
    }
}
