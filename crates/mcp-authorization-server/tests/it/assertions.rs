//! Identity assertions of a company's identity provider (ID-JAG).

use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use mcp_auth::{OidcConfig, Verifier};
use mcp_authorization_server::{AuthorizationServer, RequestContext};
use mcp_testing::{IssuerResponse, TestIssuer};
use serde_json::{Value, json};

use crate::support::{CLIENT, RESOURCE, World, form_request, text};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const OTHER: &str = "https://other.example/mcp";
/// `portal:s3cret`.
const CREDENTIALS: &str = "Basic cG9ydGFsOnMzY3JldA==";

struct Company {
    world: World,
    server: AuthorizationServer,
    issuer: TestIssuer,
}

impl Company {
    async fn new() -> Self {
        let (world, issuer) = (World::new().await, TestIssuer::start().await);
        let server = world.environment().trust_assertions_of(&[issuer.issuer().to_owned()]).unwrap();
        Self { world, server, issuer }
    }

    fn assertion(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        self.issuer.mint([], |header, claims| {
            header["typ"] = json!("oauth-id-jag+jwt");
            *claims = json!({
                "iss": self.issuer.issuer(), "sub": "ada", "aud": self.world.issuer(), "client_id": "portal", "jti": "j-1",
                "iat": claims["iat"], "exp": claims["iat"].as_u64().unwrap() + 300, "resource": RESOURCE,
                "scope": "events:read events:write", "groups": ["staff"],
            });
            change(header, claims);
        })
    }

    async fn send(&self, parameters: &[(&str, &str)], credentials: &str) -> (StatusCode, Value) {
        let mut request = form_request("/token", parameters);
        if !credentials.is_empty() {
            request.headers_mut().insert("authorization", credentials.parse().unwrap());
        }
        let response = self.world.send_to(&self.server, request).await;
        (response.status(), serde_json::from_slice(response.body()).unwrap())
    }

    async fn redeem(&self, assertion: &str) -> (StatusCode, Value) {
        self.send(&[("grant_type", GRANT), ("assertion", assertion)], CREDENTIALS).await
    }
}

#[tokio::test]
async fn an_assertion_gives_one_token_without_a_sign_in() {
    let company = Company::new().await;
    let assertion = company.assertion(|_, _| {});

    let (status, tokens) = company.redeem(&assertion).await;

    assert_eq!(status, StatusCode::OK, "{tokens}");
    assert_eq!(tokens["scope"], "events:read events:write");
    assert!(tokens.get("refresh_token").is_none());
    assert_eq!(tokens["resource"], RESOURCE);
    let claims = claims_of(&tokens);
    assert_eq!(claims["sub"], format!("{}#ada", company.issuer.issuer()));
    assert_eq!((&claims["aud"], &claims["client_id"]), (&json!(RESOURCE), &json!("portal")));
    assert_eq!(company.redeem(&assertion).await.1["error"], "invalid_grant", "valid once");
    let metadata: Response<Bytes> = {
        let request = Request::get("/.well-known/oauth-authorization-server").body(Bytes::new()).unwrap();
        company.world.send_to(&company.server, request).await
    };
    assert!(text(&metadata).contains("urn:ietf:params:oauth:grant-profile:id-jag") && text(&metadata).contains(GRANT));
}

#[tokio::test]
async fn an_assertion_is_used_once_also_where_the_clock_is_behind() {
    let company = Company::new().await;
    let assertion = company.assertion(|_, _| {});
    assert_eq!(company.redeem(&assertion).await.0, StatusCode::OK);
    let context =
        RequestContext { issuer: company.world.issuer(), address: None, now: SystemTime::now(), deadline: None };
    let mut request = form_request("/token", &[("grant_type", GRANT), ("assertion", &assertion)]);
    request.headers_mut().insert("authorization", CREDENTIALS.parse().unwrap());

    // For the store, the assertion has expired.
    company.world.pass(330);
    let again = company.server.handle(&request, &context).await;

    assert!(text(&again).contains("invalid_grant"), "{}", text(&again));
}

