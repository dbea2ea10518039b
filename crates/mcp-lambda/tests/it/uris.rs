//! Equivalent URIs: resource matching, template variables and the URLs of URL elicitation.

use std::sync::Arc;

use garde::Validate;
use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::{ProtocolVersion, method};
use mcp_server::{
    Authorization, Elicited, HandlerError, InteractiveContext, PartialArgument, RequestContext, Resource,
    ResourceTemplate, Server, Settings, Tool,
};
use mcp_testing::{McpRequest, Reply, TestIssuer, complete, exchange, resources_read, state_key, tools_call};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::authorization::service;

type Context = RequestContext<()>;

async fn secret(_: Context) -> Result<&'static str, HandlerError> {
    Ok("the resource")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Variables {
    #[garde(skip)]
    value: String,
}

async fn value(_: Context, uri: Variables) -> Result<String, HandlerError> {
    Ok(format!("value {}", uri.value))
}

async fn suggest(_: Context, _: PartialArgument) -> Result<Vec<String>, HandlerError> {
    Ok(vec!["suggestion".to_owned()])
}

fn template(uri_template: &str) -> ResourceTemplate<()> {
    ResourceTemplate::new(uri_template, "template", value)
}

fn resource(uri: &str) -> Resource<()> {
    Resource::new(uri, "resource", secret)
}

/// Equivalent URIs of `docs://secret` and of `docs://files/a/caf%C3%A9`.
const SPELLINGS: [(&str, &[&str]); 2] = [
    (
        "docs://secret",
        &[
            "docs://secret",
            "docs://%73ecret",
            "docs://%53ECRET",
            "DOCS://secret",
            "docs://Secret/",
            "docs://secret:",
            "docs://secret/a/..",
            "docs://secret/%2e",
        ],
    ),
    (
        "docs://files/a/caf%C3%A9",
        &["docs://files/a/caf%c3%a9", "docs://files/./%61/caf%C3%A9", "docs://FILES/b/%2E%2e/a/caf%C3%A9"],
    ),
];

fn open(server: Server<()>) -> McpService {
    McpService::new(server, HttpConfig { state_key: Some(state_key()), ..HttpConfig::default() }).unwrap()
}

#[track_caller]
fn contents(reply: &Reply) -> &str {
    reply.result()["contents"][0]["text"].as_str().unwrap()
}

/// A registered resource takes precedence over templates, and its access rule applies, for every equivalent URI.
#[tokio::test]
async fn equivalent_uris_read_the_same_resource() {
    let issuer = TestIssuer::start().await;
    for (uri, spellings) in SPELLINGS {
        let server = Server::new("docs", "1.0.0", ())
            .tool(Tool::new("sends", sends))
            .resource(resource(uri).require_scope("docs:secret").require_scope("docs:read").subscribable())
            .resource_template(
                template("docs://{+value}")
                    .require_scope("docs:secret")
                    .require_scope("docs:read")
                    .complete("value", suggest),
            )
            .resource_template(template("other://{value}").require_scope("docs:read").complete("value", suggest));
        let service = service(server, &issuer, &[]);
        let (reader, other) = (issuer.token(["docs:secret", "docs:read"]), issuer.token(["docs:read"]));
        for spelling in spellings {
            let read = resources_read(spelling);
            let subscribe = McpRequest::new(method::RESOURCES_SUBSCRIBE, json!({ "uri": spelling }))
                .revision(ProtocolVersion::V2025_11_25);
            let completion = complete(json!({ "type": "ref/resource", "uri": spelling }), "value", "");
            for request in [&read, &subscribe, &completion] {
                let rejected = exchange(&service, request.clone().bearer(&other)).await;
                assert_eq!(rejected.status, 403, "{spelling}: {}", rejected.body);
            }

            let read = exchange(&service, read.bearer(&reader)).await;
            let subscribed = exchange(&service, subscribe.bearer(&reader)).await;
            let completed = exchange(&service, completion.bearer(&reader)).await;

            assert_eq!(contents(&read), "the resource", "{spelling}");
            assert_eq!(read.result()["contents"][0]["uri"], *spelling, "the result has the URI as sent");
            assert_eq!(subscribed.result(), &json!({}), "{spelling}");
            assert_eq!(completed.status_and_code(), (200, -32602), "{spelling}: a resource has no variables");
        }
    }
}

/// The log has the registered URI.
#[test]
fn equivalent_uris_are_logged_as_the_same_resource() {
    for (uri, spellings) in SPELLINGS {
        let server =
            Server::new("docs", "1.0.0", ()).resource(resource(uri)).resource_template(template("docs://{+value}"));
        let server = server.build(Settings::default()).unwrap();
        for (spelling, name) in spellings.iter().map(|own| (*own, "resource")).chain([("docs://other", "template")]) {
            let params = json!({ "uri": spelling }).to_string();
            let params = serde_json::from_str(&params).unwrap();
            let resolved = server.resolve(ProtocolVersion::LATEST, method::RESOURCES_READ, params, &Arc::default());

            assert_eq!(resolved.registered_name(), Some(name), "{spelling}");
        }
    }
}

