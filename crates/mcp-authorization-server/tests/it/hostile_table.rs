//! Hostile requests from tables: each is an error, and none changes what a person has.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use mcp_authorization_server::DocumentSource;
use serde_json::{Value, json};

use crate::{
    hostile_inputs::{ADDRESSES, REDIRECTS, changes},
    support::{
        Browser, CALLBACK, CHALLENGE, CLIENT, FORGED, FORGED_DOCUMENTS, NATIVE, VERIFIER, World, authorization_query,
        code_request, decision_request, encode, form_of, form_request, has_parameter, header_text, location, parameter,
        refresh_request, text,
    },
};

/// Minimum number of distinct requests.
const MINIMUM: usize = 150;

struct Hostile {
    what: String,
    request: Request<Bytes>,
    /// Whether the person's own browser sends it.
    has_cookies: bool,
}

#[derive(Default)]
struct Table(Vec<Hostile>);

impl Table {
    fn add(&mut self, what: impl Into<String>, request: Request<Bytes>) {
        self.0.push(Hostile { what: what.into(), request, has_cookies: false });
    }

    fn add_with_cookies(&mut self, what: impl Into<String>, request: Request<Bytes>) {
        self.0.push(Hostile { what: what.into(), request, has_cookies: true });
    }
}

/// What a person has before the requests.
struct Victim {
    browser: Browser,
    code: String,
    refresh_token: String,
    access_token: String,
    consent: String,
    /// The redirect to the identity provider of a sign-in that has begun.
    upstream: String,
}

const CLIENTS: [(&str, &str); 3] =
    [(CLIENT, CALLBACK), ("portal", CALLBACK), (NATIVE, "http://localhost:5104/callback")];

fn authorize(query: &str) -> Request<Bytes> {
    Request::get(format!("/authorize?{query}")).body(Bytes::new()).unwrap()
}

fn authorization_requests(table: &mut Table) {
    for (client, redirect_uri) in CLIENTS {
        for redirect in REDIRECTS {
            let query = authorization_query(&[("client_id", Some(client)), ("redirect_uri", Some(redirect))]);
            table.add(format!("open redirect of {client} to {redirect}"), authorize(&query));
        }
        let own = [("client_id", Some(client)), ("redirect_uri", Some(redirect_uri))];
        for (name, value) in changes() {
            let query = authorization_query(&[&own[..], &[(name, value.as_deref())]].concat());
            table.add(format!("{client} with {name}={value:?}"), authorize(&query));
        }
    }
    for name in
        ["response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method", "resource", "state"]
    {
        for query in [
            format!("{}&{name}=x", authorization_query(&[])),
            format!("{name}=x&{}", authorization_query(&[])),
            format!("{}&{name}=", authorization_query(&[])),
        ] {
            table.add(format!("{name} twice"), authorize(&query));
        }
    }
    for (number, _) in FORGED_DOCUMENTS.iter().enumerate() {
        let client = format!("{FORGED}{number}");
        let redirect = format!("{FORGED}callback");
        let query = authorization_query(&[("client_id", Some(&client)), ("redirect_uri", Some(&redirect))]);
        table.add(format!("forged document {number}"), authorize(&query));
    }
}

