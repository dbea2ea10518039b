//! The page on which a person sees and revokes grants.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use mcp_authorization_server::{DocumentSource, FetchedDocument};
use mcp_testing::IssuerResponse;
use serde_json::{Value, json};

use crate::support::{
    Browser, CALLBACK, CLIENT, NATIVE, World, authorization_query, code_request, encode, form_of, form_request,
    header_text, location, parameter, refresh_request, text,
};

/// Signs a person in for the page. Returns it.
async fn open(world: &World, browser: &Browser, subject: &str) -> Response<Bytes> {
    browser.get(world, "/grants").await;
    let upstream = location(&browser.send(world, form_request("/grants", &[("sign_in", "yes")])).await);
    world.signs_in(&parameter(&upstream, "nonce"), |claims| claims["sub"] = json!(subject));
    browser.get(world, &format!("/callback?code=c&state={}", parameter(&upstream, "state"))).await
}

/// Signs a person in for a client. Returns the refresh token.
async fn grant(world: &World, browser: &Browser, query: &str, subject: &str) -> String {
    let code = parameter(&world.sign_in(browser, query, subject).await, "code");
    let mut request = code_request(&code);
    if query.contains("native") {
        request.retain(|(name, _)| !["client_id", "redirect_uri"].contains(name));
        request.push(("client_id", NATIVE));
    }
    let (status, tokens) = world.post("/token", &request).await;
    assert_eq!(status, StatusCode::OK, "{tokens}");
    tokens["refresh_token"].as_str().unwrap().to_owned()
}

fn native_query() -> String {
    authorization_query(&[("client_id", Some(NATIVE)), ("redirect_uri", Some("http://localhost:5104/callback"))])
}

/// The handles of the grants on a page.
fn handles(page: &Response<Bytes>) -> Vec<String> {
    let html = text(page);
    let values = html.split("name=\"revoke\" value=\"").skip(1);
    values.map(|rest| rest.split('"').next().unwrap().to_owned()).filter(|own| own != "all").collect()
}

fn revoke_request(form: &str, handle: &str) -> Request<Bytes> {
    let mut request = form_request("/grants", &[("form", form), ("revoke", handle)]);
    request.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
    request
}

async fn refresh(world: &World, token: &str, client: &str) -> Value {
    let mut request = refresh_request(token);
    request[1].1 = client;
    world.post("/token", &request).await.1
}

#[tokio::test]
pub(crate) async fn a_person_sees_the_grants_of_all_browsers_and_revokes_one() {
    let world = World::new().await;
    let browser = Browser::default();
    let first = grant(&world, &Browser::default(), &authorization_query(&[]), "ada").await;
    let second = grant(&world, &Browser::default(), &native_query(), "ada").await;
    let other = grant(&world, &Browser::default(), &authorization_query(&[]), "bob").await;

    let page = open(&world, &browser, "ada").await;

    let html = text(&page);
    for own in
        ["app.example", "native.example", "Event &lt;logger&gt; (mcp.example)", "Read events", "Add events", "Since"]
    {
        assert!(html.contains(own), "{own}: {html}");
    }
    let own = handles(&page);
    assert_eq!(own.len(), 2, "{html}");
    let form = form_of(&page);
    let left = browser.send(&world, revoke_request(&form, &own[0])).await;
    assert_eq!(handles(&left), own[1..]);
    assert_eq!(refresh(&world, &first, CLIENT).await["error"], "invalid_grant");
    let second = refresh(&world, &second, NATIVE).await["refresh_token"].as_str().unwrap().to_owned();
    let none = browser.send(&world, revoke_request(&form, "all")).await;
    assert!(handles(&none).is_empty() && text(&none).contains("No application has access"));
    assert_eq!(refresh(&world, &second, NATIVE).await["error"], "invalid_grant");
    assert!(refresh(&world, &other, CLIENT).await["access_token"].is_string(), "another person's");
}

#[tokio::test]
pub(crate) async fn a_revoked_client_is_shown_for_consent_again() {
    let world = World::new().await;
    let browser = Browser::default();
    grant(&world, &browser, &authorization_query(&[]), "ada").await;
    let page = open(&world, &browser, "ada").await;

    browser.send(&world, revoke_request(&form_of(&page), "all")).await;

    let upstream = location(&browser.get(&world, &format!("/authorize?{}", authorization_query(&[]))).await);
    world.signs_in(&parameter(&upstream, "nonce"), |claims| claims["sub"] = json!("ada"));
    let again = browser.get(&world, &format!("/callback?code=c&state={}", parameter(&upstream, "state"))).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert!(location(&browser.decide(&world, &again, "approve").await).starts_with(&format!("{CALLBACK}?code=")));
}

/// Whether a sign-in in a browser that has approved the client leads to its redirect URI without the consent page.
async fn is_approved(world: &World, browser: &Browser, query: &str) -> bool {
    let upstream = location(&browser.get(world, &format!("/authorize?{query}")).await);
    world.signs_in(&parameter(&upstream, "nonce"), |claims| claims["sub"] = json!("ada"));
    let callback = format!("/callback?code=c&state={}", parameter(&upstream, "state"));
    browser.get(world, &callback).await.status() == StatusCode::SEE_OTHER
}