/// A template that matches a resource with a stricter access rule is rejected, as defense in depth.
#[test]
fn a_template_with_a_weaker_rule_than_a_matching_resource_does_not_build() {
    let admin_has_all = || Server::new("docs", "1.0.0", ()).scope_includes("docs:admin", ["docs:read", "docs:secret"]);
    let build = |server: Server<()>| {
        let settings = Settings { authorization: Authorization::Required(Default::default()), ..Settings::default() };
        server.build(settings).map(drop).map_err(|error| error.to_string())
    };
    let guarded = || resource("docs://secret").require_scope("docs:secret");
    let by_claim = || resource("docs://secret").require_claim("team", "a");
    let weaker: [(&str, Server<()>); 7] = [
        ("public", admin_has_all().resource(guarded()).resource_template(template("docs://{value}").public())),
        ("of a token", admin_has_all().resource(guarded()).resource_template(template("docs://{+value}"))),
        ("registered first", admin_has_all().resource_template(template("docs://{+value}")).resource(guarded())),
        (
            "of another scope",
            admin_has_all()
                .resource(guarded())
                .resource_template(template("docs://{value}").require_scope("docs:read")),
        ),
        (
            "of no claim",
            admin_has_all()
                .resource(by_claim())
                .resource_template(template("docs://{value}").require_claim("team", "b")),
        ),
        (
            "public, below a rule of the server",
            admin_has_all()
                .require_scope("docs:read")
                .resource(resource("docs://secret"))
                .resource_template(template("docs://{value}").public()),
        ),
        (
            "equivalent URI",
            admin_has_all().resource(guarded()).resource_template(template("DOCS://SEC%52{value}").public()),
        ),
    ];
    for (what, server) in weaker {
        let error = build(server).expect_err(what);

        for part in ["resource template `", "resource `docs://secret`", "require_scope", "another URI"] {
            assert!(error.contains(part), "{what}: {error}");
        }
    }
    let strong_enough: [(&str, Server<()>); 6] = [
        (
            "of the same scope",
            admin_has_all()
                .resource(guarded())
                .resource_template(template("docs://{value}").require_scope("docs:secret")),
        ),
        (
            "of a broader scope",
            admin_has_all()
                .resource(guarded())
                .resource_template(template("docs://{value}").require_scope("docs:admin")),
        ),
        (
            "of more claims",
            admin_has_all()
                .resource(by_claim())
                .resource_template(template("docs://{value}").require_claim("role", "x").require_claim("team", "a")),
        ),
        (
            "a public resource",
            admin_has_all().resource(resource("docs://secret").public()).resource_template(template("docs://{value}")),
        ),
        ("elsewhere", admin_has_all().resource(guarded()).resource_template(template("docs://open/{value}").public())),
        (
            "neither has a rule",
            admin_has_all().resource(resource("docs://a")).resource_template(template("docs://{value}")),
        ),
    ];
    for (what, server) in strong_enough {
        assert_eq!(build(server), Ok(()), "{what}");
    }
}

/// If two templates match a URI, the first one reads it.
#[test]
fn a_template_with_a_weaker_rule_than_a_later_one_does_not_build() {
    let build = |first: ResourceTemplate<()>, second: ResourceTemplate<()>| {
        let settings = Settings { authorization: Authorization::Required(Default::default()), ..Settings::default() };
        let server = Server::new("docs", "1.0.0", ()).resource_template(first).resource_template(second);
        server.build(settings).map(drop).map_err(|error| error.to_string())
    };
    let wide = || template("docs://{+value}").public();
    let narrow = || template("docs://secret/{value}").require_scope("docs:secret");

    let error = build(wide(), narrow()).unwrap_err();

    assert!(error.contains("`docs://{+value}`") && error.contains("`docs://secret/{value}`"), "{error}");
    assert_eq!(build(narrow(), wide()), Ok(()));
    assert_eq!(build(template("docs://a/{value}").public(), narrow()), Ok(()));
}

#[test]
fn equivalent_uris_are_not_registered_twice() {
    let twice = std::panic::catch_unwind(|| {
        Server::new("docs", "1.0.0", ()).resource(resource("docs://secret")).resource(resource("docs://%53ecret/"))
    });

    let message = twice.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("two resources at `docs://%53ecret/`"), "{message}");
}