fn token_requests(table: &mut Table, victim: &Victim) {
    let with = |name: &str, value: Option<&str>| {
        let mut own = code_request(&victim.code);
        own.retain(|(own, _)| *own != name);
        let owned: Vec<(String, String)> =
            own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        owned.into_iter().chain(value.map(|value| (name.to_owned(), value.to_owned()))).collect::<Vec<_>>()
    };
    let token = |pairs: &[(String, String)]| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        form_request("/token", &pairs)
    };
    let other_verifier = VERIFIER.replace('d', "e");
    for (name, value) in [
        ("grant_type", None),
        ("grant_type", Some("password")),
        ("grant_type", Some("client_credentials")),
        ("grant_type", Some("implicit")),
        ("grant_type", Some("urn:ietf:params:oauth:grant-type:device_code")),
        ("grant_type", Some("urn:ietf:params:oauth:grant-type:token-exchange")),
        ("grant_type", Some("refresh_token")),
        ("client_id", None),
        ("client_id", Some(NATIVE)),
        ("client_id", Some("portal")),
        ("client_id", Some("https://APP.example/client.json")),
        ("client_secret", Some("x")),
        ("code", None),
        ("code", Some("x")),
        ("code", Some(&victim.code[1..])),
        ("code", Some(victim.refresh_token.as_str())),
        ("code", Some(victim.access_token.as_str())),
        ("code", Some(victim.consent.as_str())),
        ("code_verifier", None),
        ("code_verifier", Some(CHALLENGE)),
        ("code_verifier", Some(other_verifier.as_str())),
        ("code_verifier", Some(&VERIFIER[1..])),
        ("redirect_uri", Some("https://evil.example/callback")),
        ("redirect_uri", Some("https://app.example/callback/")),
        ("resource", Some("https://other.example/mcp")),
        ("resource", Some("https://evil.example/mcp")),
    ] {
        table.add(format!("code with {name}={value:?}"), token(&with(name, value)));
    }
    for (name, value) in
        [("code", "x"), ("client_id", CLIENT), ("code_verifier", "x"), ("resource", "https://other.example/mcp")]
    {
        let mut twice = with("", None);
        twice.push((name.to_owned(), value.to_owned()));
        table.add(format!("code with {name} twice"), token(&twice));
    }
    let refresh = |changes: &[(&str, &str)]| {
        let mut own = refresh_request(&victim.refresh_token).to_vec();
        for change in changes {
            own.retain(|(name, _)| *name != change.0);
            own.push(*change);
        }
        form_request("/token", &own)
    };
    let cut = &victim.refresh_token[..victim.refresh_token.len() - 1];
    let lower = victim.refresh_token.to_lowercase();
    for (name, value) in [
        ("client_id", NATIVE),
        ("client_id", "portal"),
        ("refresh_token", "x"),
        ("refresh_token", cut),
        ("refresh_token", lower.as_str()),
        ("refresh_token", victim.code.as_str()),
        ("refresh_token", victim.access_token.as_str()),
        ("refresh_token", "upstream-1"),
        ("scope", "events:delete"),
        ("scope", "events:read events:delete"),
        ("resource", "https://other.example/mcp"),
    ] {
        table.add(format!("refresh with {name}={value}"), refresh(&[(name, value)]));
    }
    for client in [NATIVE, "portal", ""] {
        let request = form_request("/revoke", &[("client_id", client), ("token", &victim.refresh_token)]);
        table.add(format!("revocation by {client}"), request);
    }
    let mut json = form_request("/token", &code_request(&victim.code));
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    table.add("a token request as JSON", json);
    let query = encode(&code_request(&victim.code));
    table.add("a token request by GET", Request::get(format!("/token?{query}")).body(Bytes::new()).unwrap());
}

fn browser_requests(table: &mut Table, victim: &Victim, foreign: &str) {
    let approve = || decision_request(&victim.consent, "approve");
    let body = |pairs: &[(&str, &str)]| {
        let mut request = approve();
        *request.body_mut() = encode(pairs).into();
        request
    };
    let with = |name: &'static str, value: &'static str| {
        let mut request = approve();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let form = victim.consent.as_str();
    for (what, request) in [
        ("another browser's form", decision_request(foreign, "approve")),
        ("a denial by another browser's form", decision_request(foreign, "deny")),
        ("no form", body(&[("decision", "approve")])),
        ("no decision", body(&[("form", form)])),
        ("another decision", body(&[("form", form), ("decision", "APPROVE")])),
        ("two decisions", body(&[("form", form), ("decision", "deny"), ("decision", "approve")])),
        ("two forms", body(&[("form", form), ("form", form), ("decision", "approve")])),
        ("a changed form", decision_request(&form[1..], "approve")),
        ("a code in place of a form", decision_request(&victim.code, "approve")),
        ("a refresh token in place of a form", decision_request(&victim.refresh_token, "approve")),
        ("cross-site", with("sec-fetch-site", "cross-site")),
        ("same-site", with("sec-fetch-site", "same-site")),
        ("by a link", with("sec-fetch-site", "none")),
        ("as text", with("content-type", "text/plain")),
        ("as JSON", with("content-type", "application/json")),
    ] {
        table.add_with_cookies(format!("consent: {what}"), request);
    }
    table.add("consent without cookies", approve());
    let query = encode(&[("form", form), ("decision", "approve")]);
    table.add_with_cookies("consent by GET", authorize(&query));
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let mut request = approve();
        *request.method_mut() = method;
        table.add_with_cookies(format!("consent by {}", request.method()), request);
    }
    let grants = |pairs: &[(&str, &str)]| form_request("/grants", pairs);
    for (what, request) in [
        ("a form of consent", grants(&[("form", form), ("revoke", "all")])),
        ("no form", grants(&[("revoke", "all")])),
        ("a code", grants(&[("form", &victim.code), ("revoke", "all")])),
        ("a refresh token", grants(&[("form", &victim.refresh_token), ("revoke", "all")])),
        ("an unsealed form", grants(&[("form", "eyJzdWJqZWN0IjoiYWRhIn0"), ("revoke", "all")])),
    ] {
        table.add_with_cookies(format!("grants: {what}"), request);
    }
    for site in ["cross-site", "same-site", "none"] {
        let mut request = grants(&[("sign_in", "yes")]);
        request.headers_mut().insert("sec-fetch-site", site.parse().unwrap());
        table.add_with_cookies(format!("grants: a sign-in, {site}"), request);
    }
    let state = parameter(&victim.upstream, "state");
    let callback = |query: String| Request::get(format!("/callback?{query}")).body(Bytes::new()).unwrap();
    for query in [
        String::new(),
        "code=c".to_owned(),
        "code=c&state=".to_owned(),
        format!("code=c&state={}", &state[1..]),
        format!("code=c&state={}", "A".repeat(43)),
        format!("code=c&state={state}&state={state}"),
        format!("code=c&code=d&state={state}"),
        format!("error=access_denied&error=x&state={state}"),
        format!("code=%FF&state={state}"),
        format!("code={}&state={state}", "x".repeat(20_000)),
    ] {
        table.add_with_cookies("a malformed callback", callback(query));
    }
    for query in [format!("code=c&state={state}"), format!("error=access_denied&state={state}")] {
        table.add("a callback in another browser", callback(query));
    }
    let mut posted = callback(format!("code=c&state={state}"));
    *posted.method_mut() = Method::POST;
    table.add_with_cookies("a callback by POST", posted);
}

