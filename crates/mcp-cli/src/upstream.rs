//! The connection to the server: Streamable HTTP, for legacy and modern revisions.

mod answer;
mod legacy;
mod mirrored;
mod retry;
mod standing;
mod transport;
mod waiting;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::bail;
use mcp_protocol::{ErrorObject, ProtocolVersion, json, jsonrpc, method};
use reqwest::{
    Client, StatusCode,
    header::{HeaderName, LOCATION},
};
use serde_json::{Value, value::RawValue};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use self::{
    answer::deliver_error,
    legacy::{Legacy, is_lost_session},
    retry::{is_busy, is_list, is_safe, is_use, retry_after, unknown_outcome, unread},
};
use crate::{
    authorizer::Authorizer,
    challenge::Challenge,
    endpoint,
    message::{Envelope, Shape, error_response, is_same_id, with_part},
    oauth::Nonce,
    received::{self, MAX_MESSAGE_BYTES},
    tools::Tools,
};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Attempts of a request that is safe to retry.
const MAX_TRIES: u32 = 3;
/// Maximum number of sign-ins and refreshes for one request.
const MAX_RENEWALS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Maximum delay before a retry.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The timeout of requests that end a session or a call.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
const CANCELLED: &str = "notifications/cancelled";

/// Two of the largest messages.
const MAX_QUEUED_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// Memory of a queued event beside its text: allocations, its place in the queue, its semaphore permit.
const EVENT_COST: usize = 256;

/// A server, as one client uses it.
pub(crate) struct Upstream {
    client: Client,
    /// Timeout of a response, with all streams that it comes on.
    patience: Duration,
    /// Timeout of a list.
    list_patience: Duration,
    url: String,
    authorizer: Authorizer,
    /// The session of a legacy server.
    legacy: Mutex<Legacy>,
    /// Lets one request at a time replace a lost session.
    beginning: tokio::sync::Mutex<()>,
    /// Notified when a new session has replaced a lost one.
    begun: Notify,
    tools: Mutex<Tools>,
    /// The current ids of requests that were sent again, by the client's ids.
    renamed: Mutex<HashMap<String, String>>,
    /// Bytes of events that may be on their way to the client. A client that reads slowly slows the server down.
    room: Arc<Semaphore>,
    /// The nonce for DPoP proofs.
    nonce: Nonce,
    /// The client's ids of requests that wait for a token.
    waiting: Mutex<HashSet<String>>,
}

/// The channel of the server's messages, each on one line.
pub(crate) type Output = mpsc::UnboundedSender<Line>;

/// A message on its way to the client, with the room that it takes until it is there.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// The permit of the event; a response of `mcpl` itself has none.
    room: Option<Arc<OwnedSemaphorePermit>>,
}

impl Line {
    /// Replaces the text and keeps the permit.
    pub(crate) fn with_text(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// A line that is derived from this one: the permit is released when both are written.
    pub(crate) fn followed_by(&self, text: String) -> Self {
        Self { text, room: self.room.clone() }
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self { text, room: None }
    }
}

impl Upstream {
    pub(crate) fn new(client: Client, patience: Duration, url: String, authorizer: Authorizer) -> Self {
        Self {
            client,
            patience,
            list_patience: patience,
            url,
            authorizer,
            legacy: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
            begun: Notify::new(),
            tools: Mutex::default(),
            renamed: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            nonce: Nonce::default(),
            waiting: Mutex::default(),
        }
    }

    /// Sets another timeout for the lists of tools, resources and prompts.
    pub(crate) fn with_list_patience(self, list_patience: Duration) -> Self {
        Self { list_patience, ..self }
    }

    fn patience(&self, sent: &Envelope) -> Duration {
        if is_list(sent) { self.list_patience } else { self.patience }
    }

    /// The URL for logs and errors, without its query, which may hold a key.
    fn shown_url(&self) -> String {
        endpoint::without_query(&self.url)
    }