/// The claims of the access token, which other tests verify.
fn claims_of(tokens: &Value) -> Value {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    let token = tokens["access_token"].as_str().unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[tokio::test]
async fn scopes_are_those_of_assertion_request_and_claims() {
    let company = Company::new().await;
    for (index, (scope, requested, groups, expected)) in [
        (json!("events:read"), None, json!(["staff"]), Ok("events:read")),
        (Value::Null, None, json!(["staff"]), Ok("events:read events:write")),
        (json!("events:read events:write"), Some("events:write"), json!(["staff"]), Ok("events:write")),
        (json!("events:read events:write"), None, json!([]), Ok("events:read")),
        (json!("events:read events:archive"), None, json!(["staff"]), Ok("events:read")),
        (json!("events:archive"), None, json!(["staff"]), Err("invalid_grant")),
        (json!("events:delete"), None, json!(["staff"]), Err("invalid_scope")),
        (json!("events:read"), Some("events:write"), json!(["staff"]), Err("invalid_scope")),
        (json!("*"), None, json!(["staff"]), Err("invalid_grant")),
    ]
    .into_iter()
    .enumerate()
    {
        let assertion = company.assertion(|_, claims| {
            claims["jti"] = json!(format!("s-{index}"));
            claims["groups"] = groups.clone();
            match &scope {
                Value::Null => drop(claims.as_object_mut().unwrap().remove("scope")),
                scope => claims["scope"] = scope.clone(),
            }
        });
        let mut parameters = vec![("grant_type", GRANT), ("assertion", assertion.as_str())];
        parameters.extend(requested.map(|scope| ("scope", scope)));

        let (_, body) = company.send(&parameters, CREDENTIALS).await;

        match expected {
            Ok(expected) => assert_eq!(body["scope"], expected, "{index}"),
            Err(expected) => assert_eq!(body["error"], expected, "{index}"),
        }
    }
}

#[tokio::test]
async fn forged_and_foreign_assertions_are_rejected() {
    let company = Company::new().await;
    type Change = Box<dyn Fn(&mut Value, &mut Value)>;
    let set = |name: &'static str, value: Value| -> Change { Box::new(move |_, own| own[name] = value.clone()) };
    let remove =
        |name: &'static str| -> Change { Box::new(move |_, own| drop(own.as_object_mut().unwrap().remove(name))) };
    let typ = |value: &'static str| -> Change { Box::new(move |own, _| own["typ"] = json!(value)) };
    let now = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (what, change) in [
        ("an ID token", typ("JWT")),
        ("an access token", typ("at+jwt")),
        ("another type", typ("oauth-id-jag")),
        (
            "no type",
            Box::new(|own: &mut Value, _: &mut Value| drop(own.as_object_mut().unwrap().remove("typ"))) as Change,
        ),
        ("no signature", Box::new(|own: &mut Value, _: &mut Value| own["alg"] = json!("none")) as Change),
        ("another key", Box::new(|own: &mut Value, _: &mut Value| own["kid"] = json!("p256")) as Change),
        ("another issuer", set("iss", json!("https://evil.example"))),
        ("the identity provider of sign-ins", set("iss", json!(company.world.upstream.issuer()))),
        ("no subject", remove("sub")),
        ("another audience", set("aud", json!("https://evil.example"))),
        ("a resource as the audience", set("aud", json!(RESOURCE))),
        ("an audience with a path", set("aud", json!(format!("{}/mcp", company.world.issuer())))),
        ("two audiences", set("aud", json!([company.world.issuer(), "https://evil.example"]))),
        ("no audience", remove("aud")),
        ("another client", set("client_id", json!(CLIENT))),
        ("no client", remove("client_id")),
        ("no id", remove("jti")),
        ("an empty id", set("jti", json!(""))),
        ("a long id", set("jti", json!("x".repeat(257)))),
        ("expired", set("exp", json!(now - 1))),
        ("no expiry", remove("exp")),
        ("valid for a day", set("exp", json!(now + 86_400))),
        ("issued a day ago", set("iat", json!(now - 86_400))),
        ("issued in the future", set("iat", json!(now + 3_600))),
        ("no time of issue", remove("iat")),
        ("not valid yet", set("nbf", json!(now + 3_600))),
        ("a resource that is not registered", set("resource", json!("https://evil.example/mcp"))),
        ("resources that are not registered", set("resource", json!(["https://evil.example/mcp"]))),
        ("no resource in a list", set("resource", json!([]))),
        ("a number in the list of resources", set("resource", json!([RESOURCE, 1]))),
        ("a long list of resources", set("resource", json!(vec![RESOURCE; 101]))),
        ("a resource that is null", set("resource", Value::Null)),
        ("a tenant, with which alone the subject is unique", set("tenant", json!("acme"))),
        ("authorization details", set("authorization_details", json!([{ "type": "account" }]))),
        ("a list of scopes", set("scope", json!(["events:read"]))),
        ("a scope that is null", set("scope", Value::Null)),
        ("bound to a key", set("cnf", json!({ "jkt": "x" }))),
    ] {
        let (status, body) = company.redeem(&company.assertion(change)).await;

        assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")), "{what}: {body}");
    }
    for (assertion, expected) in [("", "invalid_request"), ("x", "invalid_grant"), ("a.b.c", "invalid_grant")] {
        assert_eq!(company.redeem(assertion).await.1["error"], expected);
    }
    assert_eq!(company.redeem(&company.assertion(|_, _| {})).await.0, StatusCode::OK, "none has used the id");
}

#[tokio::test]
async fn an_assertion_is_for_its_client_resource_and_server() {
    let company = Company::new().await;
    let assertion = company.assertion(|_, _| {});
    let request = [("grant_type", GRANT), ("assertion", assertion.as_str())];
    let with = |name, value| [&request[..], &[(name, value)]].concat();
    for (parameters, credentials, expected) in [
        (request.to_vec(), "", "invalid_client"),
        (with("client_id", "portal"), "", "invalid_client"),
        (with("client_id", CLIENT), "", "unauthorized_client"),
        (request.to_vec(), "Basic cG9ydGFsOndyb25n", "invalid_client"),
        (with("resource", "https://other.example/mcp"), CREDENTIALS, "invalid_target"),
        (with("resource", "https://evil.example/mcp"), CREDENTIALS, "invalid_target"),
        (with("scope", "admin"), CREDENTIALS, "invalid_scope"),
    ] {
        assert_eq!(company.send(&parameters, credentials).await.1["error"], expected, "{parameters:?}");
    }
    let mut elsewhere = form_request("/token", &request);
    elsewhere.headers_mut().insert("authorization", CREDENTIALS.parse().unwrap());
    let elsewhere = company.world.send(elsewhere).await;
    assert!(text(&elsewhere).contains("unsupported_grant_type"), "a server that trusts no issuer");
    assert_eq!(company.redeem(&assertion).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_assertion_for_several_resources_gives_a_token_for_one() {
    let company = Company::new().await;
    let unknown = "https://evil.example/mcp";
    for (index, (resources, requested, expected)) in [
        (json!([RESOURCE]), None, Ok(RESOURCE)),
        (json!([unknown, RESOURCE]), None, Ok(RESOURCE)),
        (json!([OTHER, RESOURCE]), Some(RESOURCE), Ok(RESOURCE)),
        (json!([OTHER, RESOURCE]), None, Err("invalid_target")),
        (json!([OTHER]), Some(RESOURCE), Err("invalid_target")),
        (json!([RESOURCE]), Some(unknown), Err("invalid_target")),
    ]
    .into_iter()
    .enumerate()
    {
        let assertion = company.assertion(|_, claims| {
            claims["jti"] = json!(format!("r-{index}"));
            claims["resource"] = resources.clone();
        });
        let mut parameters = vec![("grant_type", GRANT), ("assertion", assertion.as_str())];
        parameters.extend(requested.map(|url| ("resource", url)));

        let (_, body) = company.send(&parameters, CREDENTIALS).await;

        match expected {
            Ok(expected) => {
                assert_eq!(claims_of(&body)["aud"], expected, "{index}");
                assert_eq!(body["resource"], expected, "{index}");
            }
            Err(expected) => assert_eq!(body["error"], expected, "{index}"),
        }
    }
}

#[tokio::test]
async fn a_verifier_of_access_tokens_rejects_an_assertion() {
    let company = Company::new().await;
    let issuer = company.issuer.issuer();
    let config = OidcConfig::from_env(|name| (name == "OIDC_ISSUER").then_some(issuer)).unwrap().unwrap();
    let verifier = Verifier::new(config);

    for (typ, is_accepted) in [("oauth-id-jag+jwt", false), ("application/OAuth-ID-JAG+JWT", false), ("at+jwt", true)] {
        let token = company.assertion(|header, _| header["typ"] = json!(typ));
        let verified = verifier.verify(&token, company.world.issuer(), SystemTime::now(), None).await;
        assert_eq!(verified.is_ok(), is_accepted, "{typ}: {verified:?}");
    }
}

#[tokio::test]
async fn without_the_keys_of_the_issuer_the_server_is_not_available() {
    let company = Company::new().await;
    company.issuer.set_response("/.well-known/openid-configuration", IssuerResponse::Status(503));
    company.issuer.set_keys_response(IssuerResponse::Status(503));

    let (status, body) = company.redeem(&company.assertion(|_, _| {})).await;

    assert_eq!((status, &body["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("temporarily_unavailable")));
}
