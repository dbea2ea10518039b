//! Access rules, for every method and event source.

use garde::Validate;
use mcp_lambda::{Env, FromEnv, HttpConfig, McpService};
use mcp_protocol::ProtocolVersion;
use mcp_server::{HandlerError, NoArguments, RequestContext, Resource, ResourceTemplate, Server, Tool, ToolContext};
use mcp_testing::{
    McpRequest, Reply, TestIssuer, complete, discover, exchange, initialize, prompts_get, resources_read, tools_call,
    tools_list,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{STATE_KEY, closed_server, server, service};

fn list(method: &str) -> McpRequest {
    McpRequest::new(method, json!({}))
}

/// Every item, with the scopes that it needs; `None` if it is public.
fn items() -> Vec<(&'static str, McpRequest, Option<&'static [&'static str]>)> {
    let reference = |name: &str| json!({ "type": "ref/prompt", "name": name });
    let template = json!({ "type": "ref/resource", "uri": "item://{id}" });
    let item = json!({ "type": "ref/resource", "uri": "item://7" });
    vec![
        ("a public tool", tools_call("open", json!({})), None),
        ("a closed tool", tools_call("closed", json!({})), Some(&[])),
        ("a tool with a scope", tools_call("write", json!({})), Some(&["events:write"])),
        ("a tool with two scopes", tools_call("both", json!({})), Some(&["events:read", "events:write"])),
        ("a public prompt", prompts_get("open_prompt", json!({ "word": "x" })), None),
        ("a prompt", prompts_get("write_prompt", json!({ "word": "x" })), Some(&["events:write"])),
        ("a public resource", resources_read("test://open"), None),
        ("a resource", resources_read("test://read"), Some(&["events:read"])),
        ("a resource of a template", resources_read("item://7"), Some(&["events:read"])),
        ("the completion of a public prompt", complete(reference("open_prompt"), "word", "s"), None),
        ("the completion of a prompt", complete(reference("write_prompt"), "word", "s"), Some(&["events:write"])),
        ("the completion of a template", complete(template, "id", "s"), Some(&["events:read"])),
        ("the completion of a template by a URI of its", complete(item, "id", "s"), Some(&["events:read"])),
    ]
}

fn scope_of(reply: &Reply) -> Vec<String> {
    let challenge = reply.headers["www-authenticate"].to_str().unwrap();
    let scope = challenge.split_once("scope=\"").map(|(_, rest)| rest.split_once('"').unwrap().0);
    scope.map(|scope| scope.split(' ').map(str::to_owned).collect()).unwrap_or_default()
}

#[tokio::test]
async fn an_access_rule_holds_for_every_method_that_uses_the_item() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    for revision in ProtocolVersion::ALL {
        for (what, request, needed) in items() {
            let request = request.revision(revision);
            let anonymous = exchange(&service, request.clone()).await;
            let Some(needed) = needed else {
                assert_eq!(anonymous.status, 200, "{what} in {revision}: {}", anonymous.body);
                continue;
            };
            assert_eq!(anonymous.status, 401, "{what} in {revision}");
            // An item without scopes is challenged with the scopes of the metadata.
            let challenged = if needed.is_empty() { &["events:write", "events:read"][..] } else { needed };
            assert_eq!(scope_of(&anonymous), challenged, "{what} in {revision}");

            let enough = exchange(&service, request.clone().bearer(&issuer.token(needed.iter().copied()))).await;
            let broader = exchange(&service, request.clone().bearer(&issuer.token(["admin"]))).await;
            assert_eq!((enough.status.as_u16(), broader.status.as_u16()), (200, 200), "{what}: {}", enough.body);

            for missing in needed {
                let some = needed.iter().copied().filter(|scope| scope != missing).chain(["other"]);
                let rejected = exchange(&service, request.clone().bearer(&issuer.token(some))).await;

                assert_eq!(rejected.status, 403, "{what} without {missing} in {revision}");
                assert_eq!(scope_of(&rejected), needed, "all required scopes, not only the missing ones");
                assert!(
                    rejected.headers["www-authenticate"].to_str().unwrap().contains("error=\"insufficient_scope\"")
                );
            }
        }
    }
}

#[tokio::test]
async fn a_retry_with_an_answer_is_authorized_again() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let request = || tools_call("asks", json!({})).capabilities(json!({ "elicitation": {} }));
    let asked = exchange(&service, request().bearer(&issuer.token(["events:write"]))).await;
    let answer = json!({ "word": { "action": "accept", "content": { "word": "yes" } } });
    let retry = || request().input_responses(&asked, answer.clone());
    let bob = issuer.mint(["events:write"], |_, claims| claims["sub"] = json!("bob"));

    let own = exchange(&service, retry().bearer(&issuer.token(["events:write"]))).await;
    let anonymous = exchange(&service, retry()).await;
    let without_scope = exchange(&service, retry().bearer(&issuer.token([]))).await;
    let another = exchange(&service, retry().bearer(&bob)).await;

    assert_eq!(own.tool_result().text(), "yes");
    assert_eq!((anonymous.status.as_u16(), without_scope.status.as_u16()), (401, 403));
    assert_eq!(another.status_and_code(), (200, -32602), "the state is bound to the caller");
}