#[tokio::test]
pub(crate) async fn each_revocation_of_a_grant_withdraws_all_approvals_of_the_client() {
    const WAYS: [&str; 7] =
        ["none", "endpoint", "refresh token reuse", "code reuse", "identity provider", "all", "expiry"];
    for way in WAYS {
        let world = World::new().await;
        let browser = Browser::default();
        let narrow = authorization_query(&[("scope", Some("events:read"))]);
        grant(&world, &browser, &narrow, "ada").await;
        let code = parameter(&world.sign_in(&browser, &authorization_query(&[]), "ada").await, "code");
        let (_, tokens) = world.post("/token", &code_request(&code)).await;
        let token = tokens["refresh_token"].as_str().unwrap();
        match way {
            "endpoint" => {
                world.post("/revoke", &[("client_id", CLIENT), ("token", token)]).await;
            }
            "refresh token reuse" => {
                refresh(&world, token, CLIENT).await;
                world.pass(120);
                refresh(&world, token, CLIENT).await;
            }
            "code reuse" => {
                world.post("/token", &code_request(&code)).await;
            }
            "identity provider" => {
                let error = json!({ "error": "invalid_grant" }).to_string();
                world.upstream.set_response("/token", IssuerResponse::Failure(400, error));
                world.pass(60 * 60);
                refresh(&world, token, CLIENT).await;
            }
            "all" => world.server.revoke_all(std::time::SystemTime::now()).await.unwrap(),
            "expiry" => world.pass(30 * 24 * 60 * 60),
            _ => {}
        }

        for query in [&narrow, &authorization_query(&[])] {
            assert_eq!(is_approved(&world, &browser, query).await, way == "none", "{way}: {query}");
        }
    }
}

#[tokio::test]
pub(crate) async fn the_approval_of_a_client_without_refresh_tokens_is_not_stored() {
    let documents = DocumentSource::new(|url, _| {
        let document = json!({ "client_id": url, "redirect_uris": [CALLBACK], "grant_types": ["authorization_code"] });
        let body = document.to_string().into_bytes();
        Box::pin(async { Ok(FetchedDocument { body, cache_control: None }) })
    });
    let world = World::with_documents(documents).await;
    let browser = Browser::default();

    world.sign_in(&browser, &authorization_query(&[]), "ada").await;

    assert!(!is_approved(&world, &browser, &authorization_query(&[])).await);
}

#[tokio::test]
pub(crate) async fn grants_that_ended_or_were_revoked_are_not_listed() {
    let world = World::new().await;
    let browser = Browser::default();
    let first = grant(&world, &browser, &authorization_query(&[]), "ada").await;
    world.post("/revoke", &[("client_id", CLIENT), ("token", &first)]).await;
    // A code that is not redeemed is no grant.
    let browser = Browser::default();
    world.sign_in(&browser, &authorization_query(&[]), "ada").await;
    assert!(handles(&open(&world, &browser, "ada").await).is_empty());
    grant(&world, &browser, &authorization_query(&[]), "ada").await;
    assert_eq!(handles(&open(&world, &browser, "ada").await).len(), 1);
    world.server.revoke_all(std::time::SystemTime::now()).await.unwrap();
    assert!(handles(&open(&world, &browser, "ada").await).is_empty());
    world.pass(1);
    grant(&world, &Browser::default(), &authorization_query(&[]), "ada").await;
    world.pass(31 * 24 * 60 * 60);
    assert!(handles(&open(&world, &browser, "ada").await).is_empty(), "expired");
}

#[tokio::test]
pub(crate) async fn a_grant_stays_listed_while_it_is_used() {
    const DAY: u64 = 24 * 60 * 60;
    let world = World::new().await;
    let mut token = grant(&world, &Browser::default(), &authorization_query(&[]), "ada").await;
    for _ in 0..7 {
        world.pass(20 * DAY);
        token = refresh(&world, &token, CLIENT).await["refresh_token"].as_str().unwrap().to_owned();
    }

    assert_eq!(handles(&open(&world, &Browser::default(), "ada").await).len(), 1);
}

#[tokio::test]
pub(crate) async fn the_number_of_grants_of_a_person_is_limited() {
    let world = World::new().await;
    let browser = Browser::default();
    let first = grant(&world, &browser, &authorization_query(&[]), "ada").await;
    for _ in 0..99 {
        grant(&world, &browser, &authorization_query(&[]), "ada").await;
        world.pass(1);
    }
    let first = refresh(&world, &first, CLIENT).await["refresh_token"].as_str().unwrap().to_owned();

    grant(&world, &browser, &authorization_query(&[]), "ada").await;

    assert_eq!(handles(&open(&world, &browser, "ada").await).len(), 100);
    assert_eq!(refresh(&world, &first, CLIENT).await["error"], "invalid_grant", "the oldest one");
}