    /// Signs in before a request requires it.
    pub(crate) async fn sign_in_ahead(&self) -> anyhow::Result<()> {
        self.authorizer.sign_in_ahead().await
    }

    /// Forwards a message and everything that comes back. A request always gets a response.
    pub(crate) async fn pass(&self, envelope: &Envelope, output: &Output) {
        let Err(error) = self.exchange(envelope, output).await else {
            return;
        };
        let text = format!("{error:#}");
        match envelope.client_id() {
            Some(id) => {
                let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {text}"));
                send(output, error_response(Some(id), &error));
            }
            None => tracing::warn!(method = envelope.method(), "{text}"),
        }
    }

    /// Sends a request and returns the response unchanged. Messages before it are forwarded to `output`.
    pub(crate) async fn request(&self, envelope: &Envelope, output: &Output) -> String {
        let (own, mut lines) = mpsc::unbounded_channel();
        let passing = async {
            self.pass(envelope, &own).await;
            drop(own);
        };
        let mut response = None;
        let relaying = async {
            while let Some(line) = lines.recv().await {
                match envelope.client_id() {
                    Some(id) if is_response_to(id, &line.text) => response = Some(line.text),
                    _ => send(output, line),
                }
            }
        };
        tokio::join!(passing, relaying);
        response.unwrap_or_else(|| {
            let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, "mcpl: the server answered with no response");
            error_response(envelope.client_id(), &error)
        })
    }

