//! Tools that ask the client.

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
        Tool::new("test_sampling", sampling).description("Asks the client's model."),
        Tool::new("test_elicitation", elicitation).description("Asks the person."),
        Tool::new("test_elicitation_sep1034_defaults", defaults).description("Asks, with values filled in."),
        Tool::new("test_elicitation_sep1330_enums", enums).description("Asks for choices of every kind."),
        Tool::new("test_streaming_elicitation", asks_name)
            .description("Asks the person, where streams were used once."),
        Tool::new("test_input_required_result_elicitation", asks_name).description("Asks for a name."),
        Tool::new("test_input_required_result_sampling", asks_model).description("Asks the client's model."),
        Tool::new("test_input_required_result_list_roots", asks_roots).description("Asks for directories."),
        Tool::new("test_input_required_result_request_state", keeps_state).description("Remembers something."),
        Tool::new("test_input_required_result_multiple_inputs", asks_all).description("Asks three things at once."),
        Tool::new("test_input_required_result_multi_round", asks_twice).description("Asks, and asks again."),
        Tool::new("test_input_required_result_tampered_state", keeps_state).description("Takes only its own state."),
        Tool::new("test_input_required_result_capabilities", asks_what_it_can).description("Asks what the client can."),
    ]
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct SamplingArgs {
    /// What to ask the model.
    prompt: String,
}

async fn sampling(context: Context, args: SamplingArgs) -> Result<String, HandlerError> {
    let answer = context.sample("answer", CreateMessageRequestParams::question(args.prompt, 100)).await;
    Ok(format!("LLM response: {}", answer.text()))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct ElicitationArgs {
    /// What to tell the person.
    message: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[expect(dead_code, reason = "shown by `Debug`")]
#[garde(allow_unvalidated)]
struct Account {
    /// How the person is called here.
    username: String,
    /// Where the person gets mail.
    email: String,
}

async fn elicitation(context: Context, args: ElicitationArgs) -> Result<String, HandlerError> {
    Ok(said(&context.elicit::<Account>("account", &args.message).await))
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
    Ok(said(&context.elicit::<Profile>("profile", "Is this you?").await))
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
            LegacyTitledEnumSchema { options: options(), enum_names: options(), ..Default::default() },
        )
        .optional("untitledMulti", UntitledMultiSelectEnumSchema::new(options()))
        .optional(
            "titledMulti",
            TitledMultiSelectEnumSchema { items: TitledItems { any_of: titled().to_vec() }, ..Default::default() },
        );
    Ok(said(&context.elicit_form("choices", "Choose some.", form).await))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct UserName {
    /// Your name.
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[expect(dead_code, reason = "shown by `Debug`")]
#[garde(allow_unvalidated)]
struct Consent {
    /// Go on?
    ok: Option<bool>,
}

async fn asks_name(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(match context.elicit::<UserName>("user_name", "What is your name?").await {
        Elicited::Accepted(UserName { name }) => format!("Hello, {name}!"),
        Elicited::Declined | Elicited::Cancelled => "Hello, whoever you are!".to_owned(),
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
    let consent = context.elicit::<Consent>("confirm", "Go on?").await;
    Ok(format!("state-ok: {number}; {}", said(&consent)))
}

async fn asks_all(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let greeting = CreateMessageRequestParams::question("Greet someone.", 50);
    let (name, greeting, roots) = tokio::join!(
        context.elicit::<UserName>("user_name", "What is your name?"),
        context.sample("greeting", greeting),
        context.list_roots("roots"),
    );
    Ok(format!("{}; {}; {} directories", said(&name), greeting.text(), roots.len()))
}

async fn asks_twice(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let first = context.elicit::<UserName>("step1", "Step 1: what is your name?").await;
    let second = context.elicit::<Consent>("step2", "Step 2: go on?").await;
    Ok(format!("{}; {}", said(&first), said(&second)))
}

async fn asks_what_it_can(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let can = context.client_capabilities().cloned().unwrap_or_default();
    let mut answers = Vec::new();
    if can.sampling.is_some() {
        answers
            .push(context.sample("greeting", CreateMessageRequestParams::question("Greet someone.", 50)).await.text());
    }
    if can.has_elicitation_form() {
        answers.push(said(&context.elicit::<UserName>("user_name", "What is your name?").await));
    }
    Ok(format!("The client said: {}", answers.join("; ")))
}

fn said<T: Debug>(answer: &Elicited<T>) -> String {
    format!("The person's answer: {answer:?}")
}
