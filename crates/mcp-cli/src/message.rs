//! JSON-RPC messages: parsed as far as a proxy needs, and otherwise forwarded unchanged.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher as _, RandomState},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use mcp_protocol::{
    ErrorObject, RequestId,
    json::{self, JsonError},
    jsonrpc, lookup, meta,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{json, value::RawValue};

use crate::{received, sigv4};

/// A message of the client.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// The text, on one line.
    pub(crate) text: String,
    pub(crate) kind: Kind,
    /// The client's id, if the message is sent under another one.
    client_id: Option<Box<RawValue>>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Request {
        /// As it was written.
        id: Box<RawValue>,
        method: String,
        /// `params`, if there are any.
        params: Option<Box<RawValue>>,
    },
    Notification {
        method: String,
        params: Option<Box<RawValue>>,
    },
    /// A response to a request of the server, or a batch.
    Other,
}

/// The members that determine the kind of a message.
#[derive(Deserialize)]
pub(crate) struct Shape<'a> {
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

impl Shape<'_> {
    pub(crate) fn is_response(&self) -> bool {
        self.method.is_none() && (self.result.is_some() || self.error.is_some())
    }

    pub(crate) fn is_request(&self) -> bool {
        self.method.is_some() && self.id.is_some()
    }

    /// Whether it is a valid request, notification or response; only an error response may lack an id.
    pub(crate) fn is_message(&self) -> bool {
        self.method.is_some() || self.error.is_some() || (self.id.is_some() && self.result.is_some())
    }
}

impl Envelope {
    /// Parses a line. An array is a batch of revision 2025-03-26.
    pub(crate) fn parse(line: &str) -> Result<Self, JsonError> {
        let text = one_line(line.trim());
        if text.starts_with('[') {
            json::borrow::<IgnoredAny>(&text)?;
            return Ok(Self { text, kind: Kind::Other, client_id: None });
        }
        let shape: Shape<'_> = json::borrow(&text)?;
        let params = shape.params.map(ToOwned::to_owned);
        let kind = match (shape.method, shape.id) {
            (Some(method), Some(id)) => Kind::Request { id: id.to_owned(), method: method.into_owned(), params },
            (Some(method), None) => Kind::Notification { method: method.into_owned(), params },
            (None, _) => Kind::Other,
        };
        Ok(Self { text, kind, client_id: None })
    }

    /// The same request under a fresh id; its response gets the client's id.
    pub(crate) fn with_fresh_id(&self) -> Result<Self, JsonError> {
        let shape: Shape<'_> = json::borrow(&self.text)?;
        let text = shape.id.map(|id| with_part(&self.text, id.get(), &fresh_id()));
        let mut own = Self::parse(text.as_deref().unwrap_or(&self.text))?;
        own.client_id = self.client_id().map(ToOwned::to_owned);
        Ok(own)
    }

    pub(crate) fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method, .. } => Some(method),
            Kind::Other => None,
        }
    }

    pub(crate) fn params(&self) -> Option<&RawValue> {
        match &self.kind {
            Kind::Request { params, .. } | Kind::Notification { params, .. } => params.as_deref(),
            Kind::Other => None,
        }
    }

    /// The id of a request, as it was written.
    pub(crate) fn id(&self) -> Option<&RawValue> {
        match &self.kind {
            Kind::Request { id, .. } => Some(id),
            Kind::Notification { .. } | Kind::Other => None,
        }
    }

    /// The id that the client has given the request.
    pub(crate) fn client_id(&self) -> Option<&RawValue> {
        self.client_id.as_deref().or_else(|| self.id())
    }

    /// The version in `_meta`, which a modern request has.
    pub(crate) fn modern_version(&self) -> Option<String> {
        self.param(&["_meta", meta::PROTOCOL_VERSION])
    }

    /// A parameter that is a string.
    pub(crate) fn param(&self, path: &[&str]) -> Option<String> {
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        json::borrow(lookup(self.params()?, &path).ok()??.get()).ok()
    }
}

/// A request of `mcpl` itself.
pub(crate) fn request(id: &str, method: &str, params: &str) -> Result<Envelope, JsonError> {
    Envelope::parse(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{params}}}"#, json!(method)))
}

