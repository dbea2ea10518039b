//! Contract of the function with its clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod origin;

use std::time::{Duration, SystemTime};

use api_docs::{Config, service};
use mcp_lambda::{Env, FromEnv, HttpConfig, McpService, ProtocolVersion, error_chain, transport::Invocation};
use mcp_testing::{
    McpRequest, Reply, Via, assert_contract, bounds, complete, exchange, exchange_via, resources_read, state_key,
    tools_call,
};
use serde_json::{Value, json};

use origin::{Origin, OriginResponse};

const FORM: &str = r#"{"elicitation":{"form":{}}}"#;

async fn try_start(pairs: &[(&str, &str)]) -> Result<McpService, String> {
    let config = Config::from_env(&Env::from_pairs(pairs.iter().copied())).map_err(|error| error_chain(&error))?;
    let http = HttpConfig { state_key: Some(state_key()), ..config.http };
    service(Config { http, ..config }).await.map_err(|error| error_chain(&error))
}

/// Starts the function with the example document.
async fn example() -> McpService {
    try_start(&[]).await.unwrap()
}

async fn call(service: &McpService, tool: &str, arguments: Value) -> Value {
    let result = exchange(service, tools_call(tool, arguments)).await.tool_result();
    assert_eq!(result.is_error, None, "{}", result.text());
    serde_json::from_str(result.structured_content.unwrap().get()).unwrap()
}

async fn tool_error(service: &McpService, tool: &str, arguments: Value) -> String {
    let result = exchange(service, tools_call(tool, arguments)).await.tool_result();
    assert_eq!(result.is_error, Some(true), "{}", result.text());
    result.text()
}

fn interactive_call(tool: &str, arguments: Value) -> McpRequest {
    tools_call(tool, arguments).capabilities(serde_json::from_str(FORM).unwrap())
}

