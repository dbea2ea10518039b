//! Resources, templates, and lists of handlers.

use std::{num::NonZeroUsize, time::Duration};

use garde::Validate;
use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::{ProtocolVersion, ResourceContents, method};
use mcp_server::{
    Caching, HandlerError, List, PartialArgument, RequestContext, Resource, ResourceOutput, ResourcePage,
    ResourceTemplate, Server,
};
use mcp_testing::{McpRequest, Reply, complete, discover, exchange, initialize, resources_read};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

type Context = RequestContext<()>;

fn server() -> Server<()> {
    Server::new("library", "1.2.3", ())
        .resource(Resource::new("lib://terms", "terms", terms).title("Terms").mime_type("text/markdown").size(13))
        .resource(Resource::new("lib://cover", "cover", cover).caching(Caching::public(Duration::from_secs(60))))
        .resource(Resource::new("lib://shelf", "shelf", shelf).subscribable())
        .resource(Resource::new("lib://broken", "broken", broken))
        .resource_template(
            ResourceTemplate::new("lib://books/{id}", "book", book)
                .title("Book")
                .description("A book by its number.")
                .mime_type("text/plain")
                .list(books)
                .complete("id", ids),
        )
        .resource_template(ResourceTemplate::new("lib://files/{+path}", "file", file).list(files))
}

fn library() -> McpService {
    McpService::new(server(), HttpConfig::default()).unwrap()
}

async fn terms(_: Context) -> Result<&'static str, HandlerError> {
    Ok("Use it well.")
}

async fn cover(_: Context) -> Result<Vec<u8>, HandlerError> {
    Ok(vec![0, 255, 16])
}

async fn shelf(_: Context) -> Result<Vec<ResourceContents>, HandlerError> {
    Ok(vec![
        ResourceContents::text("lib://books/1", "text/plain", "One"),
        ResourceContents::blob("lib://x", "a/b", [1]),
    ])
}

async fn broken(_: Context) -> Result<&'static str, HandlerError> {
    Err(HandlerError::internal("the password is wrong"))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct BookUri {
    /// The book's number.
    #[garde(range(min = 1, max = 99))]
    id: u32,
}

async fn book(_: Context, uri: BookUri) -> Result<String, HandlerError> {
    match uri.id {
        1..=5 => Ok(format!("Book {}", uri.id)),
        _ => Err(HandlerError::not_found()),
    }
}

/// Five books, two per page.
async fn books(_: Context, cursor: Option<String>) -> Result<ResourcePage, HandlerError> {
    let from: u32 = match cursor {
        None => 1,
        Some(cursor) => cursor.parse().map_err(|_| HandlerError::invalid_input("no such page"))?,
    };
    let resources = from..(from + 2).min(6);
    let resources = resources.map(|id| mcp_protocol::Resource::new(format!("lib://books/{id}"), format!("book {id}")));
    let next = from + 2;
    Ok(ResourcePage { resources: resources.collect(), next_cursor: (next < 6).then(|| next.to_string()) })
}

