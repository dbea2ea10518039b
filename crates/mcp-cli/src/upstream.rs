//! The server's side: Streamable HTTP, in both eras.

mod answer;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use mcp_protocol::{ErrorObject, ProtocolVersion, json, jsonrpc, method};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use self::answer::{Ended, MAX_RESUMPTIONS, deliver_error, is_event_stream};
use crate::{
    authorizer::Authorizer,
    challenge::Challenge,
    headers,
    message::{Envelope, Shape, error_response, is_same_id},
    received::{self, MAX_MESSAGE_BYTES, Pages},
    tools::Tools,
};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tries of a request that changes nothing.
const MAX_TRIES: u32 = 3;
/// Sign-ins and renewals for one request.
const MAX_RENEWALS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What a server may ask to wait is waited, but no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Two of the largest messages.
const MAX_QUEUED_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// What an event on its way takes beside its text: allocations, a place in a queue, its part of the room.
const EVENT_COST: usize = 256;

/// A server, as one client uses it.
pub(crate) struct Upstream {
    client: Client,
    /// What an answer may take, with all the streams that it comes on.
    patience: Duration,
    url: String,
    authorizer: Authorizer,
    /// What `initialize` has agreed on, for a legacy server.
    legacy: Mutex<Legacy>,
    /// For one request at a time that finds its session gone.
    beginning: tokio::sync::Mutex<()>,
    /// Told when a new session has taken the place of a forgotten one.
    begun: Notify,
    tools: Mutex<Tools>,
    /// Bytes of events that may be on their way to the client. A client that reads slowly slows the server down.
    room: Arc<Semaphore>,
}

/// Where the messages of a server go, each on one line.
pub(crate) type Output = mpsc::UnboundedSender<Line>;

/// A message on its way to the client, with the room that it takes until it is there.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// For what a server sends unasked; an answer of its own has none, since the client has asked for it.
    room: Option<Arc<OwnedSemaphorePermit>>,
}

impl Line {
    /// The same room for another text.
    pub(crate) fn with_text(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// A line that comes of this one: the room is free when both have arrived.
    pub(crate) fn followed_by(&self, text: String) -> Self {
        Self { text, room: self.room.clone() }
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self { text, room: None }
    }
}

#[derive(Debug, Clone, Default)]
struct Legacy {
    /// The `initialize` that began the session, for the time when the server has forgotten it.
    initialize: Option<String>,
    session_id: Option<HeaderValue>,
    version: Option<String>,
}

impl Upstream {
    pub(crate) fn new(client: Client, patience: Duration, url: String, authorizer: Authorizer) -> Self {
        Self {
            client,
            patience,
            url,
            authorizer,
            legacy: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
            begun: Notify::new(),
            tools: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
        }
    }

    /// Passes a message on, and everything that comes back. A request always gets an answer.
    pub(crate) async fn pass(&self, envelope: &Envelope, output: &Output) {
        let Err(error) = self.exchange(envelope, output).await else {
            return;
        };
        let text = format!("{error:#}");
        match envelope.id() {
            Some(id) => {
                let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {text}"));
                send(output, error_response(Some(id), &error));
            }
            None => tracing::warn!(method = envelope.method(), "{text}"),
        }
    }

    /// Sends a request, and returns the response as it was written; what comes before it is passed on.
    pub(crate) async fn request(&self, envelope: &Envelope, output: &Output) -> String {
        let (own, mut lines) = mpsc::unbounded_channel();
        let passing = async {
            self.pass(envelope, &own).await;
            drop(own);
        };
        let mut response = None;
        let relaying = async {
            while let Some(line) = lines.recv().await {
                match envelope.id() {
                    Some(id) if is_response_to(id, &line.text) => response = Some(line.text),
                    _ => send(output, line),
                }
            }
        };
        tokio::join!(passing, relaying);
        response.unwrap_or_else(|| {
            let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, "mcpl: the server answered with no response");
            error_response(envelope.id(), &error)
        })
    }

