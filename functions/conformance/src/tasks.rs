//! Tools whose calls become tasks.

use std::time::Duration;

use garde::Validate;
use mcp_lambda::{Elicited, HandlerError, InteractiveContext, Json, NoArguments, Task, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};

use crate::State;

type Context = InteractiveContext<State>;

pub(crate) fn tools() -> Vec<Tool<State>> {
    let task = || Task::ttl(Duration::from_secs(600)).poll_interval(Duration::from_millis(500));
    vec![
        Tool::new("greet", greet).description("Greets a person by name.").read_only(),
        Tool::new("slow_compute", slow_compute).description("Takes a number of seconds.").task(task()),
        Tool::new("compute_later", slow_compute)
            .description("Takes a number of seconds. Clients without tasks get a handle after one.")
            .task(task().answer_within(Duration::from_secs(1))),
        Tool::new("count_later", count_later)
            .description("Takes a number of seconds, and returns it. Clients without tasks get a handle after one.")
            .task(task().answer_within(Duration::from_secs(1))),
        Tool::new("failing_job", fails).description("Fails in the background.").task(task().requires_extension()),
        Tool::new("protocol_error_job", has_no_result)
            .description("Ends in the background with a protocol error.")
            .task(task().requires_extension()),
        Tool::new("confirm_delete", confirms)
            .description("Requests a confirmation in the background.")
            .task(task().requires_extension()),
        Tool::new("multi_input", asks_twice)
            .description("Sends two input requests in the background.")
            .task(task().requires_extension()),
        Tool::new("test_tool_with_task", asks_first)
            .description("Requests a name, then goes on in the background.")
            .task(task()),
    ]
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct GreetArgs {
    /// Name of the person to greet.
    name: String,
}

async fn greet(_: ToolContext<State>, args: GreetArgs) -> Result<String, HandlerError> {
    Ok(format!("Hello, {}!", args.name))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct SlowComputeArgs {
    /// Duration in seconds, at most an hour.
    #[garde(range(min = 0.0, max = 3600.0))]
    seconds: f64,
    /// Text that the result repeats.
    #[garde(length(chars, max = 200))]
    label: Option<String>,
}

async fn slow_compute(context: Context, args: SlowComputeArgs) -> Result<String, HandlerError> {
    context.sleep("compute", Duration::from_secs_f64(args.seconds)).await;
    Ok(format!("{} took {} s", args.label.as_deref().unwrap_or("the computation"), args.seconds))
}

#[derive(Debug, JsonSchema, Serialize)]
struct Computed {
    /// Duration in seconds.
    seconds: f64,
}

async fn count_later(context: Context, args: SlowComputeArgs) -> Result<Json<Computed>, HandlerError> {
    let computed = Computed { seconds: args.seconds };
    slow_compute(context, args).await.map(|text| Json(computed).with_text(text))
}

async fn begin(context: &Context) -> Result<(), HandlerError> {
    context.once("begin", async { Ok(()) }).await
}

async fn fails(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    begin(&context).await?;
    Err(HandlerError::failed("This job always fails."))
}

/// A value that cannot be serialized.
#[derive(JsonSchema)]
struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it never can"))
    }
}

async fn has_no_result(context: Context, _: NoArguments) -> Result<Json<Unserializable>, HandlerError> {
    begin(&context).await?;
    Ok(Json(Unserializable))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct DeleteArgs {
    /// Name of the file.
    filename: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct Confirmation {
    /// Delete the file?
    confirm: bool,
}

async fn confirms(context: Context, args: DeleteArgs) -> Result<String, HandlerError> {
    begin(&context).await?;
    match context.elicit::<Confirmation>("confirm", &format!("Delete {}?", args.filename)).await {
        Elicited::Accepted(Confirmation { confirm: true }) => Ok(format!("{} was deleted", args.filename)),
        Elicited::Accepted(_) | Elicited::Declined | Elicited::Cancelled => Ok("nothing was deleted".to_owned()),
    }
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct Named {
    /// A name.
    name: String,
}

async fn asks_twice(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    begin(&context).await?;
    let (first, second) = tokio::join!(
        context.elicit::<Named>("first", "What is the first name?"),
        context.elicit::<Named>("second", "What is the second name?"),
    );
    let name = |answer: Elicited<Named>| answer.accepted().map_or("no name".to_owned(), |named| named.name);
    Ok(format!("{} and {}", name(first), name(second)))
}

async fn asks_first(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let Elicited::Accepted(Named { name }) = context.elicit::<Named>("user_name", "What is your name?").await else {
        return Ok("Hello!".to_owned());
    };
    begin(&context).await?;
    Ok(format!("Hello, {name}!"))
}