#[tokio::test]
async fn a_batch_runs_only_if_all_its_requests_are_authorized() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let legacy = ProtocolVersion::V2025_03_26;
    let batch = |names: &[&str]| {
        let call = |(id, name): (usize, &&str)| tools_call(name, json!({})).revision(legacy).id(json!(id)).message();
        let messages: Vec<Value> = names.iter().enumerate().map(call).collect();
        tools_call("open", json!({})).revision(legacy).body(Value::Array(messages).to_string())
    };

    let open = exchange(&service, batch(&["open", "open"])).await;
    let mixed = exchange(&service, batch(&["open", "write", "both"])).await;
    let known = exchange(&service, batch(&["open", "write", "both"]).bearer(&issuer.token([]))).await;
    let enough = exchange(&service, batch(&["open", "write", "both"]).bearer(&issuer.token(["admin"]))).await;

    assert_eq!((open.status.as_u16(), open.messages.len()), (200, 2));
    assert_eq!((mixed.status.as_u16(), mixed.messages.len()), (401, 1));
    assert_eq!(scope_of(&mixed), ["events:read", "events:write"], "the scopes of all requests");
    assert_eq!(known.status, 403);
    assert_eq!((enough.status.as_u16(), enough.messages.len()), (200, 3));
}

#[tokio::test]
async fn a_missing_claim_is_403_without_a_challenge() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let of = |department: Value| issuer.mint([], |_, claims| claims["department"] = department);
    for (department, status) in [
        (json!("staff"), 200),
        (json!(["board", "staff"]), 200),
        (json!("Staff"), 403),
        (json!(null), 403),
        (json!({ "staff": true }), 403),
    ] {
        let reply = exchange(&service, tools_call("staff", json!({})).bearer(&of(department.clone()))).await;

        assert_eq!(reply.status, status, "{department}");
        assert!(!reply.headers.contains_key("www-authenticate"), "no token that a client could request would help");
    }
}

