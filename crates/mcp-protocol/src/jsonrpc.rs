//! JSON-RPC 2.0: parses bodies into messages, serializes results and errors into responses.
//!
//! Bodies are parsed lazily. This module parses only the envelope; `params` stays raw until the method is known. A
//! large argument is therefore parsed once, into its final type, which also detects duplicate members.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, error::Category, value::RawValue};

use crate::json;

/// Error code: the body is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// Error code: the JSON is not a JSON-RPC message.
pub const INVALID_REQUEST: i64 = -32600;
/// Error code: the server does not have the method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Error code: the parameters are invalid for the method.
pub const INVALID_PARAMS: i64 = -32602;
/// Error code: internal error of the server.
pub const INTERNAL_ERROR: i64 = -32603;
/// Error code: there is no resource at the URI (until 2025-11-25; now [`INVALID_PARAMS`]).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// Error code: headers and body differ, or a required header is missing (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// Error code: the request needs a capability that the client did not declare (2026-07-28).
pub const MISSING_REQUIRED_CLIENT_CAPABILITY: i64 = -32021;
/// Error code: the server does not support the requested protocol version (2026-07-28).
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;

/// Maximum number of messages in a batch: each costs as much as a separate request.
const MAX_BATCH: usize = 100;

/// Maximum length of an integer id, in digits. No client counts this far.
const MAX_ID_DIGITS: usize = 64;
/// Maximum length of the JSON text of a string id, in bytes. Each response repeats the id.
const MAX_ID_BYTES: usize = 4096;

/// Id of a request: a string or an integer, repeated unchanged in the response.
///
/// Integers keep their JSON text, so that integers beyond 64 bits are repeated unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer, as its JSON text.
    Integer(Box<str>),
    /// A string.
    String(Box<str>),
}

impl RequestId {
    /// Parses an id; `None` if the text is neither a string nor an integer, or longer than 4 KiB.
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

/// Returns whether a number with a fraction or exponent is an integer, as `1.0` and `1e2` are in JSON Schema.
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
    /// Requires serde_json, since an integer keeps its JSON text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).ok_or_else(|| serde::de::Error::custom("expected a string or an integer"))
    }
}

/// Parsed body: one message, or, in 2025-03-26, a batch.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A single message.
    Single(Message<'a>),
    /// A batch, in order. Each element is parsed separately and can be malformed.
    Batch(Vec<Result<Message<'a>, MalformedMessage>>),
}

/// Message from a client.
#[derive(Debug)]
pub enum Message<'a> {
    /// Expects a response.
    Request(Request<'a>),
    /// Expects no response.
    Notification(Notification<'a>),
    /// Response to a request of the server.
    Response(Response<'a>),
}

/// Request with unparsed parameters.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Repeated in the response.
    pub id: RequestId,
    /// Method name, such as `tools/call`.
    pub method: Cow<'a, str>,
    /// Unparsed JSON object; `None` if absent or `null`.
    pub params: Option<&'a RawValue>,
}

/// Notification with unparsed parameters. It has no response.
#[derive(Debug, Clone)]
pub struct Notification<'a> {
    /// Method name, such as `notifications/initialized`.
    pub method: Cow<'a, str>,
    /// Unparsed JSON object; `None` if absent or `null`.
    pub params: Option<&'a RawValue>,
}

/// Response to a request of the server, with an unparsed result or error: one of the two is present.
#[derive(Debug, Clone)]
pub struct Response<'a> {
    /// Id of the request. `None` only for an error, whose sender could not parse the id.
    pub id: Option<RequestId>,
    /// Unparsed result.
    pub result: Option<&'a RawValue>,
    /// Unparsed [`ErrorObject`].
    pub error: Option<&'a RawValue>,
}

/// Error of a body, or of one element of a batch, that is not a valid message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedMessage {
    /// Id of the message, if it is valid.
    pub id: Option<RequestId>,
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub code: i64,
    /// Reason and expectation. Never contains text of the body.
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
    /// Parses the envelope of a body.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is not UTF-8 or not JSON, or neither a message nor a batch. Errors of batch
    /// elements are in the returned value.
    pub fn parse(body: &'a [u8]) -> Result<Self, MalformedMessage> {
        let text = std::str::from_utf8(body)
            .map_err(|error| MalformedMessage::not_json(format!("the body is not UTF-8: {error}")))?;
        if !text.trim_ascii_start().starts_with('[') {
            return Message::parse(text).map(Self::Single);
        }
        let elements: BatchElements<'_> =
            json::borrow(text).map_err(|error| MalformedMessage::not_json(format!("the body is not JSON: {error}")))?;
        if elements.first.is_empty() || elements.count > MAX_BATCH {
            let reason = format!("a batch must have 1 to {MAX_BATCH} messages, not {}", elements.count);
            return Err(MalformedMessage::not_a_message(None, reason));
        }
        Ok(Self::Batch(elements.first.into_iter().map(|element| Message::parse(element.get())).collect()))
    }
}