    async fn exchange(&self, envelope: &Envelope, output: &Output) -> anyhow::Result<()> {
        let cancelled = self.cancelled_as_sent(envelope);
        let envelope = cancelled.as_ref().unwrap_or(envelope);
        let mut attempts = Attempts::default();
        let mut again: Option<(Envelope, Renaming<'_>)> = None;
        loop {
            let sent = again.as_ref().map_or(envelope, |(sent, _)| sent);
            match Box::pin(self.attempt(sent, &mut attempts, output)).await {
                Ok(Outcome::Done) => return Ok(()),
                Ok(Outcome::Again) if envelope.id().is_some() => {
                    // The previous id belongs to no request any more.
                    drop(again.take());
                    let sent = envelope.with_fresh_id()?;
                    let renaming = Renaming::of(self, &sent);
                    again = Some((sent, renaming));
                }
                Ok(Outcome::Again) => {}
                Err(error) => {
                    if error.is::<TimedOut>() {
                        self.cancel(sent).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Sends a message once.
    async fn attempt(&self, sent: &Envelope, attempts: &mut Attempts, output: &Output) -> anyhow::Result<Outcome> {
        let headers = self.headers(sent).await;
        let sent_session = headers.get(SESSION_ID).cloned();
        let token = self.while_waiting(sent, self.authorizer.token()).await?;
        let patience = self.patience(sent);
        let mut request = self.client.post(&self.url).headers(headers).body(sent.text.clone());
        if patience < self.patience {
            request = request.timeout(patience);
        }
        attempts.tries += 1;
        let began = Instant::now();
        // The client's own timeout ends with the same error.
        // The timeout is the cause, and its effect on the connection is not reported.
        let late = || TimedOut { patience, outcome: unknown_outcome(sent) };
        let timed_out = |error: anyhow::Error| if began.elapsed() >= patience { late().into() } else { error };
        let response = match self.execute(request, token.as_ref()).await {
            Ok(response) => response,
            Err(error)
                if is_safe(sent)
                    && attempts.tries < MAX_TRIES
                    && error.is::<reqwest::Error>()
                    && began.elapsed() < patience =>
            {
                tracing::info!("{error:#}: trying again");
                tokio::time::sleep(FIRST_PAUSE * attempts.tries).await;
                return Ok(Outcome::Again);
            }
            Err(error) => return Err(timed_out(self.explain(error, sent))),
        };
        let status = response.status();
        if let Some(token) = token.as_ref().filter(|_| status != StatusCode::UNAUTHORIZED) {
            self.authorizer.accepted(&token.text);
        }
        if status.is_success() {
            if is_use(sent) {
                self.authorizer.succeeded();
            }
            let delivered = tokio::time::timeout(patience, self.deliver(sent, response, output)).await;
            let delivered = delivered.unwrap_or_else(|_| Err(late().into()));
            return delivered.map(|()| Outcome::Done).map_err(timed_out);
        }
        let headers = response.headers().clone();
        let body = received::body(response).await.map_err(|error| timed_out(unread(error, sent)))?;
        let challenge = Challenge::of(&headers, &body);
        let wants_token = status == StatusCode::UNAUTHORIZED
            || (status == StatusCode::FORBIDDEN && challenge.is_insufficient_scope());
        if wants_token && attempts.renewals < MAX_RENEWALS {
            attempts.renewals += 1;
            tracing::info!("the server answered {status}: a token is needed");
            let renewal = self.authorizer.renew(token.as_ref().map(|token| token.text.as_str()), &challenge);
            if let Err(error) = self.while_waiting(sent, Box::pin(renewal)).await {
                if status == StatusCode::FORBIDDEN {
                    if !self.authorizer.can_add_scopes() {
                        // The server's error says more about a missing scope.
                        tracing::warn!("{error:#}");
                        return deliver_error(sent, status, &body, output).map(|()| Outcome::Done);
                    }
                    let reason = challenge.reason().unwrap_or_default();
                    return Err(
                        error.context(format!("the server rejects the token ({reason}), and there is no other"))
                    );
                }
                return Err(error.context("could not get a token"));
            }
            return Ok(Outcome::Again);
        }
        if is_busy(status) && is_safe(sent) && attempts.tries < MAX_TRIES {
            let pause = retry_after(&headers, SystemTime::now()).unwrap_or(FIRST_PAUSE * attempts.tries);
            tracing::info!("the server answered {status}: trying again");
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            return Ok(Outcome::Again);
        }
        if sent_session.is_some() && is_lost_session(status, &body) && !attempts.has_begun_again {
            attempts.has_begun_again = true;
            self.begin_again(sent_session.as_ref()).await?;
            return Ok(Outcome::Again);
        }
        if let Some(error) = modern_error(sent, &body) {
            if !attempts.has_agreed && speaks_it_after_all(sent, &error) {
                attempts.has_agreed = true;
                return Ok(Outcome::Again);
            }
            let is_call = sent.method() == Some(method::TOOLS_CALL);
            if is_call && error["code"] == jsonrpc::HEADER_MISMATCH && !attempts.has_listed {
                attempts.has_listed = true;
                // The parameters to mirror may be others by now (2026-07-28, Streamable HTTP, "Client Behavior").
                self.learn_tools(sent).await;
                return Ok(Outcome::Again);
            }
        }
        if let Some(location) = headers.get(LOCATION).filter(|_| status.is_redirection()) {
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            bail!(
                "the server redirects to `{location}`, which is no other path of {}: use that URL if it is meant",
                self.shown_url()
            );
        }
        deliver_error(sent, status, &body, output).map(|()| Outcome::Done)
    }

    /// Adds context to an error of the connection: a request that was sent may have been carried out.
    fn explain(&self, error: anyhow::Error, sent: &Envelope) -> anyhow::Error {
        // An error before the request was sent, such as missing credentials, does not concern the server.
        let Some(own) = error.downcast_ref::<reqwest::Error>() else { return error };
        if own.is_connect() || own.is_builder() {
            return error.context(format!("could not reach {}", self.shown_url()));
        }
        error.context(format!("the connection to {} broke off{}", self.shown_url(), unknown_outcome(sent)))
    }

    /// Cancels a request at a legacy server. For a modern one the end of the connection cancels it.
    async fn cancel(&self, sent: &Envelope) {
        let is_cancelled = sent.modern_version().is_none() && sent.method() != Some(method::INITIALIZE);
        let Some(id) = sent.id().filter(|_| is_cancelled) else { return };
        let params = format!(r#"{{"requestId":{id},"reason":"timed out"}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{params}}}"#);
        let Ok(cancelled) = Envelope::parse(&text) else { return };
        let (unheard, _) = mpsc::unbounded_channel();
        let mut attempts = Attempts::default();
        let sending = Box::pin(self.attempt(&cancelled, &mut attempts, &unheard));
        if tokio::time::timeout(FAREWELL_TIMEOUT, sending).await.is_err() {
            tracing::info!("the server did not accept the cancellation of a request that timed out");
        }
    }

    /// A cancellation with the id under which the request was sent last, if that is another.
    fn cancelled_as_sent(&self, envelope: &Envelope) -> Option<Envelope> {
        let params = envelope.params().filter(|_| envelope.method() == Some(CANCELLED))?;
        let id = mcp_protocol::lookup(params, &["requestId".to_owned()]).ok()??;
        let sent = self.renamed().get(id.get())?.clone();
        let params = with_part(params.get(), id.get(), &sent);
        Envelope::parse(&format!(r#"{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{params}}}"#)).ok()
    }

    fn tools(&self) -> MutexGuard<'_, Tools> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renamed(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.renamed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempts of one message.
#[derive(Default)]
struct Attempts {
    tries: u32,
    renewals: u32,
    has_agreed: bool,
    has_begun_again: bool,
    has_listed: bool,
}

/// The outcome of an attempt.
enum Outcome {
    Done,
    /// The message is to be sent again.
    Again,
}

/// Notes the id under which a request was sent again, for as long as it has no answer.
struct Renaming<'a> {
    upstream: &'a Upstream,
    client_id: String,
}

impl<'a> Renaming<'a> {
    fn of(upstream: &'a Upstream, sent: &Envelope) -> Self {
        let text = |id: Option<&RawValue>| id.map(|id| id.get().to_owned()).unwrap_or_default();
        let client_id = text(sent.client_id());
        upstream.renamed().insert(client_id.clone(), text(sent.id()));
        Self { upstream, client_id }
    }
}

impl Drop for Renaming<'_> {
    fn drop(&mut self) {
        self.upstream.renamed().remove(&self.client_id);
    }
}

/// The response timed out.
#[derive(Debug)]
struct TimedOut {
    patience: Duration,
    /// The suffix about the unknown outcome of the request.
    outcome: String,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer took longer than {:?}{}", self.patience, self.outcome)
    }
}

impl std::error::Error for TimedOut {}

/// Forwards a line; without effect if the client has disconnected.
pub(crate) fn send(output: &Output, line: impl Into<Line>) {
    let _ = output.send(line.into());
}

/// Whether a line is the response to the request with that id.
fn is_response_to(id: &RawValue, line: &str) -> bool {
    let shape = json::borrow::<Shape<'_>>(line).ok();
    shape.filter(Shape::is_response).and_then(|shape| shape.id).is_some_and(|own| is_same_id(own, id))
}

/// The JSON-RPC error in answer to a modern request.
fn modern_error(sent: &Envelope, body: &str) -> Option<Value> {
    sent.modern_version()?;
    Some(received::read::<Value>(body).ok()?["error"].take())
}

/// Whether the server rejected a version that it lists as supported.
fn speaks_it_after_all(sent: &Envelope, error: &Value) -> bool {
    let Some(version) = sent.modern_version().filter(|version| ProtocolVersion::parse(version).is_some()) else {
        return false;
    };
    let supported = error["data"]["supported"].as_array();
    error["code"] == jsonrpc::UNSUPPORTED_PROTOCOL_VERSION
        && supported.is_some_and(|supported| supported.iter().any(|own| *own == version))
}