/// An id, as JSON, that no other request in the session has: neither of this process nor of its client.
pub(crate) fn fresh_id() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("\"mcpl-{:016x}-{}\"", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An error in answer to a request whose id is given as it was written. An error of HTTP says what to do, where that is known.
pub(crate) fn error_response(id: Option<&RawValue>, error: &ErrorObject) -> String {
    let response = jsonrpc::error_response(None, &clarified(error));
    // As it was written, also if it is no id of JSON-RPC.
    let Some(id) = id else { return response };
    match json::borrow::<Shape<'_>>(&response) {
        Ok(Shape { error: Some(error), .. }) => format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get()),
        _ => response,
    }
}

/// The message of an error: a rejection by AWS gets its fix, and a connection error names the URL once. `code` is the HTTP status
/// of an error that has the body of its response.
fn clarified(error: &ErrorObject) -> Cow<'_, ErrorObject> {
    let body = error.data.as_ref().and_then(|data| data["body"].as_str());
    let status = u16::try_from(error.code).ok();
    let hint = status.zip(body).and_then(|(status, body)| sigv4::hint(status, body));
    let message = match hint {
        Some(hint) => Some(format!("{}: {hint}", error.message)),
        None => with_url_once(&error.message),
    };
    message.map_or(Cow::Borrowed(error), |message| Cow::Owned(ErrorObject { message, ..error.clone() }))
}

/// Removes the part of a message in which the HTTP client repeats the URL; `None` if there are none.
fn with_url_once(message: &str) -> Option<String> {
    const CONNECTING: &str = "client error (Connect): ";
    if let Some((before, after)) = message.split_once("error sending request: ") {
        return Some(format!("{before}{}", after.strip_prefix(CONNECTING).unwrap_or(after)));
    }
    let (before, rest) = message.split_once("error sending request for url (")?;
    let (url, after) = rest.split_once("): ")?;
    let after = after.strip_prefix(CONNECTING).unwrap_or(after);
    before.contains(url.trim_end_matches('/')).then(|| format!("{before}{after}"))
}

/// Whether two ids are the same: a number and its text are not.
pub(crate) fn is_same_id(one: &RawValue, other: &RawValue) -> bool {
    let parse = |id: &RawValue| json::borrow::<RequestId>(id.get()).ok();
    one.get() == other.get() || matches!((parse(one), parse(other)), (Some(one), Some(other)) if one == other)
}

/// The text of an object with members in front of its own; `members` is text too.
pub(crate) fn with_members(object: &str, members: &str) -> String {
    let rest = object.trim_start().strip_prefix('{').unwrap_or_default().trim_start();
    let comma = if rest.starts_with('}') || members.is_empty() { "" } else { "," };
    format!("{{{members}{comma}{rest}")
}

/// The members of an object, each as it is written.
///
/// # Errors
///
/// As [`received::read`].
pub(crate) fn members(object: &str) -> Result<Vec<(String, Box<RawValue>)>, JsonError> {
    struct Members(Vec<(String, Box<RawValue>)>);

    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct MembersVisitor;

            impl<'de> Visitor<'de> for MembersVisitor {
                type Value = Members;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }

            deserializer.deserialize_map(MembersVisitor)
        }
    }

    received::read::<Members>(object).map(|members| members.0)
}

/// The text of an object without some of its members; what is no object stays as it is.
pub(crate) fn without_members(object: &str, names: &[&str]) -> String {
    let Ok(members) = members(object) else { return object.to_owned() };
    let kept = members.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    let kept: Vec<String> = kept.map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", kept.join(","))
}

/// A text in which a part of its own is replaced.
pub(crate) fn with_part(text: &str, part: &str, new: &str) -> String {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    [&text[..start], new, &text[start + part.len()..]].concat()
}

