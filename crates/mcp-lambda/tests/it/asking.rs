//! Asking the client, round by round, in environments that remember nothing.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use garde::Validate;
use mcp_lambda::{HttpConfig, InvokeMode, McpService};
use mcp_protocol::{CreateMessageRequestParams, ProtocolVersion, ToolChoice};
use mcp_server::{
    Elicited, InteractiveContext, Invocation, NoArguments, Prompt, RequestContext, RequestError, Resource, Server,
    StateKey, Tool, ToolError,
};
use mcp_testing::{
    McpRequest, Reply, TestAuthenticator, Via, exchange, exchange_via, prompts_get, resources_read, state_key,
    tools_call,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Default)]
struct State {
    orders: AtomicU32,
}

type Context = InteractiveContext<State>;

fn server() -> Server<State> {
    Server::new("asking", "1.2.3", State::default())
        .tool(Tool::new("greet", greet))
        .tool(Tool::new("order", order))
        .tool(Tool::new("all", all))
        .tool(Tool::new("visit", visit))
        .tool(Tool::new("with_tools", with_tools))
        .tool(Tool::new("same_key", same_key))
        .tool(Tool::new("nested", nested))
        .tool(Tool::new("long", long))
        .tool(Tool::new("reports", reports))
        .tool(Tool::new("quiet", quiet))
        .prompt(Prompt::new("write", write))
        .resource(Resource::new("asking://secret", "secret", secret))
}

/// An execution environment of its own.
fn environment() -> McpService<State> {
    with_key(state_key())
}

