//! JSON-RPC 2.0 as MCP uses it: bodies into messages, results and errors into responses.
//!
//! A body is read lazily. Only the envelope is looked at here; `params` stays raw until the method is known. That way
//! a large argument is read once, by the type that wants it, and duplicate members are found by that type.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, error::Category, value::RawValue};

use crate::json;

/// The body is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The JSON is not a JSON-RPC message.
pub const INVALID_REQUEST: i64 = -32600;
/// The server has no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters do not fit the method.
pub const INVALID_PARAMS: i64 = -32602;
/// A fault of the server.
pub const INTERNAL_ERROR: i64 = -32603;
/// There is no resource at that URI (until 2025-11-25; now [`INVALID_PARAMS`]).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// Headers and body disagree, or a required header is missing (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The request needs a capability that the client did not declare (2026-07-28).
pub const MISSING_REQUIRED_CLIENT_CAPABILITY: i64 = -32021;
/// The server does not speak the requested version (2026-07-28).
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;

/// The most messages that a batch may have: each costs as much as a request of its own.
const MAX_BATCH: usize = 100;

/// Longest integer that is accepted as an id, in digits. Generous: no client counts this far.
const MAX_ID_DIGITS: usize = 64;
/// Longest JSON text of a string that is accepted as an id, in bytes. Each answer repeats it.
const MAX_ID_BYTES: usize = 4096;

/// The `id` of a request: a string or an integer, repeated in its response exactly as it came.
///
/// Integers keep their text, so that one beyond 64 bits comes back unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer, as its JSON text.
    Integer(Box<str>),
    /// A string.
    String(Box<str>),
}

impl RequestId {
    /// Reads an id from JSON text; `None` if it is neither a string nor an integer, or longer than 4 KiB.
    fn from_json(text: &str) -> Option<Self> {
        if text.len() > MAX_ID_BYTES {
            return None;
        }
        if text.starts_with('"') {
            return json::borrow::<Box<str>>(text).ok().map(Self::String);
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_integer =
            (1..=MAX_ID_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_integer || is_integral_float(text)).then(|| Self::Integer(text.into()))
    }
}

/// `1.0` and `1e2` are integers to JSON Schema, whatever they look like.
fn is_integral_float(text: &str) -> bool {
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    json::borrow::<f64>(text).is_ok_and(|number| number.fract() == 0.0 && number.abs() <= LARGEST_EXACT)
}

impl From<i64> for RequestId {
    fn from(id: i64) -> Self {
        Self::Integer(id.to_string().into())
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self::String(id.into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(text) | Self::String(text) => f.write_str(text),
        }
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(text) => {
                let raw: &RawValue = json::borrow(text).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
            Self::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for RequestId {
    /// Works with serde_json alone, since an integer keeps its text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).ok_or_else(|| serde::de::Error::custom("expected a string or an integer"))
    }
}

/// A body: one message, or, in 2025-03-26, a batch.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// One message.
    Single(Message<'a>),
    /// A batch, in order; each element may be malformed on its own.
    Batch(Vec<Result<Message<'a>, MalformedMessage>>),
}

/// A message from a client.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants a response.
    Request(Request<'a>),
    /// Wants none.
    Notification(Notification<'a>),
    /// Answers a request of ours. No such request is made over a stateless transport, so nothing waits for it.
    Response,
}

/// A request: an `id`, a method, and parameters yet to be read.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// To be repeated in the response.
    pub id: RequestId,
    /// Such as `tools/call`.
    pub method: Cow<'a, str>,
    /// A JSON object, unread; `None` when absent or `null`.
    pub params: Option<&'a RawValue>,
}

/// A notification: a method and parameters, never answered.
#[derive(Debug, Clone)]
pub struct Notification<'a> {
    /// Such as `notifications/initialized`.
    pub method: Cow<'a, str>,
    /// A JSON object, unread; `None` when absent or `null`.
    pub params: Option<&'a RawValue>,
}

/// Why a body, or one element of a batch, is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedMessage {
    /// The message's `id`, if it could be read.
    pub id: Option<RequestId>,
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub code: i64,
    /// What is wrong and what is expected. Never repeats the body.
    pub reason: Cow<'static, str>,
}

impl MalformedMessage {
    fn not_json(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { id: None, code: PARSE_ERROR, reason: reason.into() }
    }

    fn not_a_message(id: Option<RequestId>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { id, code: INVALID_REQUEST, reason: reason.into() }
    }
}

impl<'a> Incoming<'a> {
    /// Reads the envelope of a body.
    ///
    /// # Errors
    ///
    /// When the body is not UTF-8 or not JSON, or is JSON but neither a message nor a batch. Elements of a batch fail
    /// one by one, inside the returned value.
    pub fn parse(body: &'a [u8]) -> Result<Self, MalformedMessage> {
        let text = std::str::from_utf8(body)
            .map_err(|error| MalformedMessage::not_json(format!("the body is not UTF-8: {error}")))?;
        if !text.trim_ascii_start().starts_with('[') {
            return Message::parse(text).map(Self::Single);
        }
        let elements: BatchElements<'_> =
            json::borrow(text).map_err(|error| MalformedMessage::not_json(format!("the body is not JSON: {error}")))?;
        if elements.first.is_empty() || elements.count > MAX_BATCH {
            let reason = format!("a batch has 1 to {MAX_BATCH} messages, not {}", elements.count);
            return Err(MalformedMessage::not_a_message(None, reason));
        }
        Ok(Self::Batch(elements.first.into_iter().map(|element| Message::parse(element.get())).collect()))
    }
}

/// The elements of a batch: no more are kept than it may have, since a body has room for millions.
struct BatchElements<'a> {
    first: Vec<&'a RawValue>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for BatchElements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor;

