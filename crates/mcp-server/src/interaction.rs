//! Asking the client in the middle of a request (2026-07-28, `basic/patterns/mrtr`).
//!
//! No connection waits for the answer: the request ends with the question, and comes again with the answer. The handler
//! runs again from its start then, and each question that is answered already returns at once.

use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
};

use garde::Validate;
use mcp_protocol::{
    ClientCapabilities, CreateMessageRequestParams, CreateMessageResult, ElicitAction, ElicitRequestFormParams,
    ElicitRequestParams, ElicitRequestUrlParams, ElicitResult, FormMode, InputRequest, InputRequests, JsonObject,
    ListRootsResult, RequestedSchema, Root, UrlMode,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use tokio::sync::Notify;

use crate::{
    BoxError, CallError, RequestContext, arguments,
    context::{FromRequest, HandlerContext},
    form::form_for,
    request_state::{NewCipher, RequestState, new_cipher},
};

/// What a handler takes that asks the client: everything in [`RequestContext`], and questions.
///
/// ```
/// use garde::Validate;
/// use mcp_server::{Elicited, InteractiveContext, NoArguments, Tool, ToolError};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// struct Confirmation {
///     /// Delete all events?
///     #[garde(skip)]
///     delete: bool,
/// }
///
/// async fn clear(context: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, ToolError> {
///     match context.elicit::<Confirmation>("confirm", "This cannot be undone.").await {
///         Elicited::Accepted(Confirmation { delete: true }) => Ok("cleared"),
///         Elicited::Accepted(_) | Elicited::Declined | Elicited::Cancelled => Ok("nothing was done"),
///     }
/// }
///
/// let tool = Tool::new("clear", clear).description("Deletes all events, after asking.");
/// # let _ = tool;
/// ```
///
/// # A handler that asks runs more than once
///
/// When a question has no answer yet, the handler is dropped at that `await`, the client gets the question, and the
/// handler runs again **from its start** when the client comes back, perhaps in another environment. So:
///
/// - whatever happens before the last question happens once for each round: put effects after it, or into
///   [`once`](Self::once), or make them idempotent;
/// - each question has a key of its own within the request, the same in every round;
/// - questions that do not depend on each other are asked together with `tokio::join!`, in one round.
///
/// Answers of earlier rounds and the values of `once` travel with the client, encrypted, bound to the request, its
/// arguments and its caller, for ten minutes, in at most 8 KiB. That binds them; it does not make them single-use: a
/// client may send a round twice. What must happen only once needs a key in a database.
///
/// Taking this type is what declares that a handler asks: the server then does not start without a
/// [`StateKey`](crate::StateKey). Clients of older revisions, and clients that did not declare the capability that a
/// question needs, get an error in place of the question.
pub struct InteractiveContext<S> {
    context: RequestContext<S>,
}

/// What became of a question to the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elicited<T> {
    /// The person agreed, and filled in the form if there was one.
    Accepted(T),
    /// The person refused.
    Declined,
    /// The person went away without deciding.
    Cancelled,
}

impl<T> Elicited<T> {
    /// What was filled in; `None` if the person refused or went away.
    pub fn accepted(self) -> Option<T> {
        match self {
            Self::Accepted(value) => Some(value),
            Self::Declined | Self::Cancelled => None,
        }
    }
}

impl<S> InteractiveContext<S> {
    /// Asks the person to fill in a form with the fields of `T`: a flat struct of text, numbers, booleans, enums and lists
    /// of enums. Its doc comments and bounds become those of the form. Must not ask for passwords, keys or the like: see
    /// [`elicit_url`](Self::elicit_url).
    pub async fn elicit<T>(&self, key: &str, message: &str) -> Elicited<T>
    where
        T: DeserializeOwned + JsonSchema + Validate<Context = ()>,
    {
        let form = match form_for::<T>() {
            Ok(form) => form,
            Err(mistake) => return self.suspend(Suspension::Fault(mistake.into())).await,
        };
        let read = |content: JsonObject| {
            let text = serde_json::to_string(&content).map_err(|error| error.to_string())?;
            let raw: &RawValue = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            arguments::parse::<T>(Some(raw), &json!({}))
        };
        self.ask_for_form(key, message, form, read).await
    }

    /// Asks the person to fill in a form that is made by hand, for what a type cannot say. The values arrive as the client
    /// sent them.
    pub async fn elicit_form(&self, key: &str, message: &str, form: RequestedSchema) -> Elicited<JsonObject> {
        self.ask_for_form(key, message, form, Ok).await
    }