async fn ids(_: Context, argument: PartialArgument) -> Result<Vec<String>, HandlerError> {
    Ok((1..=250).map(|id| id.to_string()).filter(|id| id.starts_with(&argument.value)).collect())
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct FileUri {
    #[garde(skip)]
    path: String,
}

async fn file(_: Context, uri: FileUri) -> Result<ResourceOutput, HandlerError> {
    Ok(uri.path.into())
}

async fn files(_: Context, _: Option<String>) -> Result<Vec<mcp_protocol::Resource>, HandlerError> {
    Ok(vec![mcp_protocol::Resource::new("lib://files/a/b", "a/b")])
}

fn list(cursor: Option<&Value>) -> McpRequest {
    McpRequest::new(method::RESOURCES_LIST, cursor.map_or(json!({}), |cursor| json!({ "cursor": cursor })))
}

fn names(reply: &Reply) -> Vec<&str> {
    let resources = reply.result()["resources"].as_array().unwrap();
    resources.iter().map(|resource| resource["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn text_bytes_and_several_contents_are_read_in_every_revision() {
    for revision in ProtocolVersion::ALL {
        let read = async |uri| exchange(&library(), resources_read(uri).revision(revision)).await;

        let terms = read("lib://terms").await.result()["contents"].clone();
        let cover = read("lib://cover").await.result()["contents"].clone();
        let shelf = read("lib://shelf").await.result()["contents"].clone();

        assert_eq!(terms, json!([{ "uri": "lib://terms", "mimeType": "text/markdown", "text": "Use it well." }]));
        assert_eq!(cover, json!([{ "uri": "lib://cover", "mimeType": "application/octet-stream", "blob": "AP8Q" }]));
        assert_eq!(shelf[1], json!({ "uri": "lib://x", "mimeType": "a/b", "blob": "AQ==" }));
    }
}

#[tokio::test]
async fn a_template_parses_typed_values_from_the_uri() {
    let book = exchange(&library(), resources_read("lib://books/5")).await;
    let file = exchange(&library(), resources_read("lib://files/a/%C3%A9.txt")).await;

    let contents = json!([{ "uri": "lib://books/5", "mimeType": "text/plain", "text": "Book 5" }]);
    assert_eq!(book.result()["contents"], contents);
    assert_eq!(file.result()["contents"][0]["text"], "a/é.txt");
}

#[tokio::test]
async fn an_unknown_resource_is_an_error_with_its_uri() {
    for uri in ["lib://books/6", "lib://books/0", "lib://books/many", "lib://books/1/2", "lib://other", "other"] {
        let modern = exchange(&library(), resources_read(uri)).await;
        let legacy = exchange(&library(), resources_read(uri).revision(ProtocolVersion::V2025_11_25)).await;

        assert_eq!((modern.status_and_code(), legacy.status_and_code()), ((200, -32602), (200, -32002)), "{uri}");
        assert_eq!(modern.response()["error"]["data"], json!({ "uri": uri }));
    }
}

#[tokio::test]
async fn an_internal_fault_is_logged_and_not_sent() {
    let reply = exchange(&library(), resources_read("lib://broken")).await;

    assert_eq!(reply.status_and_code(), (200, -32603));
    assert!(!reply.body.contains("password"), "{}", reply.body);
}

#[tokio::test]
async fn each_read_has_its_cache_hints() {
    let terms = exchange(&library(), resources_read("lib://terms")).await.result().clone();
    let cover = exchange(&library(), resources_read("lib://cover")).await.result().clone();
    let retried = resources_read("lib://cover").param("inputResponses", json!({}));
    let retried = exchange(&library(), retried).await.result().clone();

    assert_eq!((&terms["ttlMs"], &terms["cacheScope"]), (&json!(0), &json!("private")));
    assert_eq!((&cover["ttlMs"], &cover["cacheScope"]), (&json!(60_000), &json!("public")));
    assert_eq!((&retried["ttlMs"], &retried["cacheScope"]), (&json!(0), &json!("private")));
}

#[tokio::test]
async fn registered_resources_are_listed_before_those_of_handlers() {
    for revision in ProtocolVersion::ALL {
        let first = exchange(&library(), list(None).revision(revision)).await;
        let second = exchange(&library(), list(first.result().get("nextCursor")).revision(revision)).await;
        let third = exchange(&library(), list(second.result().get("nextCursor")).revision(revision)).await;

        assert_eq!(names(&first), ["terms", "cover", "shelf", "broken", "book 1", "book 2"]);
        assert_eq!(names(&second), ["book 3", "book 4"]);
        assert_eq!(names(&third), ["book 5", "a/b"]);
        assert!(third.result().get("nextCursor").is_none());
    }
}

#[tokio::test]
async fn pages_of_any_size_list_every_resource_once() {
    for size in 1..12 {
        let service = server().page_size(NonZeroUsize::new(size).unwrap());
        let service = McpService::new(service, HttpConfig::default()).unwrap();
        let mut seen = Vec::new();
        let mut cursor = None;
        for _ in 0..20 {
            let reply = exchange(&service, list(cursor.as_ref())).await;
            assert!(names(&reply).len() <= size, "{size}: {:?}", names(&reply));
            seen.extend(names(&reply).into_iter().map(str::to_owned));
            cursor = reply.result().get("nextCursor").cloned();
            if cursor.is_none() {
                break;
            }
        }

        let all = ["terms", "cover", "shelf", "broken", "book 1", "book 2", "book 3", "book 4", "book 5", "a/b"];
        assert_eq!(seen, all, "{size}");
    }
}

#[tokio::test]
async fn an_unknown_cursor_is_rejected() {
    // `from:2`, `from:99`, `by:2`, `by:2+0`, `by:0+0:x`
    for cursor in ["", "x", "ZnJvbToy", "ZnJvbTo5OQ", "Ynk6Mg", "Ynk6MiswCg", "Ynk6Misw", "Ynk6MCswOng"] {
        let service =
            McpService::new(server().page_size(NonZeroUsize::new(3).unwrap()), HttpConfig::default()).unwrap();

        let reply = exchange(&service, list(Some(&json!(cursor)))).await;

        assert_eq!(reply.status_and_code(), (200, -32602), "{cursor}");
    }
}

#[tokio::test]
async fn a_list_of_a_handler_is_private_by_default() {
    let made = exchange(&library(), list(None)).await.result().clone();
    let shared = server().caching(List::Resources, Caching::public(Duration::from_secs(7)));
    let shared = McpService::new(shared, HttpConfig::default()).unwrap();
    let shared = exchange(&shared, list(None)).await.result().clone();
    let templates = exchange(&library(), McpRequest::new(method::RESOURCES_TEMPLATES_LIST, json!({}))).await;
    let templates = templates.result().clone();

    assert_eq!((&made["ttlMs"], &made["cacheScope"]), (&json!(0), &json!("private")));
    assert_eq!((&shared["ttlMs"], &shared["cacheScope"]), (&json!(7000), &json!("public")));
    assert_eq!((&templates["ttlMs"], &templates["cacheScope"]), (&json!(300_000), &json!("public")));
}

#[tokio::test]
async fn templates_are_listed_in_every_revision() {
    for revision in ProtocolVersion::ALL {
        let request = McpRequest::new(method::RESOURCES_TEMPLATES_LIST, json!({})).revision(revision);

        let reply = exchange(&library(), request).await;

        let template = &reply.result()["resourceTemplates"][0];
        assert_eq!((&template["uriTemplate"], &template["name"]), (&json!("lib://books/{id}"), &json!("book")));
        // The two oldest have no version header and are served as 2025-03-26, with titles.
        assert_eq!(template["title"], "Book");
    }
}

#[tokio::test]
async fn legacy_clients_may_subscribe_if_enabled() {
    let subscribe = |method, uri, revision| McpRequest::new(method, json!({ "uri": uri })).revision(revision);
    for revision in ProtocolVersion::ALL.into_iter().filter(|revision| !revision.is_modern()) {
        for method in [method::RESOURCES_SUBSCRIBE, method::RESOURCES_UNSUBSCRIBE] {
            let done = exchange(&library(), subscribe(method, "lib://shelf", revision)).await;
            let rejected = exchange(&library(), subscribe(method, "lib://terms", revision)).await;
            let missing = exchange(&library(), subscribe(method, "lib://other", revision)).await;
            let by_template = exchange(&library(), subscribe(method, "lib://books/5", revision)).await;
            assert_eq!(by_template.status_and_code(), (200, -32602));

            assert_eq!(done.result(), &json!({}));
            assert_eq!((rejected.status_and_code(), missing.status_and_code()), ((200, -32602), (200, -32002)));
        }
        let greeted = exchange(&library(), initialize(revision.as_str())).await;
        // No change is ever sent.
        assert_eq!(greeted.result()["capabilities"]["resources"], json!({}));
    }
    let modern = subscribe(method::RESOURCES_SUBSCRIBE, "lib://shelf", ProtocolVersion::LATEST);
    assert_eq!(exchange(&library(), modern).await.status_and_code(), (404, -32601));
    let discovered = exchange(&library(), discover()).await;
    assert_eq!(discovered.result()["capabilities"]["resources"], json!({}));
}

#[tokio::test]
async fn a_variable_is_completed_by_template_and_by_uri() {
    for uri in ["lib://books/{id}", "lib://books/2"] {
        let request = complete(json!({ "type": "ref/resource", "uri": uri }), "id", "24");

        let reply = exchange(&library(), request).await;

        let values = json!(["24", "240", "241", "242", "243", "244", "245", "246", "247", "248", "249"]);
        assert_eq!(reply.result()["completion"], json!({ "values": values, "total": 11, "hasMore": false }));
    }
}

#[tokio::test]
async fn a_completion_has_at_most_a_hundred_values() {
    for revision in ProtocolVersion::ALL {
        let request = complete(json!({ "type": "ref/resource", "uri": "lib://books/{id}" }), "id", "");

        let reply = exchange(&library(), request.revision(revision)).await;

        let completion = &reply.result()["completion"];
        assert_eq!(completion["values"].as_array().unwrap().len(), 100);
        assert_eq!((&completion["total"], &completion["hasMore"]), (&json!(250), &json!(true)));
    }
}

#[tokio::test]
async fn a_missing_completer_and_an_unknown_template_have_different_results() {
    let complete = async |uri: &str, variable: &str| {
        exchange(&library(), complete(json!({ "type": "ref/resource", "uri": uri }), variable, "")).await
    };

    let without = complete("lib://files/{+path}", "path").await;
    let unknown_variable = complete("lib://files/{+path}", "id").await;
    let unknown_template = complete("other://{id}", "id").await;

    assert_eq!(without.result()["completion"]["values"], json!([]));
    assert_eq!(unknown_variable.status_and_code(), (200, -32602));
    assert_eq!(unknown_template.status_and_code(), (200, -32602));
}

#[test]
fn an_invalid_definition_fails_the_build() {
    let building =
        |build: fn() -> Server<()>| std::panic::catch_unwind(build).unwrap_err().downcast::<String>().unwrap();

    let twice = building(|| server().resource(Resource::new("lib://terms", "again", terms)));
    let without_scheme = building(|| server().resource(Resource::new("terms", "terms", terms)));
    let other_field = building(|| server().resource_template(ResourceTemplate::new("lib://{number}", "book", book)));
    let no_variable = building(|| server().resource_template(ResourceTemplate::new("lib://all", "book", book)));
    let no_such = building(|| {
        server().resource_template(ResourceTemplate::new("lib://b/{id}", "book", book).complete("number", ids))
    });

    assert!(twice.contains("two resources at `lib://terms`"), "{twice}");
    assert!(without_scheme.contains("scheme"), "{without_scheme}");
    assert!(other_field.contains("no field `number`"), "{other_field}");
    assert!(no_variable.contains("no variable for the field `id`"), "{no_variable}");
    assert!(no_such.contains("no variable `number`"), "{no_such}");
}
