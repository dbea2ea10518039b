//! A modern client in front of a legacy server.
//!
//! A question of the server, which a legacy one asks in the middle of a call, ends the client's request with
//! `input_required`; the call itself stays open, and the client's next round goes on with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mcp_protocol::{ErrorObject, ProtocolVersion, json, jsonrpc, meta, method};
use serde_json::{json, value::RawValue};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    CANCELLED, Link, MAX_QUESTIONS, Refusal, SUBSCRIPTIONS_LISTEN, Sides, answers,
    capabilities::{self, ELICIT, may_ask},
    log_level, member,
    modern_shapes::{completed, without_what_is_said_once},
    modern_version,
    news::News,
    params_text,
    rounds::{AskedFor, Call, ROUND, Then, Waiting, refusal_of},
    structured::OutputSchemas,
    text_member,
};
use crate::{
    message::{Envelope, Kind, Shape, fresh_id, is_same_id, request, with_part, without_members},
    received,
    upstream::send,
};

/// Timeout of a call that waits for the response to its question.
const PATIENCE: Duration = Duration::from_secs(600);
/// The name of the only question of a round.
const QUESTION: &str = "question";
/// A page must be visited before the request is made again (2025-11-25 alone).
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// The session of a modern client at a legacy server.
pub(super) struct ModernClient {
    link: Arc<Link>,
    /// The result of `server/discover`.
    discovered: String,
    has_logging: bool,
    log_level: tokio::sync::Mutex<Option<String>>,
    news: Arc<News>,
    schemas: OutputSchemas,
    /// Calls whose question the client has not answered yet, by `requestState`.
    waiting: Mutex<HashMap<String, Waiting>>,
    /// The server's ids of requests that continue under another id.
    renamed: Mutex<HashMap<String, String>>,
    listening: AbortHandle,
}

impl ModernClient {
    /// Initializes a session with a server that has rejected a modern request; `None` if it rejects `initialize` too.
    ///
    /// # Errors
    ///
    /// If the server responds with an unknown revision.
    pub(super) async fn before(link: &Arc<Link>, first: &Envelope) -> Result<Option<Sides>, String> {
        Self::shake_hands(link, first).await.transpose()
    }

