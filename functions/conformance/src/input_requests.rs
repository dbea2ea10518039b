//! Tools with input requests.

use std::fmt::Debug;

use garde::Validate;
use mcp_lambda::{
    Elicited, HandlerError, InteractiveContext, NoArguments, TitledOption, Tool,
    form::{
        LegacyTitledEnumSchema, RequestedSchema, TitledItems, TitledMultiSelectEnumSchema,
        TitledSingleSelectEnumSchema, UntitledMultiSelectEnumSchema, UntitledSingleSelectEnumSchema,
    },
    sampling::CreateMessageRequestParams,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::State;

type Context = InteractiveContext<State>;

pub(crate) fn tools() -> Vec<Tool<State>> {
    vec![
        Tool::new("test_sampling", sampling).description("Requests sampling from the client's model."),
        Tool::new("test_elicitation", elicitation).description("Requests input from the user."),
        Tool::new("test_elicitation_sep1034_defaults", defaults).description("Requests input with default values."),
        Tool::new("test_elicitation_sep1330_enums", enums).description("Requests selections of every type."),
        Tool::new("test_streaming_elicitation", asks_name)
            .description("Requests input from the user; earlier revisions used a stream."),
        Tool::new("test_input_required_result_elicitation", asks_name).description("Requests a name."),
        Tool::new("test_input_required_result_sampling", asks_model)
            .description("Requests sampling from the client's model."),
        Tool::new("test_input_required_result_list_roots", asks_roots).description("Requests the root directories."),
        Tool::new("test_input_required_result_request_state", keeps_state)
            .description("Keeps a value in the request state."),
        Tool::new("test_input_required_result_multiple_inputs", asks_all)
            .description("Sends three input requests at once."),
        Tool::new("test_input_required_result_multi_round", asks_twice)
            .description("Requests input in two round trips."),
        Tool::new("test_input_required_result_tampered_state", keeps_state)
            .description("Rejects a modified request state."),
        Tool::new("test_input_required_result_capabilities", asks_supported)
            .description("Sends the input requests that the client supports."),
    ]
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct SamplingArgs {
    /// Prompt for the model.
    prompt: String,
}

async fn sampling(context: Context, args: SamplingArgs) -> Result<String, HandlerError> {
    let answer = context.sample("answer", CreateMessageRequestParams::question(args.prompt, 100)).await;
    Ok(format!("LLM response: {}", answer.text()))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct ElicitationArgs {
    /// Message for the user.
    message: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[expect(dead_code, reason = "used by `Debug`")]
#[garde(allow_unvalidated)]
struct Account {
    /// User name of the account.
    username: String,
    /// Email address of the account.
    email: String,
}

async fn elicitation(context: Context, args: ElicitationArgs) -> Result<String, HandlerError> {
    Ok(describe(&context.elicit::<Account>("account", &args.message).await))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
struct Profile {
    name: String,
    age: i64,
    score: f64,
    status: Status,
    verified: bool,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
    Inactive,
    Pending,
}

impl Default for Profile {
    fn default() -> Self {
        Self { name: "John Doe".to_owned(), age: 30, score: 95.5, status: Status::Active, verified: true }
    }
}

async fn defaults(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(describe(&context.elicit::<Profile>("profile", "Is this you?").await))
}

async fn enums(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let options = || ["option1", "option2", "option3"].map(str::to_owned).to_vec();
    let titled =
        || ["1", "2", "3"].map(|number| TitledOption::new(format!("value{number}"), format!("Option {number}")));
    let form = RequestedSchema::new()
        .optional("untitledSingle", UntitledSingleSelectEnumSchema { options: options(), ..Default::default() })
        .optional("titledSingle", TitledSingleSelectEnumSchema { one_of: titled().to_vec(), ..Default::default() })
        .optional(
            "legacyEnum",
            LegacyTitledEnumSchema {
                options: ["opt1", "opt2", "opt3"].map(str::to_owned).to_vec(),
                enum_names: ["Option One", "Option Two", "Option Three"].map(str::to_owned).to_vec(),
                ..Default::default()
            },
        )
        .optional("untitledMulti", UntitledMultiSelectEnumSchema::new(options()))
        .optional(
            "titledMulti",
            TitledMultiSelectEnumSchema { items: TitledItems { any_of: titled().to_vec() }, ..Default::default() },
        );
    Ok(describe(&context.elicit_form("choices", "Choose some.", form).await))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct UserName {
    /// Your name.
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[expect(dead_code, reason = "used by `Debug`")]
#[garde(allow_unvalidated)]
struct Consent {
    /// Continue?
    ok: Option<bool>,
}

async fn asks_name(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(match context.elicit::<UserName>("user_name", "What is your name?").await {
        Elicited::Accepted(UserName { name }) => format!("Hello, {name}!"),
        Elicited::Declined | Elicited::Cancelled => "Hello!".to_owned(),
    })
}

async fn asks_model(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let question = CreateMessageRequestParams::question("What is the capital of France?", 100);
    Ok(context.sample("capital", question).await.text())
}

async fn asks_roots(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let roots = context.list_roots("roots").await;
    Ok(format!("Directories: {}", roots.into_iter().map(|root| root.uri).collect::<Vec<_>>().join(", ")))
}

async fn keeps_state(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let number = context.once("number", async { Ok::<_, HandlerError>(42) }).await?;
    let consent = context.elicit::<Consent>("confirm", "Continue?").await;
    Ok(format!("state-ok: {number}; {}", describe(&consent)))
}

async fn asks_all(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let greeting = CreateMessageRequestParams::question("Greet someone.", 50);
    let (name, greeting, roots) = tokio::join!(
        context.elicit::<UserName>("user_name", "What is your name?"),
        context.sample("greeting", greeting),
        context.list_roots("roots"),
    );
    Ok(format!("{}; {}; {} directories", describe(&name), greeting.text(), roots.len()))
}

async fn asks_twice(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let first = context.elicit::<UserName>("step1", "Step 1: what is your name?").await;
    let second = context.elicit::<Consent>("step2", "Step 2: continue?").await;
    Ok(format!("{}; {}", describe(&first), describe(&second)))
}

async fn asks_supported(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let can = context.client_capabilities().cloned().unwrap_or_default();
    let mut answers = Vec::new();
    if can.sampling.is_some() {
        answers
            .push(context.sample("greeting", CreateMessageRequestParams::question("Greet someone.", 50)).await.text());
    }
    if can.has_elicitation_form() {
        answers.push(describe(&context.elicit::<UserName>("user_name", "What is your name?").await));
    }
    Ok(format!("Client responses: {}", answers.join("; ")))
}

fn describe<T: Debug>(answer: &Elicited<T>) -> String {
    format!("User response: {answer:?}")
}
