//! Requests to the client during a request: elicitation, sampling, roots (2026-07-28, `basic/patterns/mrtr`).
//!
//! No connection is held while the client answers: the result contains the question, and the client sends the request again with
//! the answer. The handler then runs again from its start, and methods whose question has an answer return it immediately.

use std::{fmt, future::pending, ops::Deref};

use garde::Validate;
use mcp_protocol::{
    ClientCapabilities, CreateMessageRequestParams, CreateMessageResult, ElicitAction, ElicitRequestFormParams,
    ElicitRequestParams, ElicitRequestUrlParams, ElicitResult, FormMode, InputRequest, JsonObject, ListRootsResult,
    RequestedSchema, Root, TitledOption, TitledSingleSelectEnumSchema, UrlMode,
    json::{self, Budget, JsonError, shortened},
    uri::SecureUrl,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::to_raw_value};

use super::context::{FromRequest, HandlerContext, RequestContext};
use crate::{
    CallError, InvalidInput, arguments,
    interaction::{
        InteractiveFeature, digest_of,
        form::{form_for, validate_content},
        request_state::NewCipher,
        round::{MAX_QUESTIONS, Round, RoundEnd},
    },
    schema::input_schema_of,
};

/// The context of an interactive handler: a [`RequestContext`] with methods for elicitation, sampling and roots.
///
/// Below, a question is one such request to the client.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{Elicited, HandlerError, InteractiveContext, NoArguments, Tool};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// #[garde(allow_unvalidated)]
/// struct Confirmation {
///     /// Delete all events?
///     delete: bool,
/// }
///
/// async fn clear(context: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
///     match context.elicit::<Confirmation>("confirm", "This cannot be undone.").await {
///         Elicited::Accepted(Confirmation { delete: true }) => Ok("cleared"),
///         Elicited::Accepted(_) | Elicited::Declined | Elicited::Cancelled => Ok("nothing was deleted"),
///     }
/// }
///
/// let tool = Tool::new("clear", clear).description("Deletes all events, after a confirmation.");
/// # let _ = tool;
/// ```
///
/// # An interactive handler runs more than once
///
/// When a question has no answer yet, the handler is dropped at that `await`, and the client gets the question. When the client
/// sends the request again with the answer, the handler runs again **from its start**, perhaps in another execution environment.
/// Each run is a round. So:
///
/// - code before the last question runs in every round: place side effects after it or in [`once`](Self::once), or make them
///   idempotent;
/// - a question is identified by its key and its text: give each question its own key and a constant text. A key that is used
///   again in the same round is another question, so that a loop may repeat a question until the answer is valid;
/// - send independent questions in one round with `tokio::join!`;
/// - send questions from the handler's own future: in a spawned task they never complete.
///
/// Answers of earlier rounds and the values of `once` are stored in `requestState`, which the client sends back. It is encrypted, and
/// bound to the request, its arguments and its caller. It has at most 8 KiB, and is valid for ten minutes per round and one hour in
/// all. It is not single-use: a client may send a round twice. For an exactly-once effect, store an idempotency key in a database.
///
/// A handler is interactive if it takes this type. It needs the feature `interactive`, and the server then does not start without a
/// [`StateKey`](crate::StateKey). A server with a store (`Server::store`, feature `store`) also asks clients of 2025-11-25. Older
/// clients, and clients without the capability that a question needs, get an error instead of the question.
pub struct InteractiveContext<S> {
    context: RequestContext<S>,
}

/// The outcome of an elicitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elicited<T> {
    /// The user accepted, with the content of the form if there is one.
    Accepted(T),
    /// The user declined.
    Declined,
    /// The user dismissed the form or the page.
    Cancelled,
}

impl<T> Elicited<T> {
    /// Returns the content; `None` if the user declined or cancelled.
    pub fn accepted(self) -> Option<T> {
        match self {
            Self::Accepted(value) => Some(value),
            Self::Declined | Self::Cancelled => None,
        }
    }
}

