//! The examined server: requests as clients send them, and its responses.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use mcp_protocol::{ProtocolVersion, meta};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap},
    tls::TlsInfo,
};
use serde_json::{Value, json};
use url::Url;

use crate::{authorizer::Authorizer, challenge::Challenge, headers::PROTOCOL_VERSION, received};

pub(super) const JSON_OR_STREAM: &str = "application/json, text/event-stream";
pub(super) const EVENT_STREAM: &str = "text/event-stream";
pub(super) const SESSION_ID: &str = "mcp-session-id";

/// The credentials of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access<'a> {
    Anonymous,
    /// The configured headers, and the token or the signature.
    Usual,
    /// A made-up token.
    Invalid(&'a str),
}

pub(super) struct Server {
    pub(super) client: Client,
    pub(super) url: Url,
    /// As the user has written it.
    pub(super) given: String,
    pub(super) headers: HeaderMap,
    pub(super) token: Option<String>,
    /// Signs requests, if they are signed.
    pub(super) authorizer: Option<Authorizer>,
    /// The headers of a legacy session.
    pub(super) session: Vec<(&'static str, String)>,
    pub(super) next_id: u64,
    /// A response whose `id` is not that of its request.
    pub(super) strange_id: Option<String>,
}

/// A response, read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The media type, without parameters.
    pub(super) media_type: String,
    pub(super) challenge: Challenge,
    /// The body; of a stream, the event with the response.
    pub(super) body: String,
    /// The JSON-RPC response, if the body is one.
    pub(super) message: Value,
    pub(super) took: Duration,
    pub(super) certificate: Option<Vec<u8>>,
    /// The clock of this machine when the response began.
    pub(super) received_at: SystemTime,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The result, if it is an object.
    pub(super) fn result(&self) -> Option<&Value> {
        self.message.get("result").filter(|result| result.is_object())
    }

    /// The code of the JSON-RPC error, if it is one.
    pub(super) fn error_code(&self) -> Option<i64> {
        self.message["error"]["code"].as_i64()
    }

    /// How far the server's clock is ahead of this machine's, in seconds.
    pub(super) fn clock_offset(&self) -> Option<i64> {
        let date = httpdate::parse_http_date(self.header(DATE.as_str())).ok()?;
        Some(seconds(date) - seconds(self.received_at))
    }