fn registrations(table: &mut Table) {
    let register = |body: String| {
        Request::post("/register").header("content-type", "application/json").body(Bytes::from(body)).unwrap()
    };
    for uri in
        REDIRECTS.iter().filter(|uri| !uri.starts_with("http://localhost/") && !uri.starts_with("http://127.0.0.1/"))
    {
        let mixed = json!({ "redirect_uris": ["http://localhost/callback", uri] });
        table.add(format!("registration of {uri}"), register(json!({ "redirect_uris": [uri] }).to_string()));
        table.add(format!("registration of {uri} among others"), register(mixed.to_string()));
    }
    for body in [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        "[".repeat(10_000),
        r#"{"redirect_uris":["http://localhost/"],"redirect_uris":["https://evil.example"]}"#.to_owned(),
        json!({ "redirect_uris": [] }).to_string(),
        json!({ "redirect_uris": "http://localhost/" }).to_string(),
        json!({ "redirect_uris": [{ "uri": "http://localhost/" }] }).to_string(),
        json!({ "redirect_uris": vec!["http://localhost/"; 21] }).to_string(),
        json!({ "redirect_uris": ["http://localhost/"], "grant_types": ["client_credentials"] }).to_string(),
        json!({ "redirect_uris": ["http://localhost/"], "response_types": ["token"] }).to_string(),
        json!({ "redirect_uris": ["http://localhost/"], "client_name": "x".repeat(20_000) }).to_string(),
    ] {
        table.add("a malformed registration", register(body));
    }
}

impl Victim {
    async fn new(world: &World) -> Self {
        let browser = Browser::default();
        let tokens = world.tokens(&browser).await;
        let code = parameter(&world.sign_in(&browser, &authorization_query(&[]), "ada").await, "code");
        let upstream = location(&browser.get(world, &format!("/authorize?{}", authorization_query(&[]))).await);
        let other = authorization_query(&[("scope", Some("events:read"))]);
        let consent = form_of(&browser.get(world, &format!("/authorize?{other}")).await);
        let token = |name: &str| tokens[name].as_str().unwrap().to_owned();
        let (refresh_token, access_token) = (token("refresh_token"), token("access_token"));
        Self { browser, code, refresh_token, access_token, consent, upstream }
    }

    /// Everything still works.
    async fn assert_unharmed(&self, world: &World) {
        location(&self.browser.send(world, decision_request(&self.consent, "approve")).await);
        world.signs_in(&parameter(&self.upstream, "nonce"), |_| {});
        let callback = format!("/callback?code=c&state={}", parameter(&self.upstream, "state"));
        assert!(has_parameter(&location(&self.browser.get(world, &callback).await), "code"));
        assert_eq!(world.post("/token", &code_request(&self.code)).await.0, StatusCode::OK);
        assert_eq!(world.post("/token", &refresh_request(&self.refresh_token)).await.0, StatusCode::OK);
    }
}

