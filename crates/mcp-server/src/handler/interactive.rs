//! Asking the client in the middle of a request (2026-07-28, `basic/patterns/mrtr`).
//!
//! No connection waits for the answer: the request ends with the question, and comes again with the answer. The handler
//! runs again from its start then, and each question that is answered already returns at once.

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
        form::{form_for, read_content},
        request_state::NewCipher,
        round::{MAX_QUESTIONS, Round, RoundEnd},
    },
    schema::input_schema_of,
};

/// What a handler takes that asks the client: everything in [`RequestContext`], and questions.
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
/// - everything before the last question happens once for each round: put effects after it, or into
///   [`once`](Self::once), or make them idempotent;
/// - a question is known again by its key and its words: each has a key of its own, the same in every round, and words
///   that do not change. A key that is used again in one round is another question, so that a loop may ask until it likes
///   the answer;
/// - questions that do not depend on each other are asked together with `tokio::join!`, in one round;
/// - questions are asked in the handler's own future: one that is asked in a spawned task keeps that task for ever.
///
/// Answers of earlier rounds and the values of `once` travel with the client, encrypted, bound to the request, its
/// arguments and its caller, in at most 8 KiB, ten minutes for each round and an hour for all. That binds them; it does
/// not make them single-use: a client may send a round twice. What must happen only once needs a key in a database.
///
/// Taking this type is what declares that a handler asks. It needs the feature `interactive`, and the server then does not start without a
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

/// The error of [`InteractiveContext::choose`]: its text names the choices, for the model.
fn not_chosen(why: &str, question: &str, choices: &[TitledOption]) -> InvalidInput {
    let named = choices.iter().map(|TitledOption { value, title }| match title == value {
        true => format!("`{value}`"),
        false => format!("`{value}` ({title})"),
    });
    let named: Vec<String> = named.collect();
    InvalidInput::new(format!("{why}: {question} Call again with one of the choices: {}", named.join(", ")))
}

impl<S> InteractiveContext<S> {
    /// Asks the person to fill in a form with the fields of `T`: a flat struct of text, numbers, booleans, enums and lists
    /// of enums. Its doc comments and bounds become those of the form. What a form cannot show (patterns, formats other
    /// than `email`, `uri`, `date` and `date-time`, checks of your own) is checked too, and a person whose answer does not
    /// fit is asked again with the reason: say such rules in the doc comments.
    ///
    /// A form must not ask for sensitive information: passwords, API keys, access tokens, payment credentials
    /// (2026-07-28, `client/elicitation`: "Servers MUST NOT use form mode elicitation to request sensitive information").
    /// The client sees the answer, may log it and show it to the model. Use [`elicit_url`](Self::elicit_url) for such. Fields
    /// should not hold URLs to be clicked either.
    ///
    /// For one choice of several, use [`choose`](Self::choose). Many clients decline at once, since no user is present: an
    /// error that follows should then say what the model can do without the answer.
    pub async fn elicit<T>(&self, key: &str, message: &str) -> Elicited<T>
    where
        T: DeserializeOwned + JsonSchema + Validate<Context = ()>,
    {
        let schema = input_schema_of::<T>();
        let form = match form_for::<T>(&schema) {
            Ok(form) => form,
            Err(mistake) => return self.suspend(Some(RoundEnd::Fault(mistake.into()))).await,
        };
        let read = |content: JsonObject| {
            let text = serde_json::to_string(&content).map_err(|error| error.to_string())?;
            arguments::parse_checked::<T>(&text, &schema)
        };
        self.ask_for_form(key, message, form, read).await
    }

    /// Asks the person to fill in a form that is made by hand, for what a type cannot say. What is required is there, and
    /// each value is of its field's kind; bounds are for the author to check. Not for sensitive information, as
    /// [`elicit`](Self::elicit) says.
    pub async fn elicit_form(&self, key: &str, message: &str, form: RequestedSchema) -> Elicited<JsonObject> {
        let own = form.clone();
        self.ask_for_form(key, message, form, move |content| read_content(&own, content)).await
    }