        impl<'de> Visitor<'de> for ElementsVisitor {
            type Value = BatchElements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of messages")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Self::Value, S::Error> {
                let mut first = Vec::new();
                while first.len() < MAX_BATCH {
                    let Some(element) = elements.next_element::<&RawValue>()? else { break };
                    first.push(element);
                }
                let mut count = first.len();
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(BatchElements { first, count })
            }
        }

        deserializer.deserialize_seq(ElementsVisitor)
    }
}

impl<'a> Message<'a> {
    fn parse(text: &'a str) -> Result<Self, MalformedMessage> {
        if text.trim_ascii_start().starts_with('[') {
            // A struct could be read from an array too.
            return Err(MalformedMessage::not_a_message(None, "a message is a JSON object"));
        }
        // Unbounded JSON: of fixed size, as its members stay text.
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Syntax | Category::Eof | Category::Io => {
                MalformedMessage::not_json(format!("the body is not JSON: {error}"))
            }
            // The only faults of content that an envelope of raw members can have.
            Category::Data if text.trim_ascii_start().starts_with('{') => {
                MalformedMessage::not_a_message(salvage_id(text), format!("a message has each member once: {error}"))
            }
            Category::Data => MalformedMessage::not_a_message(None, "a message is a JSON object"),
        })?;
        envelope.into_message()
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Keeps `null` apart from an absent member, which `Option` alone does not.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn salvage_id(text: &str) -> Option<RequestId> {
    #[derive(Deserialize)]
    struct IdOnly<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    json::borrow::<IdOnly<'_>>(text).ok().and_then(|only| RequestId::from_json(only.id.get()))
}

impl<'a> Envelope<'a> {
    fn into_message(self) -> Result<Message<'a>, MalformedMessage> {
        let id = self.id.map(|raw| RequestId::from_json(raw.get()).ok_or(raw));
        let readable_id = id.as_ref().and_then(|id| id.as_ref().ok().cloned());
        let refuse = |reason: &'static str| MalformedMessage::not_a_message(readable_id.clone(), reason);

        if self.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
            return Err(refuse("`jsonrpc` must be the string \"2.0\""));
        }
        let Some(method) = self.method else {
            return match (self.result.is_some(), self.error.is_some(), id) {
                // A peer that could not read an id may leave it out or set it to null in an error.
                (true, false, Some(Ok(_))) | (false, true, _) => Ok(Message::Response),
                _ => Err(refuse("`method` is missing")),
            };
        };
        let method = parse_string(method).ok_or_else(|| refuse("`method` must be a string"))?;
        let params = match self.params {
            // Some serialisers write an absent member as null.
            Some(params) if params.get() == "null" => None,
            Some(params) if !params.get().starts_with('{') => return Err(refuse("`params` must be an object")),
            params => params,
        };
        match id {
            None => Ok(Message::Notification(Notification { method, params })),
            Some(Ok(id)) => Ok(Message::Request(Request { id, method, params })),
            Some(Err(_)) => Err(refuse("`id` must be a string or an integer, of at most 4096 bytes")),
        }
    }
}

fn parse_string(raw: &RawValue) -> Option<Cow<'_, str>> {
    // Borrows unless the string has escapes.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    json::borrow::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// The `error` member of a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// One of the codes above, or, outside the range that JSON-RPC reserves, an HTTP status.
    pub code: i64,
    /// One sentence.
    pub message: String,
    /// What a program can use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl ErrorObject {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Adds data.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }
}

