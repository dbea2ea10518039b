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
    ElicitRequestParams, ElicitRequestUrlParams, ElicitResult, FormMode, IncludeContext, InputRequest, InputRequests,
    JsonObject, ListRootsResult, RequestedSchema, Root, TitledOption, TitledSingleSelectEnumSchema, UrlMode,
    json::{self, Budget, JsonError, shortened},
    lookup,
    uri::SecureUrl,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Value, json as object,
    value::{RawValue, to_raw_value},
};
use tokio::sync::Notify;

use crate::{
    BoxError, CallError, RequestContext, RequestError, ToolError, arguments,
    handler::context::{FromRequest, HandlerContext},
    interaction::form::{form_for, read_content},
    interaction::request_state::{Asked, NewCipher, RequestState, digest_of, new_cipher},
    schema::input_schema_of,
};

/// The most questions that one request may have.
const MAX_QUESTIONS: u32 = 100;

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

/// No choice was made of those that [`InteractiveContext::choose`] offers. Its text names them, for the model.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotChosen(String);

impl NotChosen {
    fn new(why: &str, question: &str, choices: &[TitledOption]) -> Self {
        let named = choices.iter().map(|TitledOption { value, title }| match title == value {
            true => format!("`{value}`"),
            false => format!("`{value}` ({title})"),
        });
        let named: Vec<String> = named.collect();
        Self(format!("{why}: {question} Call again with one of the choices: {}", named.join(", ")))
    }
}

impl From<NotChosen> for ToolError {
    fn from(NotChosen(text): NotChosen) -> Self {
        Self::InvalidInput(text)
    }
}