fn with_key(key: StateKey) -> McpService<State> {
    McpService::new(server(), HttpConfig { state_key: Some(key), ..HttpConfig::default() }).unwrap()
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Name {
    /// Your name.
    #[garde(length(chars, min = 1, max = 10))]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct GreetArgs {
    #[garde(skip)]
    #[serde(default)]
    greeting: Option<String>,
}

async fn greet(context: Context, args: GreetArgs) -> Result<String, ToolError> {
    let greeting = args.greeting.unwrap_or_else(|| "Hello".to_owned());
    Ok(match context.elicit::<Name>("name", "Who are you?").await {
        Elicited::Accepted(Name { name }) => format!("{greeting}, {name}!"),
        Elicited::Declined => "declined".to_owned(),
        Elicited::Cancelled => "cancelled".to_owned(),
    })
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Count {
    #[garde(skip)]
    count: u32,
}

/// Asks twice, with an effect before each question.
async fn order(context: Context, _: NoArguments) -> Result<String, ToolError> {
    let number = context
        .once("number", async { Ok::<_, ToolError>(context.state().orders.fetch_add(1, Ordering::SeqCst) + 1) })
        .await?;
    let name = context.elicit::<Name>("name", "Who orders?").await.accepted();
    let count = context.elicit::<Count>("count", "How many?").await.accepted();
    let (Some(name), Some(count)) = (name, count) else {
        return Err(ToolError::Failed("no order".to_owned()));
    };
    Ok(format!("order {number}: {} for {}", count.count, name.name))
}

fn question() -> CreateMessageRequestParams {
    CreateMessageRequestParams::question("Why?", 10)
}

async fn all(context: Context, _: NoArguments) -> Result<String, ToolError> {
    let (name, why, roots) = tokio::join!(
        context.elicit::<Name>("name", "Who are you?"),
        context.sample("why", question()),
        context.list_roots("roots"),
    );
    Ok(format!("{:?} {} {}", name.accepted().map(|name| name.name), why.text(), roots.len()))
}

async fn visit(context: Context, _: NoArguments) -> Result<String, ToolError> {
    Ok(format!("{:?}", context.elicit_url("page", "Pay, please.", "https://pay.example.com/1").await))
}

async fn with_tools(context: Context, _: NoArguments) -> Result<String, ToolError> {
    let request = CreateMessageRequestParams { tool_choice: Some(ToolChoice::default()), ..question() };
    Ok(context.sample("why", request).await.text())
}

async fn same_key(context: Context, _: NoArguments) -> Result<String, ToolError> {
    let (name, count) =
        tokio::join!(context.elicit::<Name>("key", "Who?"), context.elicit::<Count>("key", "How many?"));
    Ok(format!("{name:?} {count:?}"))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Nested {
    #[garde(skip)]
    #[expect(dead_code, reason = "no form can ask for it")]
    inner: Vec<Vec<u8>>,
}

async fn nested(context: Context, _: NoArguments) -> Result<String, ToolError> {
    Ok(format!("{:?}", context.elicit::<Nested>("nested", "What?").await))
}

async fn long(context: Context, _: NoArguments) -> Result<String, ToolError> {
    context.once("long", async { Ok::<_, ToolError>("x".repeat(8 * 1024)) }).await?;
    Ok(format!("{:?}", context.elicit::<Name>("name", "Who?").await))
}

async fn reports(context: Context, _: NoArguments) -> Result<String, ToolError> {
    context.progress(1.0, None, None).await;
    Ok(format!("{:?}", context.elicit::<Name>("name", "Who?").await.accepted().map(|name| name.name)))
}

async fn quiet(_: RequestContext<State>, _: NoArguments) -> Result<&'static str, ToolError> {
    Ok("never asks")
}

async fn write(context: Context, _: NoArguments) -> Result<String, RequestError> {
    Ok(format!("Write about {:?}.", context.elicit::<Name>("name", "About whom?").await.accepted()))
}

async fn secret(context: Context) -> Result<String, RequestError> {
    match context.elicit::<Name>("name", "Who reads?").await {
        Elicited::Accepted(Name { name }) => Ok(format!("a secret for {name}")),
        Elicited::Declined | Elicited::Cancelled => Err(RequestError::NotFound),
    }
}

fn able(request: McpRequest) -> McpRequest {
    request.capabilities(json!({ "elicitation": { "form": {}, "url": {} }, "sampling": { "tools": {} }, "roots": {} }))
}

fn call(tool: &str) -> McpRequest {
    able(tools_call(tool, json!({})))
}

fn accept(key: &str, content: Value) -> Value {
    json!({ key: { "action": "accept", "content": content } })
}

fn ada() -> Value {
    accept("name", json!({ "name": "Ada" }))
}

/// The questions of a reply; panics if it is a result.
#[track_caller]
fn questions(reply: &Reply) -> &Value {
    assert_eq!(reply.result()["resultType"], "input_required", "{reply:?}");
    &reply.result()["inputRequests"]
}

#[track_caller]
fn text(reply: &Reply) -> String {
    reply.tool_result().text()
}

#[tokio::test]
async fn a_question_ends_the_request_and_its_answer_goes_on_in_another_environment() {
    let asked = exchange(&environment(), call("greet")).await;

    let form = json!({
        "type": "object",
        "properties": { "name": { "type": "string", "description": "Your name.", "minLength": 1, "maxLength": 10 } },
        "required": ["name"],
    });
    let params = json!({ "mode": "form", "message": "Who are you?", "requestedSchema": form });
    assert_eq!(questions(&asked), &json!({ "name": { "method": "elicitation/create", "params": params } }));

    let answered = exchange(&environment(), call("greet").id(json!(2)).answered(&asked, ada())).await;
    assert_eq!(text(&answered), "Hello, Ada!");
}

#[tokio::test]
async fn a_person_may_decline_or_go_away() {
    for (action, expected) in [("decline", "declined"), ("cancel", "cancelled")] {
        let asked = exchange(&environment(), call("greet")).await;

        let request = call("greet").answered(&asked, json!({ "name": { "action": action } }));
        let answered = exchange(&environment(), request).await;

        assert_eq!(text(&answered), expected);
    }
}

#[tokio::test]
async fn answers_of_earlier_rounds_travel_and_effects_in_once_happen_once() {
    let first = environment();
    let second = environment();
    let one = exchange(&first, call("order")).await;
    let two = exchange(&second, call("order").answered(&one, ada())).await;
    let count = accept("count", json!({ "count": 3 }));
    // Only the latest answer is sent.
    let three = exchange(&second, call("order").answered(&two, count)).await;

    assert_eq!(questions(&one).as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!(questions(&two).as_object().unwrap().keys().collect::<Vec<_>>(), ["count"]);
    assert_ne!(one.result()["requestState"], two.result()["requestState"]);
    // The second environment never counted an order of its own.
    assert_eq!(text(&three), "order 1: 3 for Ada");
    assert_eq!(text(&exchange(&second, all_at_once("order")).await), "order 1: 3 for Ada");
}

/// Both answers in the first round: nobody has to be asked.
fn all_at_once(tool: &str) -> McpRequest {
    let mut answers = ada();
    answers["count"] = accept("count", json!({ "count": 3 }))["count"].clone();
    call(tool).param("inputResponses", answers)
}

#[tokio::test]
async fn independent_questions_are_asked_together() {
    let asked = exchange(&environment(), call("all")).await;

    assert_eq!(questions(&asked)["roots"], json!({ "method": "roots/list" }));
    let model = json!({ "role": "assistant", "content": { "type": "text", "text": "Because." }, "model": "m" });
    let answers = json!({ "name": ada()["name"], "why": model, "roots": { "roots": [{ "uri": "file:///x" }] } });
    let answered = exchange(&environment(), call("all").answered(&asked, answers)).await;
    assert_eq!(text(&answered), "Some(\"Ada\") Because. 1");
}

#[tokio::test]
async fn what_was_answered_is_kept_and_what_was_not_is_asked_again() {
    let asked = exchange(&environment(), call("all")).await;

    let answers = json!({ "name": ada()["name"], "other": 5 });
    let again = exchange(&environment(), call("all").answered(&asked, answers)).await;
    let none = exchange(&environment(), call("all").answered(&asked, Value::Null)).await;

    assert_eq!(questions(&again).as_object().unwrap().keys().collect::<Vec<_>>(), ["roots", "why"]);
    assert_eq!(questions(&none).as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_with_what_is_wrong() {
    for (answer, complaint) in [
        (json!(12345), "`name`"),
        (json!({ "action": "agree" }), "unknown variant `agree`"),
        (json!({ "action": "accept" }), "missing field `name`"),
        (json!({ "action": "accept", "content": { "name": "" } }), "length is lower than 1"),
        (json!({ "action": "accept", "content": { "name": 5 } }), "invalid type: integer"),
    ] {
        let asked = exchange(&environment(), call("greet")).await;

        let request = call("greet").answered(&asked, json!({ "name": answer }));
        let refused = exchange(&environment(), request).await;

        assert_eq!(refused.refusal(), (200, -32602));
        assert!(refused.body.contains(complaint), "{complaint}: {}", refused.body);
    }
    let no_object = call("greet").param("inputResponses", json!([1]));
    assert_eq!(exchange(&environment(), no_object).await.refusal(), (400, -32602));
}

#[tokio::test]
async fn only_what_the_client_declared_is_asked() {
    let url_only = json!({ "elicitation": { "url": {} } });
    for (tool, declared, missing) in [
        ("greet", json!({}), json!({ "elicitation": { "form": {} } })),
        ("greet", url_only, json!({ "elicitation": { "form": {} } })),
        ("visit", json!({ "elicitation": {} }), json!({ "elicitation": { "url": {} } })),
        ("with_tools", json!({ "sampling": {} }), json!({ "sampling": { "tools": {} } })),
        ("all", json!({ "elicitation": {}, "roots": {} }), json!({ "sampling": {} })),
        ("all", json!({ "elicitation": {}, "sampling": {} }), json!({ "roots": {} })),
    ] {
        let refused = exchange(&environment(), tools_call(tool, json!({})).capabilities(declared.clone())).await;

        assert_eq!(refused.refusal(), (400, -32021), "{tool} {declared}");
        assert_eq!(refused.response()["error"]["data"]["requiredCapabilities"], missing, "{tool} {declared}");
    }
    let bare = tools_call("greet", json!({})).capabilities(json!({ "elicitation": {} }));
    questions(&exchange(&environment(), bare).await);
}

#[tokio::test]
async fn a_page_is_asked_for_by_its_url() {
    let asked = exchange(&environment(), call("visit")).await;

    let params = json!({ "mode": "url", "message": "Pay, please.", "url": "https://pay.example.com/1" });
    assert_eq!(questions(&asked)["page"]["params"], params);
    let request = call("visit").answered(&asked, json!({ "page": { "action": "accept" } }));
    assert_eq!(text(&exchange(&environment(), request).await), "Accepted(())");
}

#[tokio::test]
async fn a_state_opens_only_for_its_own_request() {
    let callers = TestAuthenticator::new("https://issuer.example");
    let others = TestAuthenticator::new("https://other.example");
    let send = |request: McpRequest, invocation: Invocation| async {
        exchange_via(Via::FunctionUrl, &environment(), request, invocation).await
    };
    let asked = send(call("greet"), callers.as_caller("ada")).await;
    let state = asked.result()["requestState"].as_str().unwrap().to_owned();
    let with_state =
        |request: McpRequest, state: &str| request.param("requestState", json!(state)).param("inputResponses", ada());
    let late =
        Invocation { received: std::time::SystemTime::now() + Duration::from_secs(601), ..callers.as_caller("ada") };
    let greeting = able(tools_call("greet", json!({ "greeting": "Bye" })));

    let own = send(with_state(call("greet"), &state), callers.as_caller("ada")).await;
    assert_eq!(text(&own), "Hello, Ada!");
    for (what, request, invocation) in [
        ("tampered", with_state(call("greet"), &format!("{state}-TAMPERED")), callers.as_caller("ada")),
        ("cut", with_state(call("greet"), &state[..state.len() - 1]), callers.as_caller("ada")),
        ("empty", with_state(call("greet"), ""), callers.as_caller("ada")),
        ("endless", with_state(call("greet"), &"A".repeat(100_000)), callers.as_caller("ada")),
        ("expired", with_state(call("greet"), &state), late),
        ("another tool", with_state(call("order"), &state), callers.as_caller("ada")),
        ("a tool that never asks", with_state(call("quiet"), &state), callers.as_caller("ada")),
        ("a prompt", with_state(able(prompts_get("write", json!({}))), &state), callers.as_caller("ada")),
        ("a resource", with_state(able(resources_read("asking://secret")), &state), callers.as_caller("ada")),
        ("other arguments", with_state(greeting, &state), callers.as_caller("ada")),
        ("another caller", with_state(call("greet"), &state), callers.as_caller("eve")),
        ("another issuer's caller", with_state(call("greet"), &state), others.as_caller("ada")),
        ("nobody", with_state(call("greet"), &state), Invocation::default()),
    ] {
        let refused = send(request, invocation).await;

        assert_eq!(refused.refusal(), (200, -32602), "{what}");
        assert!(refused.body.contains("requestState"), "{what}: {}", refused.body);
    }
}

#[tokio::test]
async fn arguments_are_the_same_however_they_are_spelled() {
    let body = |state: &Value, arguments: &str| {
        let mut message = able(tools_call("greet", json!({}))).message();
        message["params"]["requestState"] = state.clone();
        message["params"]["inputResponses"] = ada();
        message.to_string().replace(r#""arguments":{}"#, &format!(r#""arguments":{arguments}"#))
    };
    let asked = exchange(&environment(), able(tools_call("greet", json!({ "greeting": "Hé" })))).await;

    let spelled = body(&asked.result()["requestState"], r#"{ "greeting" : "H\u00e9" }"#);
    let answered = exchange(&environment(), call("greet").body(spelled)).await;

    assert_eq!(text(&answered), "Hé, Ada!");
}

#[tokio::test]
async fn a_key_may_be_rotated_while_clients_answer() {
    let key = |byte: &str| byte.repeat(43) + "=";
    let asked = exchange(&with_key(StateKey::parse(&key("A")).unwrap()), call("greet")).await;

    let rotated = with_key(StateKey::parse(&format!("{},{}", key("E"), key("A"))).unwrap());
    let replaced = with_key(StateKey::parse(&key("E")).unwrap());

    assert_eq!(text(&exchange(&rotated, call("greet").answered(&asked, ada())).await), "Hello, Ada!");
    let refused = exchange(&replaced, call("greet").answered(&asked, ada())).await;
    assert_eq!(refused.refusal(), (200, -32602));
}

#[tokio::test]
async fn a_mistake_in_the_handler_is_logged_and_not_shown() {
    for tool in ["same_key", "nested", "long"] {
        let reply = exchange(&environment(), call(tool)).await;

        assert_eq!(text(&reply), "The tool failed.", "{tool}");
        assert_eq!(reply.tool_result().is_error, Some(true));
    }
}

#[tokio::test]
async fn prompts_and_resources_ask_too() {
    let prompt = || able(prompts_get("write", json!({})));
    let resource = || able(resources_read("asking://secret"));
    let asked_prompt = exchange(&environment(), prompt()).await;
    let asked_resource = exchange(&environment(), resource()).await;
    assert!(questions(&asked_prompt).get("name").is_some() && questions(&asked_resource).get("name").is_some());

    let prompt = exchange(&environment(), prompt().answered(&asked_prompt, ada())).await;
    let read = exchange(&environment(), resource().answered(&asked_resource, ada())).await;
    let declined = json!({ "name": { "action": "decline" } });
    let declined = exchange(&environment(), resource().answered(&asked_resource, declined)).await;

    assert_eq!(prompt.result()["messages"][0]["content"]["text"], "Write about Some(Name { name: \"Ada\" }).");
    assert_eq!(read.result()["contents"][0]["text"], "a secret for Ada");
    assert_eq!((&read.result()["ttlMs"], &read.result()["cacheScope"]), (&json!(0), &json!("private")));
    assert_eq!(declined.refusal(), (200, -32602));
}

#[tokio::test]
async fn a_legacy_client_is_told_at_once_that_it_cannot_be_asked() {
    for revision in ProtocolVersion::ALL.into_iter().filter(|revision| !revision.is_modern()) {
        let tool = exchange(&environment(), tools_call("greet", json!({})).revision(revision)).await;
        let prompt = exchange(&environment(), prompts_get("write", json!({})).revision(revision)).await;
        let state = tools_call("quiet", json!({})).revision(revision).param("requestState", json!("x"));
        let state = exchange(&environment(), state).await;

        assert_eq!(tool.tool_result().is_error, Some(true));
        assert!(text(&tool).contains("2026-07-28"), "{}", text(&tool));
        assert_eq!(prompt.refusal(), (200, -32602));
        assert_eq!(text(&state), "never asks", "the member means nothing in {revision}");
    }
}

#[tokio::test]
async fn progress_before_a_question_makes_a_stream_that_ends_with_the_question() {
    let config = HttpConfig { invoke_mode: InvokeMode::Stream, state_key: Some(state_key()), ..HttpConfig::default() };
    let streaming = McpService::new(server(), config).unwrap();
    let request = || call("reports").progress_token(json!("p"));

    let asked = exchange_via(Via::Http, &streaming, request(), Invocation::default()).await;
    let answered = exchange_via(Via::Http, &streaming, request().answered(&asked, ada()), Invocation::default()).await;

    assert_eq!((asked.messages.len(), answered.messages.len()), (2, 2));
    questions(&asked);
    assert_eq!(text(&answered), "Some(\"Ada\")");
}
