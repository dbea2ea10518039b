//! A client that knows no sessions, in front of a server that wants a handshake.
//!
//! A question of the server, which a legacy one asks in the middle of a call, ends the client's request with
//! `input_required`; the call itself stays open, and the client's next round goes on with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mcp_protocol::{
    ErrorObject, ProtocolVersion,
    json::{self, JsonError},
    jsonrpc, meta, method,
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::{
    ACKNOWLEDGED, CANCELLED, Link, Refusal, SUBSCRIPTIONS_LISTEN, Sides, member, modern_version, params_text, request,
};
use crate::{
    message::{Envelope, Kind, Shape, is_same_id, with_members, with_part},
    received,
    upstream::{Line, send},
};

/// How long a call waits for the answer to its question.
const PATIENCE: Duration = Duration::from_secs(600);
/// The name of the only question of a round.
const QUESTION: &str = "question";
/// What a client says of itself with each request, and a legacy server learns in the handshake.
const SAID_ONCE: [&str; 4] = [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL];

/// A session that was begun for a client.
pub(super) struct ModernClient {
    link: Arc<Link>,
    /// The answer to `server/discover`.
    discovered: String,
    has_logging: bool,
    log_level: tokio::sync::Mutex<Option<String>>,
    news: Arc<News>,
    /// Calls whose question the client has not answered yet, by `requestState`.
    waiting: Mutex<HashMap<String, Waiting>>,
    /// What the server calls a request that goes on under another id.
    renamed: Mutex<HashMap<String, String>>,
    listening: AbortHandle,
}

/// A request that the server works on.
struct Call {
    /// As the server knows it.
    id: Box<RawValue>,
    progress_token: Option<Box<RawValue>>,
    lines: mpsc::UnboundedReceiver<Line>,
    working: AbortHandle,
}

struct Waiting {
    call: Call,
    /// The server's request: its id, method and params.
    id: Box<RawValue>,
    question: String,
    since: Instant,
}