#[tokio::test]
async fn a_public_item_makes_only_itself_and_discovery_public() {
    let issuer = TestIssuer::start().await;
    let (open, closed) = (service(server(), &issuer, &[]), service(closed_server(), &issuer, &[]));
    let denying = service(server(), &issuer, &[("MCP_ANONYMOUS", "deny")]);
    let legacy = |method: &str| list(method).revision(ProtocolVersion::LATEST_LEGACY);
    for (what, request) in [
        ("discover", discover()),
        ("initialize", initialize("2025-11-25")),
        ("ping", legacy("ping")),
        ("tools", tools_list()),
        ("tools of old", legacy("tools/list")),
        ("prompts", list("prompts/list")),
        ("resources", list("resources/list")),
        ("templates", list("resources/templates/list")),
        ("an unknown method", list("made/up")),
        ("an unknown tool", tools_call("made_up", json!({}))),
        ("an unknown resource", resources_read("made://up")),
        ("malformed parameters", tools_call("open", json!({})).param("name", json!(7)).header("mcp-name", "7")),
        ("a public tool", tools_call("open", json!({}))),
        ("no JSON", discover().body("{")),
        ("an empty batch", discover().body("[]")),
        ("another media type", discover().header("content-type", "text/plain")),
        ("an unknown version", discover().header("mcp-protocol-version", "1999-01-01")),
        ("nothing acceptable", discover().header("accept", "text/html")),
        ("a notification", discover().body(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)),
        ("a response", discover().body(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)),
    ] {
        let anonymous = exchange(&open, request.clone()).await;
        assert_ne!(anonymous.status, 401, "{what}");
        for service in [&closed, &denying] {
            let rejected = exchange(service, request.clone()).await;
            let known = exchange(service, request.clone().bearer(&issuer.token([]))).await;

            assert_eq!(rejected.status, 401, "{what}: {}", rejected.body);
            assert!(rejected.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer resource_metadata="));
            assert_ne!(known.status, 401, "{what}");
        }
    }
}

#[tokio::test]
async fn authorized_results_are_never_publicly_cacheable() {
    let issuer = TestIssuer::start().await;
    let (open, closed) = (service(server(), &issuer, &[]), service(closed_server(), &issuer, &[]));
    let denying = service(server(), &issuer, &[("MCP_ANONYMOUS", "deny")]);
    let token = issuer.token(["admin"]);
    let scope = async |service: &McpService, request: McpRequest| {
        exchange(service, request.bearer(&token)).await.result()["cacheScope"].clone()
    };
    for request in [tools_list(), discover()] {
        assert_eq!(scope(&open, request.clone()).await, "public", "public and the same for every caller");
        assert_eq!(scope(&closed, request.clone()).await, "private");
        assert_eq!(scope(&denying, request).await, "private");
    }
    assert_eq!(scope(&open, resources_read("test://open")).await, "public");
    assert_eq!(scope(&denying, resources_read("test://open")).await, "private");
    assert_eq!(scope(&open, resources_read("test://read")).await, "private", "despite the author's setting");
}

#[tokio::test]
async fn the_meta_of_each_tool_has_its_security_schemes() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[("OIDC_SCOPE_PREFIX", "api/")]);

    let list = exchange(&service, tools_list()).await;

    let schemes = |name: &str| {
        let tools = list.result()["tools"].as_array().unwrap();
        tools.iter().find(|tool| tool["name"] == name).unwrap()["_meta"]["securitySchemes"].clone()
    };
    assert_eq!(schemes("open"), json!([{ "type": "noauth" }]));
    assert_eq!(schemes("closed"), json!([{ "type": "oauth2", "scopes": [] }]));
    assert_eq!(schemes("both"), json!([{ "type": "oauth2", "scopes": ["api/events:read", "api/events:write"] }]));
}

#[tokio::test]
async fn the_rule_of_the_server_applies_to_all_items_that_are_not_public() {
    let issuer = TestIssuer::start().await;
    let service = service(server().require_scope("mcp"), &issuer, &[]);
    let write = |scopes: &[&'static str]| tools_call("write", json!({})).bearer(&issuer.token(scopes.iter().copied()));

    let anonymous = exchange(&service, tools_call("write", json!({}))).await;

    assert_eq!(scope_of(&anonymous), ["mcp", "events:write"]);
    assert_eq!(exchange(&service, tools_call("open", json!({}))).await.status, 200);
    for (scopes, status) in [(&["events:write"][..], 403), (&["mcp"], 403), (&["mcp", "events:write"], 200)] {
        assert_eq!(exchange(&service, write(scopes)).await.status, status, "{scopes:?}");
    }
    assert_eq!(exchange(&service, tools_call("closed", json!({})).bearer(&issuer.token([]))).await.status, 403);
}

#[tokio::test]
async fn a_server_with_access_rules_does_not_start_without_authentication() {
    let build = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().copied().chain([("MCP_STATE_KEY", STATE_KEY)]);
        McpService::new(server(), HttpConfig::from_env(&Env::from_pairs(pairs))?)
    };

    let error = build(&[]).unwrap_err().to_string();

    assert!(error.contains("tool `open`") && error.contains("OIDC_ISSUER"), "{error}");
    assert!(build(&[("MCP_AUTH", "required")]).unwrap_err().to_string().contains("OIDC_ISSUER"));
    let both = [("MCP_AUTH", "iam"), ("OIDC_ISSUER", "https://issuer.example")];
    assert!(build(&both).unwrap_err().to_string().contains("exclude each other"));
    let off = build(&[("MCP_AUTH", "dangerously-off"), ("OIDC_ISSUER", "https://issuer.example")]).unwrap();
    assert_eq!(exchange(&off, tools_call("both", json!({}))).await.status, 200);
    let list = exchange(&off, tools_list()).await;
    assert!(!list.body.contains("securitySchemes"), "nothing is asked for: {}", list.body);
}

async fn scope(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok(context.has_scope("events:read").to_string())
}

