//! Requests to the client (elicitation, sampling, roots) over several rounds, each in a new execution environment.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use garde::Validate;
use mcp_lambda::{HttpConfig, McpService, transport::InvokeMode};
use mcp_protocol::{
    CreateMessageRequestParams, IncludeContext, NumberSchema, PrimitiveSchemaDefinition, ProtocolVersion,
    RequestedSchema, ToolChoice, UntitledMultiSelectEnumSchema, UntitledSingleSelectEnumSchema,
};
use mcp_server::{
    Elicited, HandlerError, InteractiveContext, Invocation, NoArguments, Principal, Prompt, RequestContext, Resource,
    Server, StateKey, Tool,
};
use mcp_testing::{
    McpRequest, Reply, Via, as_caller, exchange, exchange_via, prompts_get, resources_read, state_key, tools_call,
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
        .tool(Tool::new("with_context", with_context))
        .tool(Tool::new("same_key", same_key))
        .tool(Tool::new("nested", nested))
        .tool(Tool::new("long", long))
        .tool(Tool::new("roots", roots))
        .tool(Tool::new("insists", insists))
        .tool(Tool::new("by_hand", by_hand))
        .tool(Tool::new("talks", talks))
        .tool(Tool::new("bad_page", bad_page))
        .tool(Tool::new("reports", reports))
        .tool(Tool::new("quiet", quiet))
        .prompt(Prompt::new("write", write))
        .resource(Resource::new("asking://secret", "secret", secret))
}

/// A new execution environment.
fn environment() -> McpService {
    with_key(state_key())
}

