//! The `find_operation` tool: the one operation that is meant, asking the person if several may be.

use garde::Validate;
use mcp_protocol::{RequestedSchema, TitledOption, TitledSingleSelectEnumSchema};
use mcp_server::{Elicited, InteractiveContext, Json, Tool, ToolError};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    State,
    document::Operation,
    excerpt::Start,
    ranking::{self, Item},
    read_operation::{OperationRead, read},
};

/// More would be no question but a list.
const MOST_CHOICES: usize = 12;
const FIELD: &str = "operation";

pub(crate) fn tool() -> Tool<State> {
    Tool::new("find_operation", find_operation)
        .title("Find an operation")
        .description(
            "Returns the one operation of the API that a few words mean, as read_operation does. If several fit equally well \
             the person is asked which; without a person to ask they are named.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct FindArgs {
    /// A few words, such as `create invoice`; or method and path. 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200))]
    query: String,
}

async fn find_operation(context: InteractiveContext<State>, args: FindArgs) -> Result<Json<OperationRead>, ToolError> {
    let document = State::document(&context).await;
    if let Some(operation) = document.operation(&args.query) {
        return read(&document, operation, Start::default()).map(Json);
    }
    let hits = ranking::operations(&document, &args.query);
    let equals = ranking::equals(&hits).iter().filter_map(|hit| match hit.item {
        Item::Operation(own) => Some(own),
        Item::Schema(_) => None,
    });
    let operation = match *equals.collect::<Vec<_>>() {
        [] => return Err(ToolError::InvalidInput("no operation fits: try other words, or list_operations".to_owned())),
        [operation] => operation,
        ref choices => choose(&context, choices).await?,
    };
    read(&document, operation, Start::default()).map(Json)
}

async fn choose<'a>(
    context: &InteractiveContext<State>,
    choices: &[&'a Operation],
) -> Result<&'a Operation, ToolError> {
    let can_be_asked = context.client_capabilities().is_some_and(|can| can.has_elicitation_form());
    if !can_be_asked || choices.len() > MOST_CHOICES {
        let named: Vec<_> = choices.iter().take(MOST_CHOICES).map(|own| format!("`{}`", own.id)).collect();
        return Err(ToolError::InvalidInput(format!(
            "{} operations fit equally well: read one of them, or say more. {}",
            choices.len(),
            named.join(", ")
        )));
    }
    let options = choices.iter().map(|own| TitledOption::new(&own.id, title(own)));
    let field = TitledSingleSelectEnumSchema {
        title: Some("Operation".to_owned()),
        description: None,
        one_of: options.collect(),
        default: None,
    };
    let form = RequestedSchema::new().required(FIELD, field);
    match context.elicit_form("operation", "Several operations fit. Which one is meant?", form).await {
        Elicited::Accepted(answer) => {
            let chosen = answer.get(FIELD).and_then(|chosen| chosen.as_str());
            let chosen = choices.iter().find(|own| Some(own.id.as_str()) == chosen);
            chosen.copied().ok_or_else(|| ToolError::Failed("the answer is none of the choices".to_owned()))
        }
        Elicited::Declined | Elicited::Cancelled => {
            Err(ToolError::Failed("several operations fit, and the person did not say which is meant".to_owned()))
        }
    }
}

fn title(operation: &Operation) -> String {
    let place = format!("{} {}", operation.method, operation.path);
    if operation.summary.is_empty() { place } else { format!("{place}: {}", operation.summary) }
}