    async fn shake_hands(link: &Arc<Link>, first: &Envelope) -> Option<Result<Sides, String>> {
        let params = first.params()?;
        let own = member(params, "_meta")?;
        if first.method() != Some(method::SERVER_DISCOVER) {
            // A modern server may have refused just this request.
            let probed = link.request(method::SERVER_DISCOVER, &format!(r#"{{"_meta":{own}}}"#)).await;
            match Refusal::of(&probed, false) {
                Refusal::None => return Some(Ok(Sides::Alike)),
                Refusal::Other => return None,
                Refusal::OfAnotherEra => {}
            }
        }
        let client_info = member(own, meta::CLIENT_INFO).map_or(r#"{"name":"mcpl","version":"0"}"#, RawValue::get);
        let declared = member(own, meta::CLIENT_CAPABILITIES);
        let capabilities = declared.map_or_else(|| "{}".to_owned(), capabilities::without_tasks);
        let version = ProtocolVersion::LATEST_LEGACY;
        let handshake =
            format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{client_info}}}"#);
        let welcome = link.request(method::INITIALIZE, &handshake).await;
        let welcome: Shape<'_> = json::borrow(&welcome).ok()?;
        let result = welcome.result?;
        let version = text_member(result, "protocolVersion").unwrap_or_default();
        if ProtocolVersion::parse(&version).is_none_or(ProtocolVersion::is_modern) {
            link.upstream.close().await;
            return Some(Err(format!("the server answers `initialize` with the unknown revision `{version}`")));
        }
        let capabilities = member(result, "capabilities")?;
        let discovered = [
            r#"{"resultType":"complete""#.to_owned(),
            format!(r#""supportedVersions":["{}"]"#, modern_version()),
            format!(r#""capabilities":{}"#, capabilities::without_tasks(capabilities)),
            member(result, "instructions").map(|text| format!(r#""instructions":{text}"#)).unwrap_or_default(),
            format!(r#""_meta":{{"{}":{}}}"#, meta::SERVER_INFO, member(result, "serverInfo")?),
            r#""ttlMs":0,"cacheScope":"private"}"#.to_owned(),
        ];
        let initialized = Envelope::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).ok()?;
        link.upstream.pass(&initialized, &link.client).await;
        let news = Arc::new(News::of(link, capabilities));
        let listening = tokio::spawn(Arc::clone(&news).listen()).abort_handle();
        Some(Ok(Sides::ModernClient(Self {
            link: Arc::clone(link),
            discovered: discovered.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(","),
            has_logging: member(capabilities, "logging").is_some(),
            log_level: tokio::sync::Mutex::default(),
            news,
            schemas: OutputSchemas::default(),
            waiting: Mutex::default(),
            renamed: Mutex::default(),
            listening,
        })))
    }

    pub(super) async fn pass(&self, envelope: &Envelope) {
        match &envelope.kind {
            Kind::Request { id, method, .. } => self.request(envelope, id, method).await,
            Kind::Notification { method, .. } if method == CANCELLED => self.cancel(envelope).await,
            Kind::Notification { .. } | Kind::Other => {
                tracing::info!("a message of the client has no equivalent for a legacy server: dropped")
            }
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
            Some(state) => self.resumed(envelope, id, &state).await,
            None => self.called(envelope, id, method).await.map(Some),
        };
        match call {
            Ok(Some(call)) => self.go_on(call, envelope, id, method).await,
            // The questions are asked once more.
            Ok(None) => {}
            Err(error) => self.link.refuse(id, &error),
        }
        self.renamed().remove(id.get());
    }

    /// Sends a request.
    async fn called(&self, envelope: &Envelope, id: &RawValue, method: &str) -> Result<Call, ErrorObject> {
        self.set_log_level(envelope).await?;
        let params = without_members(&without_what_is_said_once(params_text(&envelope.kind)), &ROUND);
        let internal = |error| ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {error}"));
        let own = request(id.get(), method, &params).map_err(internal)?;
        let token = own.params().and_then(|params| member(member(params, "_meta")?, "progressToken"));
        let progress_token = token.map(ToOwned::to_owned);
        let (output, lines) = mpsc::unbounded_channel();
        if may_ask(method) {
            self.news.note_call(&output);
        }
        let link = Arc::clone(&self.link);
        let working = tokio::spawn(async move { link.upstream.pass(&own, &output).await }).abort_handle();
        Ok(Call { id: id.to_owned(), progress_token, lines, working })
    }

    /// Forwards the messages of a call up to its response or its next question.
    async fn go_on(&self, mut call: Call, envelope: &Envelope, id: &RawValue, method: &str) {
        let token = envelope.params().and_then(|params| member(member(params, "_meta")?, "progressToken"));
        while let Some(line) = call.lines.recv().await {
            let Ok(message) = Envelope::parse(&line.text) else { continue };
            match &message.kind {
                Kind::Request { id: asked, method: question, params } => {
                    if question == method::PING {
                        self.link.reply(asked, r#""result":{}"#).await;
                        continue;
                    }
                    match refusal_of(envelope, question, params.as_deref()) {
                        None => return self.ask(call, envelope, id, asked, question, params_text(&message.kind)),
                        Some(error) => self.link.reply(asked, &format!(r#""error":{}"#, json!(error))).await,
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
                    return match (shape.result, shape.error) {
                        (Some(result), _) => self.answer(envelope, id, method, result),
                        (None, Some(error)) => self.fail(envelope, id, error),
                        (None, None) => self.link.answer_as(id, &line.text),
                    };
                }
            }
        }
        self.link.refuse(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, "mcpl: the server's answer has no end"));
    }

    fn answer(&self, envelope: &Envelope, id: &RawValue, method: &str, result: &RawValue) {
        let checked = match (method, envelope.params()) {
            (method::TOOLS_LIST, _) => {
                self.schemas.learn(result);
                Ok(())
            }
            (method::TOOLS_CALL, Some(call)) => self.schemas.check(call, result),
            _ => Ok(()),
        };
        match checked {
            Ok(()) => self.link.answer(id, &completed(result, method)),
            Err(why) => {
                self.link.refuse(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {why}")));
            }
        }
    }

    /// Sends the server's error to the client, without codes that 2026-07-28 has removed.
    fn fail(&self, envelope: &Envelope, id: &RawValue, error: &RawValue) {
        let code = member(error, "code");
        let text = match code.and_then(|code| json::borrow::<i64>(code.get()).ok()) {
            Some(URL_ELICITATION_REQUIRED) => return self.ask_for_pages(envelope, id, error),
            Some(jsonrpc::RESOURCE_NOT_FOUND) => {
                code.map(|code| with_part(error.get(), code.get(), &jsonrpc::INVALID_PARAMS.to_string()))
            }
            _ => None,
        };
        let text = text.unwrap_or_else(|| error.get().to_owned());
        send(&self.link.client, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{text}}}"#, id.get()));
    }

    /// Ends the client's request with the server's question.
    fn ask(&self, call: Call, envelope: &Envelope, id: &RawValue, asked: &RawValue, method: &str, params: &str) {
        // A page to visit has no id any more.
        let params = if method == ELICIT { without_members(params, &["elicitationId"]) } else { params.to_owned() };
        let question = RawValue::from_string(format!(r#"{{"method":{},"params":{params}}}"#, json!(method)));
        let questions = question.ok().map(|question| (QUESTION.to_owned(), question)).into_iter().collect();
        let then = Then::Reply { call, id: asked.to_owned() };
        self.wait(id, Waiting { asked_for: AskedFor::of(envelope), questions, then, since: Instant::now() });
    }

    /// Ends the client's request with the pages that must be visited before it is made again.
    fn ask_for_pages(&self, envelope: &Envelope, id: &RawValue, error: &RawValue) {
        let pages = member(error, "data").and_then(|data| member(data, "elicitations"));
        let pages = pages.and_then(|own| received::read::<Vec<Box<RawValue>>>(own.get()).ok()).unwrap_or_default();
        let is_url = |page: &RawValue| capabilities::mode(Some(page)) == "url";
        if pages.is_empty() || pages.len() > MAX_QUESTIONS || !pages.iter().all(|page| is_url(page)) {
            let text = "mcpl: the server wants pages to be visited first, and names none that can be used";
            return self.link.refuse(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, text));
        }
        if refusal_of(envelope, ELICIT, Some(&pages[0])).is_some() {
            let text = "the server wants a page to be visited first, which takes the capability `elicitation.url`";
            let error = ErrorObject::new(jsonrpc::MISSING_REQUIRED_CLIENT_CAPABILITY, text);
            let data = json!({ "requiredCapabilities": { "elicitation": { "url": {} } } });
            return self.link.refuse(id, &error.with_data(data));
        }
        let questions = pages.iter().enumerate().filter_map(|(index, page)| {
            let params = without_members(page.get(), &["elicitationId"]);
            let question = format!(r#"{{"method":"{ELICIT}","params":{params}}}"#);
            Some((format!("{QUESTION}{index}"), RawValue::from_string(question).ok()?))
        });
        let waiting = Waiting {
            asked_for: AskedFor::of(envelope),
            questions: questions.collect(),
            then: Then::CallAgain,
            since: Instant::now(),
        };
        self.wait(id, waiting);
    }

    fn wait(&self, id: &RawValue, waiting: Waiting) {
        let state = fresh_id();
        self.link.answer(id, &waiting.result(&state));
        let mut all = self.waiting();
        all.retain(|_, waiting| waiting.since.elapsed() < PATIENCE);
        all.insert(state.trim_matches('"').to_owned(), waiting);
    }

    /// Sends the answers to the server; `None` if some are missing, which are asked again.
    async fn resumed(&self, envelope: &Envelope, id: &RawValue, state: &str) -> Result<Option<Call>, ErrorObject> {
        let invalid = |text: String| Err(ErrorObject::new(jsonrpc::INVALID_PARAMS, format!("mcpl: {text}")));
        let asked_for = AskedFor::of(envelope);
        let waiting = self.waiting().remove(state);
        let Some(waiting) = waiting else {
            return invalid("`requestState` is of no call that is still open: call again without it".to_owned());
        };
        // What is not usable leaves the question open.
        let keep = |waiting| _ = self.waiting().insert(state.to_owned(), waiting);
        if !waiting.asked_for.is(&asked_for) {
            keep(waiting);
            return invalid("`requestState` is of another request: it belongs to one alone".to_owned());
        }
        let responses = envelope.params().and_then(|params| member(params, ROUND[0]));
        let mut given = Vec::new();
        for (key, question) in &waiting.questions {
            let Some(answer) = responses.and_then(|own| member(own, key)) else {
                self.link.answer(id, &waiting.result(&json!(state).to_string()));
                keep(waiting);
                return Ok(None);
            };
            let method = text_member(question, "method").unwrap_or_default();
            if let Err(why) = answers::check(&method, member(question, "params"), answer) {
                let text = format!("the answer `{key}` is not usable: {why}");
                keep(waiting);
                return invalid(text);
            }
            given.push(answer);
        }
        match waiting.then {
            Then::Reply { call, id: asked } => {
                let answer = given.first().map_or("{}", |own| own.get());
                self.link.reply(&asked, &format!(r#""result":{answer}"#)).await;
                self.renamed().insert(id.get().to_owned(), call.id.get().to_owned());
                Ok(Some(call))
            }
            Then::CallAgain if given.iter().all(|own| text_member(own, "action").as_deref() == Some("accept")) => {
                self.called(envelope, id, &asked_for.method).await.map(Some)
            }
            Then::CallAgain => {
                let text = "mcpl: the server wants a page to be visited first, which was declined";
                Err(ErrorObject::new(jsonrpc::INTERNAL_ERROR, text))
            }
        }
    }

    /// Sets the level of log messages at the server when it changes.
    async fn set_log_level(&self, envelope: &Envelope) -> Result<(), ErrorObject> {
        let wanted = envelope.params().and_then(|params| member(member(params, "_meta")?, meta::LOG_LEVEL));
        let Some(wanted) = wanted.map(log_level).transpose()? else { return Ok(()) };
        let mut level = self.log_level.lock().await;
        if self.has_logging && level.as_ref() != Some(&wanted) {
            let set = self.link.request(method::LOGGING_SET_LEVEL, &json!({ "level": wanted }).to_string()).await;
            if json::borrow::<Shape<'_>>(&set).is_ok_and(|shape| shape.result.is_some()) {
                *level = Some(wanted);
            }
        }
        Ok(())
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