#[tokio::test]
pub(crate) async fn grants_that_have_ended_do_not_count_against_the_limit() {
    let world = World::new().await;
    let browser = Browser::default();
    let first = grant(&world, &browser, &authorization_query(&[]), "ada").await;
    for _ in 0..100 {
        world.pass(10);
        // A program on loopback that signs out each time.
        let other = grant(&world, &browser, &native_query(), "ada").await;
        assert_eq!(world.post("/revoke", &[("client_id", NATIVE), ("token", &other)]).await.0, StatusCode::OK);
    }

    assert_eq!(handles(&open(&world, &browser, "ada").await).len(), 1);
    assert!(refresh(&world, &first, CLIENT).await["access_token"].is_string());
}

#[tokio::test]
pub(crate) async fn grants_cannot_be_revoked_by_another_site_browser_or_person() {
    let world = World::new().await;
    let (own, other) = (Browser::default(), Browser::default());
    let token = grant(&world, &own, &authorization_query(&[]), "ada").await;
    let page = open(&world, &own, "ada").await;
    let (form, handle) = (form_of(&page), handles(&page).remove(0));
    let foreign = form_of(&{
        grant(&world, &other, &authorization_query(&[]), "mallory").await;
        open(&world, &other, "mallory").await
    });
    let consent = form_of(
        &own.get(&world, &format!("/authorize?{}", authorization_query(&[("scope", Some("events:read"))]))).await,
    );
    let with = |name: &'static str, value: &'static str| {
        let mut request = revoke_request(&form, "all");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let mut put = revoke_request(&form, "all");
    *put.method_mut() = Method::PUT;
    for (what, request) in [
        ("another browser's form", revoke_request(&foreign, "all")),
        ("a form of consent", revoke_request(&consent, "all")),
        ("a changed form", revoke_request(&form[1..], "all")),
        ("no form", form_request("/grants", &[("revoke", "all")])),
        ("no decision", form_request("/grants", &[("form", &form)])),
        ("two decisions", form_request("/grants", &[("form", &form), ("revoke", "x"), ("revoke", "all")])),
        ("cross-site", with("sec-fetch-site", "cross-site")),
        ("same-site", with("sec-fetch-site", "same-site")),
        ("text", with("content-type", "text/plain")),
        ("PUT", put),
    ] {
        let response = own.send(&world, request).await;
        assert!(response.status().is_client_error(), "{what}: {}", response.status());
    }
    assert_eq!(world.send(revoke_request(&form, "all")).await.status(), StatusCode::BAD_REQUEST, "no cookies");
    assert_eq!(other.send(&world, revoke_request(&form, "all")).await.status(), StatusCode::BAD_REQUEST);
    // A handle of another person names no grant.
    other.send(&world, revoke_request(&foreign, &handle)).await;
    let by_get = own.get(&world, &format!("/grants?{}", encode(&[("form", &form), ("revoke", "all")]))).await;
    assert!(by_get.status() == StatusCode::OK && handles(&by_get).is_empty());
    assert_eq!(handles(&open(&world, &own, "ada").await), [handle], "unharmed");
    world.pass(600);
    assert_eq!(own.send(&world, revoke_request(&form, "all")).await.status(), StatusCode::BAD_REQUEST, "expired");
    assert!(refresh(&world, &token, CLIENT).await["access_token"].is_string());
}

#[tokio::test]
pub(crate) async fn the_page_has_three_languages_and_no_external_content() {
    let world = World::new().await;
    let get = |language: &'static str| {
        world.send(Request::get("/grants").header("accept-language", language).body(Bytes::new()).unwrap())
    };

    let (english, portuguese, spanish) = (get("en").await, get("pt-BR").await, get("es").await);

    for (page, expected) in [
        (&english, "Applications with access"),
        (&portuguese, "Aplicações com acesso"),
        (&spanish, "Aplicaciones con acceso"),
    ] {
        assert!(text(page).contains(expected));
    }
    let policy = header_text(english.headers(), "content-security-policy");
    for own in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(own), "{policy}");
    }
    let browser = Browser::default();
    grant(&world, &browser, &authorization_query(&[]), "ada").await;
    let page = open(&world, &browser, "ada").await;
    assert!(header_text(page.headers(), "content-security-policy").contains("form-action 'self';"));
    assert_eq!(header_text(page.headers(), "cache-control"), "no-store");
    for unwanted in ["<script", "<img", "<link", "https:"] {
        assert!(!text(&page).contains(unwanted), "{unwanted}");
    }
}

#[tokio::test]
pub(crate) async fn a_failed_sign_in_for_the_page_is_an_error_without_a_link() {
    let world = World::new().await;
    let browser = Browser::default();
    browser.get(&world, "/grants").await;
    let upstream = location(&browser.send(&world, form_request("/grants", &[("sign_in", "yes")])).await);

    let callback = format!("/callback?error=access_denied&state={}", parameter(&upstream, "state"));
    let page = browser.get(&world, &callback).await;

    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    assert!(!text(&page).contains("<a "));
}