/// A result response on one line; `result` is the JSON text of the result object.
pub fn result_response(id: &RequestId, result: &str) -> String {
    let mut message = String::with_capacity(result.len() + 64);
    message.push_str(r#"{"jsonrpc":"2.0","id":"#);
    push_id(&mut message, id);
    message.push_str(r#","result":"#);
    message.push_str(result);
    message.push('}');
    message
}

/// An error response on one line. Without an id when the request's could not be read (2026-07-28 allows its absence;
/// `null` is never sent).
pub fn error_response(id: Option<&RequestId>, error: &ErrorObject) -> String {
    let mut message = String::from(r#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        message.push_str(r#""id":"#);
        push_id(&mut message, id);
        message.push(',');
    }
    message.push_str(r#""error":"#);
    // Strings, numbers and string keys only: this cannot fail.
    message.push_str(&serde_json::to_string(error).unwrap_or_default());
    message.push('}');
    message
}

/// A notification on one line.
///
/// # Errors
///
/// When `params` cannot be serialised.
pub fn notification<P: Serialize>(method: &str, params: &P) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Outgoing<'a, P> {
        jsonrpc: &'static str,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_string(&Outgoing { jsonrpc: "2.0", method, params })
}

fn push_id(message: &mut String, id: &RequestId) {
    match id {
        RequestId::Integer(text) => message.push_str(text),
        // A string always serialises.
        RequestId::String(text) => message.push_str(&serde_json::to_string(text).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> Request<'_> {
        match Incoming::parse(body.as_bytes()) {
            Ok(Incoming::Single(Message::Request(request))) => request,
            other => panic!("expected a request, got {other:?}"),
        }
    }

    fn refusal(body: &[u8]) -> MalformedMessage {
        Incoming::parse(body).expect_err("this body must be refused")
    }

    #[test]
    fn an_id_comes_back_as_it_came() {
        for id in ["1", "-7", "0", r#""abc""#, r#""""#, r#""\u00e9\"""#, "123456789012345678901234567890", "1.0"] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);

            let response = result_response(&request(&body).id, "{}");

            let sent: Value = serde_json::from_str(id).unwrap();
            let received: Value = serde_json::from_str(&response).unwrap();
            assert_eq!(received["id"], sent, "{id}");
        }
    }

    #[test]
    fn what_is_no_string_and_no_integer_is_no_id() {
        for id in ["null", "true", "1.5", "[1]", "{}", "1e400", r#""\ud800""#] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);

            let refusal = refusal(body.as_bytes());

            assert_eq!((refusal.code, refusal.id), (INVALID_REQUEST, None), "{id}");
        }
    }

    #[test]
    fn a_refusal_carries_the_id_when_it_could_be_read() {
        for body in [
            r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#,
            r#"{"id":7,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":5}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":"x"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call"}"#,
        ] {
            let refusal = refusal(body.as_bytes());

            assert_eq!((refusal.code, refusal.id), (INVALID_REQUEST, Some(RequestId::from(7))), "{body}");
        }
    }

    #[test]
    fn a_duplicate_id_is_not_an_id() {
        let refusal = refusal(br#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#);

        assert_eq!((refusal.code, refusal.id), (INVALID_REQUEST, None));
    }

    #[test]
    fn what_is_not_json_is_a_parse_error() {
        for body in [&b""[..], b"{", b"hello", b"{\"jsonrpc\":}", b"\xff\xfe{}", b"[1,", b"{} {}"] {
            assert_eq!(refusal(body).code, PARSE_ERROR, "{body:?}");
        }
    }

    #[test]
    fn scalars_are_json_but_no_message() {
        for body in ["5", "null", "true", r#""x""#] {
            let refusal = refusal(body.as_bytes());

            assert_eq!((refusal.code, refusal.reason.as_ref()), (INVALID_REQUEST, "a message is a JSON object"));
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_the_body() {
        for body in [r#"{"jsonrpc":"2.0","id":1,"method":["s3cret"]}"#, r#""s3cret""#, "s3cret", r#"{"s3cret":1}"#] {
            let refusal = refusal(body.as_bytes());

            assert!(!refusal.reason.contains("s3cret"), "{}", refusal.reason);
        }
    }

    #[test]
    fn notifications_and_responses_are_told_from_requests() {
        let kind = |body: &str| match Incoming::parse(body.as_bytes()) {
            Ok(Incoming::Single(Message::Notification(_))) => "notification",
            Ok(Incoming::Single(Message::Response)) => "response",
            other => panic!("{other:?}"),
        };

        assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), "notification");
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), "response");
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#), "response");
    }

    #[test]
    fn each_element_of_a_batch_stands_alone() {
        let Ok(Incoming::Batch(elements)) = Incoming::parse(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},5]"#) else {
            panic!("expected a batch");
        };

        assert!(matches!(elements[0], Ok(Message::Request(_))));
        assert_eq!(elements[1].as_ref().unwrap_err().code, INVALID_REQUEST);
    }

    #[test]
    fn an_array_is_no_message_though_serde_would_take_it() {
        let Ok(Incoming::Batch(elements)) = Incoming::parse(br#"[["2.0",1,"ping"]]"#) else { panic!("a batch") };

        assert_eq!(elements[0].as_ref().unwrap_err().code, INVALID_REQUEST);
    }

    #[test]
    fn a_batch_is_neither_empty_nor_endless() {
        let of = |count: usize| format!("[{}]", vec!["5"; count].join(","));

        assert!(Incoming::parse(of(MAX_BATCH).as_bytes()).is_ok());
        assert_eq!(refusal(b"[]").code, INVALID_REQUEST);
        let endless = refusal(of(1_000_000).as_bytes());
        assert!(endless.code == INVALID_REQUEST && endless.reason.contains("not 1000000"), "{endless:?}");
    }

    #[test]
    fn ten_thousand_levels_are_no_trouble() {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );

        assert_eq!(request(&body).id, RequestId::from(1));
    }
}
