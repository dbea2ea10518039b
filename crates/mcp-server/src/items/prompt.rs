//! Prompts: message templates that users choose.

use std::{collections::HashMap, fmt, marker::PhantomData, sync::Arc};

use mcp_protocol::{Completion, ContentBlock, PromptArgument, PromptMessage, json};
use serde_json::{Value, value::RawValue};

use crate::{
    Arguments, HandlerContext, HandlerError, PartialArgument, RequestContext, arguments,
    arguments::string_args::{Strings, as_json, field_order, is_required, not_from_string, properties_of},
    handler::{context::CallContext, error::HandlerFuture},
    interaction::request_state::NewCipher,
    items::completion::{Completer, choices, completer},
    items::registered::Registered,
    items::setters::{item_setters, title_setter},
    policy::requirement::Requirement,
    schema,
};

/// A prompt of a server with state `S`: a message template with arguments, which the user chooses.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{HandlerError, Prompt, RequestContext};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// struct ReviewArgs {
///     /// The code to review.
///     #[garde(length(chars, max = 20_000))]
///     code: String,
///     /// How strict to be; 1 to 5, 3 unless given.
///     #[garde(range(min = 1, max = 5))]
///     strictness: Option<u8>,
/// }
///
/// async fn review(_: RequestContext<()>, args: ReviewArgs) -> Result<String, HandlerError> {
///     Ok(format!("Review this code, strictness {} of 5:\n{}", args.strictness.unwrap_or(3), args.code))
/// }
///
/// let prompt = Prompt::new("review", review).description("Asks for a code review.");
/// # let _ = prompt;
/// ```
pub struct Prompt<S> {
    pub(crate) definition: mcp_protocol::Prompt,
    pub(crate) handler: PromptHandler,
    pub(crate) completers: HashMap<String, Completer>,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
    state: PhantomData<fn(S)>,
}

/// Parses the arguments; returns the running handler, or the message about invalid arguments.
pub(crate) type PromptHandler =
    Box<dyn Fn(Arc<CallContext>, Option<&RawValue>) -> Result<HandlerFuture<Vec<PromptMessage>>, String> + Send + Sync>;

impl<S: Send + Sync + 'static> Prompt<S> {
    /// Creates a prompt named `name`, whose messages `handler` returns.
    ///
    /// The fields of the argument type become the prompt's arguments, in their order, with their doc comments as
    /// descriptions. Arguments are strings: numbers and booleans are parsed from them. An argument with
    /// several choices (an enum) is completed from them.
    ///
    /// # Panics
    ///
    /// When the name is empty, or the argument type is not a struct with fields of text, numbers, booleans or choices.
    #[track_caller]
    pub fn new<C, A, T, F, Fut>(name: impl Into<String>, handler: F) -> Self
    where
        C: HandlerContext<State = S>,
        A: Arguments,
        T: IntoPromptMessages,
        F: Fn(C, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let name = name.into();
        assert!(!name.is_empty(), "a prompt needs a name");
        let schema = schema::into_input_schema(schema::input_schema_of::<A>())
            .unwrap_or_else(|error| panic!("prompt `{name}`: {error}"));
        let text = |property: &Value, member: &str| property.get(member).and_then(Value::as_str).map(str::to_owned);
        let properties = properties_of(&schema, field_order::<A>());
        let has_alternatives = ["oneOf", "anyOf"].iter().any(|keyword| schema.get(keyword).is_some());
        let is_map = schema.get("additionalProperties").is_some_and(Value::is_object);
        assert!(!has_alternatives && !is_map, "prompt `{name}`: its arguments must be the fields of a struct");
        if let Some(field) = not_from_string(&properties) {
            panic!("prompt `{name}`: the field `{field}` cannot be parsed from a string");
        }
        let arguments = properties.iter().map(|(argument, property)| PromptArgument {
            name: (*argument).to_owned(),
            title: text(property, "title"),
            description: text(property, "description"),
            required: is_required(&schema, argument).then_some(true),
        });
        let definition = mcp_protocol::Prompt {
            name,
            title: None,
            description: None,
            arguments: arguments.collect(),
            icons: Vec::new(),
            meta: None,
        };
        let completers =
            properties.iter().filter_map(|(name, property)| Some(((*name).to_owned(), choices(property)?)));
        let completers = completers.collect();

        let handler = Arc::new(handler);
        let handler: PromptHandler = Box::new(move |call, raw| {
            let text = arguments::as_object(raw)?;
            arguments::check(text)?;
            let Strings(strings) =
                json::borrow(text).map_err(|error| format!("the arguments of a prompt must be strings: {error}"))?;
            let json = as_json(strings, &schema);
            let arguments = arguments::parse_checked::<A>(&json, &schema)?;
            let (handler, context) = (Arc::clone(&handler), C::from_context(RequestContext::of(call)));
            Ok(Box::pin(async move { Ok(handler(context, arguments).await?.into_prompt_messages()) }))
        });
        let (cipher, requirement) = (C::cipher(), Requirement::default());
        Self { definition, handler, completers, cipher, requirement, state: PhantomData }
    }

    item_setters!("Sets the description.", "Sets the icons.");
    title_setter!();

    /// Completes a partial argument with up to 100 values, most relevant first.
    ///
    /// # Panics
    ///
    /// When the prompt has no argument with this name.
    #[must_use]
    #[track_caller]
    pub fn complete<T, F, Fut>(mut self, argument: &str, handler: F) -> Self
    where
        T: Into<Completion>,
        F: Fn(RequestContext<S>, PartialArgument) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let name = &self.definition.name;
        let is_known = self.definition.arguments.iter().any(|own| own.name == argument);
        assert!(is_known, "prompt `{name}` has no argument `{argument}` to complete");
        self.completers.insert(argument.to_owned(), completer(handler));
        self
    }

    /// Returns the prompt's name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }
}

impl<S> Prompt<S> {
    /// Erases the type of the state, which the handler downcasts when it runs.
    pub(crate) fn registered(self) -> Prompt<Registered> {
        let Self { definition, handler, completers, cipher, requirement, state: _ } = self;
        Prompt { definition, handler, completers, cipher, requirement, state: PhantomData }
    }
}

impl<S> fmt::Debug for Prompt<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// A type that a prompt's handler may return.
#[diagnostic::on_unimplemented(
    message = "a prompt returns text, `ContentBlock`, `PromptMessage` or `Vec<PromptMessage>`, not `{Self}`",
    label = "its handler returns `Result<{Self}, HandlerError>`"
)]
pub trait IntoPromptMessages {
    /// Converts the value to messages.
    fn into_prompt_messages(self) -> Vec<PromptMessage>;
}

impl IntoPromptMessages for Vec<PromptMessage> {
    fn into_prompt_messages(self) -> Vec<PromptMessage> {
        self
    }
}

impl IntoPromptMessages for PromptMessage {
    fn into_prompt_messages(self) -> Vec<PromptMessage> {
        vec![self]
    }
}

impl IntoPromptMessages for ContentBlock {
    /// Returns one message of the role `user`.
    fn into_prompt_messages(self) -> Vec<PromptMessage> {
        vec![PromptMessage::user(self)]
    }
}

impl IntoPromptMessages for String {
    /// Returns one message of the role `user`.
    fn into_prompt_messages(self) -> Vec<PromptMessage> {
        vec![PromptMessage::user(self)]
    }
}

impl IntoPromptMessages for &'static str {
    /// Returns one message of the role `user`.
    fn into_prompt_messages(self) -> Vec<PromptMessage> {
        vec![PromptMessage::user(self)]
    }
}