    /// Listens to what a legacy server says by itself, where it has a stream for that: for as long as it is listened to.
    pub(crate) async fn listen(&self, output: &Output) {
        let (mut last_event_id, mut tries) = (None, 0);
        while tries < MAX_RESUMPTIONS {
            let begun = self.begun.notified();
            let began = Instant::now();
            let pause = tokio::select! {
                heard = self.hear(&mut last_event_id, output) => match heard {
                    Some(pause) => pause,
                    None => return,
                },
                // What the forgotten session had to say is over.
                () = begun => {
                    (last_event_id, tries) = (None, 0);
                    continue;
                }
            };
            // A stream that lasted is worth as many tries again.
            tries = if began.elapsed() > LONGEST_PAUSE { 1 } else { tries + 1 };
            tokio::time::sleep(pause).await;
        }
    }

    /// Hears one stream to its end; the time to wait before the next one, or `None` if there is none to hear.
    async fn hear(&self, last_event_id: &mut Option<String>, output: &Output) -> Option<Duration> {
        // Whoever is away may come back.
        let Ok(response) = self.get(last_event_id.as_deref()).await else { return Some(LONGEST_PAUSE) };
        if response.status() == StatusCode::NOT_FOUND && self.legacy().session_id.is_some() {
            // The next request begins a new session.
            return std::future::pending().await;
        }
        if !response.status().is_success() || !is_event_stream(response.headers()) {
            return None;
        }
        match self.deliver_stream(response, None, output).await {
            Ok(Ended::Broken { last_event_id: new, pause }) => {
                *last_event_id = new.or(last_event_id.take());
                Some(pause.unwrap_or(FIRST_PAUSE))
            }
            _ => None,
        }
    }

    /// Tells a legacy server that its session is over.
    pub(crate) async fn close(&self) {
        if self.legacy().session_id.is_some() {
            let request = self.client.delete(&self.url).headers(self.legacy_headers()).timeout(Duration::from_secs(2));
            let token = self.authorizer.token().await.ok().flatten();
            let _ = self.execute(request, token.as_deref()).await;
        }
    }

    async fn exchange(&self, envelope: &Envelope, output: &Output) -> anyhow::Result<()> {
        let (mut tries, mut renewals) = (0, 0);
        let (mut has_agreed, mut has_begun_again) = (false, false);
        loop {
            let headers = self.headers(envelope).await;
            let sent_session = headers.get(SESSION_ID).cloned();
            let token = self.authorizer.token().await?;
            let request = self.client.post(&self.url).headers(headers).body(envelope.text.clone());
            tries += 1;
            let response = match self.execute(request, token.as_deref()).await {
                Ok(response) => response,
                Err(error) if is_safe(envelope) && tries < MAX_TRIES => {
                    tracing::info!(%error, "trying again");
                    tokio::time::sleep(FIRST_PAUSE * tries).await;
                    continue;
                }
                Err(error) => return Err(error.context(format!("could not reach {}", self.url))),
            };
            let status = response.status();
            if let Some(token) = token.as_ref().filter(|_| status != StatusCode::UNAUTHORIZED) {
                self.authorizer.accepted(token);
            }
            if status.is_success() {
                if is_use(envelope) {
                    self.authorizer.succeeded();
                }
                let delivered = tokio::time::timeout(self.patience, self.deliver(envelope, response, output)).await;
                return delivered.unwrap_or_else(|_| bail!("the answer took longer than {:?}", self.patience));
            }
            let headers = response.headers().clone();
            let body = received::body(response).await?;
            let challenge = Challenge::of(&headers, &body);
            let wants_token = status == StatusCode::UNAUTHORIZED
                || (status == StatusCode::FORBIDDEN && challenge.is_insufficient_scope());
            if wants_token && renewals < MAX_RENEWALS {
                renewals += 1;
                if let Err(error) = self.authorizer.renew(token.as_deref(), &challenge).await {
                    if status == StatusCode::FORBIDDEN {
                        // The server's own words say more about a missing scope.
                        tracing::warn!("{error:#}");
                        return deliver_error(envelope, status, &body, output);
                    }
                    return Err(error.context("could not get a token"));
                }
                continue;
            }
            if is_busy(status) && is_safe(envelope) && tries < MAX_TRIES {
                let pause = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let pause = pause.map_or(FIRST_PAUSE * tries, Duration::from_secs).min(LONGEST_PAUSE);
                tokio::time::sleep(pause).await;
                continue;
            }
            if status == StatusCode::NOT_FOUND && sent_session.is_some() && !has_begun_again {
                has_begun_again = true;
                self.begin_again(sent_session.as_ref()).await?;
                continue;
            }
            if !has_agreed && speaks_it_after_all(envelope, &body) {
                has_agreed = true;
                continue;
            }
            return deliver_error(envelope, status, &body, output);
        }
    }