#[tokio::test]
async fn a_server_without_access_rules_is_closed_by_configuration() {
    let issuer = TestIssuer::start().await;
    let plain = || Server::new("plain", "1.0.0", ()).tool(Tool::new("scope", scope));
    let call = tools_call("scope", json!({}));

    let closed = service(plain(), &issuer, &[]);
    let open = McpService::new(plain(), HttpConfig::default()).unwrap();

    assert_eq!(exchange(&closed, call.clone()).await.status, 401);
    let known = exchange(&closed, call.clone().bearer(&issuer.token(["events:read"]))).await;
    assert_eq!(known.tool_result().text(), "true");
    assert_eq!(exchange(&open, call).await.tool_result().text(), "false", "an anonymous caller has no scope");
}

/// The resource list of a handler, and a resource that supports subscriptions.
#[tokio::test]
async fn listed_resources_and_subscriptions_follow_the_access_rules() {
    let issuer = TestIssuer::start().await;
    let template = || ResourceTemplate::new("file://{id}", "file", read_file).list(list_files);
    let guarded = Server::new("files", "1.0.0", ())
        .tool(Tool::new("scope", scope).public())
        .resource(Resource::new("file://index", "index", index).require_scope("files:read").subscribable())
        .resource_template(template().require_scope("files:read"))
        .caching(mcp_server::List::Resources, mcp_server::Caching::public(std::time::Duration::from_secs(60)));
    let service = service(guarded, &issuer, &[]);
    let reader = issuer.token(["files:read"]);
    let listed = async |token: Option<&str>| {
        let request = token.into_iter().fold(list("resources/list"), |request, token| request.bearer(token));
        let reply = exchange(&service, request).await;
        let names =
            reply.result()["resources"].as_array().unwrap().iter().map(|own| own["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), reply.result()["cacheScope"].clone())
    };

    assert_eq!(listed(None).await, (vec!["index".to_owned()], json!("private")));
    assert_eq!(listed(Some(&issuer.token([]))).await.0, ["index"]);
    assert_eq!(listed(Some(&reader)).await.0, ["index", "secret"]);
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        let request = McpRequest::new(method, json!({ "uri": "file://index" })).revision(ProtocolVersion::V2025_11_25);
        assert_eq!(exchange(&service, request.clone()).await.status, 401, "{method}");
        assert_eq!(exchange(&service, request.clone().bearer(&issuer.token([]))).await.status, 403, "{method}");
        assert_eq!(exchange(&service, request.bearer(&reader)).await.status, 200, "{method}");
    }
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct FileUri {
    #[garde(skip)]
    id: String,
}

async fn read_file(_: RequestContext<()>, uri: FileUri) -> Result<String, HandlerError> {
    Ok(uri.id)
}

async fn list_files(_: RequestContext<()>, _: Option<String>) -> Result<Vec<mcp_protocol::Resource>, HandlerError> {
    Ok(vec![mcp_protocol::Resource::new("file://secret", "secret")])
}

async fn index(_: RequestContext<()>) -> Result<&'static str, HandlerError> {
    Ok("index")
}

#[tokio::test]
async fn a_caller_without_the_required_scope_gets_no_server_information() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server().require_claim("department", "staff"), &issuer, &[]);
    let (stranger, staff) = (issuer.token([]), issuer.mint([], |_, claims| claims["department"] = json!("staff")));
    for (what, request) in [
        ("the list", tools_list()),
        ("a tool that is there", tools_call("closed", json!({}))),
        ("a tool that is not", tools_call("made_up", json!({}))),
        ("a resource that is not", resources_read("made://up")),
        ("malformed parameters", tools_call("closed", json!({})).param("name", json!(7)).header("mcp-name", "7")),
        ("an unknown version", discover().header("mcp-protocol-version", "1999-01-01")),
        ("no JSON", discover().body("{")),
    ] {
        let rejected = exchange(&service, request.clone().bearer(&stranger)).await;

        assert_eq!(rejected.status_and_code(), (403, 403), "{what}: {}", rejected.body);
        assert_ne!(exchange(&service, request.bearer(&staff)).await.status, 403, "{what}");
    }
}