#[tokio::test]
async fn contract_equals_the_golden_file() {
    assert_contract(&example().await, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
}

#[tokio::test]
async fn schema_bounds_are_enforced() {
    let service = example().await;
    let mut tried = 0;
    for (tool, arguments) in [
        ("search", json!({ "query": "book", "limit": 1 })),
        ("list_operations", json!({ "path": "/", "tag": "books", "limit": 1 })),
        ("list_schemas", json!({ "name": "Book", "limit": 1 })),
        ("read_operation", json!({ "operation_id": "listBooks" })),
        ("read_schema", json!({ "name": "Book" })),
        ("find_operation", json!({ "query": "list books" })),
    ] {
        tried += bounds::assert_enforced(&service, tool, &arguments).await;
    }

    assert_eq!(tried, 23);
}

#[tokio::test]
async fn operations_are_listed_by_path_in_every_revision() {
    let service = example().await;
    for revision in ProtocolVersion::ALL {
        let request = tools_call("list_operations", json!({})).revision(revision);

        let result = exchange(&service, request).await.tool_result();

        let listed: Value = serde_json::from_str(&result.text()).unwrap();
        assert_eq!((&listed["api"], &listed["total"]), (&json!("Bookshop"), &json!(5)));
        let ids: Vec<_> =
            listed["operations"].as_array().unwrap().iter().map(|own| own["operation_id"].clone()).collect();
        assert_eq!(ids, ["listBooks", "getBook", "listOrders", "createOrder", "cancelOrder"]);
    }
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let service = example().await;

    let first = call(&service, "list_operations", json!({ "limit": 2 })).await;
    let last = call(&service, "list_operations", json!({ "limit": 2, "skip": 4 })).await;
    let orders = call(&service, "list_operations", json!({ "path": "/orders", "tag": "Orders" })).await;
    let beyond = call(&service, "list_schemas", json!({ "skip": 4_000_000_000u32 })).await;
    let schemas = call(&service, "list_schemas", json!({ "name": "order" })).await;

    assert_eq!((&first["next_skip"], last.get("next_skip")), (&json!(2), None));
    assert_eq!(last["operations"][0]["operation_id"], "cancelOrder");
    assert_eq!(last["operations"][0]["deprecated"], true);
    assert_eq!(orders["total"], 3);
    assert_eq!(beyond["schemas"], json!([]));
    assert_eq!(schemas["schemas"], json!([{ "name": "NewOrder", "summary": "" }, { "name": "Order", "summary": "" }]));
}

#[tokio::test]
async fn operations_have_resolved_references_and_cut_cycles() {
    let read = call(&example().await, "read_operation", json!({ "operation_id": "get /books/{isbn}" })).await;

    let definition = &read["definition"];
    assert_eq!((&read["operation_id"], &read["method"]), (&json!("getBook"), &json!("GET")));
    assert_eq!(definition["servers"][0]["url"], "https://bookshop.example.com/v1");
    assert_eq!(definition["security"], json!([]));
    assert_eq!(definition["parameters"][0]["name"], "isbn");
    assert_eq!(definition["responses"]["404"]["x-ref"], "#/components/responses/NotFound");
    let book = &definition["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(book["x-ref"], "#/components/schemas/Book");
    let author = &book["properties"]["authors"]["items"];
    assert_eq!(author["x-ref"], "#/components/schemas/Author");
    assert_eq!(author["properties"]["books"]["items"], json!({ "$ref": "#/components/schemas/Book" }));
    assert!(read["note"].as_str().unwrap().contains("are cycles"), "{read}");
}

#[tokio::test]
async fn parts_are_read_by_a_pointer_through_references() {
    let service = example().await;
    let pointer = "/responses/200/content/application~1json/schema/properties/authors";

    let part = call(&service, "read_operation", json!({ "operation_id": "getBook", "pointer": pointer })).await;
    let schema =
        call(&service, "read_schema", json!({ "name": "#/components/schemas/Author", "pointer": "/required" })).await;

    assert_eq!(part["definition"]["items"]["x-ref"], "#/components/schemas/Author");
    assert_eq!(schema["definition"], json!(["name"]));
    for (tool, arguments, expected) in [
        ("read_operation", json!({ "operation_id": "getBook", "pointer": "/nothing" }), "`pointer`"),
        ("read_operation", json!({ "operation_id": "getBook", "pointer": "responses" }), "`pointer`"),
        ("read_operation", json!({ "operation_id": "get book" }), "similar ids: `getBook`"),
        ("read_operation", json!({ "operation_id": "xyzzy" }), "list_operations"),
        ("read_schema", json!({ "name": "Unknown" }), "list_schemas"),
    ] {
        let text = tool_error(&service, tool, arguments).await;

        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn paths_in_other_documents_are_noted() {
    let paths = json!({ "/a": { "get": {} }, "/b": { "$ref": "./b.yaml" } });
    let document = json!({ "openapi": "3.1.0", "paths": paths }).to_string();
    let origin = Origin::start(OriginResponse::document(document, "\"1\"")).await;
    let service = try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap();

    let listed = call(&service, "list_operations", json!({})).await;

    assert_eq!(listed["total"], 1);
    assert!(listed["note"].as_str().unwrap().contains("1 paths") && listed["note"].as_str().unwrap().contains("`/b`"));
}

async fn of(document: &str) -> McpService {
    let origin = Origin::start(OriginResponse::document(document.to_owned(), "\"1\"")).await;
    try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap()
}

fn ids(operations: &Value) -> Vec<&str> {
    operations.as_array().unwrap().iter().map(|own| own["operation_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn operations_of_merge_keys_are_listed_and_read() {
    let service = of("
openapi: 3.0.3
info: { title: Shared, version: '1' }
x-item: &item
  get: { operationId: readIt, responses: { '200': { description: ok } } }
paths:
  /a: { <<: *item }
  /b: { <<: *item, post: { operationId: addIt, responses: { '201': { description: made } } } }
")
    .await;

    let listed = call(&service, "list_operations", json!({})).await;
    let read = call(&service, "read_operation", json!({ "operation_id": "GET /b" })).await;

    assert_eq!(ids(&listed["operations"]), ["readIt", "GET /b", "addIt"]);
    assert_eq!(read["definition"]["responses"]["200"]["description"], "ok");
}

#[tokio::test]
async fn webhooks_are_marked_operations() {
    let hook = json!({ "post": { "operationId": "newPetHook", "summary": "A pet was added", "tags": ["events"],
        "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Pet" } } } } } });
    for (version, member) in [("3.1.0", "webhooks"), ("3.0.3", "x-webhooks")] {
        let document = json!({
            "openapi": version,
            "servers": [{ "url": "https://api.example.com" }],
            "security": [{ "token": [] }],
            "paths": { "/pets": { "post": { "operationId": "addPet", "summary": "Add a pet" } } },
            member: { "newPet": hook, "/pets": { "post": {} }, "example": { "$ref": "#/components/pathItems/Hook" },
                "elsewhere": { "$ref": "./hooks.yaml" } },
            "components": {
                "schemas": { "Pet": { "type": "object" } },
                "pathItems": { "Hook": { "parameters": [{ "name": "id", "in": "header" }], "put": { "security": [{ "token": [] }] } } },
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
        });
        let service = of(&document.to_string()).await;

        let listed = call(&service, "list_operations", json!({})).await;
        let of_tag = call(&service, "list_operations", json!({ "tag": "events" })).await;
        let new_pet = call(&service, "search", json!({ "query": "new pet" })).await;
        let all = call(&service, "search", json!({ "query": "webhooks" })).await;
        let read = async |id: &str| call(&service, "read_operation", json!({ "operation_id": id })).await;
        let (named, of_path, referred) =
            (read("newPetHook").await, read("POST /pets").await, read("webhook PUT example").await);

        let listed_ids = ["addPet", "webhook POST /pets", "webhook PUT example", "newPetHook"];
        assert_eq!((ids(&listed["operations"]), &listed["total"]), (listed_ids.to_vec(), &json!(4)));
        let last = &listed["operations"][3];
        assert_eq!(
            (&last["path"], &last["method"], &last["webhook"]),
            (&json!("newPet"), &json!("POST"), &json!(true))
        );
        assert_eq!(listed["operations"][0].get("webhook"), None);
        assert!(listed["note"].as_str().unwrap().contains("`elsewhere`"), "{listed}");
        assert_eq!(ids(&of_tag["operations"]), ["newPetHook"]);
        assert_eq!(
            (&new_pet["operations"][0]["operation_id"], &new_pet["operations"][0]["webhook"]),
            (&json!("newPetHook"), &json!(true))
        );
        assert_eq!(all["operations_total"], 3);
        assert_eq!((&named["webhook"], &named["path"]), (&json!(true), &json!("newPet")));
        let body = &named["definition"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["x-ref"], "#/components/schemas/Pet");
        // Servers and security of the API apply only to requests to the API.
        assert_eq!((named["definition"].get("servers"), named["definition"].get("security")), (None, None));
        assert_eq!((&of_path["operation_id"], of_path.get("webhook")), (&json!("addPet"), None));
        assert_eq!(referred["definition"]["parameters"][0]["name"], "id");
        assert_eq!(referred["definition"]["x-security-schemes"]["token"]["scheme"], "bearer");
        // The name is the author's, not that of a data member.
        let item = call(&service, "read_schema", json!({ "name": format!("#/{member}/example") })).await;
        assert_eq!(item["definition"]["x-ref"], "#/components/pathItems/Hook");
        let found = call(&service, "find_operation", json!({ "query": "webhook PUT example" })).await;
        assert_eq!((&found["operation_id"], &found["webhook"]), (&json!("webhook PUT example"), &json!(true)));
        let template = json!({ "type": "ref/resource", "uri": "openapi://operations/{operationId}" });
        let suggested = exchange(&service, complete(template, "operationId", "webhook p")).await;
        assert_eq!(suggested.result()["completion"]["values"], json!(["webhook POST /pets", "webhook PUT example"]));
        let resource = exchange(&service, resources_read("openapi://operations/webhook%20PUT%20example")).await;
        assert!(resource.result()["contents"][0]["text"].as_str().unwrap().contains(r#""webhook":true"#));
    }
}

#[tokio::test]
async fn names_are_case_insensitive_in_all_scripts() {
    let document = json!({
        "openapi": "3.1.0",
        "paths": { "/a": { "get": { "operationId": "étatCivil", "tags": ["ÉTAT"] } } },
        "components": { "schemas": { "Größe": {}, "ΟΔΟΣ": {} } },
    });
    let service = of(&document.to_string()).await;
    let template = json!({ "type": "ref/resource", "uri": "openapi://operations/{operationId}" });

    let of_tag = call(&service, "list_operations", json!({ "tag": "état" })).await;
    let suggested = exchange(&service, complete(template, "operationId", "ÉTAT")).await;

    assert_eq!(of_tag["total"], 1);
    assert_eq!(suggested.result()["completion"]["values"], json!(["étatCivil"]));
    for (part, name) in [("GRÖSSE", "Größe"), ("größe", "Größe"), ("οδος", "ΟΔΟΣ"), ("gro\u{308}ße", "Größe")]
    {
        let schemas = call(&service, "list_schemas", json!({ "name": part })).await;

        assert_eq!((&schemas["total"], &schemas["schemas"][0]["name"]), (&json!(1), &json!(name)), "{part}");
    }
}

#[tokio::test]
async fn reference_targets_of_all_types_are_read() {
    let document = json!({ "openapi": "3.1.0", "components": {
        "schemas": { "v1/Page<User>": { "properties": { "next": { "type": "string" } } } },
        "responses": { "None": { "description": "Nothing." } },
        "parameters": { "Id": { "name": "id", "in": "path" } },
        "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "X-Secret" } },
        "examples": { "One": { "value": { "$ref": "#/components/parameters/Id" } } },
    } });
    let origin = Origin::start(OriginResponse::document(document.to_string(), "\"1\"")).await;
    let service = try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap();
    let components = &document["components"];
    let page = &components["schemas"]["v1/Page<User>"];
    for (name, shown, expected) in [
        ("v1/Page<User>", "v1/Page<User>", page),
        ("#/components/schemas/v1~1Page%3CUser%3E", "v1~1Page%3CUser%3E", page),
        (
            "#/components/schemas/v1~1Page<User>/properties/next",
            "v1~1Page<User>/properties/next",
            &page["properties"]["next"],
        ),
        ("#/components/responses/None", "#/components/responses/None", &components["responses"]["None"]),
        ("#/components/parameters/Id", "#/components/parameters/Id", &components["parameters"]["Id"]),
        ("#/components/securitySchemes/key", "#/components/securitySchemes/key", &components["securitySchemes"]["key"]),
        ("#/components/examples/One", "#/components/examples/One", &components["examples"]["One"]),
    ] {
        let read = call(&service, "read_schema", json!({ "name": name })).await;

        assert_eq!((&read["name"], &read["definition"]), (&json!(shown), expected));
    }
    let nothing = tool_error(&service, "read_schema", json!({ "name": "#/components/responses/Nowhere" })).await;
    assert!(nothing.contains("unknown schema name"), "{nothing}");
}

#[tokio::test]
async fn operations_have_their_security_schemes() {
    let service = example().await;

    let global = call(&service, "read_operation", json!({ "operation_id": "createOrder" })).await;
    let none = call(&service, "read_operation", json!({ "operation_id": "listBooks" })).await;

    let token = &global["definition"]["x-security-schemes"]["token"];
    assert_eq!((&token["type"], &token["scheme"]), (&json!("http"), &json!("bearer")));
    assert_eq!(none["definition"].get("x-security-schemes"), None);
}

#[tokio::test]
async fn words_find_operations_and_schemas() {
    let service = example().await;

    let found = call(&service, "search", json!({ "query": "order" })).await;
    let schemas = call(&service, "search", json!({ "query": "author", "kind": "schemas" })).await;

    assert_eq!((&found["operations_total"], &found["schemas_total"]), (&json!(3), &json!(2)));
    assert_eq!(schemas["operations"], json!([]));
    assert_eq!(schemas["schemas"][0]["name"], "Author");
}

#[tokio::test]
async fn unambiguous_words_find_one_operation() {
    let service = example().await;
    for query in ["cancel order", "DELETE /orders/{id}", "cancelOrder"] {
        let read = call(&service, "find_operation", json!({ "query": query })).await;

        assert_eq!(read["operation_id"], "cancelOrder", "{query}");
    }
}

#[tokio::test]
async fn user_chooses_among_several_operations() {
    let service = example().await;
    let request = interactive_call("find_operation", json!({ "query": "list" }));

    let first_reply = exchange(&service, request.clone()).await;
    let options =
        &first_reply.result()["inputRequests"]["operation"]["params"]["requestedSchema"]["properties"]["operation"];
    let answer = |content: Value| json!({ "operation": content });
    let chosen = json!({ "action": "accept", "content": { "operation": "listOrders" } });
    let read = exchange(&service, request.clone().input_responses(&first_reply, answer(chosen))).await.tool_result();
    let mut declined = Vec::new();
    for action in ["decline", "cancel"] {
        let answer = answer(json!({ "action": action }));
        declined.push(exchange(&service, request.clone().input_responses(&first_reply, answer)).await.tool_result());
    }

    assert_eq!(
        options["oneOf"],
        json!([
            { "const": "listBooks", "title": "GET /books: List books" },
            { "const": "listOrders", "title": "GET /orders: List orders" },
        ])
    );
    assert!(read.text().contains(r#""operation_id":"listOrders""#), "{}", read.text());
    // The model can continue by itself.
    for declined in declined {
        assert_eq!(declined.is_error, Some(true));
        for choice in ["listBooks", "listOrders"] {
            assert!(declined.text().contains(&format!("`{choice}`")), "{}", declined.text());
            let read = call(&service, "find_operation", json!({ "query": choice })).await;
            assert_eq!(read["operation_id"], choice);
        }
    }
}

/// Half of the clients show the model the text alone.
#[tokio::test]
async fn text_equals_the_structured_content() {
    let service = example().await;
    for (tool, arguments) in [
        ("search", json!({ "query": "book" })),
        ("find_operation", json!({ "query": "cancelOrder" })),
        ("read_operation", json!({ "operation_id": "cancelOrder" })),
        ("read_schema", json!({ "name": "Author" })),
        ("list_operations", json!({ "limit": 1 })),
        ("list_schemas", json!({ "limit": 1 })),
    ] {
        let result = exchange(&service, tools_call(tool, arguments)).await.tool_result();

        let text: Value = serde_json::from_str(&result.text()).unwrap();
        let structured: Value = serde_json::from_str(result.structured_content.as_ref().unwrap().get()).unwrap();
        assert_eq!(text, structured, "{tool}");
    }
}

#[tokio::test]
async fn response_applies_to_the_offered_choices_after_a_refresh() {
    let of = |ids: &[&str]| {
        let paths: serde_json::Map<_, _> =
            ids.iter().map(|id| (format!("/{id}"), json!({ "get": { "operationId": id } }))).collect();
        json!({ "openapi": "3.1.0", "paths": paths }).to_string()
    };
    let origin = Origin::start(OriginResponse::document(of(&["listCats", "listDogs"]), "\"1\"")).await;
    let service = try_start(&[("OPENAPI_SOURCE", &origin.url()), ("OPENAPI_MAX_AGE_SECONDS", "0")]).await.unwrap();
    let request = interactive_call("find_operation", json!({ "query": "list" }));

    let first_reply = exchange(&service, request.clone()).await;
    let answered = async |answer: Value| {
        let request = request.clone().input_responses(&first_reply, json!({ "operation": answer }));
        exchange(&service, request).await.tool_result()
    };
    let accepted = |id: &str| json!({ "action": "accept", "content": { "operation": id } });
    origin.set_response(OriginResponse::document(of(&["listCats", "listCows"]), "\"2\""));
    let there = answered(accepted("listCats")).await;
    let gone = answered(accepted("listDogs")).await;
    origin.set_response(OriginResponse::document(of(&["listCats"]), "\"3\""));
    let gone_and_one_left = answered(accepted("listDogs")).await;
    let declined = answered(json!({ "action": "decline" })).await;

    assert!(there.text().contains(r#""operation_id":"listCats""#), "{}", there.text());
    for (error, expected) in [
        (gone, "no longer has `listDogs`"),
        (gone_and_one_left, "no longer has `listDogs`"),
        // Clients without a user decline at once.
        (
            declined,
            "the user declined to choose: Several operations match. Which one do you want? Call again with one of the \
            choices: `listCats` (GET /listCats), `listDogs` (GET /listDogs)",
        ),
    ] {
        assert!(error.is_error == Some(true) && error.text().contains(expected), "{}", error.text());
    }
}

#[tokio::test]
async fn oversized_choices_are_listed_in_the_error() {
    let paths: serde_json::Map<_, _> = (0..4)
        .map(|number| (format!("/{number}/{}", "x".repeat(1000)), json!({ "get": { "summary": "list" } })))
        .collect();
    let document = json!({ "openapi": "3.1.0", "paths": paths }).to_string();
    let origin = Origin::start(OriginResponse::document(document, "\"1\"")).await;
    let service = try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap();

    let error = exchange(&service, interactive_call("find_operation", json!({ "query": "list" }))).await.tool_result();

    assert!(error.text().starts_with("4 operations match equally well"), "{}", error.text());
}

#[tokio::test]
async fn clients_without_elicitation_get_the_choices_as_an_error() {
    let service = example().await;
    for revision in [ProtocolVersion::LATEST, ProtocolVersion::LATEST_LEGACY] {
        let request = tools_call("find_operation", json!({ "query": "list" })).revision(revision);

        let result = exchange(&service, request).await.tool_result();

        assert_eq!(result.is_error, Some(true));
        let choices = "choices: `listBooks` (GET /books: List books), `listOrders` (GET /orders: List orders)";
        assert!(result.text().ends_with(choices), "{}", result.text());
    }
}

#[tokio::test]
async fn operations_are_resources_with_id_completion() {
    let service = example().await;
    let template = json!({ "type": "ref/resource", "uri": "openapi://operations/{operationId}" });

    let suggested = exchange(&service, complete(template, "operationId", "order")).await;
    let read = exchange(&service, resources_read("openapi://operations/createOrder")).await;
    let by_path = exchange(&service, resources_read("openapi://operations/POST%20%2Forders")).await;
    let unknown = exchange(&service, resources_read("openapi://operations/destroyOrder")).await;

    assert_eq!(suggested.result()["completion"]["values"], json!(["listOrders", "createOrder", "cancelOrder"]));
    let text = read.result()["contents"][0]["text"].as_str().unwrap();
    assert!(text.contains(r#""method":"POST""#), "{text}");
    assert_eq!(by_path.result()["contents"][0]["text"], text);
    assert_eq!(unknown.status_and_code(), (200, -32602));
}

#[tokio::test]
async fn missing_state_key_is_an_init_error() {
    let config = Config::from_env(&Env::default()).unwrap();

    let error = service(config).await.unwrap_err().to_string();

    assert!(error.contains("MCP_STATE_KEY") && error.contains("`find_operation`"), "{error}");
}

fn document(title: &str, schemas: usize) -> String {
    let schemas: serde_json::Map<_, _> =
        (0..schemas).map(|number| (format!("S{number}"), json!({ "description": "x".repeat(1000) }))).collect();
    let info = json!({ "title": title, "version": "1" });
    json!({ "openapi": "3.0.3", "info": info, "paths": {}, "components": { "schemas": schemas } }).to_string()
}

/// Returns 60 KB of YAML that expands to 225 million numbers.
fn aliases() -> String {
    let many = |what: &str| vec![what; 15_000].join(",");
    format!("openapi: 3.1.0\nx-a: &a [{}]\nx-b: [{}]\n", many("1"), many("*a"))
}

/// Returns JSON with `count` objects of one member, each of which takes much more memory than its text.
fn members(count: usize) -> String {
    format!(r#"{{"openapi":"3.1.0","x":[{}]}}"#, vec![r#"{"":0}"#; count].join(","))
}

/// Requests the title of the document, `seconds` from now.
async fn title_at(service: &McpService, seconds: u64) -> (String, Reply) {
    let request = tools_call("list_operations", json!({})).progress_token(json!("p"));
    let received = SystemTime::now() + Duration::from_secs(seconds);
    let reply = exchange_via(Via::Http, service, request, Invocation { received, ..Invocation::default() }).await;
    let listed: Value = serde_json::from_str(&reply.tool_result().text()).unwrap();
    (listed["api"].as_str().unwrap().to_owned(), reply)
}

/// The function has little memory so that parsing ends early on slow machines: a parser beyond its deadline would
/// prevent the next refresh.
#[tokio::test]
async fn expired_document_is_refreshed_by_etag_and_kept_on_failure() {
    let origin = Origin::start(OriginResponse::document(document("One", 0), "\"1\"")).await;
    let url = origin.url();
    let settings =
        [("OPENAPI_SOURCE", &*url), ("OPENAPI_MAX_AGE_SECONDS", "60"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "8")];
    let service = try_start(&settings).await.unwrap();
    assert_eq!(origin.etags(), [None]);

    assert_eq!(title_at(&service, 30).await.0, "One");
    assert_eq!(origin.etags().len(), 1, "it has not expired");
    assert_eq!(title_at(&service, 61).await.0, "One");
    assert_eq!(origin.etags(), [None, Some("\"1\"".to_owned())]);
    assert_eq!(title_at(&service, 90).await.0, "One");
    assert_eq!(origin.etags().len(), 2, "it was just refreshed");

    for (response, at) in [
        (OriginResponse::Status(503), 200),
        (OriginResponse::Status(302), 300),
        (OriginResponse::document("swagger: '2.0'".to_owned(), "\"2\""), 400),
        (OriginResponse::document("{".to_owned(), "\"3\""), 500),
        (OriginResponse::document(aliases(), "\"4\""), 600),
        (OriginResponse::document(members(10_000), "\"4\""), 660),
        (OriginResponse::document(format!(r#"{{"openapi":"3.1.0","x":{}"#, "[".repeat(100_000)), "\"4\""), 720),
        (OriginResponse::Nothing, 780),
    ] {
        origin.set_response(response);
        assert_eq!(title_at(&service, at).await.0, "One");
    }
    // A connection that is closed without a response is retried once.
    assert_eq!(origin.etags().len(), 11);
    assert!(origin.etags()[1..].iter().all(|etag| etag.as_deref() == Some("\"1\"")), "{:?}", origin.etags());

    origin.set_response(OriginResponse::document(document("Two", 0), "\"5\""));
    assert_eq!(title_at(&service, 850).await.0, "Two");
}

/// Names with a special meaning in libraries.
#[tokio::test]
async fn no_member_name_is_special() {
    let name = "$serde_json::private::RawValue";
    let schema = json!({ "x-own": { name: "{\"a\":1}" } });
    let document = json!({ "openapi": "3.1.0", "components": { "schemas": { "A": schema } } });
    let origin = Origin::start(OriginResponse::document(document.to_string(), "\"1\"")).await;
    let service = try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap();

    let result = exchange(&service, tools_call("read_schema", json!({ "name": "A" }))).await.tool_result();

    assert!(result.text().contains(r#""$serde_json::private::RawValue":"{\"a\":1}""#), "{}", result.text());
}

#[tokio::test]
async fn errors_omit_the_query_of_a_url() {
    let origin = Origin::start(OriginResponse::Status(403)).await;
    let source = format!("{}?token=SECRET", origin.url());
    for response in [OriginResponse::Status(403), OriginResponse::Nothing] {
        origin.set_response(response);

        let error = try_start(&[("OPENAPI_SOURCE", &source)]).await.unwrap_err();

        assert!(error.contains(&origin.url()) && !error.contains("SECRET"), "{error}");
    }
}

#[tokio::test]
async fn progress_is_sent_while_a_large_document_is_downloaded() {
    let origin = Origin::start(OriginResponse::document(document("Small", 0), "\"1\"")).await;
    let service = try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap();
    let large = document("Large", 2000);
    let length = large.len();
    origin.set_response(OriginResponse::document(large, "\"2\""));

    let (title, reply) = title_at(&service, 301).await;

    assert_eq!(title, "Large");
    let notifications = &reply.messages[..reply.messages.len() - 1];
    assert!(notifications.len() >= 4, "{notifications:?}");
    assert_eq!(notifications[0]["params"]["total"].as_f64(), Some(length as f64));
    assert_eq!(notifications[0]["params"]["message"], "downloading the document");
}

#[tokio::test]
async fn unavailable_or_invalid_document_is_an_init_error() {
    let origin = Origin::start(OriginResponse::Nothing).await;
    for (response, expected) in [
        (OriginResponse::Status(404), "returned status 404"),
        (OriginResponse::Status(302), "redirects are not followed"),
        (OriginResponse::document("swagger: '2.0'".to_owned(), "\"1\""), "Swagger 2.0: OpenAPI 3.0 and 3.1"),
        (OriginResponse::document("{\"openapi\": ".to_owned(), "\"1\""), "not JSON"),
        (OriginResponse::document(" ".repeat(25 * 1024 * 1024), "\"1\""), "more than 24 MiB"),
        (OriginResponse::Nothing, "sent no complete response"),
    ] {
        origin.set_response(response);

        let error = try_start(&[("OPENAPI_SOURCE", &origin.url())]).await.unwrap_err();

        assert!(error.contains(expected) && error.contains(&origin.url()), "{error}");
    }
    let memory = [("OPENAPI_SOURCE", &*origin.url()), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")];
    for (text, expected) in [(" ".repeat(7 * 1024 * 1024), "more than 6 MiB"), (members(100_000), "more than 48 MiB")] {
        origin.set_response(OriginResponse::document(text, "\"1\""));
        let large = try_start(&memory).await.unwrap_err();
        assert!(large.contains(expected) && large.contains("MemorySize"), "{large}");
    }
    let missing = try_start(&[("OPENAPI_SOURCE", "file:no-such-file.json")]).await.unwrap_err();
    assert!(missing.contains("file:no-such-file.json"), "{missing}");
}