/// First elements of a batch, and their total number. At most [`MAX_BATCH`] are kept, since a body can have millions.
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
                f.write_str("an array of JSON-RPC messages")
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
            // serde would also deserialize a struct from an array.
            return Err(MalformedMessage::not_a_message(None, "a message must be a JSON object"));
        }
        // Unbounded JSON: of fixed size, since the members stay raw.
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Syntax | Category::Eof | Category::Io => {
                MalformedMessage::not_json(format!("the body is not JSON: {error}"))
            }
            // The only data error of an envelope with raw members.
            Category::Data if text.trim_ascii_start().starts_with('{') => MalformedMessage::not_a_message(
                salvage_id(text),
                format!("a message must not have duplicate members: {error}"),
            ),
            Category::Data => MalformedMessage::not_a_message(None, "a message must be a JSON object"),
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

/// Deserializes `null` as a present value; `Option` alone would treat it as absent.
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
        let reject = |reason: &'static str| MalformedMessage::not_a_message(readable_id.clone(), reason);

        if self.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
            return Err(reject("`jsonrpc` must be the string \"2.0\""));
        }
        let Some(method) = self.method else {
            return match (self.result.is_some(), self.error.is_some(), id) {
                // A peer that could not parse an id may omit it or set it to `null` in an error response.
                (true, false, Some(Ok(_))) | (false, true, _) => {
                    Ok(Message::Response(Response { id: readable_id.clone(), result: self.result, error: self.error }))
                }
                _ => Err(reject("`method` is missing")),
            };
        };
        let method = parse_string(method).ok_or_else(|| reject("`method` must be a string"))?;
        let params = match self.params {
            // Some serializers write an absent member as `null`.
            Some(params) if params.get() == "null" => None,
            Some(params) if !params.get().starts_with('{') => return Err(reject("`params` must be an object")),
            params => params,
        };
        match id {
            None => Ok(Message::Notification(Notification { method, params })),
            Some(Ok(id)) => Ok(Message::Request(Request { id, method, params })),
            Some(Err(_)) => Err(reject("`id` must be a string or an integer, of at most 4096 bytes")),
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
    /// One of the error codes of this module, or an HTTP status, which is outside the range that JSON-RPC reserves.
    pub code: i64,
    /// Description of the error in one sentence.
    pub message: String,
    /// Structured details for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl ErrorObject {
    /// Creates an error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Sets structured details.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }
}

