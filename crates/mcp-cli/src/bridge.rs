//! Translation between a client and a server of different eras.
//!
//! Between two sides of the same era messages are forwarded unchanged. The server's era is detected at the first request and cached
//! (2026-07-28, "Versioning and Compatibility").

mod answers;
mod capabilities;
mod legacy_client;
mod legacy_shapes;
mod modern_client;
mod modern_shapes;
mod news;
mod rounds;
mod schema;
mod structured;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use mcp_protocol::{ErrorObject, LoggingLevel, ProtocolVersion, json, jsonrpc, method};
use serde_json::{json, value::RawValue};
use tokio::sync::{mpsc, oneshot};

use self::{
    legacy_client::{Asked, LegacyClient},
    modern_client::ModernClient,
};
use crate::{
    message::{Envelope, Kind, Shape, error_response, fresh_id, request},
    upstream::{Output, Upstream, send},
};

/// Codes of JSON-RPC errors that only a modern server gives.
const MODERN_ERRORS: std::ops::RangeInclusive<i64> = -32099..=-32020;
/// HTTP statuses by which a server of another era rejects a request.
const NOT_UNDERSTOOD: [i64; 6] = [400, 404, 405, 406, 415, 422];

/// One client and one server.
pub(crate) struct Bridge {
    /// Set after the first response.
    sides: OnceLock<Sides>,
    deciding: tokio::sync::Mutex<()>,
    link: Arc<Link>,
}

const CANCELLED: &str = "notifications/cancelled";
const SUBSCRIPTIONS_LISTEN: &str = "subscriptions/listen";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Maximum number of questions in one round.
const MAX_QUESTIONS: usize = 100;

/// The eras of client and server.
enum Sides {
    Alike,
    /// A legacy client and a modern server.
    LegacyClient(LegacyClient),
    /// A modern client and a legacy server.
    ModernClient(ModernClient),
}

/// The connections to the client and the server.
struct Link {
    upstream: Upstream,
    client: Output,
    /// Pending requests to the client, by their ids as they were sent.
    asked: Mutex<HashMap<String, oneshot::Sender<String>>>,
}

impl Bridge {
    pub(crate) fn new(upstream: Upstream, client: Output) -> Self {
        let link = Link { upstream, client, asked: Mutex::default() };
        Self { sides: OnceLock::new(), deciding: tokio::sync::Mutex::default(), link: Arc::new(link) }
    }

    /// Forwards a message of the client, translated if needed, and everything that comes back.
    pub(crate) async fn pass(&self, envelope: &Envelope) {
        match self.sides.get() {
            Some(Sides::Alike) => self.link.upstream.pass(envelope, &self.link.client).await,
            Some(Sides::LegacyClient(bridge)) => bridge.pass(envelope).await,
            Some(Sides::ModernClient(bridge)) => bridge.pass(envelope).await,
            None => self.pass_first(envelope).await,
        }
    }

    /// Forwards messages of the server outside of requests, after `initialized`.
    pub(crate) async fn listen(&self) {
        match self.sides.get() {
            Some(Sides::LegacyClient(bridge)) => bridge.listen().await,
            // A modern client asks for it.
            Some(Sides::ModernClient(_)) => {}
            Some(Sides::Alike) | None => self.link.upstream.listen(&self.link.client).await,
        }
    }

    /// Whether the end of a request's connection cancels it at the server. A request that waits for a token is not at the
    /// server, and ends the same way.
    pub(crate) fn cancels_by_closing(&self, id: &RawValue, is_modern: bool) -> bool {
        if self.link.upstream.waits_for_token(id) {
            return true;
        }
        match self.sides.get() {
            Some(Sides::LegacyClient(_)) => true,
            Some(Sides::ModernClient(_)) => false,
            Some(Sides::Alike) | None => is_modern,
        }
    }

    /// Sends a message of `mcpl` itself to the client.
    pub(crate) fn say(&self, line: String) {
        send(&self.link.client, line);
    }

    pub(crate) async fn close(&self) {
        self.link.upstream.close().await;
    }

    async fn pass_first(&self, envelope: &Envelope) {
        let is_handshake = envelope.method() == Some(method::INITIALIZE) && envelope.modern_version().is_none();
        if envelope.id().is_none() || !(is_handshake || envelope.modern_version().is_some()) {
            return self.link.upstream.pass(envelope, &self.link.client).await;
        }
        let response = self.link.upstream.request(envelope, &self.link.client).await;
        let refusal = Refusal::of(&response, is_handshake);
        if refusal == Refusal::None {
            let _ = self.sides.set(Sides::Alike);
        }
        if refusal != Refusal::OfAnotherEra {
            return self.say(response);
        }
        let turn = self.deciding.lock().await;
        if self.sides.get().is_none() {
            let sides = match is_handshake {
                true => Ok(LegacyClient::before(&self.link, envelope).await.map(Sides::LegacyClient)),
                false => ModernClient::before(&self.link, envelope).await,
            };
            match (sides, envelope.id()) {
                (Ok(Some(sides)), _) => _ = self.sides.set(sides),
                (Err(why), Some(id)) => {
                    let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("mcpl: {why}"));
                    return self.link.refuse(id, &error);
                }
                _ => {}
            }
        }
        drop(turn);
        match self.sides.get() {
            Some(Sides::LegacyClient(bridge)) => bridge.pass(envelope).await,
            Some(Sides::ModernClient(bridge)) => bridge.pass(envelope).await,
            // It is no question of the era: what the server has said stands.
            Some(Sides::Alike) | None => self.say(response),
        }
    }
}

/// The evidence of a response about the server's era.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The server has understood.
    None,
    /// The server may be of another era.
    OfAnotherEra,
    /// No evidence.
    Other,
}