/// Creates the error of [`InteractiveContext::choose`], whose text names the choices for the model.
fn not_chosen(why: &str, question: &str, choices: &[TitledOption]) -> InvalidInput {
    let named = choices.iter().map(|TitledOption { value, title }| match title == value {
        true => format!("`{value}`"),
        false => format!("`{value}` ({title})"),
    });
    let named: Vec<String> = named.collect();
    InvalidInput::new(format!("{why}: {question} Call again with one of the choices: {}", named.join(", ")))
}

impl<S> InteractiveContext<S> {
    /// Asks the user to fill in a form with the fields of `T`: a flat struct of text, numbers, booleans, enums and lists
    /// of enums. Its doc comments and bounds become those of the form. Rules that a form cannot express (patterns, formats other
    /// than `email`, `uri`, `date` and `date-time`, custom validation) are also checked, and an invalid answer repeats the
    /// question with the reason: state such rules in the doc comments.
    ///
    /// A form must not ask for sensitive information: passwords, API keys, access tokens, payment credentials
    /// (2026-07-28, `client/elicitation`: "Servers MUST NOT use form mode elicitation to request sensitive information").
    /// The client sees the answer, may log it and show it to the model. Use [`elicit_url`](Self::elicit_url) for these.
    /// Fields should not contain clickable URLs either.
    ///
    /// For one choice of several, use [`choose`](Self::choose). Many clients decline immediately, since no user is present: the
    /// handler's error should then say what the model can do without the answer.
    pub async fn elicit<T>(&self, key: &str, message: &str) -> Elicited<T>
    where
        T: DeserializeOwned + JsonSchema + Validate<Context = ()>,
    {
        let schema = input_schema_of::<T>();
        let form = match form_for::<T>(&schema) {
            Ok(form) => form,
            Err(error) => return self.suspend(Some(RoundEnd::Fault(error.into()))).await,
        };
        let read = |content: JsonObject| {
            let text = serde_json::to_string(&content).map_err(|error| error.to_string())?;
            arguments::parse_checked::<T>(&text, &schema)
        };
        self.ask_for_form(key, message, form, read).await
    }

    /// Asks the user to fill in a hand-written form, for schemas that a type cannot express. Required fields are present, and
    /// each value has the type of its field; validate bounds in the handler. Not for sensitive information: see
    /// [`elicit`](Self::elicit).
    pub async fn elicit_form(&self, key: &str, message: &str, form: RequestedSchema) -> Elicited<JsonObject> {
        let own = form.clone();
        self.ask_for_form(key, message, form, move |content| validate_content(&own, content)).await
    }