    async fn ask_for_form<T>(
        &self,
        key: &str,
        message: &str,
        form: RequestedSchema,
        read: impl FnOnce(JsonObject) -> Result<T, String>,
    ) -> Elicited<T> {
        let question = InputRequest::Elicit(ElicitRequestParams::Form(ElicitRequestFormParams {
            mode: Some(FormMode::Form),
            message: message.to_owned(),
            requested_schema: form,
        }));
        self.ask(key, question, |answer: ElicitResult| match answer.action {
            ElicitAction::Accept => read(answer.content.unwrap_or_default()).map(Elicited::Accepted),
            ElicitAction::Decline => Ok(Elicited::Declined),
            ElicitAction::Cancel => Ok(Elicited::Cancelled),
        })
        .await
    }

    /// Asks the person to visit a page, for what must not pass through the client: secrets, payments, consent at a third
    /// party. Accepting means that the person has agreed to go there, not that anything was done there: look that up.
    pub async fn elicit_url(&self, key: &str, message: &str, url: &str) -> Elicited<()> {
        let question = InputRequest::Elicit(ElicitRequestParams::Url(ElicitRequestUrlParams {
            mode: UrlMode::Url,
            message: message.to_owned(),
            url: url.to_owned(),
        }));
        self.ask(key, question, |answer: ElicitResult| {
            Ok(match answer.action {
                ElicitAction::Accept => Elicited::Accepted(()),
                ElicitAction::Decline => Elicited::Declined,
                ElicitAction::Cancel => Elicited::Cancelled,
            })
        })
        .await
    }

    /// Asks the client's model. Deprecated in 2026-07-28: call a model's own API instead.
    pub async fn sample(&self, key: &str, request: CreateMessageRequestParams) -> CreateMessageResult {
        self.ask(key, InputRequest::CreateMessage(Box::new(request)), Ok).await
    }

    /// Asks for the client's root directories. Deprecated in 2026-07-28: take paths as arguments instead.
    pub async fn list_roots(&self, key: &str) -> Vec<Root> {
        self.ask(key, InputRequest::ListRoots, |answer: ListRootsResult| Ok(answer.roots)).await
    }

    /// Does something in one round only: later rounds get the value that it had. For what must not change from round to
    /// round, such as a price that was shown, and for effects before a question.
    ///
    /// `work` runs again if no question follows it in its round and the client repeats the request, as clients do when a
    /// connection breaks.
    ///
    /// # Errors
    ///
    /// What `work` returns as an error, which is not kept.
    pub async fn once<T, E>(&self, key: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        let kept = match self.interaction() {
            Some(interaction) => interaction.lock().state.kept.get(key).cloned(),
            None => None,
        };
        if let Some(kept) = kept {
            return match serde_json::from_str(kept.get()) {
                Ok(value) => Ok(value),
                // Another version of the function kept it.
                Err(_) => self.suspend(Suspension::Refused(CallError::RequestState)).await,
            };
        }
        let value = work.await?;
        match (to_raw_value(&value), self.interaction()) {
            (Ok(raw), Some(interaction)) => {
                interaction.lock().state.kept.insert(key.to_owned(), raw);
            }
            (Err(error), _) => return self.suspend(Suspension::Fault(error.into())).await,
            (Ok(_), None) => {}
        }
        Ok(value)
    }

    /// Returns the answer, or ends the round with the question.
    async fn ask<A: DeserializeOwned, T>(
        &self,
        key: &str,
        question: InputRequest,
        read: impl FnOnce(A) -> Result<T, String>,
    ) -> T {
        let Some(interaction) = self.interaction() else {
            return self.suspend(Suspension::Unasked).await;
        };
        let known = interaction.answer(key);
        let Some((answer, is_new)) = known else {
            return self.suspend(interaction.ask(key, question)).await;
        };
        let value = serde_json::from_str::<A>(answer.get()).map_err(|error| error.to_string()).and_then(read);
        match value {
            Ok(value) => {
                interaction.lock().state.answers.insert(key.to_owned(), answer);
                value
            }
            Err(complaint) if is_new => {
                let complaint = arguments::clip(&complaint);
                let refusal = CallError::InvalidInput(format!("the answer to `{key}` does not fit: {complaint}"));
                self.suspend(Suspension::Refused(refusal)).await
            }
            // Another version of the function asked something else by this key.
            Err(_) => self.suspend(Suspension::Refused(CallError::RequestState)).await,
        }
    }

    fn interaction(&self) -> Option<&Interaction> {
        self.context.call.interaction.as_ref()
    }

    /// Never returns: whoever polls the handler sees why, and drops it.
    async fn suspend<T>(&self, suspension: Suspension) -> T {
        if let Some(interaction) = self.interaction() {
            interaction.end_with(suspension);
        }
        pending().await
    }
}

impl<S: Send + Sync + 'static> HandlerContext for InteractiveContext<S> {}

impl<S: Send + Sync + 'static> FromRequest for InteractiveContext<S> {
    type State = S;

    fn cipher() -> Option<NewCipher> {
        Some(NewCipher(new_cipher))
    }

    fn from_context(context: RequestContext<S>) -> Self {
        Self { context }
    }
}

impl<S> Deref for InteractiveContext<S> {
    type Target = RequestContext<S>;