impl Refusal {
    /// Classifies a response. `is_handshake`: the request was `initialize`, which a modern server may reject in any way, or accept
    /// with a revision
    /// that has no handshake.
    fn of(response: &str, is_handshake: bool) -> Self {
        let Ok(shape) = json::borrow::<Shape<'_>>(response) else { return Self::Other };
        let Some(error) = shape.error else {
            let agreed = shape.result.and_then(|result| text_member(result, "protocolVersion"));
            let is_modern = agreed.and_then(|own| ProtocolVersion::parse(&own)).is_some_and(ProtocolVersion::is_modern);
            return if is_handshake && is_modern { Self::OfAnotherEra } else { Self::None };
        };
        let code = member(error, "code").and_then(|code| json::borrow(code.get()).ok());
        let Some(code) = code else { return Self::Other };
        match code {
            code if MODERN_ERRORS.contains(&code) && !is_handshake => Self::None,
            jsonrpc::INTERNAL_ERROR => Self::Other,
            code if code < 0 || NOT_UNDERSTOOD.contains(&code) => Self::OfAnotherEra,
            _ => Self::Other,
        }
    }
}

impl Link {
    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<String>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to the client, as a legacy server does, and returns its response unchanged; `None` if it disconnects.
    async fn ask(&self, method: &str, params: Option<&str>) -> Option<String> {
        let id = fresh_id();
        let (answered, answer) = oneshot::channel();
        self.asked().insert(id.clone(), answered);
        let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
        send(&self.client, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}{params}}}"#, json!(method)));
        answer.await.ok()
    }

    /// Delivers a response of the client to the pending request.
    fn take_answer(&self, response: &Envelope) {
        let Ok(shape) = json::borrow::<Shape<'_>>(&response.text) else { return };
        let waiting = shape.id.and_then(|id| self.asked().remove(id.get()));
        match waiting {
            Some(waiting) => _ = waiting.send(response.text.clone()),
            None => tracing::info!("the client answers a request that was not made"),
        }
    }

    /// Sends a request of `mcpl` itself.
    async fn request(&self, method: &str, params: &str) -> String {
        let id = fresh_id();
        let request = request(&id, method, params);
        let (unheard, _) = mpsc::unbounded_channel();
        match request {
            Ok(request) => self.upstream.request(&request, &unheard).await,
            Err(error) => error_response(None, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, error.to_string())),
        }
    }

    /// Responds to a request of the server.
    async fn reply(&self, id: &RawValue, outcome: &str) {
        if let Ok(reply) = Envelope::parse(&format!(r#"{{"jsonrpc":"2.0","id":{},{outcome}}}"#, id.get())) {
            self.upstream.pass(&reply, &self.client).await;
        }
    }

    fn answer(&self, id: &RawValue, result: &str) {
        send(&self.client, format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get()));
    }

    fn refuse(&self, id: &RawValue, error: &ErrorObject) {
        send(&self.client, error_response(Some(id), error));
    }

    /// A response of the server, with the id of the client's request.
    fn answer_as(&self, id: &RawValue, response: &str) {
        match json::borrow::<Shape<'_>>(response) {
            Ok(Shape { result: Some(result), .. }) => self.answer(id, result.get()),
            Ok(Shape { error: Some(error), .. }) => {
                let error = error.get();
                send(&self.client, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get()));
            }
            _ => self.refuse(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, "mcpl: the server's response is none")),
        }
    }
}

/// A member of an object, if it is there.
fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    mcp_protocol::lookup(object, &[name.to_owned()]).ok().flatten()
}

/// Whether a server's capabilities have a member that is `true`, such as `listChanged` of `tools`.
fn announces(capabilities: &RawValue, kind: &str, news: &str) -> bool {
    member(capabilities, kind).and_then(|own| member(own, news)).is_some_and(|own| own.get() == "true")
}

/// The requested level of log messages.
///
/// # Errors
///
/// When there is no such level.
fn log_level(level: &RawValue) -> Result<String, ErrorObject> {
    match json::borrow::<LoggingLevel>(level.get()) {
        Ok(_) => {
            json::borrow(level.get()).map_err(|error| ErrorObject::new(jsonrpc::INVALID_PARAMS, error.to_string()))
        }
        Err(_) => {
            let text =
                "there is no such log level: use debug, info, notice, warning, error, critical, alert or emergency";
            Err(ErrorObject::new(jsonrpc::INVALID_PARAMS, text))
        }
    }
}

/// A member that is text.
fn text_member(object: &RawValue, name: &str) -> Option<String> {
    json::borrow(member(object, name)?.get()).ok()
}

/// The params of a request, or none.
fn params_text(kind: &Kind) -> &str {
    match kind {
        Kind::Request { params: Some(params), .. } | Kind::Notification { params: Some(params), .. } => params.get(),
        _ => "{}",
    }
}

/// For fuzzing: processes a response to any request.
pub(crate) fn read(response: &str) {
    let _ = (Refusal::of(response, true), Refusal::of(response, false), Asked::of(response));
    let Ok(Shape { result: Some(result), .. }) = json::borrow::<Shape<'_>>(response) else { return };
    for method in [method::TOOLS_LIST, method::TOOLS_CALL] {
        for revision in ProtocolVersion::ALL {
            let reduced = legacy_shapes::reduced(result, method, revision);
            assert!(json::borrow::<serde::de::IgnoredAny>(&reduced).is_ok(), "it is JSON: {reduced}");
        }
    }
}

/// The revision of requests to modern servers.
fn modern_version() -> &'static str {
    ProtocolVersion::LATEST.as_str()
}