impl ModernClient {
    /// Shakes hands with a server that has not understood a request; `None` if it refuses that too.
    pub(super) async fn before(link: &Arc<Link>, first: &Envelope) -> Option<Sides> {
        let params = first.params()?;
        let own = member(params, "_meta")?;
        if first.method() != Some(method::SERVER_DISCOVER) {
            // A modern server may have refused just this request.
            let probed = link.request(method::SERVER_DISCOVER, &format!(r#"{{"_meta":{own}}}"#)).await;
            match Refusal::of(&probed, false) {
                Refusal::None => return Some(Sides::Alike),
                Refusal::Other => return None,
                Refusal::OfAnotherEra => {}
            }
        }
        let client_info = member(own, meta::CLIENT_INFO).map_or(r#"{"name":"mcpl","version":"0"}"#, RawValue::get);
        let capabilities = member(own, meta::CLIENT_CAPABILITIES).map_or("{}", RawValue::get);
        let version = ProtocolVersion::LATEST_LEGACY;
        let handshake =
            format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{client_info}}}"#);
        let welcome = link.request(method::INITIALIZE, &handshake).await;
        let welcome: Shape<'_> = json::borrow(&welcome).ok()?;
        let result = welcome.result?;
        let capabilities = member(result, "capabilities")?;
        let discovered = [
            r#"{"resultType":"complete""#.to_owned(),
            format!(r#""supportedVersions":["{}"]"#, modern_version()),
            format!(r#""capabilities":{capabilities}"#),
            member(result, "instructions").map(|text| format!(r#""instructions":{text}"#)).unwrap_or_default(),
            format!(r#""_meta":{{"{}":{}}}"#, meta::SERVER_INFO, member(result, "serverInfo")?),
            r#""ttlMs":0,"cacheScope":"private"}"#.to_owned(),
        ];
        let initialized = Envelope::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).ok()?;
        link.upstream.pass(&initialized, &link.client).await;
        let news = Arc::new(News { link: Arc::clone(link), listeners: Mutex::default() });
        let listening = tokio::spawn(Arc::clone(&news).listen()).abort_handle();
        Some(Sides::ModernClient(Self {
            link: Arc::clone(link),
            discovered: discovered.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(","),
            has_logging: member(capabilities, "logging").is_some(),
            log_level: tokio::sync::Mutex::default(),
            news,
            waiting: Mutex::default(),
            renamed: Mutex::default(),
            listening,
        }))
    }

    pub(super) async fn pass(&self, envelope: &Envelope) {
        match &envelope.kind {
            Kind::Request { id, method, .. } => self.request(envelope, id, method).await,
            Kind::Notification { method, .. } if method == CANCELLED => self.cancel(envelope).await,
            Kind::Notification { .. } | Kind::Other => tracing::info!("the client says what a server cannot be told"),
        }
    }

    async fn request(&self, envelope: &Envelope, id: &RawValue, method: &str) {
        if method == method::SERVER_DISCOVER {
            return self.link.answer(id, &self.discovered);
        }
        if method == SUBSCRIPTIONS_LISTEN {
            return self.news.tell(envelope, id).await;
        }
        let call = match envelope.param(&["requestState"]) {
            Some(state) => match self.resumed(envelope, id, &state).await {
                Ok(call) => call,
                Err(Some(error)) => return self.link.refuse(id, &error),
                Err(None) => return,
            },
            None => match self.called(envelope, id, method).await {
                Ok(call) => call,
                Err(error) => {
                    let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {error}"));
                    return self.link.refuse(id, &error);
                }
            },
        };
        let token = envelope.params().and_then(|params| member(member(params, "_meta")?, "progressToken"));
        self.go_on(call, id, method, token).await;
        self.renamed().remove(id.get());
    }

    /// Sends a request.
    async fn called(&self, envelope: &Envelope, id: &RawValue, method: &str) -> Result<Call, JsonError> {
        self.set_log_level(envelope).await;
        let params = without_what_is_said_once(params_text(&envelope.kind));
        let own = request(id.get(), method, &params)?;
        let token = own.params().and_then(|params| member(member(params, "_meta")?, "progressToken"));
        let progress_token = token.map(ToOwned::to_owned);
        let (output, lines) = mpsc::unbounded_channel();
        let link = Arc::clone(&self.link);
        let working = tokio::spawn(async move { link.upstream.pass(&own, &output).await }).abort_handle();
        Ok(Call { id: id.to_owned(), progress_token, lines, working })
    }

    /// Passes on what a call brings, until its response or its next question.
    async fn go_on(&self, mut call: Call, id: &RawValue, method: &str, token: Option<&RawValue>) {
        while let Some(line) = call.lines.recv().await {
            let Ok(message) = Envelope::parse(&line.text) else { continue };
            match &message.kind {
                Kind::Request { id: asked, method: question, .. } => {
                    if question == method::PING {
                        self.reply(asked, r#""result":{}"#).await;
                    } else if may_ask(method) && is_question(question) {
                        return self.ask(call, id, asked, question, params_text(&message.kind));
                    } else {
                        self.reply(asked, r#""error":{"code":-32601,"message":"the client takes no such request"}"#)
                            .await;
                    }
                }
                Kind::Notification { .. } if self.news.take(&line, &message) => {}
                Kind::Notification { .. } => {
                    let own = message.params().and_then(|params| member(params, "progressToken"));
                    let renamed = match (own, token, &call.progress_token) {
                        (Some(own), Some(token), Some(known)) if own.get() == known.get() => {
                            let params = params_text(&message.kind);
                            let renamed = member(message.params().unwrap_or(token), "progressToken");
                            let renamed = renamed.map(|own| with_part(params, own.get(), token.get()));
                            let method = json!(message.method());
                            let params = renamed.unwrap_or_else(|| params.to_owned());
                            Some(format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#))
                        }
                        _ => None,
                    };
                    let line = match renamed {
                        Some(text) => line.with_text(text),
                        None => line,
                    };
                    send(&self.link.client, line);
                }
                Kind::Other => {
                    let Ok(shape) = json::borrow::<Shape<'_>>(&line.text) else { continue };
                    if !shape.id.is_some_and(|own| is_same_id(own, &call.id)) {
                        continue;
                    }
                    return match shape.result {
                        Some(result) => self.link.answer(id, &completed(result, method)),
                        None => self.link.answer_as(id, &line.text),
                    };
                }
            }
        }
        self.link.refuse(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, "mcpl: the server's answer has no end"));
    }

    /// Ends the client's request with the server's question.
    fn ask(&self, call: Call, id: &RawValue, asked: &RawValue, method: &str, params: &str) {
        let state = self.link.fresh_id();
        let question = format!(r#"{{"method":{},"params":{params}}}"#, json!(method));
        let waiting = Waiting { call, id: asked.to_owned(), question, since: Instant::now() };
        self.link.answer(id, &waiting.result(&state));
        let mut all = self.waiting();
        all.retain(|_, waiting| waiting.since.elapsed() < PATIENCE);
        all.insert(state.trim_matches('"').to_owned(), waiting);
    }

    /// Gives the server the answer to its question.
    async fn resumed(&self, envelope: &Envelope, id: &RawValue, state: &str) -> Result<Call, Option<ErrorObject>> {
        let waiting = self.waiting().remove(state);
        let Some(waiting) = waiting else {
            let text = "mcpl: `requestState` is of no call that is still open: call again without it";
            return Err(Some(ErrorObject::new(jsonrpc::INVALID_PARAMS, text)));
        };
        let answers = envelope.params().and_then(|params| member(params, "inputResponses"));
        let Some(answer) = answers.and_then(|answers| member(answers, QUESTION)) else {
            self.link.answer(id, &waiting.result(&json!(state).to_string()));
            self.waiting().insert(state.to_owned(), waiting);
            return Err(None);
        };
        self.reply(&waiting.id, &format!(r#""result":{answer}"#)).await;
        self.renamed().insert(id.get().to_owned(), waiting.call.id.get().to_owned());
        Ok(waiting.call)
    }

    async fn reply(&self, id: &RawValue, outcome: &str) {
        if let Ok(reply) = Envelope::parse(&format!(r#"{{"jsonrpc":"2.0","id":{},{outcome}}}"#, id.get())) {
            self.link.upstream.pass(&reply, &self.link.client).await;
        }
    }

    /// Tells the server the level of log messages, when it changes.
    async fn set_log_level(&self, envelope: &Envelope) {
        let wanted = envelope.param(&["_meta", meta::LOG_LEVEL]);
        let mut level = self.log_level.lock().await;
        if let Some(wanted) = wanted.filter(|wanted| self.has_logging && level.as_ref() != Some(wanted)) {
            self.link.request(method::LOGGING_SET_LEVEL, &json!({ "level": wanted }).to_string()).await;
            *level = Some(wanted);
        }
    }

    async fn cancel(&self, envelope: &Envelope) {
        let Some(id) = envelope.params().and_then(|params| member(params, "requestId")) else { return };
        if self.news.end(id) {
            return;
        }
        let known = self.renamed().get(id.get()).cloned().unwrap_or_else(|| id.get().to_owned());
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{{"requestId":{known}}}}}"#);
        if let Ok(cancelled) = Envelope::parse(&text) {
            self.link.upstream.pass(&cancelled, &self.link.client).await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renamed(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.renamed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ModernClient {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.working.abort();
    }
}

impl Waiting {
    /// An `InputRequiredResult`; `state` is JSON.
    fn result(&self, state: &str) -> String {
        let question = &self.question;
        format!(
            r#"{{"resultType":"input_required","inputRequests":{{"{QUESTION}":{question}}},"requestState":{state}}}"#
        )
    }
}

/// What the server says by itself, and who wants to hear it.
struct News {
    link: Arc<Link>,
    /// By the ids of their `subscriptions/listen`.
    listeners: Mutex<HashMap<String, Listener>>,
}

struct Listener {
    filter: Filter,
    /// Dropped at the end.
    _open: oneshot::Sender<()>,
}

/// `SubscriptionFilter`.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
}

impl Filter {
    fn lets_through(&self, notification: &Envelope) -> bool {
        match notification.method() {
            Some("notifications/tools/list_changed") => self.tools_list_changed,
            Some("notifications/prompts/list_changed") => self.prompts_list_changed,
            Some("notifications/resources/list_changed") => self.resources_list_changed,
            Some("notifications/resources/updated") => {
                notification.param(&["uri"]).is_some_and(|uri| self.resource_subscriptions.contains(&uri))
            }
            _ => false,
        }
    }
}

impl News {
    /// Answers `subscriptions/listen` until it is cancelled.
    async fn tell(&self, envelope: &Envelope, id: &RawValue) {
        let filter = envelope.params().and_then(|params| member(params, "notifications"));
        let filter: Filter = filter.and_then(|own| received::read(own.get()).ok()).unwrap_or_default();
        for uri in &filter.resource_subscriptions {
            self.link.request(method::RESOURCES_SUBSCRIBE, &json!({ "uri": uri }).to_string()).await;
        }
        let (open, closed) = oneshot::channel();
        let acknowledged = json!({ "notifications": filter }).to_string();
        send(&self.link.client, for_listener(id, ACKNOWLEDGED, &acknowledged));
        self.listeners().insert(id.get().to_owned(), Listener { filter, _open: open });
        let _ = closed.await;
    }

    async fn listen(self: Arc<Self>) {
        let (output, mut lines) = mpsc::unbounded_channel::<Line>();
        let listening = async {
            self.link.upstream.listen(&output).await;
            drop(output);
        };
        let telling = async {
            while let Some(line) = lines.recv().await {
                match Envelope::parse(&line.text) {
                    Ok(message) if message.id().is_none() => _ = self.take(&line, &message),
                    _ => tracing::info!("the server asks something outside of any call"),
                }
            }
        };
        tokio::join!(listening, telling);
    }

    /// Tells those who want to hear it. Whether it is news at all.
    fn take(&self, line: &Line, notification: &Envelope) -> bool {
        const NEWS: [&str; 2] = ["/list_changed", "notifications/resources/updated"];
        let method = notification.method().unwrap_or_default();
        if !NEWS.iter().any(|end| method.ends_with(end)) {
            return false;
        }
        for (id, listener) in self.listeners().iter() {
            if let (true, Ok(id)) = (listener.filter.lets_through(notification), json::borrow(id)) {
                let text = for_listener(id, method, params_text(&notification.kind));
                send(&self.link.client, line.followed_by(text));
            }
        }
        true
    }

    /// Whether somebody listened under that id.
    fn end(&self, id: &RawValue) -> bool {
        self.listeners().remove(id.get()).is_some()
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<String, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A notification with the id of the `subscriptions/listen` that it belongs to.
fn for_listener(id: &RawValue, method: &str, params: &str) -> String {
    let params = with_members(params, &format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#));
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

/// Requests during which a modern client takes questions.
fn may_ask(method: &str) -> bool {
    matches!(method, method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ)
}

fn is_question(method: &str) -> bool {
    matches!(method, "elicitation/create" | "sampling/createMessage" | "roots/list")
}

/// A result with what a modern one has to say besides.
fn completed(result: &RawValue, method: &str) -> String {
    const CACHEABLE: [&str; 5] = [
        method::TOOLS_LIST,
        method::PROMPTS_LIST,
        method::RESOURCES_LIST,
        method::RESOURCES_TEMPLATES_LIST,
        method::RESOURCES_READ,
    ];
    let mut members = Vec::new();
    if member(result, "resultType").is_none() {
        members.push(r#""resultType":"complete""#);
    }
    if CACHEABLE.contains(&method) {
        for (name, text) in [("ttlMs", r#""ttlMs":0"#), ("cacheScope", r#""cacheScope":"private""#)] {
            if member(result, name).is_none() {
                members.push(text);
            }
        }
    }
    with_members(result.get(), &members.join(","))
}

/// Parameters without what a legacy server learns in the handshake.
fn without_what_is_said_once(params: &str) -> String {
    let own = json::borrow::<&RawValue>(params).ok().and_then(|params| member(params, "_meta"));
    let Some(own) = own else { return params.to_owned() };
    let Ok(members) = received::read::<std::collections::BTreeMap<String, Box<RawValue>>>(own.get()) else {
        return params.to_owned();
    };
    let kept: Vec<String> = members
        .iter()
        .filter(|(name, _)| !SAID_ONCE.contains(&name.as_str()))
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    with_part(params, own.get(), &format!("{{{}}}", kept.join(",")))
}
