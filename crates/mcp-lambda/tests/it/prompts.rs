//! Prompts and their arguments.

use garde::Validate;
use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::{ContentBlock, Icon, PromptMessage, ProtocolVersion, method};
use mcp_server::{HandlerError, PartialArgument, Prompt, RequestContext, Server};
use mcp_testing::{McpRequest, complete, exchange, prompts_get, tools_call};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

type Context = RequestContext<()>;

fn prompts() -> McpService {
    let server = Server::new("prompts", "1.2.3", ())
        .prompt(
            Prompt::new("travel", travel)
                .title("Travel")
                .description("Plans a journey.")
                .icons([Icon::new("https://example.com/icon.png")])
                .complete("to", cities),
        )
        .prompt(Prompt::new("talk", talk))
        .prompt(Prompt::new("broken", broken));
    McpService::new(server, HttpConfig::default()).unwrap()
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct TravelArgs {
    /// Where to go.
    #[garde(length(chars, min = 1, max = 20))]
    to: String,
    /// Days to stay; 1 to 30.
    #[garde(range(min = 1, max = 30))]
    days: u8,
    #[garde(skip)]
    #[schemars(title = "By train?")]
    by_train: Option<bool>,
    /// How it should feel.
    #[garde(skip)]
    #[serde(default)]
    pace: Pace,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Pace {
    #[default]
    Slow,
    Steady,
    Swift,
}

async fn travel(_: Context, args: TravelArgs) -> Result<String, HandlerError> {
    Ok(format!("{} for {} days, train {:?}, {:?}", args.to, args.days, args.by_train, args.pace))
}

async fn cities(_: Context, argument: PartialArgument) -> Result<Vec<&'static str>, HandlerError> {
    let slow = argument.arguments.get("pace").is_some_and(|pace| pace == "slow");
    Ok(if slow { vec!["Lisbon"] } else { vec!["Lisbon", "Lima"] })
}

async fn talk(_: Context, _: mcp_server::NoArguments) -> Result<Vec<PromptMessage>, HandlerError> {
    Ok(vec![
        PromptMessage::user(ContentBlock::audio([1], "audio/wav")),
        PromptMessage::assistant(ContentBlock::resource_link("name", "x:y")),
        PromptMessage::user("text"),
    ])
}

async fn broken(_: Context, _: mcp_server::NoArguments) -> Result<&'static str, HandlerError> {
    Err(HandlerError::internal("the password is wrong"))
}

#[tokio::test]
async fn arguments_are_listed_in_the_order_of_their_fields() {
    let reply = exchange(&prompts(), McpRequest::new(method::PROMPTS_LIST, json!({}))).await;

    assert_eq!(
        reply.result()["prompts"][0]["arguments"],
        json!([
            { "name": "to", "description": "Where to go.", "required": true },
            { "name": "days", "description": "Days to stay; 1 to 30.", "required": true },
            { "name": "by_train", "title": "By train?" },
            { "name": "pace", "description": "How it should feel." },
        ])
    );
}