#[tokio::test]
async fn a_challenge_has_the_scope_names_of_the_callers_issuer() {
    let (first, second) = (TestIssuer::start().await, TestIssuer::start().await);
    let entries = json!([
        { "issuer": first.issuer(), "scope_prefix": "one/" },
        { "issuer": second.issuer(), "scope_prefix": "two/" },
    ]);
    let pairs = [("OIDC_ISSUERS", entries.to_string()), ("MCP_STATE_KEY", STATE_KEY.to_owned())];
    let service = McpService::new(server(), HttpConfig::from_env(&Env::from_pairs(pairs)).unwrap()).unwrap();
    let write = || tools_call("write", json!({}));

    assert_eq!(
        scope_of(&exchange(&service, write()).await),
        ["one/events:write"],
        "the issuer of the caller is unknown"
    );
    assert_eq!(scope_of(&exchange(&service, write().bearer(&first.token([]))).await), ["one/events:write"]);
    assert_eq!(scope_of(&exchange(&service, write().bearer(&second.token([]))).await), ["two/events:write"]);
}

/// The event of a Function URL with `AuthType: AWS_IAM` (Lambda Developer Guide, "Invoking Lambda function URLs").
fn signed(request: McpRequest, iam: &Value) -> String {
    let mut event = mcp_testing::event_of(mcp_testing::Via::FunctionUrl, &request.into_http());
    event["requestContext"]["authorizer"] = json!({ "iam": iam });
    event.to_string()
}

#[tokio::test]
async fn with_iam_the_principal_is_the_signer_in_the_event() {
    let build = |more: &[(&str, &str)]| {
        let pairs = more.iter().copied().chain([("MCP_STATE_KEY", STATE_KEY), ("MCP_AUTH", "iam")]);
        McpService::new(server(), HttpConfig::from_env(&Env::from_pairs(pairs)).unwrap()).unwrap()
    };
    let (plain, granting) = (build(&[]), build(&[("OIDC_GRANT_SCOPES", "events:write")]));
    let ada = json!({
        "accessKey": "AKIAIOSFODNN7EXAMPLE", "accountId": "111122223333", "callerId": "AIDACKCEVSQ6C2EXAMPLE",
        "cognitoIdentity": null, "principalOrgId": "aws:PrincipalOrgID",
        "userArn": "arn:aws:iam::111122223333:user/ada", "userId": "AIDACKCEVSQ6C2EXAMPLE",
    });
    let send = async |service: &McpService, event: String| {
        let response =
            mcp_lambda::transport::respond_buffered(service, event.as_bytes(), mcp_server::Invocation::default()).await;
        let response = serde_json::to_value(response.unwrap()).unwrap();
        (response["statusCode"].as_u64().unwrap(), response["body"].as_str().unwrap().to_owned())
    };
    let call = |name: &str| tools_call(name, json!({}));

    let (_, list) = send(&plain, signed(tools_list(), &ada)).await;
    assert!(list.contains("\"write\"") && !list.contains("securitySchemes"), "there is no issuer to go to: {list}");
    let (status, body) = send(&plain, signed(call("closed"), &ada)).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("arn:aws:iam::111122223333:user/ada") && !body.contains("AKIAIOSFODNN7EXAMPLE"), "{body}");
    // The caller chooses the name of a session.
    let session = |name: &str| {
        json!({
            "accountId": "111122223333", "callerId": format!("AROAEXAMPLE:{name}"), "userId": format!("AROAEXAMPLE:{name}"),
            "userArn": format!("arn:aws:sts::111122223333:assumed-role/Reader/{name}"),
        })
    };
    let (one, other) = (
        send(&plain, signed(call("closed"), &session("ada"))).await,
        send(&plain, signed(call("closed"), &session("botocore-session-1764169200"))).await,
    );
    assert_eq!(one, other);
    assert!(one.1.contains(":assumed-role/Reader\\\""), "{}", one.1);
    assert_eq!(send(&plain, signed(call("write"), &ada)).await.0, 403, "a signature carries no scopes");
    assert_eq!(send(&granting, signed(call("write"), &ada)).await.0, 200);
    for unsigned in [json!(null), json!({}), json!("ada"), json!({ "userArn": "" })] {
        assert_eq!(send(&plain, signed(call("open"), &unsigned)).await.0, 403, "{unsigned}");
    }
    // Callers of a REST API cannot set it, but it is not verified either.
    let mut event = mcp_testing::event_of(mcp_testing::Via::RestApi, &call("open").into_http());
    event["requestContext"]["authorizer"] = json!({ "iam": ada });
    assert_eq!(send(&plain, event.to_string()).await.0, 403);
}