    /// Asks the person to choose one of several. If the client cannot ask, or the person declines or cancels, the
    /// error names the choices, so that the model can call again with one of them. `?` makes it an error of the handler.
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
    ///     /// The city; asked for unless given.
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
    /// [`InvalidInput`] when the client cannot show a form, and when the person declines or cancels.
    pub async fn choose(&self, key: &str, message: &str, choices: &[TitledOption]) -> Result<String, InvalidInput> {
        if !self.client_capabilities().is_some_and(ClientCapabilities::has_elicitation_form) {
            return Err(not_chosen("the client cannot ask the user", message, choices));
        }
        let field =
            TitledSingleSelectEnumSchema { one_of: choices.to_vec(), ..TitledSingleSelectEnumSchema::default() };
        // Its content is checked: one of the choices.
        match self.elicit_form(key, message, RequestedSchema::new().required(key, field)).await {
            Elicited::Accepted(mut content) => match content.remove(key) {
                Some(Value::String(choice)) => Ok(choice),
                _ => Err(not_chosen("the answer is none of the choices", message, choices)),
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
                read(answer.content.unwrap_or_default()).map(Elicited::Accepted).map_err(|complaint| {
                    let complaint = complaint.strip_prefix("invalid arguments: ").unwrap_or(&complaint);
                    question(format!("{message}\n\nThe last answer could not be used: {}", shortened(complaint)))
                })
            }
            ElicitAction::Decline => Ok(Elicited::Declined),
            ElicitAction::Cancel => Ok(Elicited::Cancelled),
        })
        .await
    }

    /// Asks the person to visit a page, for what must not pass through the client: secrets, payments, consent at a third
    /// party. Accepting means that the person has agreed to go there, not that anything was done there: look that up, and
    /// ask again with the same key while it is not.
    ///
    /// The URL is `https`, or `http` on this machine ([`SecureUrl`]: with international characters encoded, no user name, and
    /// nothing that two parsers could read differently), holds nothing personal and no credentials, and is of no use to anyone
    /// else: the page must make sure that its visitor is the caller of this request
    /// (2026-07-28, `client/elicitation`, "Security Considerations").
    pub async fn elicit_url(&self, key: &str, message: &str, url: &str) -> Elicited<()> {
        if SecureUrl::parse(url).is_none() {
            let mistake = "a person can be sent to an https URL only (http on loopback), without a user name: \
                           percent-encode other characters than those of RFC 3986";
            return self.suspend(Some(RoundEnd::Fault(mistake.into()))).await;
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

    /// Asks the client's model. A long answer leaves little room for those of later rounds. Deprecated in 2026-07-28: call a
    /// model's own API instead.
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
    /// `work` runs again if its round ends without a question and the client sends the request again: when the connection
    /// broke, or the request was refused, for example since an answer was malformed.
    ///
    /// # Errors
    ///
    /// What `work` returns as an error, which is not kept.
    pub async fn once<T, E>(&self, key: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        let kept = match self.round() {
            Some(round) => round.kept(key),
            None => None,
        };
        if let Some(kept) = kept {
            // Unbounded JSON: a value that the handler kept, sealed by this server.
            return match serde_json::from_str(kept.get()) {
                Ok(value) => Ok(value),
                // Another version of the function kept it.
                Err(_) => self.suspend(Some(RoundEnd::Refused(CallError::RequestState))).await,
            };
        }
        let value = work.await?;
        match (to_raw_value(&value), self.round()) {
            (Ok(raw), Some(round)) => {
                round.keep_value(key, raw);
            }
            (Err(error), _) => return self.suspend(Some(RoundEnd::Fault(error.into()))).await,
            (Ok(_), None) => {}
        }
        Ok(value)
    }

    /// Returns the answer, or ends the round with the question. `read` says which question to ask in place of this one when
    /// the answer cannot be used.
    async fn ask<A: DeserializeOwned, T>(
        &self,
        key: &str,
        question: InputRequest,
        read: impl FnOnce(A) -> Result<T, InputRequest>,
    ) -> T {
        let Some(round) = self.round() else {
            return self.suspend(Some(RoundEnd::Unasked)).await;
        };
        let Some(key) = round.key_of_this_time(key) else {
            let refusal = CallError::InvalidInput(format!("a request may ask at most {MAX_QUESTIONS} questions"));
            return self.suspend(Some(RoundEnd::Refused(refusal))).await;
        };
        let digest = digest_of(&serde_json::to_string(&question).unwrap_or_default());
        let Some((answer, is_new)) = round.answer(&key, &digest) else {
            return self.suspend(round.ask(&key, question, digest)).await;
        };
        // A struct could be read from an array too.
        let read_answer = match answer.get().starts_with('{') {
            true => json::read::<A>(answer.get(), Budget::of(answer.get())),
            false => Err(JsonError::Malformed("an answer is an object".to_owned())),
        };
        match read_answer {
            Ok(answer_read) => match read(answer_read) {
                Ok(value) => {
                    round.keep_answer(key, digest, answer);
                    value
                }
                Err(again) => self.suspend(round.ask(&key, again, digest)).await,
            },
            Err(error) if is_new => {
                let refusal = CallError::InvalidInput(format!("the answer to `{key}` is malformed: {error}"));
                self.suspend(Some(RoundEnd::Refused(refusal))).await
            }
            // Another version of the function asked something else.
            Err(_) => self.suspend(Some(RoundEnd::Refused(CallError::RequestState))).await,
        }
    }

    fn round(&self) -> Option<&Round> {
        self.context.call.round.as_ref()
    }

    /// Never returns: the task that polls the handler sees how the round ends (with its questions, unless there is another
    /// `ending`), and drops it.
    async fn suspend<T>(&self, ending: Option<RoundEnd>) -> T {
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