/// Serializes a result response on one line. `result` is the JSON text of the result object.
pub fn result_response(id: &RequestId, result: &str) -> String {
    let mut message = String::with_capacity(result.len() + 64);
    message.push_str(r#"{"jsonrpc":"2.0","id":"#);
    push_id(&mut message, id);
    message.push_str(r#","result":"#);
    message.push_str(result);
    message.push('}');
    message
}

/// Serializes an error response on one line. Pass `None` if the request's id could not be parsed: the response then has
/// no id (2026-07-28 allows that; `null` is never sent).
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

/// Serializes a notification on one line.
///
/// # Errors
///
/// Returns an error if `params` cannot be serialized.
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
        // Serializing a string cannot fail.
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

    fn parse_error(body: &[u8]) -> MalformedMessage {
        Incoming::parse(body).expect_err("the body is invalid")
    }

    #[test]
    fn ids_are_repeated_unchanged() {
        for id in ["1", "-7", "0", r#""abc""#, r#""""#, r#""\u00e9\"""#, "123456789012345678901234567890", "1.0"] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);

            let response = result_response(&request(&body).id, "{}");

            let sent: Value = serde_json::from_str(id).unwrap();
            let received: Value = serde_json::from_str(&response).unwrap();
            assert_eq!(received["id"], sent, "{id}");
        }
    }

    #[test]
    fn ids_must_be_strings_or_integers() {
        for id in ["null", "true", "1.5", "[1]", "{}", "1e400", r#""\ud800""#] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);

            let error = parse_error(body.as_bytes());

            assert_eq!((error.code, error.id), (INVALID_REQUEST, None), "{id}");
        }
    }

    #[test]
    fn errors_have_the_id_if_it_is_valid() {
        for body in [
            r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#,
            r#"{"id":7,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":5}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":"x"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call"}"#,
        ] {
            let error = parse_error(body.as_bytes());

            assert_eq!((error.code, error.id), (INVALID_REQUEST, Some(RequestId::from(7))), "{body}");
        }
    }

    #[test]
    fn errors_of_duplicate_ids_have_no_id() {
        let error = parse_error(br#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#);

        assert_eq!((error.code, error.id), (INVALID_REQUEST, None));
    }

    #[test]
    fn invalid_json_is_a_parse_error() {
        for body in [&b""[..], b"{", b"hello", b"{\"jsonrpc\":}", b"\xff\xfe{}", b"[1,", b"{} {}"] {
            assert_eq!(parse_error(body).code, PARSE_ERROR, "{body:?}");
        }
    }

    #[test]
    fn scalars_are_invalid_requests() {
        for body in ["5", "null", "true", r#""x""#] {
            let error = parse_error(body.as_bytes());

            assert_eq!((error.code, error.reason.as_ref()), (INVALID_REQUEST, "a message must be a JSON object"));
        }
    }

    #[test]
    fn errors_do_not_contain_text_of_the_body() {
        for body in [r#"{"jsonrpc":"2.0","id":1,"method":["s3cret"]}"#, r#""s3cret""#, "s3cret", r#"{"s3cret":1}"#] {
            let error = parse_error(body.as_bytes());

            assert!(!error.reason.contains("s3cret"), "{}", error.reason);
        }
    }

    #[test]
    fn requests_notifications_and_responses_are_distinguished() {
        let kind = |body: &str| match Incoming::parse(body.as_bytes()) {
            Ok(Incoming::Single(Message::Notification(_))) => "notification",
            Ok(Incoming::Single(Message::Response(_))) => "response",
            other => panic!("{other:?}"),
        };

        assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), "notification");
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), "response");
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#), "response");
    }

    #[test]
    fn a_response_has_its_id_and_either_a_result_or_an_error() {
        let response = |body: &'static str| match Incoming::parse(body.as_bytes()) {
            Ok(Incoming::Single(Message::Response(response))) => response,
            other => panic!("{other:?}"),
        };

        let result = response(r#"{"jsonrpc":"2.0","id":"q","result":{"action":"accept"}}"#);
        assert_eq!(result.id, Some(RequestId::from("q")));
        assert_eq!((result.result.map(RawValue::get), result.error.is_none()), (Some(r#"{"action":"accept"}"#), true));
        let error = response(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#);
        assert_eq!((error.id, error.result.is_none()), (None, true));
        assert_eq!(error.error.map(RawValue::get), Some(r#"{"code":1,"message":"x"}"#));
    }

    #[test]
    fn batch_elements_are_parsed_separately() {
        let Ok(Incoming::Batch(elements)) = Incoming::parse(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},5]"#) else {
            panic!("expected a batch");
        };

        assert!(matches!(elements[0], Ok(Message::Request(_))));
        assert_eq!(elements[1].as_ref().unwrap_err().code, INVALID_REQUEST);
    }

    #[test]
    fn arrays_are_not_messages() {
        let Ok(Incoming::Batch(elements)) = Incoming::parse(br#"[["2.0",1,"ping"]]"#) else { panic!("a batch") };

        assert_eq!(elements[0].as_ref().unwrap_err().code, INVALID_REQUEST);
    }

    #[test]
    fn batches_have_a_minimum_and_maximum_length() {
        let of = |count: usize| format!("[{}]", vec!["5"; count].join(","));

        assert!(Incoming::parse(of(MAX_BATCH).as_bytes()).is_ok());
        assert_eq!(parse_error(b"[]").code, INVALID_REQUEST);
        let endless = parse_error(of(1_000_000).as_bytes());
        assert!(endless.code == INVALID_REQUEST && endless.reason.contains("not 1000000"), "{endless:?}");
    }

    #[test]
    fn ten_thousand_levels_of_nesting_are_accepted() {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );

        assert_eq!(request(&body).id, RequestId::from(1));
    }
}
