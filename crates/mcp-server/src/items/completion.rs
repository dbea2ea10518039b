//! Completion of arguments of prompts and variables of resource templates.

use std::{collections::BTreeMap, sync::Arc};

use mcp_protocol::Completion;
use serde_json::Value;

use crate::{
    HandlerError, RequestContext,
    arguments::string_args::options,
    handler::{context::CallContext, error::HandlerFuture},
};

/// A partial argument, for which a handler suggests values.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{HandlerError, PartialArgument, Prompt, RequestContext};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// struct TripArgs {
///     /// Where to go.
///     #[garde(length(min = 1))]
///     city: String,
/// }
///
/// async fn plan(_: RequestContext<()>, args: TripArgs) -> Result<String, HandlerError> {
///     Ok(format!("Plan a trip to {}.", args.city))
/// }
///
/// async fn cities(_: RequestContext<()>, typed: PartialArgument) -> Result<Vec<String>, HandlerError> {
///     let cities = ["Lima", "Lisbon", "London"].into_iter();
///     Ok(cities.filter(|city| city.starts_with(&typed.value)).map(str::to_owned).collect())
/// }
///
/// let prompt = Prompt::new("plan_trip", plan).complete("city", cities);
/// # assert_eq!(prompt.name(), "plan_trip");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialArgument {
    /// The text so far.
    pub value: String,
    /// Values of the other arguments, which the user has already set; empty if the client does not send them.
    pub arguments: BTreeMap<String, String>,
}

pub(crate) type Completer = Box<dyn Fn(Arc<CallContext>, PartialArgument) -> HandlerFuture<Completion> + Send + Sync>;

/// Wraps an author's function as a completer.
pub(crate) fn completer<S, T, F, Fut>(handler: F) -> Completer
where
    S: Send + Sync + 'static,
    T: Into<Completion>,
    F: Fn(RequestContext<S>, PartialArgument) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |call, argument| {
        let handler = Arc::clone(&handler);
        let context = RequestContext::of(call);
        Box::pin(async move { Ok(handler(context, argument).await?.into()) })
    })
}

/// Completes from the choices of a property's schema, if it has any: those that start with the partial text.
pub(crate) fn choices(property: &Value) -> Option<Completer> {
    let choices: Vec<String> = options(property)?.into_iter().map(|(text, _)| text).collect();
    Some(Box::new(move |_, argument| {
        let typed = argument.value.to_lowercase();
        let fitting = choices.iter().filter(|choice| choice.to_lowercase().starts_with(&typed)).cloned().collect();
        Box::pin(async { Ok(fitting) })
    }))
}
