use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::json;

use super::*;
use crate::test_support::at;

fn resource() -> Value {
    json!({
        "url": "https://mcp.example.com/mcp", "name": "Event logger",
        "scopes": [
            { "name": "events:read", "text": "Read events" },
            { "name": "events:write", "text": "Add events", "translations": { "pt": "Adicionar eventos" } },
        ],
        "everyone": ["events:read"],
        "claims": [{ "claim": "groups", "value": "staff", "scopes": ["events:write"] }],
    })
}

fn parse(list: &Value) -> Result<Resources, ResourcesError> {
    Resources::parse(&list.to_string())
}

fn with(name: &str, value: Value) -> Value {
    let mut own = resource();
    own[name] = value;
    own
}

#[test]
fn a_resource_is_found_by_its_url_with_and_without_the_endpoint() {
    let resources = parse(&json!([resource(), with("url", json!("https://other.example"))])).unwrap();
    for url in [
        "https://mcp.example.com/mcp",
        "https://mcp.example.com",
        "https://mcp.example.com/",
        "HTTPS://MCP.Example.COM/mcp",
        "https://mcp.example.com:443/mcp",
    ] {
        assert_eq!(resources.find(Some(url)).unwrap().name, "Event logger", "{url}");
    }
    for url in [
        "https://mcp.example.com/MCP",
        "https://mcp.example.com/mcp/",
        "https://mcp.example.com/mcp?x=1",
        "https://mcp.example.com/mcp#",
        "https://mcp.example.com/other",
        "https://mcp.example.com.evil.example/mcp",
        "http://mcp.example.com/mcp",
        "https://mcp.example.com:8443/mcp",
        "https://mcp.example.com@evil.example/mcp",
        "https://evil.example/mcp",
        "mcp.example.com",
        "*",
    ] {
        assert_eq!(resources.find(Some(url)).unwrap_err().code, ErrorCode::InvalidTarget, "{url}");
    }
}

#[test]
fn the_only_resource_is_the_default() {
    let one = parse(&json!([resource()])).unwrap();
    let two = parse(&json!([resource(), with("url", json!("https://other.example"))])).unwrap();

    assert_eq!(one.find(None).unwrap().name, "Event logger");
    for resources in [two, Resources::default()] {
        assert_eq!(resources.find(None).unwrap_err().code, ErrorCode::InvalidTarget);
    }
}

#[test]
fn unknown_scopes_are_ignored_unless_no_other_is_left() {
    let resources = parse(&json!([resource()])).unwrap();
    let own = resources.find(None).unwrap();

    assert_eq!(own.requested_scopes(Some("openid  events:write events:write")).unwrap(), ["events:write"]);
    assert_eq!(own.requested_scopes(None).unwrap(), ["events:read", "events:write"]);
    for scope in ["openid", "EVENTS:READ", "events:read\tevents:write", " "] {
        assert_eq!(own.requested_scopes(Some(scope)).unwrap_err().code, ErrorCode::InvalidScope, "{scope:?}");
    }
    let bare = parse(&json!([{ "url": "https://a.example", "name": "a" }])).unwrap();
    assert!(bare.find(None).unwrap().requested_scopes(Some("openid")).unwrap().is_empty());
}

#[test]
fn a_claim_without_a_mapping_gives_no_scope() {
    let claims = |claims: Value| {
        let Value::Object(claims) = claims else { panic!() };
        Principal { claims, ..Principal::new("https://id.example", "ada") }
    };
    let resources = parse(&json!([resource()])).unwrap();
    let own = resources.find(None).unwrap();
    let all = own.requested_scopes(None).unwrap();

    for staff in [json!({ "groups": ["all", "staff"] }), json!({ "groups": "staff" })] {
        assert_eq!(own.permitted_scopes(&all, &claims(staff)), all);
    }
    for other in [
        json!({}),
        json!({ "groups": ["Staff", "staff "] }),
        json!({ "groups": [["staff"]] }),
        json!({ "groups": { "staff": true } }),
        json!({ "roles": ["staff"] }),
        json!({ "scope": "events:write" }),
    ] {
        assert_eq!(own.permitted_scopes(&all, &claims(other)), ["events:read"]);
    }
}

#[test]
fn an_email_gives_a_scope_only_if_it_is_verified() {
    let mapping = json!([{ "claim": "email", "value": "ada@example.com", "scopes": ["events:write"] }]);
    let resources = parse(&json!([with("claims", mapping)])).unwrap();
    let own = resources.find(None).unwrap();
    let person = |email_verified| Principal {
        email: Some("Ada@example.com".to_owned()),
        email_verified,
        ..Principal::new("https://id.example", "ada")
    };

    let write = ["events:write".to_owned()];
    assert_eq!(own.permitted_scopes(&write, &person(true)), write);
    assert!(own.permitted_scopes(&write, &person(false)).is_empty());
}

#[test]
fn absent_claims_are_the_mapped_ones_that_a_person_does_not_have() {
    let mapping = |claim: &str, value: &str| json!({ "claim": claim, "value": value, "scopes": ["events:write"] });
    let mappings =
        json!([mapping("groups", "a"), mapping("groups", "b"), mapping("hd", "c"), mapping("email", "d@e.f")]);
    let resources = parse(&json!([with("claims", mappings)])).unwrap();
    let own = resources.find(None).unwrap();
    let mut person = Principal { email: Some("ada@e.f".to_owned()), ..Principal::new("https://id.example", "ada") };

    assert_eq!(own.absent_claims(&person), ["email", "groups", "hd"]);
    person.email_verified = true;
    person.claims.insert("groups".to_owned(), json!([]));
    assert_eq!(own.absent_claims(&person), ["hd"]);
}