/// Template variables are percent-decoded once, and cannot contain a path traversal.
#[tokio::test]
async fn a_template_value_is_decoded_once_and_has_no_path_traversal() {
    let server = Server::new("docs", "1.0.0", ())
        .resource_template(template("files://folder/{+value}"))
        .resource_template(template("file:///srv/{value}.txt"))
        .resource_template(template("Greeting://{value}"))
        .resource_template(template("docs://Name-{value}/./x/../%61"));
    let service = open(server);
    let read = async |uri: &str| {
        let reply = exchange(&service, resources_read(uri)).await;
        let response = reply.response();
        response.get("result").map(|result| result["contents"][0]["text"].as_str().unwrap().to_owned())
    };
    for (uri, expected) in [
        ("files://folder/a/b.md", Some("value a/b.md")),
        ("files://folder/a%2Fb", Some("value a/b")),
        ("files://folder/a/../b", Some("value b")),
        ("files://folder/a/%2e%2e/b", Some("value b")),
        ("files://folder/%252e%252e%252Fb", Some("value %2e%2e%2Fb")),
        ("files://folder/...", Some("value ...")),
        ("files://folder/a..b", Some("value a..b")),
        ("files://folder/..%2Fb", None),
        ("files://folder/..%2fb", None),
        ("files://folder/%2e%2E%2Fb", None),
        ("files://folder/a/..%2F..%2F..%2Fb", None),
        ("files://folder/a%2F..", None),
        ("files://folder/a%2F.%2Fb", None),
        ("files://folder/..%5Cb", None),
        ("files://folder/a%5C..%5C..%5Cb", None),
        ("files://folder/..", None),
        ("files://folder/../../other/b", Some("value other/b")),
        ("file:///srv/..%2F..%2Fetc%2Fpasswd.txt", None),
        ("file:///srv/a%2Fb.txt", Some("value a/b")),
        ("file:///SRV/a.txt", None),
        // A host is case-insensitive, but template values are not.
        ("greeting://Alice", Some("value Alice")),
        ("GREETING://%41lice/", Some("value Alice")),
        ("docs://NAME-Alice/a", Some("value Alice")),
        ("docs://name-Alice/y/..//../a", Some("value Alice")),
        ("docs://name-Alice/A", None),
    ] {
        assert_eq!(read(uri).await.as_deref(), expected, "{uri}");
    }
}

async fn asks(context: InteractiveContext<()>) -> Result<&'static str, HandlerError> {
    #[derive(Debug, Deserialize, JsonSchema, Validate)]
    struct Answer {
        #[garde(skip)]
        _word: Option<String>,
    }
    match context.elicit::<Answer>("word", "Say something.").await {
        Elicited::Accepted(_) => Ok("read"),
        Elicited::Declined | Elicited::Cancelled => Err(HandlerError::not_found()),
    }
}

/// The state of a request for one URI is rejected for an equivalent one, because template variables may differ.
#[tokio::test]
async fn a_request_state_is_bound_to_the_uri_as_sent() {
    let service = open(Server::new("docs", "1.0.0", ()).resource(Resource::new("docs://secret", "secret", asks)));
    let request = |uri: &str| resources_read(uri).capabilities(json!({ "elicitation": { "form": {} } }));
    let answer = json!({ "word": { "action": "accept", "content": {} } });
    for (asked, sent, is_same) in [
        ("docs://secret", "docs://secret", true),
        ("docs://%73ecret", "docs://%73ecret", true),
        ("docs://secret", "docs://%73ecret", false),
        ("docs://SECRET", "docs://secret", false),
    ] {
        let question = exchange(&service, request(asked)).await;
        assert_eq!(question.result()["resultType"], "input_required", "{asked}");

        let reply = exchange(&service, request(sent).input_responses(&question, answer.clone())).await;

        match is_same {
            true => assert_eq!(contents(&reply), "read", "{asked}"),
            false => assert_eq!(reply.status_and_code(), (200, -32602), "{asked} {sent}"),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Page {
    #[garde(skip)]
    url: String,
}

async fn sends(context: InteractiveContext<()>, page: Page) -> Result<String, HandlerError> {
    Ok(format!("{:?}", context.elicit_url("page", "Go there.", &page.url).await))
}

/// The rule is `mcp_protocol::uri::SecureUrl`, whose tests cover each clause.
#[tokio::test]
async fn url_elicitation_allows_secure_urls_only() {
    let service = open(Server::new("sends", "1.0.0", ()).tool(Tool::new("sends", sends)));
    let send = async |url: &str| {
        let call = tools_call("sends", json!({ "url": url })).capabilities(json!({ "elicitation": { "url": {} } }));
        exchange(&service, call).await
    };
    for url in ["https://pay.example.com/1?a=b#/step", "http://localhost:8080/", "http://127.0.0.1", "http://[::1]/"] {
        assert_eq!(send(url).await.result()["inputRequests"]["page"]["params"]["url"], url);
    }
    for url in [
        "http://localhost.evil.example",
        "http://127.evil.example",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
        "http://localhost:80@evil.example/",
        "https://pay.example.com@evil.example/",
        "https://user:password@pay.example.com/",
        "https://evil.example\\.pay.example.com/",
        "https://",
        "https://pay.example.com:port/",
        "https://pay.example.com/\u{202e}",
        "javascript:alert(1)",
    ] {
        assert_eq!(send(url).await.tool_result().text(), "The tool failed.", "{url}");
    }
}