/// JSON has line ends between its tokens alone, where a space is as good.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_members() {
        let request = Envelope::parse(r#"{"jsonrpc":"2.0","id":1e2,"method":"tools/list","params":{"a":1}}"#).unwrap();
        assert_eq!(request.id().unwrap().get(), "1e2");
        assert_eq!((request.method(), request.params().unwrap().get()), (Some("tools/list"), r#"{"a":1}"#));

        let notification = Envelope::parse(r#"{"method":"notifications/initialized"}"#).unwrap();
        assert!(matches!(notification.kind, Kind::Notification { .. }));
        assert!(matches!(Envelope::parse(r#"{"id":1,"result":{}}"#).unwrap().kind, Kind::Other));
        assert!(matches!(Envelope::parse("[]").unwrap().kind, Kind::Other));
        assert!(Envelope::parse("{").is_err());
    }

    #[test]
    fn an_error_has_the_id_as_it_was_written() {
        for id in ["1.5", "1e2", "\"x\"", "9007199254740993"] {
            let raw = RawValue::from_string(id.to_owned()).unwrap();
            let response = error_response(Some(&raw), &ErrorObject::new(-32603, "no"));
            assert_eq!(response, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"no"}}}}"#));
        }
    }

    #[test]
    fn an_error_of_aws_says_what_to_do() {
        let error = |code, body: &str| {
            error_response(None, &ErrorObject::new(code, "the server answered 403").with_data(json!({ "body": body })))
        };

        let error_text = error(403, r#"{"Message":"Forbidden"}"#);
        assert!(
            error_text.contains("the server answered 403: AWS rejected") && error_text.contains("`--sigv4`"),
            "{error_text}"
        );
        assert!(error_text.contains(r#""data":{"body":"{\"Message\":\"Forbidden\"}"}"#), "{error_text}");
        for other in [error(403, "<html>"), error(-32603, r#"{"Message":"Forbidden"}"#)] {
            assert!(other.contains(r#""message":"the server answered 403""#), "{other}");
        }
    }

    #[test]
    fn a_url_that_is_not_reached_is_named_once() {
        let sending = "error sending request for url (https://a.example/): ";
        for (message, expected) in [
            (
                format!("mcpl: could not reach https://a.example: {sending}client error (Connect): dns error"),
                Some("mcpl: could not reach https://a.example: dns error"),
            ),
            (
                format!("mcpl: the connection to https://a.example/ broke off: {sending}connection closed"),
                Some("mcpl: the connection to https://a.example/ broke off: connection closed"),
            ),
            (
                "mcpl: could not reach https://a.example: error sending request: client error (Connect): dns error"
                    .to_owned(),
                Some("mcpl: could not reach https://a.example: dns error"),
            ),
            // The only name of what was not reached.
            (format!("mcpl: could not get a token: {sending}dns error"), None),
            ("error sending request for url (".to_owned(), None),
        ] {
            assert_eq!(with_url_once(&message).as_deref(), expected, "{message}");
        }
    }

    #[test]
    fn ids_are_compared_by_value_and_type() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();

        assert!(is_same_id(&raw("1"), &raw("1")));
        assert!(is_same_id(&raw("\"a\""), &raw("\"\\u0061\"")));
        assert!(!is_same_id(&raw("1"), &raw("\"1\"")));
    }

    /// C4, C5
    #[test]
    fn a_request_that_is_sent_again_has_an_id_of_its_own() {
        let first = Envelope::parse(r#"{"id":"a","method":"m","params":{"id":"a"}}"#).unwrap();
        let (second, third) = (first.with_fresh_id().unwrap(), first.with_fresh_id().unwrap());

        let ids = [&first, &second, &third].map(|own| own.id().unwrap().get().to_owned());
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        assert_eq!(second.text, format!(r#"{{"id":{},"method":"m","params":{{"id":"a"}}}}"#, ids[1]));
        let again = second.with_fresh_id().unwrap();
        assert!([&first, &second, &again].iter().all(|own| own.client_id().unwrap().get() == r#""a""#));
    }

    #[test]
    fn members_are_left_out_and_the_others_keep_their_order() {
        let object = r#"{ "z":1e400, "\u0061":{"a":1},"b":[1, 2] }"#;
        assert_eq!(without_members(object, &["a", "x"]), r#"{"z":1e400,"b":[1, 2]}"#);
        assert_eq!(without_members("[1]", &["a"]), "[1]");
    }

    #[test]
    fn members_come_first_and_parts_are_found_where_they_are() {
        assert_eq!(with_members("{}", r#""a":1"#), r#"{"a":1}"#);
        assert_eq!(with_members(r#" { "b":2}"#, r#""a":1"#), r#"{"a":1,"b":2}"#);
        assert_eq!(with_members(r#"{"b":2}"#, ""), r#"{"b":2}"#);

        let text = r#"{"x":{},"y":{}}"#;
        let second: &RawValue = serde_json::from_str(text).unwrap();
        let second = lookup(second, &["y".to_owned()]).unwrap().unwrap();
        assert_eq!(with_part(text, second.get(), "1"), r#"{"x":{},"y":1}"#);
    }
}