    /// A description for a finding.
    pub(super) fn in_words(&self) -> String {
        match (self.error_code(), self.message["error"]["message"].as_str()) {
            (Some(code), message) => format!("error {code} ({})", message.unwrap_or_default()),
            (None, _) => format!("HTTP {}", self.status),
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Server {
    /// Sends a request of 2026-07-28.
    pub(super) async fn modern(
        &mut self,
        method: &str,
        mut params: Value,
        access: Access<'_>,
    ) -> anyhow::Result<Answer> {
        params["_meta"] = json!({
            meta::PROTOCOL_VERSION: ProtocolVersion::LATEST.as_str(),
            meta::CLIENT_CAPABILITIES: {},
            meta::CLIENT_INFO: info(),
        });
        let headers = [(PROTOCOL_VERSION, ProtocolVersion::LATEST.as_str()), ("mcp-method", method)];
        self.ask(method, params, &headers, access).await
    }

    /// Sends a request of an older revision, in the session if there is one.
    pub(super) async fn legacy(&mut self, method: &str, params: Value, access: Access<'_>) -> anyhow::Result<Answer> {
        let session = self.session.clone();
        let headers: Vec<(&str, &str)> = session.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.ask(method, params, &headers, access).await
    }

    /// Starts a session with a revision. Later requests of [`Self::legacy`] belong to the session of the last one.
    pub(super) async fn initialize(&mut self, version: &str, access: Access<'_>) -> anyhow::Result<Answer> {
        self.session.clear();
        let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": info() });
        let answer = self.legacy("initialize", params, access).await?;
        if let Some(agreed) = answer.result().and_then(|result| result["protocolVersion"].as_str()) {
            self.session.push((PROTOCOL_VERSION, agreed.to_owned()));
        }
        if !answer.header(SESSION_ID).is_empty() {
            self.session.push((SESSION_ID, answer.header(SESSION_ID).to_owned()));
        }
        Ok(answer)
    }

    /// Ends the session of the last [`Self::initialize`], if the server has given it an id.
    pub(super) async fn end_session(&mut self) -> Option<Answer> {
        let has_session = self.has_session();
        let session = std::mem::take(&mut self.session);
        if !has_session {
            return None;
        }
        let mut request = self.client.delete(self.url.clone());
        for (name, value) in &session {
            request = request.header(*name, value);
        }
        self.send(request, Access::Usual, None).await.ok()
    }

    async fn ask(
        &mut self,
        method: &str,
        params: Value,
        headers: &[(&str, &str)],
        access: Access<'_>,
    ) -> anyhow::Result<Answer> {
        self.next_id += 1;
        let id = json!(self.next_id);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut request = self.post(&message);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.send(request, access, Some(&id)).await?;
        let own = &answer.message["id"];
        // An error may have none, where the server could not read the request's.
        let is_strange = *own != id && !(own.is_null() && answer.error_code().is_some());
        if is_strange && (answer.result().is_some() || answer.error_code().is_some()) {
            self.strange_id
                .get_or_insert_with(|| format!("`{method}` with the id {id} gets a response with the id {own}"));
        }
        Ok(answer)
    }

    /// Whether the server has given the session an id.
    pub(super) fn has_session(&self) -> bool {
        self.session.iter().any(|(name, _)| *name == SESSION_ID)
    }

    /// Whether requests have credentials.
    pub(super) fn has_access(&self) -> bool {
        self.token.is_some() || !self.headers.is_empty() || matches!(self.authorizer, Some(Authorizer::SigV4(_)))
    }

    /// A POST of a message, as clients send it.
    pub(super) fn post(&self, message: &Value) -> RequestBuilder {
        let request = self.client.post(self.url.clone()).header(ACCEPT, JSON_OR_STREAM);
        request.header(CONTENT_TYPE, "application/json").body(message.to_string())
    }

    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request. Of a stream it reads up to the response with this id, or, without an id, nothing.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        access: Access<'_>,
        id: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = request.build()?;
        let own = request.headers_mut();
        if !own.contains_key(ACCEPT_ENCODING) {
            own.insert(ACCEPT_ENCODING, reqwest::header::HeaderValue::from_static("identity"));
        }
        match access {
            Access::Anonymous => {}
            Access::Usual => {
                own.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
                if let Some(token) = &self.token {
                    own.insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
                }
                if let Some(Authorizer::SigV4(signer)) = &self.authorizer {
                    signer.sign(&mut request).await?;
                }
            }
            Access::Invalid(token) => {
                own.insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
            }
        }
        let started = Instant::now();
        let response = self.client.execute(request).await?;
        Answer::of(response, id, started).await
    }
}

impl Answer {
    async fn of(response: Response, id: Option<&Value>, started: Instant) -> anyhow::Result<Self> {
        let received_at = SystemTime::now();
        let certificate =
            response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate).map(<[u8]>::to_vec);
        let (status, headers) = (response.status(), response.headers().clone());
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = match (media_type == EVENT_STREAM && status.is_success(), id) {
            (false, _) => received::text(response).await?,
            (true, None) => String::new(),
            (true, Some(id)) => response_in(response, id).await?,
        };
        let challenge = Challenge::of(&headers, &body);
        let message = received::read::<Value>(&body).ok().filter(Value::is_object).unwrap_or_default();
        let took = started.elapsed();
        Ok(Self { status, headers, media_type, challenge, body, message, took, certificate, received_at })
    }
}

/// The first response of a stream: the one with the id of the request, if there is one.
async fn response_in(response: Response, id: &Value) -> anyhow::Result<String> {
    let mut events = received::Events::of(response);
    let mut other = None;
    while let Some(event) = events.next().await? {
        if event.event.as_deref().is_some_and(|name| name != "message") {
            continue;
        }
        let Some(data) = event.data else { continue };
        let message: Value = received::read(&data).unwrap_or_default();
        if message["id"] == *id && message.get("method").is_none() {
            return Ok(data);
        }
        if message.get("result").or(message.get("error")).is_some() {
            other.get_or_insert(data);
        }
    }
    other.context("the stream ended without a response")
}

pub(super) fn info() -> Value {
    json!({ "name": "mcpl", "version": env!("CARGO_PKG_VERSION") })
}
