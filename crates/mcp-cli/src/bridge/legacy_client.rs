//! A legacy client in front of a modern server.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use mcp_protocol::{ErrorObject, ProtocolVersion, json, jsonrpc, meta, method};
use serde_json::{json, value::RawValue};
use tokio::sync::{Notify, mpsc};

use super::{
    ACKNOWLEDGED, Link, MAX_QUESTIONS, SUBSCRIPTIONS_LISTEN, announces, answers,
    capabilities::{self, ELICIT},
    legacy_shapes, log_level, member, modern_version, params_text,
    structured::OutputSchemas,
    text_member,
};
use crate::{
    message::{Envelope, Kind, Shape, fresh_id, request, with_members, with_part, without_members},
    received,
    upstream::{Line, send},
};

/// Maximum number of rounds of questions for one request.
const MAX_ROUNDS: usize = 20;
/// Delay before a stream of notifications is opened again.
const LISTEN_PAUSE: Duration = Duration::from_secs(5);

/// The state of a legacy client's session.
pub(super) struct LegacyClient {
    link: Arc<Link>,
    /// The client's revision.
    revision: ProtocolVersion,
    /// The result of `initialize`.
    welcome: String,
    capabilities: Box<RawValue>,
    client_info: Box<RawValue>,
    client_capabilities: Box<RawValue>,
    schemas: OutputSchemas,
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    log_level: Option<String>,
    subscribed: BTreeSet<String>,
}

/// Why a request has no response of the server.
struct Unanswered(String);