fn with_key(key: StateKey) -> McpService {
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

async fn greet(context: Context, args: GreetArgs) -> Result<String, HandlerError> {
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

/// Elicits twice, with a side effect before each request.
async fn order(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let number = context
        .once("number", async { Ok::<_, HandlerError>(context.state().orders.fetch_add(1, Ordering::SeqCst) + 1) })
        .await?;
    let name = context.elicit::<Name>("name", "Who orders?").await.accepted();
    let count = context.elicit::<Count>("count", "How many?").await.accepted();
    let (Some(name), Some(count)) = (name, count) else {
        return Err(HandlerError::failed("no order"));
    };
    Ok(format!("order {number}: {} for {}", count.count, name.name))
}

fn question() -> CreateMessageRequestParams {
    CreateMessageRequestParams::question("Why?", 10)
}

async fn all(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let (name, why, roots) = tokio::join!(
        context.elicit::<Name>("name", "Who are you?"),
        context.sample("why", question()),
        context.list_roots("roots"),
    );
    Ok(format!("{:?} {} {}", name.accepted().map(|name| name.name), why.text(), roots.len()))
}

async fn visit(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(format!("{:?}", context.elicit_url("page", "Pay, please.", "https://pay.example.com/1").await))
}

async fn with_tools(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let request = CreateMessageRequestParams { tool_choice: Some(ToolChoice::default()), ..question() };
    Ok(context.sample("why", request).await.text())
}

async fn with_context(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let request = CreateMessageRequestParams { include_context: Some(IncludeContext::ThisServer), ..question() };
    Ok(context.sample("why", request).await.text())
}

async fn same_key(context: Context, _: NoArguments) -> Result<String, HandlerError> {
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

async fn nested(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(format!("{:?}", context.elicit::<Nested>("nested", "What?").await))
}

async fn long(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    context.once("long", async { Ok::<_, HandlerError>("x".repeat(8 * 1024)) }).await?;
    Ok(format!("{:?}", context.elicit::<Name>("name", "Who?").await))
}

async fn roots(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(context.list_roots("roots").await.len().to_string())
}

async fn insists(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let mut questions = 0;
    loop {
        questions += 1;
        if let Elicited::Accepted(Name { name }) = context.elicit("name", "Who are you?").await {
            return Ok(format!("{name}, after {questions} questions"));
        }
    }
}

async fn by_hand(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let sizes = ["S", "M"].map(str::to_owned).to_vec();
    let form = RequestedSchema::new()
        .required("size", UntitledSingleSelectEnumSchema { options: sizes, ..Default::default() })
        .optional("extras", UntitledMultiSelectEnumSchema::new(["a", "b"]))
        .optional("count", PrimitiveSchemaDefinition::Integer(NumberSchema::default()));
    Ok(format!("{:?}", context.elicit_form("order", "What?", form).await))
}

async fn talks(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let why = context.sample("why", question()).await.text();
    Ok(format!("{why} {:?}", context.elicit::<Name>("name", "Who?").await))
}

async fn bad_page(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(format!("{:?}", context.elicit_url("page", "Go there.", "javascript:alert(1)").await))
}

async fn reports(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    context.progress(1.0, None, None).await;
    Ok(format!("{:?}", context.elicit::<Name>("name", "Who?").await.accepted().map(|name| name.name)))
}

async fn quiet(_: RequestContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("never asks")
}

async fn write(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(format!("Write about {:?}.", context.elicit::<Name>("name", "About whom?").await.accepted()))
}

async fn secret(context: Context) -> Result<String, HandlerError> {
    match context.elicit::<Name>("name", "Who reads?").await {
        Elicited::Accepted(Name { name }) => Ok(format!("a secret for {name}")),
        Elicited::Declined | Elicited::Cancelled => Err(HandlerError::not_found()),
    }
}

fn with_capabilities(request: McpRequest) -> McpRequest {
    request.capabilities(json!({ "elicitation": { "form": {}, "url": {} }, "sampling": { "tools": {} }, "roots": {} }))
}

fn call(tool: &str) -> McpRequest {
    with_capabilities(tools_call(tool, json!({})))
}

fn accept(key: &str, content: Value) -> Value {
    json!({ key: { "action": "accept", "content": content } })
}

fn ada() -> Value {
    accept("name", json!({ "name": "Ada" }))
}

/// The input requests of a reply; panics if it is a result.
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
async fn an_elicitation_ends_the_request_and_another_environment_continues_it() {
    let asked = exchange(&environment(), call("greet")).await;

    let form = json!({
        "type": "object",
        "properties": { "name": { "type": "string", "description": "Your name.", "minLength": 1, "maxLength": 10 } },
        "required": ["name"],
    });
    let params = json!({ "mode": "form", "message": "Who are you?", "requestedSchema": form });
    assert_eq!(questions(&asked), &json!({ "name": { "method": "elicitation/create", "params": params } }));

    let answered = exchange(&environment(), call("greet").id(json!(2)).input_responses(&asked, ada())).await;
    assert_eq!(text(&answered), "Hello, Ada!");
}

#[tokio::test]
async fn a_user_may_decline_or_cancel() {
    for (action, expected) in [("decline", "declined"), ("cancel", "cancelled")] {
        let asked = exchange(&environment(), call("greet")).await;

        let request = call("greet").input_responses(&asked, json!({ "name": { "action": action } }));
        let answered = exchange(&environment(), request).await;

        assert_eq!(text(&answered), expected);
    }
}

#[tokio::test]
async fn earlier_answers_are_kept_in_the_state_and_once_runs_once() {
    let first = environment();
    let second = environment();
    let one = exchange(&first, call("order")).await;
    let two = exchange(&second, call("order").input_responses(&one, ada())).await;
    let count = accept("count", json!({ "count": 3 }));
    // The client sends only the latest answer.
    let three = exchange(&second, call("order").input_responses(&two, count)).await;

    assert_eq!(questions(&one).as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!(questions(&two).as_object().unwrap().keys().collect::<Vec<_>>(), ["count"]);
    assert_ne!(one.result()["requestState"], two.result()["requestState"]);
    // The second environment did not repeat the side effect.
    assert_eq!(text(&three), "order 1: 3 for Ada");
}

#[tokio::test]
async fn independent_requests_are_sent_in_one_round() {
    let asked = exchange(&environment(), call("all")).await;

    assert_eq!(questions(&asked)["roots"], json!({ "method": "roots/list" }));
    let model = json!({ "role": "assistant", "content": { "type": "text", "text": "Because." }, "model": "m" });
    let answers = json!({ "name": ada()["name"], "why": model, "roots": { "roots": [{ "uri": "file:///x" }] } });
    let answered = exchange(&environment(), call("all").input_responses(&asked, answers)).await;
    assert_eq!(text(&answered), "Some(\"Ada\") Because. 1");
}

#[tokio::test]
async fn received_answers_are_kept_and_missing_ones_are_requested_again() {
    let asked = exchange(&environment(), call("all")).await;

    let answers = json!({ "name": ada()["name"], "other": 5 });
    let again = exchange(&environment(), call("all").input_responses(&asked, answers)).await;
    let none = exchange(&environment(), call("all").input_responses(&asked, Value::Null)).await;

    assert_eq!(questions(&again).as_object().unwrap().keys().collect::<Vec<_>>(), ["roots", "why"]);
    assert_eq!(questions(&none).as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn an_invalid_answer_is_requested_again_with_the_reason() {
    for (content, complaint) in [
        (json!({}), "missing field `name`"),
        (json!({ "name": "" }), "length is lower than 1"),
        (json!({ "name": 5 }), "invalid type: integer"),
    ] {
        let asked = exchange(&environment(), call("greet")).await;

        let again = exchange(&environment(), call("greet").input_responses(&asked, accept("name", content))).await;
        let answered = exchange(&environment(), call("greet").input_responses(&again, ada())).await;

        let message = questions(&again)["name"]["params"]["message"].as_str().unwrap();
        assert!(message.starts_with("Who are you?") && message.contains(complaint), "{message}");
        assert!(!message.contains("no arguments"), "{message}");
        assert_eq!(text(&answered), "Hello, Ada!");
    }
}

#[tokio::test]
async fn a_malformed_answer_is_rejected() {
    for (tool, key, answer) in [
        ("greet", "name", json!(12345)),
        ("greet", "name", json!({ "action": "agree" })),
        ("with_tools", "why", json!({ "role": "assistant" })),
        ("roots", "roots", json!({ "roots": [{ "name": "x" }] })),
    ] {
        let asked = exchange(&environment(), call(tool)).await;

        let rejected = exchange(&environment(), call(tool).input_responses(&asked, json!({ key: answer }))).await;

        assert_eq!(rejected.status_and_code(), (200, -32602));
        assert!(rejected.body.contains(&format!("`{key}` is malformed")), "{}", rejected.body);
    }
    let no_object = call("greet").param("inputResponses", json!([1]));
    assert_eq!(exchange(&environment(), no_object).await.status_and_code(), (400, -32602));
}

#[tokio::test]
async fn once_is_not_repeated_after_an_invalid_answer() {
    let service = environment();
    let asked = exchange(&service, call("order")).await;
    let asked = exchange(&service, call("order").input_responses(&asked, ada())).await;
    let bad = accept("count", json!({ "count": -1 }));
    let again = exchange(&service, call("order").input_responses(&asked, bad)).await;

    // Clients with a single number type send 3.0.
    let count = accept("count", json!({ "count": 3.0 }));
    let done = exchange(&service, call("order").input_responses(&again, count)).await;

    assert_eq!(text(&done), "order 1: 3 for Ada");
}

#[tokio::test]
async fn a_reused_key_is_a_separate_request() {
    let both = exchange(&environment(), call("same_key")).await;
    let asked = questions(&both).as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut answers = accept("key", json!({ "name": "Ada", "count": 3 }));

    let one = exchange(&environment(), call("same_key").input_responses(&both, answers.clone())).await;
    answers["key#2"] = accept("key", json!({ "count": 3 }))["key"].clone();
    let two = exchange(&environment(), call("same_key").input_responses(&both, answers)).await;

    assert_eq!(asked, ["key", "key#2"]);
    assert_eq!(questions(&one).as_object().unwrap().keys().collect::<Vec<_>>(), ["key#2"]);
    assert!(text(&two).contains("Ada") && text(&two).contains("count: 3"), "{}", text(&two));
}

#[tokio::test]
async fn a_handler_may_repeat_a_request() {
    let first = exchange(&environment(), call("insists")).await;
    let no = |key: &str| json!({ key: { "action": "decline" } });
    let second = exchange(&environment(), call("insists").input_responses(&first, no("name"))).await;
    let third = exchange(&environment(), call("insists").input_responses(&second, no("name#2"))).await;
    let mut answer = ada();
    answer["name#3"] = answer["name"].take();

    let done = exchange(&environment(), call("insists").input_responses(&third, answer)).await;

    assert_eq!(text(&done), "Ada, after 3 questions");
}

/// An answer is accepted only for a request of an earlier round.
#[tokio::test]
async fn answers_without_a_request_are_ignored() {
    let answers = (2..5000).map(|number| (format!("name#{number}"), json!({ "action": "decline" })));
    let mut answers = Value::Object(answers.collect());
    answers["name"] = ada()["name"].clone();

    let unasked = exchange(&environment(), call("insists").param("inputResponses", answers.clone())).await;
    answers["name"] = json!({ "action": "decline" });
    let first = exchange(&environment(), call("insists")).await;
    let ahead = exchange(&environment(), call("insists").input_responses(&first, answers)).await;

    assert_eq!(questions(&unasked).as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!(questions(&ahead).as_object().unwrap().keys().collect::<Vec<_>>(), ["name#2"]);
}

#[tokio::test]
async fn a_handler_sends_at_most_a_hundred_requests() {
    let asks = |count: u32| {
        let tool = Tool::new("asks", move |context: Context, _: NoArguments| async move {
            let keys: Vec<String> = (0..count).map(|number| format!("name {number}")).collect();
            futures_util::future::join_all(keys.iter().map(|key| context.elicit::<Name>(key, "Who are you?"))).await;
            Ok::<_, HandlerError>(String::new())
        });
        let config = HttpConfig { state_key: Some(state_key()), ..HttpConfig::default() };
        McpService::new(Server::new("asks", "1.0.0", State::default()).tool(tool), config).unwrap()
    };

    // With longer texts, the state would exceed its limit first, which is another error.
    assert_eq!(questions(&exchange(&asks(50), call("asks")).await).as_object().unwrap().len(), 50);
    let rejected = exchange(&asks(101), call("asks")).await;
    assert_eq!(rejected.status_and_code(), (200, -32602));
    assert!(rejected.body.contains("at most 100 questions"), "{}", rejected.body);
}

#[tokio::test]
async fn an_answer_is_bound_to_the_text_of_its_request() {
    let price = |amount: u32| {
        Server::new("shop", "1.0.0", State::default()).tool(Tool::new(
            "pay",
            move |context: Context, _: NoArguments| async move {
                let answer = context.elicit::<Name>("pay", &format!("Pay {amount}?")).await;
                Ok::<_, HandlerError>(format!("paid {amount}: {}", answer.accepted().is_some()))
            },
        ))
    };
    let shop = |amount| {
        McpService::new(price(amount), HttpConfig { state_key: Some(state_key()), ..HttpConfig::default() }).unwrap()
    };
    let asked = exchange(&shop(10), call("pay")).await;
    let yes = accept("pay", json!({ "name": "Ada" }));

    let paid = exchange(&shop(10), call("pay").input_responses(&asked, yes.clone())).await;
    let raised = exchange(&shop(1000), call("pay").input_responses(&asked, yes)).await;

    assert_eq!(text(&paid), "paid 10: true");
    assert_eq!(questions(&raised)["pay"]["params"]["message"], "Pay 1000?");
}

#[tokio::test]
async fn answers_to_hand_written_forms_are_validated() {
    for (content, is_accepted) in [
        (json!({ "size": "S" }), true),
        (json!({ "size": "S", "extras": ["a"], "count": 2 }), true),
        (json!({}), false),
        (json!({ "size": "XL" }), false),
        (json!({ "size": "S", "extras": ["z"] }), false),
        (json!({ "size": "S", "count": 2.5 }), false),
    ] {
        let asked = exchange(&environment(), call("by_hand")).await;

        let reply =
            exchange(&environment(), call("by_hand").input_responses(&asked, accept("order", content.clone()))).await;

        assert_eq!(reply.result()["resultType"] == "complete", is_accepted, "{content}");
    }
}

#[tokio::test]
async fn answers_too_large_for_the_state_are_a_tool_error() {
    let asked = exchange(&environment(), call("talks")).await;
    let answer = |length: usize| {
        let text = "x".repeat(length);
        json!({ "why": { "role": "assistant", "content": { "type": "text", "text": text }, "model": "m" } })
    };

    let short = exchange(&environment(), call("talks").input_responses(&asked, answer(4000))).await;
    let long = exchange(&environment(), call("talks").input_responses(&asked, answer(9000))).await;

    assert!(questions(&short).get("name").is_some());
    assert_eq!(long.tool_result().is_error, Some(true));
    assert!(text(&long).contains("answers so far are too large"), "{}", text(&long));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_requests_may_be_sent_in_one_round() {
    let service = environment();
    let calls = (0..64).map(|_| {
        let service = service.clone();
        tokio::spawn(async move {
            let asked = exchange(&service, call("all")).await;
            questions(&asked).as_object().unwrap().len()
        })
    });
    for asked in calls.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), 3);
    }
}

#[tokio::test]
async fn only_requests_that_the_client_supports_are_sent() {
    let url_only = json!({ "elicitation": { "url": {} } });
    for (tool, declared, missing) in [
        ("greet", json!({}), json!({ "elicitation": { "form": {} } })),
        ("with_context", json!({ "sampling": { "tools": {} } }), json!({ "sampling": { "context": {} } })),
        ("greet", url_only, json!({ "elicitation": { "form": {} } })),
        ("visit", json!({ "elicitation": {} }), json!({ "elicitation": { "url": {} } })),
        ("with_tools", json!({ "sampling": {} }), json!({ "sampling": { "tools": {} } })),
        ("all", json!({ "elicitation": {}, "roots": {} }), json!({ "sampling": {} })),
        ("all", json!({ "elicitation": {}, "sampling": {} }), json!({ "roots": {} })),
    ] {
        let rejected = exchange(&environment(), tools_call(tool, json!({})).capabilities(declared.clone())).await;

        assert_eq!(rejected.status_and_code(), (400, -32021), "{tool} {declared}");
        assert_eq!(rejected.response()["error"]["data"]["requiredCapabilities"], missing, "{tool} {declared}");
    }
    let bare = tools_call("greet", json!({})).capabilities(json!({ "elicitation": {} }));
    questions(&exchange(&environment(), bare).await);
}

#[tokio::test]
async fn url_elicitation_sends_the_url() {
    let asked = exchange(&environment(), call("visit")).await;

    let params = json!({ "mode": "url", "message": "Pay, please.", "url": "https://pay.example.com/1" });
    assert_eq!(questions(&asked)["page"]["params"], params);
    let request = call("visit").input_responses(&asked, json!({ "page": { "action": "accept" } }));
    assert_eq!(text(&exchange(&environment(), request).await), "Accepted(())");
}

#[tokio::test]
async fn a_request_state_is_bound_to_its_request() {
    let caller = |subject: &str| as_caller(Principal::new("https://issuer.example", subject));
    let other = || as_caller(Principal::new("https://other.example", "ada"));
    let send = |request: McpRequest, invocation: Invocation| async {
        exchange_via(Via::FunctionUrl, &environment(), request, invocation).await
    };
    let asked = send(call("greet"), caller("ada")).await;
    let state = asked.result()["requestState"].as_str().unwrap().to_owned();
    let with_state =
        |request: McpRequest, state: &str| request.param("requestState", json!(state)).param("inputResponses", ada());
    let late = Invocation { received: std::time::SystemTime::now() + Duration::from_secs(601), ..caller("ada") };
    let greeting = with_capabilities(tools_call("greet", json!({ "greeting": "Bye" })));

    let own = send(with_state(call("greet"), &state), caller("ada")).await;
    assert_eq!(text(&own), "Hello, Ada!");
    for (what, request, invocation) in [
        ("tampered", with_state(call("greet"), &format!("{state}-TAMPERED")), caller("ada")),
        ("cut", with_state(call("greet"), &state[..state.len() - 1]), caller("ada")),
        ("empty", with_state(call("greet"), ""), caller("ada")),
        ("endless", with_state(call("greet"), &"A".repeat(100_000)), caller("ada")),
        ("expired", with_state(call("greet"), &state), late),
        ("another tool", with_state(call("order"), &state), caller("ada")),
        ("a tool that never asks", with_state(call("quiet"), &state), caller("ada")),
        ("a prompt", with_state(with_capabilities(prompts_get("write", json!({}))), &state), caller("ada")),
        ("a resource", with_state(with_capabilities(resources_read("asking://secret")), &state), caller("ada")),
        ("other arguments", with_state(greeting, &state), caller("ada")),
        ("another caller", with_state(call("greet"), &state), caller("eve")),
        ("another issuer's caller", with_state(call("greet"), &state), other()),
        ("nobody", with_state(call("greet"), &state), Invocation::default()),
    ] {
        let rejected = send(request, invocation).await;

        assert_eq!(rejected.status_and_code(), (200, -32602), "{what}");
        assert!(rejected.body.contains("requestState"), "{what}: {}", rejected.body);
    }
}

/// The specification requires that a request is bound to the client and the user.
#[tokio::test]
async fn a_request_state_is_bound_to_the_client_and_the_caller() {
    let by = |client: Option<&str>| {
        let client_id = client.map(str::to_owned);
        as_caller(Principal { client_id, ..Principal::new("https://issuer.example", "ada") })
    };
    let send = |request: McpRequest, invocation: Invocation| async {
        exchange_via(Via::FunctionUrl, &environment(), request, invocation).await
    };
    for (asked_by, others) in [(Some("desktop"), [Some("phone"), None]), (None, [Some("desktop"), Some("")])] {
        let asked = send(call("greet"), by(asked_by)).await;
        let retry = || call("greet").input_responses(&asked, ada());

        assert_eq!(text(&send(retry(), by(asked_by)).await), "Hello, Ada!");
        for other in others {
            assert_eq!(send(retry(), by(other)).await.status_and_code(), (200, -32602), "{asked_by:?} {other:?}");
        }
    }
}

#[tokio::test]
async fn whitespace_in_arguments_does_not_change_the_request_state() {
    let body = |state: &Value, arguments: &str| {
        let mut message = with_capabilities(tools_call("greet", json!({}))).message();
        message["params"]["requestState"] = state.clone();
        message["params"]["inputResponses"] = ada();
        message.to_string().replace(r#""arguments":{}"#, &format!(r#""arguments":{arguments}"#))
    };
    let asked = exchange(&environment(), with_capabilities(tools_call("greet", json!({ "greeting": "Hé !" })))).await;
    let state = &asked.result()["requestState"];

    let spaced = exchange(&environment(), call("greet").body(body(state, "{ \"greeting\" :\n\"Hé !\" }"))).await;
    let other = exchange(&environment(), call("greet").body(body(state, r#"{"greeting":"Hé!"}"#))).await;

    assert_eq!(text(&spaced), "Hé !, Ada!");
    assert_eq!(other.status_and_code(), (200, -32602));
}

#[tokio::test]
async fn the_state_key_may_be_rotated_between_rounds() {
    let key = |byte: &str| byte.repeat(43) + "=";
    let asked = exchange(&with_key(StateKey::parse(&key("A")).unwrap()), call("greet")).await;

    let rotated = with_key(StateKey::parse(&format!("{},{}", key("E"), key("A"))).unwrap());
    let replaced = with_key(StateKey::parse(&key("E")).unwrap());

    assert_eq!(text(&exchange(&rotated, call("greet").input_responses(&asked, ada())).await), "Hello, Ada!");
    let rejected = exchange(&replaced, call("greet").input_responses(&asked, ada())).await;
    assert_eq!(rejected.status_and_code(), (200, -32602));
}

#[tokio::test]
async fn an_invalid_form_of_a_handler_is_logged_and_not_sent() {
    for tool in ["nested", "long", "bad_page"] {
        let reply = exchange(&environment(), call(tool)).await;

        assert_eq!(text(&reply), "The tool failed.", "{tool}");
        assert_eq!(reply.tool_result().is_error, Some(true));
    }
}

#[tokio::test]
async fn prompts_and_resources_may_send_requests() {
    let prompt = || with_capabilities(prompts_get("write", json!({})));
    let resource = || with_capabilities(resources_read("asking://secret"));
    let asked_prompt = exchange(&environment(), prompt()).await;
    let asked_resource = exchange(&environment(), resource()).await;
    assert!(questions(&asked_prompt).get("name").is_some() && questions(&asked_resource).get("name").is_some());

    let prompt = exchange(&environment(), prompt().input_responses(&asked_prompt, ada())).await;
    let read = exchange(&environment(), resource().input_responses(&asked_resource, ada())).await;
    let declined = json!({ "name": { "action": "decline" } });
    let declined = exchange(&environment(), resource().input_responses(&asked_resource, declined)).await;

    assert_eq!(prompt.result()["messages"][0]["content"]["text"], "Write about Some(Name { name: \"Ada\" }).");
    assert_eq!(read.result()["contents"][0]["text"], "a secret for Ada");
    assert_eq!((&read.result()["ttlMs"], &read.result()["cacheScope"]), (&json!(0), &json!("private")));
    assert_eq!(declined.status_and_code(), (200, -32602));
}

#[tokio::test]
async fn a_legacy_client_gets_an_error_instead_of_a_request() {
    for revision in ProtocolVersion::ALL.into_iter().filter(|revision| !revision.is_modern()) {
        let tool = exchange(&environment(), tools_call("greet", json!({})).revision(revision)).await;
        let prompt = exchange(&environment(), prompts_get("write", json!({})).revision(revision)).await;
        let resource = exchange(&environment(), resources_read("asking://secret").revision(revision)).await;
        let state = tools_call("quiet", json!({})).revision(revision).param("requestState", json!("x"));
        let state = exchange(&environment(), state).await;

        assert_eq!(tool.tool_result().is_error, Some(true));
        assert!(text(&tool).contains("2026-07-28"), "{}", text(&tool));
        assert_eq!((prompt.status_and_code(), resource.status_and_code()), ((200, -32602), (200, -32602)));
        assert_eq!(text(&state), "never asks", "the member means nothing in {revision}");
    }
}

#[tokio::test]
async fn a_stream_with_progress_ends_with_the_elicitation() {
    let config = HttpConfig { invoke_mode: InvokeMode::Stream, state_key: Some(state_key()), ..HttpConfig::default() };
    let streaming = McpService::new(server(), config).unwrap();
    let request = || call("reports").progress_token(json!("p"));

    let asked = exchange_via(Via::Http, &streaming, request(), Invocation::default()).await;
    let answered =
        exchange_via(Via::Http, &streaming, request().input_responses(&asked, ada()), Invocation::default()).await;

    assert_eq!((asked.messages.len(), answered.messages.len()), (2, 2));
    questions(&asked);
    assert_eq!(text(&answered), "Some(\"Ada\")");
}