impl From<NotChosen> for RequestError {
    fn from(NotChosen(text): NotChosen) -> Self {
        Self::InvalidInput(text)
    }
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
            Err(mistake) => return self.suspend(Some(Ending::Fault(mistake.into()))).await,
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
    /// use garde::Validate;
    /// use mcp_protocol::TitledOption;
    /// use mcp_server::{InteractiveContext, Tool, ToolError};
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
    /// async fn book(context: InteractiveContext<()>, args: BookArgs) -> Result<String, ToolError> {
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
    /// [`NotChosen`] when the client cannot show a form, and when the person declines or cancels.
    pub async fn choose(&self, key: &str, message: &str, choices: &[TitledOption]) -> Result<String, NotChosen> {
        if !self.client_capabilities().is_some_and(ClientCapabilities::has_elicitation_form) {
            return Err(NotChosen::new("the client cannot ask the user", message, choices));
        }
        let field =
            TitledSingleSelectEnumSchema { one_of: choices.to_vec(), ..TitledSingleSelectEnumSchema::default() };
        // Its content is checked: one of the choices.
        match self.elicit_form(key, message, RequestedSchema::new().required(key, field)).await {
            Elicited::Accepted(mut content) => match content.remove(key) {
                Some(Value::String(choice)) => Ok(choice),
                _ => Err(NotChosen::new("the answer is none of the choices", message, choices)),
            },
            Elicited::Declined => Err(NotChosen::new("the user declined to choose", message, choices)),
            Elicited::Cancelled => Err(NotChosen::new("the user did not choose", message, choices)),
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
    /// else: the page must make sure that whoever opens it is the caller of this request
    /// (2026-07-28, `client/elicitation`, "Security Considerations").
    pub async fn elicit_url(&self, key: &str, message: &str, url: &str) -> Elicited<()> {
        if SecureUrl::parse(url).is_none() {
            let mistake = "a person can be sent to an https URL only (http on loopback), without a user name: \
                           percent-encode other characters than those of RFC 3986";
            return self.suspend(Some(Ending::Fault(mistake.into()))).await;
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
        let kept = match self.interaction() {
            Some(interaction) => interaction.lock().state.kept.get(key).cloned(),
            None => None,
        };
        if let Some(kept) = kept {
            // Unbounded JSON: a value that the handler kept, sealed by this server.
            return match serde_json::from_str(kept.get()) {
                Ok(value) => Ok(value),
                // Another version of the function kept it.
                Err(_) => self.suspend(Some(Ending::Refused(CallError::RequestState))).await,
            };
        }
        let value = work.await?;
        match (to_raw_value(&value), self.interaction()) {
            (Ok(raw), Some(interaction)) => {
                interaction.lock().state.kept.insert(key.to_owned(), raw);
            }
            (Err(error), _) => return self.suspend(Some(Ending::Fault(error.into()))).await,
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
        let Some(interaction) = self.interaction() else {
            return self.suspend(Some(Ending::Unasked)).await;
        };
        let Some(key) = interaction.key_of_this_time(key) else {
            let refusal = CallError::InvalidInput(format!("a request may ask at most {MAX_QUESTIONS} questions"));
            return self.suspend(Some(Ending::Refused(refusal))).await;
        };
        let digest = digest_of(&serde_json::to_string(&question).unwrap_or_default());
        let Some((answer, is_new)) = interaction.answer(&key, &digest) else {
            return self.suspend(interaction.ask(&key, question, digest)).await;
        };
        // A struct could be read from an array too.
        let read_answer = match answer.get().starts_with('{') {
            true => json::read::<A>(answer.get(), Budget::of(answer.get())),
            false => Err(JsonError::Malformed("an answer is an object".to_owned())),
        };
        match read_answer {
            Ok(answer_read) => match read(answer_read) {
                Ok(value) => {
                    interaction.keep(key, digest, answer);
                    value
                }
                Err(again) => self.suspend(interaction.ask(&key, again, digest)).await,
            },
            Err(error) if is_new => {
                let refusal = CallError::InvalidInput(format!("the answer to `{key}` is malformed: {error}"));
                self.suspend(Some(Ending::Refused(refusal))).await
            }
            // Another version of the function asked something else.
            Err(_) => self.suspend(Some(Ending::Refused(CallError::RequestState))).await,
        }
    }

    fn interaction(&self) -> Option<&Interaction> {
        self.context.call.interaction.as_ref()
    }

    /// Never returns: whoever polls the handler sees how the round ends (with its questions, unless there is another
    /// `ending`), and drops it.
    async fn suspend<T>(&self, ending: Option<Ending>) -> T {
        if let Some(interaction) = self.interaction() {
            interaction.end_with(ending);
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
    /// The client's latest answers, by key, as they came; an object.
    responses: Option<Box<RawValue>>,
    /// How often each key was used in this round.
    uses: BTreeMap<String, u32>,
    questions: InputRequests,
    ending: Option<Ending>,
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
        responses: Option<Box<RawValue>>,
    ) -> Self {
        let (uses, questions) = (BTreeMap::new(), InputRequests::new());
        let rounds = Rounds { state, responses, uses, questions, ending: None };
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

    /// The key of a question that is asked for the second time in a round has a number: it is another question. `None` when
    /// there are too many: a caller may have answered any number of them in advance.
    fn key_of_this_time(&self, key: &str) -> Option<String> {
        let mut rounds = self.lock();
        if rounds.uses.values().sum::<u32>() >= MAX_QUESTIONS {
            return None;
        }
        let uses = rounds.uses.entry(key.to_owned()).or_default();
        *uses += 1;
        Some(if *uses == 1 { key.to_owned() } else { format!("{key}#{uses}") })
    }

    /// The answer to a question, and whether it has just arrived. `None` unless an earlier round asked this very question:
    /// what a client answers unasked, or to a question of other words, does not count.
    fn answer(&self, key: &str, digest: &str) -> Option<(Box<RawValue>, bool)> {
        let rounds = self.lock();
        let asked = rounds.state.asked.get(key).filter(|asked| asked.question == digest)?;
        if let Some(answer) = &asked.answer {
            return Some((answer.clone(), false));
        }
        let response = lookup(rounds.responses.as_ref()?, &[key.to_owned()]).ok()??;
        Some((response.to_owned(), true))
    }

    fn keep(&self, key: String, question: String, answer: Box<RawValue>) {
        self.lock().state.asked.insert(key, Asked { question, answer: Some(answer) });
    }

    /// Notes a question; returns how the round ends if it cannot be asked.
    fn ask(&self, key: &str, question: InputRequest, digest: String) -> Option<Ending> {
        let Some(capabilities) = &self.capabilities else {
            return Some(Ending::Unasked);
        };
        if let Some(missing) = missing_for(&question, capabilities) {
            return Some(Ending::Refused(CallError::MissingClientCapability(Box::new(missing))));
        }
        let mut rounds = self.lock();
        rounds.state.asked.insert(key.to_owned(), Asked { question: digest, answer: None });
        rounds.questions.insert(key.to_owned(), question);
        None
    }

    fn end_with(&self, ending: Option<Ending>) {
        if let Some(ending) = ending {
            self.lock().ending.get_or_insert(ending);
        }
        self.ended.notify_one();
    }
}

/// What a client would have to declare to be asked this; `None` if it has.
fn missing_for(question: &InputRequest, declared: &ClientCapabilities) -> Option<ClientCapabilities> {
    let with = |member: &str| JsonObject::from_iter([(member.to_owned(), object!({}))]);
    let required = match question {
        InputRequest::Elicit(ElicitRequestParams::Form(_)) => ClientCapabilities::elicitation(),
        InputRequest::Elicit(ElicitRequestParams::Url(_)) => ClientCapabilities::elicitation_url(),
        InputRequest::CreateMessage(request) => {
            let mut sampling = JsonObject::new();
            if !request.tools.is_empty() || request.tool_choice.is_some() {
                sampling.extend(with("tools"));
            }
            if request.include_context.is_some_and(|context| context != IncludeContext::None) {
                sampling.extend(with("context"));
            }
            ClientCapabilities { sampling: Some(sampling), ..ClientCapabilities::default() }
        }
        InputRequest::ListRoots => ClientCapabilities::roots(),
    };
    let missing = declared.missing(&required);
    (!missing.is_empty()).then_some(missing)
}