    /// Begins a new session in place of one that the server has forgotten
    /// (2025-11-25, Streamable HTTP, "Session Management").
    async fn begin_again(&self, forgotten: Option<&HeaderValue>) -> anyhow::Result<()> {
        let _turn = self.beginning.lock().await;
        let legacy = self.legacy().clone();
        let Some(initialize) = legacy.initialize.filter(|_| legacy.session_id.as_ref() == forgotten) else {
            // Another request has done it.
            return Ok(());
        };
        tracing::info!("the server has forgotten the session: a new one begins");
        self.legacy().session_id = None;
        let initialize = Envelope::parse(&initialize)?;
        let (output, _) = mpsc::unbounded_channel();
        let response = Box::pin(self.request(&initialize, &output)).await;
        if !json::borrow::<Shape<'_>>(&response).is_ok_and(|shape| shape.result.is_some()) {
            bail!("the server has forgotten the session and begins no new one");
        }
        let initialized = Envelope::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        Box::pin(self.pass(&initialized, &output)).await;
        self.begun.notify_waiters();
        Ok(())
    }

    async fn execute(&self, request: RequestBuilder, token: Option<&str>) -> anyhow::Result<Response> {
        let request = match token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        let mut request = request.build()?;
        if let Authorizer::SigV4(signer) = &self.authorizer {
            signer.sign(&mut request).await?;
        }
        Ok(self.client.execute(request).await?)
    }

    async fn headers(&self, envelope: &Envelope) -> HeaderMap {
        let mut headers = match envelope.modern_version() {
            Some(version) => {
                let tool = envelope.param(&["name"]).unwrap_or_default();
                if envelope.method() == Some(method::TOOLS_CALL) && !self.tools().knows(&tool) {
                    self.learn_tools(envelope).await;
                }
                headers::of_modern(envelope, &version, self.tools().mirrored(&tool))
            }
            None if envelope.method() == Some(method::INITIALIZE) => HeaderMap::new(),
            None => self.legacy_headers(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers
    }

    fn legacy_headers(&self) -> HeaderMap {
        let legacy = self.legacy().clone();
        let mut headers = HeaderMap::new();
        if let Some(version) = legacy.version.and_then(|version| HeaderValue::from_str(&version).ok()) {
            headers.insert(headers::PROTOCOL_VERSION, version);
        }
        if let Some(session_id) = legacy.session_id {
            headers.insert(SESSION_ID, session_id);
        }
        headers
    }

    /// Lists the tools for oneself: a call of one that the client has not listed may have parameters to repeat. Without the
    /// list the call is made all the same.
    async fn learn_tools(&self, call: &Envelope) {
        let (mut cursor, mut pages) = (None, Pages::default());
        loop {
            cursor = match self.learn_page(call, cursor.as_deref(), &mut pages).await {
                Ok(Some(next)) => Some(next),
                Ok(None) => return,
                Err(error) => return tracing::info!("the tools could not be listed: {error:#}"),
            };
            if let Err(error) = cursor.as_deref().map_or(Ok(()), |next| pages.next(next)) {
                return tracing::warn!("the tools could not be listed: {error:#}");
            }
        }
    }

    /// Reads one page; the cursor of the next one.
    async fn learn_page(
        &self,
        call: &Envelope,
        cursor: Option<&str>,
        pages: &mut Pages,
    ) -> anyhow::Result<Option<String>> {
        let meta = match call.params() {
            Some(params) => mcp_protocol::lookup(params, &["_meta".to_owned()])?,
            None => None,
        };
        let mut params = json!({ "_meta": meta });
        if let Some(cursor) = cursor {
            params["cursor"] = json!(cursor);
        }
        let message = json!({ "jsonrpc": "2.0", "id": "mcpl-tools", "method": "tools/list", "params": params });
        let own = Envelope::parse(&message.to_string())?;
        let Some(version) = own.modern_version() else { return Ok(None) };
        let mut headers = headers::of_modern(&own, &version, &[]);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let token = self.authorizer.token().await?;
        let request = self.client.post(&self.url).headers(headers).body(own.text);
        let response = self.execute(request, token.as_deref()).await?;
        if !response.status().is_success() || is_event_stream(response.headers()) {
            return Ok(None);
        }
        let body = received::body(response).await?;
        pages.count(&body)?;
        received::check(&body)?;
        let shape: Shape<'_> = json::borrow(&body)?;
        Ok(shape.result.and_then(|result| self.tools().learn(&body, result).0))
    }

    async fn get(&self, last_event_id: Option<&str>) -> anyhow::Result<Response> {
        let mut request = self.client.get(&self.url).headers(self.legacy_headers()).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        let token = self.authorizer.token().await?;
        self.execute(request, token.as_deref()).await
    }

    fn legacy(&self) -> MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tools(&self) -> MutexGuard<'_, Tools> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a line on. Nobody listens any more when the client has gone.
pub(crate) fn send(output: &Output, line: impl Into<Line>) {
    let _ = output.send(line.into());
}

/// Whether a line is the response to the request with that id.
fn is_response_to(id: &RawValue, line: &str) -> bool {
    let shape = json::borrow::<Shape<'_>>(line).ok();
    shape.filter(Shape::is_response).and_then(|shape| shape.id).is_some_and(|own| is_same_id(own, id))
}

/// Whether a request may be sent twice: it changes nothing.
fn is_safe(envelope: &Envelope) -> bool {
    const SAFE: [&str; 10] = [
        method::INITIALIZE,
        method::PING,
        method::SERVER_DISCOVER,
        method::TOOLS_LIST,
        method::PROMPTS_LIST,
        method::PROMPTS_GET,
        method::RESOURCES_LIST,
        method::RESOURCES_TEMPLATES_LIST,
        method::RESOURCES_READ,
        method::COMPLETION_COMPLETE,
    ];
    envelope.id().is_some() && envelope.method().is_some_and(|method| SAFE.contains(&method))
}

/// Whether a request uses the server: not the handshake and the pings that clients send by themselves.
fn is_use(envelope: &Envelope) -> bool {
    const AUTOMATIC: [&str; 3] = [method::INITIALIZE, method::PING, method::SERVER_DISCOVER];
    envelope.id().is_some() && envelope.method().is_some_and(|method| !AUTOMATIC.contains(&method))
}

fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether the server refused a version that it lists among those that it speaks.
fn speaks_it_after_all(envelope: &Envelope, body: &str) -> bool {
    let Some(version) = envelope.modern_version().filter(|version| ProtocolVersion::parse(version).is_some()) else {
        return false;
    };
    let Ok(body) = received::read::<Value>(body) else { return false };
    let supported = body["error"]["data"]["supported"].as_array();
    body["error"]["code"] == jsonrpc::UNSUPPORTED_PROTOCOL_VERSION
        && supported.is_some_and(|supported| supported.iter().any(|own| *own == version))
}
