use super::*;
use crate::{ClientKind, parameters::encode};

const ISSUER: &str = "https://auth.example";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn client() -> Client {
    let uris = ["https://app.example/callback", "https://app.example/other?tenant=1", "http://127.0.0.1/callback"];
    Client {
        id: "https://app.example/client.json".to_owned(),
        kind: ClientKind::Document,
        name: None,
        redirect_uris: uris.map(|uri| RedirectUri::parse(uri).unwrap()).to_vec(),
        refreshes: true,
    }
}

fn resources() -> Resources {
    Resources::parse(
        r#"[
            {"url":"https://mcp.example/mcp","name":"a","scopes":[{"name":"read","text":"Read"},{"name":"write","text":"Write"}]},
            {"url":"https://other.example/mcp","name":"b"}
        ]"#,
    )
    .unwrap()
}

/// The parameters of a valid request, in the order of the changes.
fn query(changes: &[(&str, Option<&str>)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", "https://app.example/client.json"),
        ("redirect_uri", "https://app.example/callback"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("resource", "https://mcp.example/mcp"),
        ("scope", "read"),
        ("state", "a b&c"),
    ];
    for (name, value) in changes {
        pairs.retain(|(own, _)| own != name);
        pairs.extend(value.map(|value| (*name, value)));
    }
    encode(&pairs.into_iter().map(|(name, value)| (name, Some(value))).collect::<Vec<_>>())
}

fn validate(query: &str) -> Result<AuthorizationRequest, Rejection> {
    AuthorizationRequest::validate(&Parameters::parse(query.as_bytes()).unwrap(), &client(), &resources(), ISSUER)
}

#[test]
fn a_valid_request_has_one_resource_and_its_scopes() {
    let own = validate(&query(&[("resource", Some("https://MCP.example")), ("unknown", Some("x"))])).unwrap();

    assert_eq!(own.resource, "https://mcp.example/mcp");
    assert_eq!(own.scopes, ["read"]);
    assert_eq!(own.state.as_deref(), Some("a b&c"));
    assert_eq!(
        own.code_redirect("x/y", ISSUER),
        "https://app.example/callback?code=x%2Fy&state=a%20b%26c&iss=https%3A%2F%2Fauth.example"
    );
}

#[test]
fn a_redirect_keeps_the_query_of_the_redirect_uri() {
    let own =
        validate(&query(&[("redirect_uri", Some("https://app.example/other?tenant=1")), ("state", None)])).unwrap();

    let url = own.error_redirect(&OAuthError::new(ErrorCode::AccessDenied, "denied"), ISSUER);

    assert_eq!(
        url,
        "https://app.example/other?tenant=1&error=access_denied&error_description=denied&iss=https%3A%2F%2Fauth.example"
    );
}

#[test]
fn the_port_of_a_loopback_redirect_uri_is_that_of_the_request() {
    let own = validate(&query(&[("redirect_uri", Some("http://127.0.0.1:51004/callback"))])).unwrap();

    assert!(own.code_redirect("x", ISSUER).starts_with("http://127.0.0.1:51004/callback?code=x"));
}

#[test]
fn errors_of_client_and_redirect_uri_are_never_redirected() {
    let twice = |name: &str, value: &str| format!("{}&{name}={value}", query(&[]));
    for request in [
        query(&[("client_id", None)]),
        query(&[("client_id", Some(&"x".repeat(513)))]),
        query(&[("redirect_uri", None)]),
        query(&[("redirect_uri", Some(""))]),
        query(&[("redirect_uri", Some("https://evil.example/callback"))]),
        query(&[("redirect_uri", Some("https://app.example/callback/"))]),
        query(&[("redirect_uri", Some("https://app.example/callback?x=1"))]),
        query(&[("redirect_uri", Some("https://app.example/callback#x"))]),
        query(&[("redirect_uri", Some("https://app.example/callback%0d%0aLocation:%20https://evil.example"))]),
        query(&[("redirect_uri", Some("https://app.example@evil.example/callback"))]),
        query(&[("redirect_uri", Some("http://127.0.0.1:1/other"))]),
        query(&[("redirect_uri", Some("http://localhost/callback"))]),
        query(&[("redirect_uri", Some("javascript:alert(1)"))]),
        query(&[("redirect_uri", Some("//evil.example"))]),
        twice("redirect_uri", "https://app.example/callback"),
        twice("redirect_uri", "https://evil.example"),
        twice("client_id", "other"),
        twice("state", "x&client_id=other"),
        twice("scope", "x&redirect_uri=https://app.example/other?tenant=1"),
        // Another error is no reason to redirect.
        query(&[("redirect_uri", Some("https://evil.example/")), ("response_type", Some("token"))]),
    ] {
        let rejected = validate(&request);

        assert!(matches!(rejected, Err(Rejection::Page(_))), "{request}: {rejected:?}");
    }
}

#[test]
fn other_errors_are_sent_to_the_client_with_state_and_issuer() {
    let twice = |name: &str| format!("{}&{name}=x", query(&[]));
    let long = "x".repeat(2049);
    for (request, expected) in [
        (query(&[("response_type", None)]), "invalid_request"),
        (query(&[("response_type", Some("token"))]), "unsupported_response_type"),
        (query(&[("response_type", Some("code token"))]), "unsupported_response_type"),
        (query(&[("response_type", Some("code id_token"))]), "unsupported_response_type"),
        (query(&[("response_type", Some("none"))]), "unsupported_response_type"),
        (query(&[("response_mode", Some("fragment"))]), "invalid_request"),
        (query(&[("response_mode", Some("form_post"))]), "invalid_request"),
        (query(&[("code_challenge", None)]), "invalid_request"),
        (query(&[("code_challenge", Some(&CHALLENGE[1..]))]), "invalid_request"),
        (query(&[("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"))]), "invalid_request"),
        (query(&[("code_challenge_method", None)]), "invalid_request"),
        (query(&[("code_challenge_method", Some("plain"))]), "invalid_request"),
        (query(&[("code_challenge_method", Some("s256"))]), "invalid_request"),
        (query(&[("code_challenge_method", Some("S512"))]), "invalid_request"),
        (query(&[("resource", None)]), "invalid_target"),
        (query(&[("resource", Some("https://evil.example/mcp"))]), "invalid_target"),
        (query(&[("resource", Some("https://mcp.example/mcp#x"))]), "invalid_target"),
        (twice("resource"), "invalid_target"),
        (twice("scope"), "invalid_request"),
        (twice("state"), "invalid_request"),
        (twice("code_challenge"), "invalid_request"),
        (twice("code_challenge_method"), "invalid_request"),
        (query(&[("scope", Some("admin"))]), "invalid_scope"),
        (query(&[("request", Some("eyJhbGciOiJub25lIn0"))]), "invalid_request"),
        (query(&[("request_uri", Some("https://evil.example/request"))]), "invalid_request"),
        (query(&[("state", Some(&long))]), "invalid_request"),
    ] {
        let Err(Rejection::Client { url, .. }) = validate(&request) else { panic!("{request}") };

        let parameters = Parameters::parse(url.strip_prefix("https://app.example/callback?").unwrap().as_bytes());
        let parameters = parameters.unwrap();
        assert_eq!(parameters.get("error"), Some(expected), "{request}");
        assert_eq!(parameters.get("iss"), Some(ISSUER), "{request}");
        assert_eq!(parameters.get("code"), None);
        let description = parameters.get("error_description").unwrap();
        assert!(
            description.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && !b"\"\\".contains(&byte)),
            "{description}"
        );
        assert_eq!(parameters.get("error_uri"), None);
        let is_state_known = !request.contains(&long) && !request.ends_with("&state=x");
        assert_eq!(parameters.get("state") == Some("a b&c"), is_state_known, "{request}");
    }
}