#[track_caller]
fn assert_harmless(what: &str, response: &Response<Bytes>) {
    let (status, body) = (response.status(), String::from_utf8_lossy(response.body()));
    assert!(status.is_client_error(), "{what}: {status} {body}");
    for name in ["location", "set-cookie"] {
        assert!(!response.headers().contains_key(name), "{what}: {name}");
    }
    for token in ["\"access_token\":", "\"refresh_token\":", "\"client_id\":", "<script"] {
        assert!(!body.contains(token), "{what}: {body}");
    }
    if header_text(response.headers(), "content-type").starts_with("text/html") {
        let policy = header_text(response.headers(), "content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{what}");
    }
    // A link for the client leads to its redirect URI, with an error.
    for link in body.split("<a href=\"").skip(1) {
        let link = link.split('"').next().unwrap().replace("&amp;", "&");
        let is_own =
            CLIENTS.iter().any(|(_, uri)| link.strip_prefix(uri).is_some_and(|rest| rest.starts_with("?error=")));
        assert!(is_own && !has_parameter(&link, "code"), "{what}: {link}");
    }
}

fn fingerprint(own: &Hostile) -> String {
    let request = &own.request;
    format!("{} {} {:?} {:?} {}", request.method(), request.uri(), request.headers(), request.body(), own.has_cookies)
}

#[tokio::test]
pub(crate) async fn no_hostile_request_of_the_tables_succeeds() {
    let world = World::new().await;
    let victim = Victim::new(&world).await;
    let attacker = Browser::default();
    let foreign = form_of(&attacker.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await);
    let mut table = Table::default();
    authorization_requests(&mut table);
    token_requests(&mut table, &victim);
    browser_requests(&mut table, &victim, &foreign);
    registrations(&mut table);
    let distinct: BTreeSet<_> = table.0.iter().map(fingerprint).collect();
    assert_eq!(distinct.len(), table.0.len(), "a request occurs twice");
    assert!(table.0.len() + ADDRESSES.len() >= MINIMUM, "{}", table.0.len());

    for (address, Hostile { what, mut request, has_cookies }) in (1..).zip(table.0) {
        if has_cookies {
            victim.browser.attach(&mut request);
        }
        assert_harmless(&what, &world.send_from(address, request).await);
    }

    victim.assert_unharmed(&world).await;
}

#[tokio::test]
pub(crate) async fn no_document_is_fetched_from_an_address_that_is_not_public() {
    let world = World::with_documents(DocumentSource::from_env(|_| None).unwrap()).await;
    for (address, client) in (1..).zip(ADDRESSES) {
        let query = authorization_query(&[("client_id", Some(client))]);
        assert_harmless(client, &world.send_from(address, authorize(&query)).await);
    }
}

#[tokio::test]
pub(crate) async fn a_flood_of_anonymous_requests_from_one_address_is_limited() {
    let world = World::new().await;
    let body = json!({ "redirect_uris": ["http://localhost/callback"] }).to_string();
    let register = || {
        Request::post("/register").header("content-type", "application/json").body(Bytes::from(body.clone())).unwrap()
    };
    let browser = Browser::default();
    let consent = form_of(&browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await);
    let sign_in = || {
        let mut request = decision_request(&consent, "approve");
        browser.attach(&mut request);
        request
    };
    let mut accepted = (0, 0);
    for _ in 0..200 {
        accepted.0 += usize::from(world.send_from(7, register()).await.status() == StatusCode::CREATED);
        accepted.1 += usize::from(world.send_from(7, sign_in()).await.status() == StatusCode::SEE_OTHER);
    }

    assert_eq!(accepted, (20, 120));
    let limited = world.send_from(7, sign_in()).await;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(text(&limited).contains("too many requests"));
    let limited: Value = serde_json::from_slice(world.send_from(7, register()).await.body()).unwrap();
    assert_eq!(limited["error"], "temporarily_unavailable");
    assert_eq!(world.send_from(8, register()).await.status(), StatusCode::CREATED, "another address");
    assert_eq!(world.send_from(8, sign_in()).await.status(), StatusCode::SEE_OTHER);
}