    fn deref(&self) -> &RequestContext<S> {
        &self.context
    }
}

impl<S> Clone for InteractiveContext<S> {
    fn clone(&self) -> Self {
        Self { context: self.context.clone() }
    }
}

impl<S> fmt::Debug for InteractiveContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InteractiveContext").field("context", &self.context).finish()
    }
}

/// The questions and answers of one request.
pub(crate) struct Interaction {
    /// What the client declared; `None` for one that cannot be asked at all.
    capabilities: Option<ClientCapabilities>,
    rounds: Mutex<Rounds>,
    ended: Notify,
}

struct Rounds {
    /// What earlier rounds learned, and what this one adds.
    state: RequestState,
    /// The client's latest answers, as they came.
    responses: BTreeMap<String, Box<RawValue>>,
    questions: InputRequests,
    ending: Option<Ending>,
}

/// Why a round ends before the handler does.
enum Suspension {
    /// There are questions.
    Asked,
    /// The request is refused.
    Refused(CallError),
    /// The client speaks a revision in which it cannot be asked.
    Unasked,
    /// A mistake in the handler.
    Fault(BoxError),
}

/// How a round ended before the handler did.
pub(crate) enum Ending {
    /// With questions, and what to remember for the next round.
    Questions(InputRequests, RequestState),
    /// With a refusal.
    Refused(CallError),
    /// With a question that this client cannot be asked.
    Unasked,
    /// With a mistake in the handler.
    Fault(BoxError),
}

impl Interaction {
    pub(crate) fn new(
        capabilities: Option<ClientCapabilities>,
        state: RequestState,
        responses: BTreeMap<String, Box<RawValue>>,
    ) -> Self {
        let rounds = Rounds { state, responses, questions: InputRequests::new(), ending: None };
        Self { capabilities, rounds: Mutex::new(rounds), ended: Notify::new() }
    }

    /// Waits until the handler asks something that has no answer yet, or does what cannot go on.
    pub(crate) async fn ending(&self) -> Ending {
        self.ended.notified().await;
        let mut rounds = self.lock();
        match rounds.ending.take() {
            Some(ending) => ending,
            None => Ending::Questions(std::mem::take(&mut rounds.questions), std::mem::take(&mut rounds.state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer by a key, and whether it has just arrived.
    fn answer(&self, key: &str) -> Option<(Box<RawValue>, bool)> {
        let rounds = self.lock();
        let earlier = rounds.state.answers.get(key).map(|answer| (answer.clone(), false));
        earlier.or_else(|| rounds.responses.get(key).map(|answer| (answer.clone(), true)))
    }

    fn ask(&self, key: &str, question: InputRequest) -> Suspension {
        let Some(capabilities) = &self.capabilities else {
            return Suspension::Unasked;
        };
        if let Some(missing) = missing_for(&question, capabilities) {
            return Suspension::Refused(CallError::MissingClientCapability(Box::new(missing)));
        }
        let mut rounds = self.lock();
        if rounds.questions.get(key).is_some_and(|other| *other != question) {
            return Suspension::Fault(format!("two questions of one request have the key `{key}`").into());
        }
        rounds.questions.insert(key.to_owned(), question);
        Suspension::Asked
    }

    fn end_with(&self, suspension: Suspension) {
        let ending = match suspension {
            Suspension::Asked => None,
            Suspension::Refused(refusal) => Some(Ending::Refused(refusal)),
            Suspension::Unasked => Some(Ending::Unasked),
            Suspension::Fault(fault) => Some(Ending::Fault(fault)),
        };
        if let Some(ending) = ending {
            self.lock().ending.get_or_insert(ending);
        }
        self.ended.notify_one();
    }
}

/// What a client would have to declare to be asked this; `None` if it has.
fn missing_for(question: &InputRequest, declared: &ClientCapabilities) -> Option<ClientCapabilities> {
    let object = |member: &str| JsonObject::from_iter([(member.to_owned(), json!({}))]);
    match question {
        InputRequest::Elicit(ElicitRequestParams::Form(_)) => (!declared.has_elicitation_form())
            .then(|| ClientCapabilities { elicitation: Some(object("form")), ..ClientCapabilities::default() }),
        InputRequest::Elicit(ElicitRequestParams::Url(_)) => (!declared.has_elicitation_url())
            .then(|| ClientCapabilities { elicitation: Some(object("url")), ..ClientCapabilities::default() }),
        InputRequest::CreateMessage(request) => {
            let wants_tools = !request.tools.is_empty() || request.tool_choice.is_some();
            let required = match wants_tools {
                true => ClientCapabilities { sampling: Some(object("tools")), ..ClientCapabilities::default() },
                false => ClientCapabilities::sampling(),
            };
            let missing = declared.missing(&required);
            (!missing.is_empty()).then_some(missing)
        }
        InputRequest::ListRoots => declared.roots.is_none().then(ClientCapabilities::roots),
    }
}