#[test]
fn invalid_resources_are_rejected() {
    let scope = |name: &str| json!([{ "name": name, "text": "x" }]);
    for (resource, expected) in [
        (with("url", json!("http://mcp.example.com")), "https URL"),
        (with("url", json!("https://mcp.example.com/?x")), "https URL"),
        (with("url", json!("https://mcp.example.com/#x")), "https URL"),
        (with("url", json!("https://mcp.example.com/mcp/")), "slash at the end"),
        (with("url", json!("https://mcp.example.com//")), "slash at the end"),
        (with("name", json!(" ")), "name"),
        (with("scopes", scope("a b")), "malformed"),
        (with("scopes", scope("a\"b")), "malformed"),
        (with("scopes", scope("")), "malformed"),
        (with("scopes", json!([{ "name": "a", "text": "" }])), "malformed"),
        (with("scopes", json!([{ "name": "a", "text": "x" }, { "name": "a", "text": "x" }])), "twice"),
        (with("everyone", json!(["events:delete"])), "events:delete is not in its scopes"),
        (with("claims", json!([{ "claim": "groups", "value": "", "scopes": [] }])), "no value"),
        (with("group", json!([])), "unknown field"),
    ] {
        let error = parse(&json!([resource])).unwrap_err().to_string();

        assert!(error.contains(expected), "{expected}: {error}");
    }
    for same in ["https://mcp.example.com/mcp", "https://MCP.example.com", "https://mcp.example.com/"] {
        assert!(parse(&json!([resource(), with("url", json!(same))])).is_err(), "{same}");
    }
    let many: Vec<_> = (0..101).map(|number| with("url", json!(format!("https://a{number}.example")))).collect();
    assert!(parse(&json!(many)).is_err() && parse(&json!(many[..100])).is_ok());
    assert!(Resources::parse("{}").is_err());
}

#[test]
fn all_urls_that_a_server_accepts_as_audience_are_the_same() {
    let urls = ["", "/", "/mcp", "/mcp/", "/mcp/."].map(|path| format!("https://mcp.example.com{path}"));
    for own in &urls {
        for other in urls.iter().chain([&"HTTPS://MCP.example.com:443/%6dcp".to_owned()]) {
            let list = [own, other].map(|url| with("url", json!(url)));
            assert!(parse(&json!(list)).is_err(), "{own} {other}");
            let parameters = [parameter("a", &list[0]), parameter("b", &list[1])];
            let left = Resources::from_parameters(&parameters).unwrap();
            // A URL with a slash at the end is left out, and the other one is used.
            let expected = usize::from(own.ends_with("mcp/") != other.ends_with("mcp/"));
            assert_eq!(left.iter().count(), expected, "{own} {other}");
        }
    }
    let others = ["https://mcp.example.com/other", "https://mcp.example.com/a/mcp", "https://other.example/mcp"];
    for other in others {
        assert!(parse(&json!([resource(), with("url", json!(other))])).is_ok(), "{other}");
    }
}

fn parameter(name: &str, resource: &Value) -> (String, String) {
    (format!("/mcp/resources/{name}"), resource.to_string())
}

#[test]
fn a_hostile_parameter_is_left_out_and_the_others_are_used() {
    let hostile = [
        json!("x"),
        json!([resource()]),
        with("url", json!("http://mcp.example.com")),
        with("url", json!("https://mcp.example.com/mcp\n")),
        with("url", json!("https://user@mcp.example.com/mcp")),
        with("name", json!("x".repeat(513))),
        with("scopes", json!(vec![json!({ "name": "a", "text": "x" }); 51])),
        with("scopes", json!([{ "name": "a\" b", "text": "x" }])),
        with("everyone", json!(["*"])),
        with("claims", json!([{ "claim": "groups", "value": "staff", "scopes": ["*"] }])),
        with("admin", json!(true)),
        with("scopes", json!([{ "name": "a", "text": "x".repeat(9000) }])),
    ];
    let good = with("url", json!("https://good.example/mcp"));
    let mut parameters = vec![parameter("good", &good)];
    parameters.extend(hostile.iter().enumerate().map(|(index, own)| parameter(&index.to_string(), own)));
    parameters.push(("/mcp/resources/deep".to_owned(), "[".repeat(8000)));

    let resources = Resources::from_parameters(&parameters).unwrap();

    assert_eq!(resources.iter().map(|own| own.url.as_str()).collect::<Vec<_>>(), ["https://good.example/mcp"]);
}

#[test]
fn parameters_with_the_same_url_are_all_left_out() {
    let other = with("url", json!("https://other.example/mcp"));
    let parameters = [
        parameter("a", &with("url", json!("https://MCP.example.com"))),
        parameter("b", &other),
        parameter("c", &resource()),
    ];

    let resources = Resources::from_parameters(&parameters).unwrap();

    assert_eq!(resources.find(None).unwrap().url, "https://other.example/mcp");
    assert!(Resources::from_parameters(&vec![parameter("a", &other); 101]).is_err());
    assert_eq!(Resources::from_parameters(&[]).unwrap(), Resources::default());
}

#[tokio::test]
async fn the_last_resources_are_used_while_parameters_cannot_be_read() {
    let reads = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&reads);
    // The second read fails, the third one has another parameter.
    let source = Resources::source(move || {
        let number = own.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match number {
                1 => Err("access denied".into()),
                number => Ok(vec![parameter("a", &with("name", json!(format!("read {number}"))))]),
            }
        })
    });

    for (now, name) in [(0, "read 0"), (299, "read 0"), (300, "read 0"), (309, "read 0"), (310, "read 2")] {
        let resources = source.get(at(now)).await.unwrap();
        assert_eq!(resources.find(None).unwrap().name, name, "{now}");
    }
    assert_eq!(reads.load(Ordering::SeqCst), 3);
}