    /// Asks the user to choose one of several options. If the client does not support forms, or the user declines or cancels, the error
    /// names the choices, so that the model can call again with one of them. `?` converts it to the handler's error.
    ///
    /// ```
    /// # mod mcp_lambda { pub use mcp_protocol::TitledOption; pub use mcp_server::*; }
    /// use garde::Validate;
    /// use mcp_lambda::{HandlerError, InteractiveContext, TitledOption, Tool};
    /// use schemars::JsonSchema;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize, JsonSchema, Validate)]
    /// struct BookArgs {
    ///     /// The city. If omitted, the user is asked.
    ///     #[garde(length(chars, max = 100))]
    ///     city: Option<String>,
    /// }
    ///
    /// async fn book(context: InteractiveContext<()>, args: BookArgs) -> Result<String, HandlerError> {
    ///     let cities = [TitledOption::new("LIM", "Lima"), TitledOption::new("LIS", "Lisbon")];
    ///     let city = match args.city {
    ///         Some(city) => city,
    ///         None => context.choose("city", "Where to?", &cities).await?,
    ///     };
    ///     Ok(format!("booked for {city}"))
    /// }
    ///
    /// let tool = Tool::new("book", book).description("Books a trip.");
    /// # let _ = tool;
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`] when the client cannot show a form, and when the user declines or cancels.
    pub async fn choose(&self, key: &str, message: &str, choices: &[TitledOption]) -> Result<String, InvalidInput> {
        if !self.client_capabilities().is_some_and(ClientCapabilities::has_elicitation_form) {
            return Err(not_chosen("the client does not support elicitation", message, choices));
        }
        let field =
            TitledSingleSelectEnumSchema { one_of: choices.to_vec(), ..TitledSingleSelectEnumSchema::default() };
        // The content was validated: it is one of the choices.
        match self.elicit_form(key, message, RequestedSchema::new().required(key, field)).await {
            Elicited::Accepted(mut content) => match content.remove(key) {
                Some(Value::String(choice)) => Ok(choice),
                _ => Err(not_chosen("the answer is not one of the choices", message, choices)),
            },
            Elicited::Declined => Err(not_chosen("the user declined to choose", message, choices)),
            Elicited::Cancelled => Err(not_chosen("the user did not choose", message, choices)),
        }
    }

    async fn ask_for_form<T>(
        &self,
        key: &str,
        message: &str,
        form: RequestedSchema,
        read: impl FnOnce(JsonObject) -> Result<T, String>,
    ) -> Elicited<T> {
        let question = |message: String| {
            InputRequest::Elicit(ElicitRequestParams::Form(ElicitRequestFormParams {
                mode: Some(FormMode::Form),
                message,
                requested_schema: form.clone(),
            }))
        };
        let first = question(message.to_owned());
        self.ask(key, first, |answer: ElicitResult| match answer.action {
            ElicitAction::Accept => {
                read(answer.content.unwrap_or_default()).map(Elicited::Accepted).map_err(|violation| {
                    let violation = violation.strip_prefix("invalid arguments: ").unwrap_or(&violation);
                    question(format!("{message}\n\nThe last answer could not be used: {}", shortened(violation)))
                })
            }
            ElicitAction::Decline => Ok(Elicited::Declined),
            ElicitAction::Cancel => Ok(Elicited::Cancelled),
        })
        .await
    }

    /// Asks the user to visit a page, for interactions that must not pass through the client: secrets, payments, consent at a
    /// third party. An accepted elicitation means consent to open the page, not completion: check for completion, and elicit again with
    /// the same key until then.
    ///
    /// The URL must be `https`, or `http` on loopback ([`SecureUrl`]: international characters are encoded, and there is no user name
    /// and no part that parsers interpret differently). It must contain neither personal data nor credentials. The page must verify
    /// that its visitor is the caller of this request (2026-07-28, `client/elicitation`, "Security Considerations").
    pub async fn elicit_url(&self, key: &str, message: &str, url: &str) -> Elicited<()> {
        if SecureUrl::parse(url).is_none() {
            let fault = "could not ask the user to visit the page: its URL must be https (http on loopback), without a \
                           user name, with other characters than those of RFC 3986 percent-encoded";
            return self.suspend(Some(RoundEnd::Fault(fault.into()))).await;
        }
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

    /// Requests a completion from the client's model (sampling). A long answer leaves little space in `requestState` for later rounds.
    /// Deprecated in 2026-07-28: call a model's own API instead.
    pub async fn sample(&self, key: &str, request: CreateMessageRequestParams) -> CreateMessageResult {
        self.ask(key, InputRequest::CreateMessage(Box::new(request)), Ok).await
    }

    /// Requests the client's root directories. Deprecated in 2026-07-28: take paths as arguments instead.
    pub async fn list_roots(&self, key: &str) -> Vec<Root> {
        self.ask(key, InputRequest::ListRoots, |answer: ListRootsResult| Ok(answer.roots)).await
    }

    /// Runs a future in one round only; later rounds get its value. For values that must not change between rounds, such as a
    /// displayed price, and for side effects before a question.
    ///
    /// `work` runs again if its round ends without a question and the client sends the request again: after a lost connection, or
    /// after an error such as a malformed answer.
    ///
    /// # Errors
    ///
    /// The error of `work`, which is not kept.
    pub async fn once<T, E>(&self, key: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        let kept = match self.round() {
            Some(round) => round.kept(key),
            None => None,
        };
        if let Some(kept) = kept {
            // Unbounded JSON: a value of the handler, sealed by this server.
            return match serde_json::from_str(kept.get()) {
                Ok(value) => Ok(value),
                // It was serialized by another version of the function.
                Err(_) => self.suspend(Some(RoundEnd::Rejected(CallError::RequestState))).await,
            };
        }
        #[cfg(feature = "tasks")]
        self.admit_step().await;
        let value = work.await?;
        match (to_raw_value(&value), self.round()) {
            (Ok(raw), Some(round)) => {
                round.keep_value(key, raw);
                #[cfg(feature = "tasks")]
                self.record_step(key).await;
            }
            (Err(error), _) => return self.suspend(Some(RoundEnd::Fault(error.into()))).await,
            (Ok(_), None) => {}
        }
        Ok(value)
    }

    /// Returns the answer, or ends the round with the question. `read` returns the next question if the answer is invalid.
    async fn ask<A: DeserializeOwned, T>(
        &self,
        key: &str,
        question: InputRequest,
        read: impl FnOnce(A) -> Result<T, InputRequest>,
    ) -> T {
        let Some(round) = self.round() else {
            return self.suspend(Some(RoundEnd::ClientUnsupported)).await;
        };
        let Some(key) = round.numbered_key(key) else {
            let error = CallError::InvalidInput(format!("a request may ask at most {MAX_QUESTIONS} questions"));
            return self.suspend(Some(RoundEnd::Rejected(error))).await;
        };
        let digest = digest_of(&serde_json::to_string(&question).unwrap_or_default());
        let Some((answer, is_new)) = round.answer(&key, &digest) else {
            return self.suspend(round.ask(&key, question, digest)).await;
        };
        // serde would also deserialize a struct from an array.
        let read_answer = match answer.get().starts_with('{') {
            true => json::read::<A>(answer.get(), Budget::of(answer.get())),
            false => Err(JsonError::Malformed("an answer must be an object".to_owned())),
        };
        match read_answer {
            Ok(answer_read) => match read(answer_read) {
                Ok(value) => {
                    round.keep_answer(key, digest, answer);
                    value
                }
                Err(again) => self.suspend(round.ask(&key, again, digest)).await,
            },
            // The response to the client's request was its receipt: the question is sent again.
            #[cfg(feature = "tasks")]
            Err(_) if is_new && self.task_run().is_some_and(|task| task.attempt().is_some()) => {
                self.suspend(round.ask(&key, question, digest)).await
            }
            Err(error) if is_new => {
                let error = CallError::InvalidInput(format!("the answer to `{key}` is malformed: {error}"));
                self.suspend(Some(RoundEnd::Rejected(error))).await
            }
            // The question was sent by another version of the function.
            Err(_) => self.suspend(Some(RoundEnd::Rejected(CallError::RequestState))).await,
        }
    }

    pub(super) fn round(&self) -> Option<&Round> {
        self.context.call.round.as_ref()
    }

    /// Never returns: the task that polls the handler receives the end of the round (its questions, unless there is another
    /// `ending`), and drops the handler.
    pub(super) async fn suspend<T>(&self, ending: Option<RoundEnd>) -> T {
        if let Some(round) = self.round() {
            round.end_with(ending);
        }
        pending().await
    }
}

impl<S: InteractiveFeature + Send + Sync + 'static> HandlerContext for InteractiveContext<S> {}

impl<S: InteractiveFeature + Send + Sync + 'static> FromRequest for InteractiveContext<S> {
    type State = S;

    fn cipher() -> Option<NewCipher> {
        Some(S::new_cipher())
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