impl LegacyClient {
    /// Requests `server/discover`; `None` if the server is not a modern one.
    pub(super) async fn before(link: &Arc<Link>, initialize: &Envelope) -> Option<Self> {
        let params = initialize.params()?;
        let empty = || RawValue::from_string("{}".to_owned()).ok();
        let unnamed = || RawValue::from_string(r#"{"name":"unknown","version":"unknown"}"#.to_owned()).ok();
        let declared = member(params, "capabilities").map_or_else(|| "{}".to_owned(), capabilities::without_tasks);
        let asked = text_member(params, "protocolVersion").and_then(|version| ProtocolVersion::parse(&version));
        let mut own = Self {
            link: Arc::clone(link),
            revision: asked.filter(|version| !version.is_modern()).unwrap_or(ProtocolVersion::LATEST_LEGACY),
            welcome: String::new(),
            capabilities: empty()?,
            client_info: member(params, "clientInfo").map(ToOwned::to_owned).or_else(unnamed)?,
            client_capabilities: RawValue::from_string(declared).ok()?,
            schemas: OutputSchemas::default(),
            kept: Mutex::default(),
            changed: Notify::new(),
        };
        let discovered = link.request(method::SERVER_DISCOVER, &own.with_meta("{}")).await;
        let shape: Shape<'_> = json::borrow(&discovered).ok()?;
        let result = shape.result?;
        let supported: Vec<String> = received::read(member(result, "supportedVersions")?.get()).ok()?;
        if !supported.iter().any(|version| version == modern_version()) {
            return None;
        }
        // No legacy revision has extensions.
        let capabilities = without_members(member(result, "capabilities")?.get(), &["extensions"]);
        own.capabilities = RawValue::from_string(capabilities).ok()?;
        let server_info = member(result, "_meta").and_then(|meta| member(meta, meta::SERVER_INFO));
        let server_info = server_info.map_or(r#"{"name":"unknown","version":"unknown"}"#, RawValue::get);
        let instructions = member(result, "instructions");
        let instructions = instructions.map(|text| format!(r#","instructions":{text}"#)).unwrap_or_default();
        own.welcome = format!(
            r#"{{"protocolVersion":"{}","capabilities":{},"serverInfo":{server_info}{instructions}}}"#,
            own.revision, own.capabilities
        );
        Some(own)
    }

    pub(super) async fn pass(&self, envelope: &Envelope) {
        match &envelope.kind {
            Kind::Request { id, method, .. } => self.request(envelope, id, method).await,
            // A modern server takes no notifications of the client.
            Kind::Notification { .. } => {}
            Kind::Other => self.link.take_answer(envelope),
        }
    }

    async fn request(&self, envelope: &Envelope, id: &RawValue, method: &str) {
        match method {
            method::INITIALIZE => self.link.answer(id, &self.welcome),
            method::PING => self.link.answer(id, "{}"),
            method::LOGGING_SET_LEVEL => {
                let none = RawValue::NULL;
                match log_level(envelope.params().and_then(|params| member(params, "level")).unwrap_or(none)) {
                    Ok(level) => {
                        self.kept().log_level = Some(level);
                        self.link.answer(id, "{}");
                    }
                    Err(error) => self.link.refuse(id, &error),
                }
            }
            method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => {
                let Some(uri) = envelope.param(&["uri"]) else {
                    let error = ErrorObject::new(jsonrpc::INVALID_PARAMS, "`uri` is missing");
                    return self.link.refuse(id, &error);
                };
                let changed = match method == method::RESOURCES_SUBSCRIBE {
                    true => self.kept().subscribed.insert(uri),
                    false => self.kept().subscribed.remove(&uri),
                };
                if changed {
                    self.changed.notify_one();
                }
                self.link.answer(id, "{}");
            }
            _ => match self.rounds(envelope, id, method).await.and_then(|own| self.checked(envelope, method, own)) {
                Ok(response) => self.answer(id, method, &response),
                Err(Unanswered(why)) => {
                    self.link.refuse(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {why}")));
                }
            },
        }
    }

    /// Checks the structured result of a response against the tool's output schema.
    fn checked(&self, envelope: &Envelope, method: &str, response: String) -> Result<String, Unanswered> {
        let result = json::borrow::<Shape<'_>>(&response).ok().and_then(|shape| shape.result);
        match (method, result, envelope.params()) {
            (method::TOOLS_LIST, Some(result), _) => self.schemas.learn(result),
            (method::TOOLS_CALL, Some(result), Some(call)) => self.schemas.check(call, result).map_err(Unanswered)?,
            _ => {}
        }
        Ok(response)
    }

    /// Translates a response of the server to the client's revision.
    fn answer(&self, id: &RawValue, method: &str, response: &str) {
        match json::borrow::<Shape<'_>>(response) {
            Ok(Shape { result: Some(result), .. }) => {
                self.link.answer(id, &legacy_shapes::reduced(result, method, self.revision));
            }
            _ => self.link.answer_as(id, response),
        }
    }

    /// Sends a request, with further rounds for the server's questions. Returns the response.
    async fn rounds(&self, envelope: &Envelope, id: &RawValue, method: &str) -> Result<String, Unanswered> {
        let mut own_id = id.get().to_owned();
        let mut answers = String::new();
        for _ in 0..MAX_ROUNDS {
            let params = with_members(&self.with_meta(params_text(&envelope.kind)), &answers);
            let request = request(&own_id, method, &params).map_err(|error| Unanswered(error.to_string()))?;
            let response = self.link.upstream.request(&request, &self.link.client).await;
            match result_type(&response)?.as_deref() {
                Some("input_required") => {}
                _ => return Ok(response),
            }
            let unread = || Unanswered("the server's questions cannot be read".to_owned());
            let asked = Asked::of(&response).ok_or_else(unread)?;
            if asked.questions.len() > MAX_QUESTIONS {
                return Err(Unanswered(format!("the server asks more than {MAX_QUESTIONS} questions at once")));
            }
            answers = self.ask(&asked).await?;
            // Each round is a request of its own.
            own_id = fresh_id();
        }
        Err(Unanswered(format!("the server still has questions after {MAX_ROUNDS} rounds")))
    }

    /// Sends the server's questions to the client. Returns the members of the next round.
    async fn ask(&self, asked: &Asked) -> Result<String, Unanswered> {
        for (_, question) in &asked.questions {
            self.check_declared(question)?;
        }
        let answers = asked.questions.iter().map(|(key, question)| async move {
            let method = text_member(question, "method").unwrap_or_default();
            let params = member(question, "params");
            let shown = params.map(|params| self.in_revision(&method, params));
            let response = self.link.ask(&method, shown.as_deref()).await;
            let response = response.ok_or_else(|| Unanswered("the client has hung up".to_owned()))?;
            match json::borrow::<Shape<'_>>(&response) {
                Ok(Shape { result: Some(result), .. }) => {
                    let wrong = |why| Unanswered(format!("the client's answer to `{method}` is not usable: {why}"));
                    answers::check(&method, params, result).map_err(wrong)?;
                    Ok(format!("{}:{result}", json!(key)))
                }
                Ok(Shape { error: Some(error), .. }) => {
                    let text = text_member(error, "message").unwrap_or_default();
                    Err(Unanswered(format!("the client could not answer `{method}`: {text}")))
                }
                _ => Err(Unanswered(format!("the client's answer to `{method}` is none"))),
            }
        });
        let answers: Vec<String> = join_all(answers).await.into_iter().collect::<Result<_, _>>()?;
        let mut members = Vec::new();
        if !answers.is_empty() {
            members.push(format!(r#""inputResponses":{{{}}}"#, answers.join(",")));
        }
        if let Some(state) = &asked.state {
            members.push(format!(r#""requestState":{state}"#));
        }
        Ok(members.join(","))
    }

    /// Checks that the client has the capability for a question.
    fn check_declared(&self, question: &RawValue) -> Result<(), Unanswered> {
        let method = text_member(question, "method").unwrap_or_default();
        let params = member(question, "params");
        capabilities::check(&self.client_capabilities, self.revision, &method, params).map_err(|undeclared| {
            let missing = undeclared.map(|own| format!(": {}", own.capabilities)).unwrap_or_default();
            Unanswered(format!(
                "the server asks `{method}`, for which the client has not declared a capability{missing}"
            ))
        })
    }

    /// The parameters of a question in the client's revision: before 2025-11-25 a form had no mode, and until then a page to
    /// visit has an id.
    fn in_revision(&self, method: &str, params: &RawValue) -> String {
        match method {
            ELICIT if self.revision < ProtocolVersion::V2025_11_25 => without_members(params.get(), &["mode"]),
            ELICIT if capabilities::mode(Some(params)) == "url" && member(params, "elicitationId").is_none() => {
                with_members(params.get(), &format!(r#""elicitationId":{}"#, fresh_id()))
            }
            _ => params.get().to_owned(),
        }
    }

    /// Forwards the server's notifications by `subscriptions/listen`.
    pub(super) async fn listen(&self) {
        loop {
            let changed = self.changed.notified();
            let Some(wanted) = self.wanted() else {
                changed.await;
                continue;
            };
            let listening = async {
                let params = with_members(&self.with_meta("{}"), &format!(r#""notifications":{wanted}"#));
                let Ok(request) = request(&fresh_id(), SUBSCRIPTIONS_LISTEN, &params) else { return };
                let (output, mut lines) = mpsc::unbounded_channel::<Line>();
                let relaying = async {
                    while let Some(line) = lines.recv().await {
                        let is_news = Envelope::parse(&line.text).is_ok_and(|own| own.method() != Some(ACKNOWLEDGED));
                        if is_news {
                            send(&self.link.client, line);
                        }
                    }
                };
                let passing = async {
                    let response = self.link.upstream.request(&request, &output).await;
                    drop(output);
                    response
                };
                let (response, ()) = tokio::join!(passing, relaying);
                if json::borrow::<Shape<'_>>(&response).is_ok_and(|shape| shape.error.is_some()) {
                    tracing::info!(response, "the server tells no news");
                    // It will not tell them the next time either.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(LISTEN_PAUSE).await;
            };
            tokio::select! {
                () = listening => {}
                () = changed => {}
            }
        }
    }

    /// The filter for `subscriptions/listen`; `None` if the server has no such notifications.
    fn wanted(&self) -> Option<serde_json::Value> {
        let tells = |kind: &str, news: &str| announces(&self.capabilities, kind, news);
        let mut wanted = serde_json::Map::new();
        for (kind, name) in
            [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")]
        {
            if tells(kind, "listChanged") {
                wanted.insert(name.to_owned(), json!(true));
            }
        }
        let subscribed = self.kept().subscribed.clone();
        if tells("resources", "subscribe") && !subscribed.is_empty() {
            wanted.insert("resourceSubscriptions".to_owned(), json!(subscribed));
        }
        (!wanted.is_empty()).then(|| wanted.into())
    }

    /// Adds the `_meta` of a modern request to parameters.
    fn with_meta(&self, params: &str) -> String {
        let mut members = format!(
            r#""{}":"{}","{}":{},"{}":{}"#,
            meta::PROTOCOL_VERSION,
            modern_version(),
            meta::CLIENT_INFO,
            self.client_info,
            meta::CLIENT_CAPABILITIES,
            self.client_capabilities
        );
        if let Some(level) = &self.kept().log_level {
            members.push_str(&format!(r#","{}":{}"#, meta::LOG_LEVEL, json!(level)));
        }
        let own = json::borrow::<&RawValue>(params).ok().and_then(|params| member(params, "_meta"));
        match own.filter(|own| own.get().starts_with('{')) {
            Some(own) => with_part(params, own.get(), &with_members(own.get(), &members)),
            None => with_members(params, &format!(r#""_meta":{{{members}}}"#)),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An `InputRequiredResult`.
pub(super) struct Asked {
    questions: Vec<(String, Box<RawValue>)>,
    /// `requestState`, as it is written.
    state: Option<Box<RawValue>>,
}

impl Asked {
    pub(super) fn of(response: &str) -> Option<Self> {
        let shape: Shape<'_> = json::borrow(response).ok()?;
        let result = shape.result?;
        if text_member(result, "resultType")? != "input_required" {
            return None;
        }
        let questions = member(result, "inputRequests").map(|own| received::read(own.get()));
        let questions: std::collections::BTreeMap<String, Box<RawValue>> =
            questions.transpose().ok()?.unwrap_or_default();
        let state = member(result, "requestState").map(ToOwned::to_owned);
        Some(Self { questions: questions.into_iter().collect(), state })
    }
}

/// The `resultType` of a result.
///
/// # Errors
///
/// If the type is unknown: 2026-07-28 has `complete` and `input_required`.
fn result_type(response: &str) -> Result<Option<String>, Unanswered> {
    let result = json::borrow::<Shape<'_>>(response).ok().and_then(|shape| shape.result);
    let Some(written) = result.and_then(|result| member(result, "resultType")) else { return Ok(None) };
    match json::borrow::<String>(written.get()) {
        Ok(known) if known == "complete" || known == "input_required" => Ok(Some(known)),
        _ => Err(Unanswered(format!("the server's result is of the unknown type {}", json::shortened(written.get())))),
    }
}