#[tokio::test]
async fn prompts_are_listed_and_rendered_in_every_revision() {
    // A client of 2024-11-05 that sends its version gets audio as a content type that it supports.
    let talk = |revision: ProtocolVersion| {
        prompts_get("talk", json!({})).revision(revision).header("mcp-protocol-version", revision.as_str())
    };
    for revision in ProtocolVersion::ALL {
        let list = exchange(&prompts(), McpRequest::new(method::PROMPTS_LIST, json!({})).revision(revision)).await;
        let made = exchange(&prompts(), talk(revision)).await;

        let prompt = &list.result()["prompts"][0];
        // The two oldest have no version header and are served as 2025-03-26, with members of newer revisions.
        assert_eq!(
            prompt.get("title").is_some(),
            revision.max(ProtocolVersion::V2025_03_26).may_have(ProtocolVersion::V2025_06_18)
        );
        assert_eq!(
            prompt.get("icons").is_some(),
            revision.max(ProtocolVersion::V2025_03_26).may_have(ProtocolVersion::V2025_11_25)
        );
        assert_eq!(made.result()["messages"].as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn string_arguments_are_parsed_as_the_types_of_their_fields() {
    for (arguments, expected) in [
        (json!({ "to": "7", "days": "3" }), "7 for 3 days, train None, Slow"),
        (
            json!({ "to": "Rome", "days": " 30 ", "by_train": "true", "pace": "swift" }),
            "Rome for 30 days, train Some(true), Swift",
        ),
        (json!({ "to": "Rome", "days": "3", "by_train": "", "pace": "" }), "Rome for 3 days, train None, Slow"),
        (json!({ "to": "Rome", "days": "3.0" }), "Rome for 3 days, train None, Slow"),
        (json!({ "to": "Rome", "days": "0.3e1" }), "Rome for 3 days, train None, Slow"),
    ] {
        let reply = exchange(&prompts(), prompts_get("travel", arguments)).await;

        assert_eq!(reply.result()["messages"][0]["content"]["text"], expected);
        assert_eq!(reply.result()["description"], "Plans a journey.");
    }
}

#[tokio::test]
async fn invalid_arguments_are_rejected_with_the_reason() {
    for (arguments, complaint) in [
        (json!({ "to": "Rome" }), "missing field `days`"),
        (json!({ "to": "Rome", "days": "31" }), "`days`: greater than 30; given: 31"),
        (json!({ "to": "Rome", "days": "soon" }), "`days`: invalid type: string"),
        (json!({ "to": "Rome", "days": "1.5" }), "expected a whole number"),
        (json!({ "to": "Rome", "days": "1e999999999" }), "`days`: invalid type: string"),
        (json!({ "to": "Rome", "days": "3", "pace": "wild" }), "unknown variant `wild`"),
        (json!({ "to": "Rome", "days": "3", "why": "x" }), "unknown field `why`"),
        (json!({ "to": "Rome", "days": 3 }), "the arguments of a prompt must be strings"),
        (json!(["Rome"]), "must be a JSON object"),
    ] {
        let reply = exchange(&prompts(), prompts_get("travel", arguments)).await;

        assert_eq!(reply.status_and_code(), (200, -32602));
        assert!(reply.body.contains(complaint), "{complaint}: {}", reply.body);
    }
}

#[tokio::test]
async fn null_means_no_arguments() {
    let talk = exchange(&prompts(), prompts_get("talk", Value::Null)).await;
    let travel = exchange(&prompts(), prompts_get("travel", Value::Null)).await;

    assert_eq!(talk.result()["messages"].as_array().unwrap().len(), 3);
    assert!(travel.body.contains("missing field"), "{}", travel.body);
}

#[tokio::test]
async fn more_than_256_arguments_are_rejected() {
    let many: serde_json::Map<String, Value> = (0..300).map(|number| (number.to_string(), json!("x"))).collect();

    let reply = exchange(&prompts(), prompts_get("travel", Value::Object(many))).await;

    assert_eq!(reply.status_and_code(), (200, -32602));
    assert!(reply.body.contains("more than 256"), "{}", reply.body);
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct TagArgs {
    #[garde(skip)]
    #[expect(dead_code, reason = "no text can be read as it")]
    tags: Vec<String>,
}

async fn tagged(_: Context, _: TagArgs) -> Result<&'static str, HandlerError> {
    Ok("")
}

#[test]
fn an_argument_type_that_is_not_a_string_fails_the_build() {
    let message = std::panic::catch_unwind(|| Prompt::new("tagged", tagged)).unwrap_err().downcast::<String>().unwrap();

    assert!(message.contains("prompt `tagged`: the field `tags`"), "{message}");
}

#[tokio::test]
async fn an_unknown_prompt_a_fault_and_a_missing_tool_have_different_errors() {
    let unknown = exchange(&prompts(), prompts_get("other", json!({}))).await;
    let broken = exchange(&prompts(), prompts_get("broken", json!({}))).await;
    let tools = exchange(&prompts(), tools_call("simple", json!({}))).await;

    assert_eq!(
        (unknown.status_and_code(), broken.status_and_code(), tools.status_and_code()),
        ((200, -32602), (200, -32603), (404, -32601))
    );
    assert!(unknown.body.contains("unknown prompt") && !broken.body.contains("password"));
}

fn suggestions(argument: &str, value: &str) -> McpRequest {
    complete(json!({ "type": "ref/prompt", "name": "travel", "title": "Travel" }), argument, value)
}

async fn suggested(request: McpRequest) -> Value {
    exchange(&prompts(), request).await.result()["completion"]["values"].clone()
}

#[tokio::test]
async fn an_argument_with_choices_is_completed_from_them() {
    assert_eq!(suggested(suggestions("pace", "")).await, json!(["slow", "steady", "swift"]));
    assert_eq!(suggested(suggestions("pace", "ST")).await, json!(["steady"]));
    assert_eq!(suggested(suggestions("days", "")).await, json!([]));
}

#[tokio::test]
async fn a_completer_gets_the_other_arguments() {
    let knowing = suggestions("to", "Li").param("context", json!({ "arguments": { "pace": "slow" } }));

    assert_eq!(suggested(suggestions("to", "Li")).await, json!(["Lisbon", "Lima"]));
    assert_eq!(suggested(knowing).await, json!(["Lisbon"]));
}

#[tokio::test]
async fn completion_of_an_unknown_reference_is_rejected() {
    let argument = exchange(&prompts(), suggestions("why", "")).await;
    let prompt = complete(json!({ "type": "ref/prompt", "name": "other" }), "to", "");
    let prompt = exchange(&prompts(), prompt).await;
    let kind = exchange(&prompts(), complete(json!({ "type": "ref/other", "name": "travel" }), "to", "")).await;

    assert_eq!((argument.status_and_code(), prompt.status_and_code()), ((200, -32602), (200, -32602)));
    assert_eq!(kind.status_and_code(), (400, -32602));
    let long = exchange(&prompts(), suggestions("to", &"x".repeat(65 * 1024))).await;
    assert_eq!(long.status_and_code(), (400, -32602));
}
