//! The query string and the cookies of an event. Routes and layers use them; the MCP endpoint does not.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{MapAccess, SeqAccess};

use super::{
    EventSource,
    headers::HeaderValues,
    member::{FromMember, Member, Text},
};

/// The characters that are invalid in the query of a URI. A Function URL forwards the query as the client sent it.
const INVALID: AsciiSet = CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'#');
/// All characters but the unreserved ones (RFC 3986, section 2.3).
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The largest query string in bytes: the limit of `http::Uri`.
const MAX_BYTES: usize = 64 * 1024;
/// The largest number of query parameters.
const MAX_PAIRS: usize = 1000;

/// Percent-encodes `rawQueryString` of a payload-2.0 event where a URI requires it.
pub(super) fn encode_raw(query: Text<'_>) -> Cow<'_, str> {
    match query.0 {
        Cow::Borrowed(query) => utf8_percent_encode(query, &INVALID).into(),
        Cow::Owned(query) => Cow::Owned(utf8_percent_encode(&query, &INVALID).to_string()),
    }
}

/// `queryStringParameters` or `multiValueQueryStringParameters`, in the order of the event.
#[derive(Default)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    bytes: usize,
    /// A value is not a string, or a limit is exceeded.
    is_malformed: bool,
}

impl Parameters {
    fn add(&mut self, name: &str, value: &str) {
        self.bytes += name.len() + value.len() + "=&".len();
        if self.bytes > MAX_BYTES || self.pairs.len() == MAX_PAIRS {
            self.is_malformed = true;
            return;
        }
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// The query string; `None` if it is malformed or too long. A REST API decodes names and values; a load balancer forwards
    /// them as the client sent them.
    pub(super) fn query(&self, source: EventSource) -> Option<String> {
        let form = |text: &str| match source {
            EventSource::RestApi => utf8_percent_encode(text, &ENCODED).to_string(),
            EventSource::FunctionUrl | EventSource::LoadBalancer { .. } => {
                utf8_percent_encode(text, &INVALID).to_string()
            }
        };
        let pairs: Vec<String> =
            self.pairs.iter().map(|(name, value)| format!("{}={}", form(name), form(value))).collect();
        (!self.is_malformed).then(|| pairs.join("&"))
    }
}

impl<'de> FromMember<'de> for Parameters {
    fn from_map<M: MapAccess<'de>>(mut entries: M) -> Result<Option<Self>, M::Error> {
        let mut parameters = Self::default();
        while let Some(Text(name)) = entries.next_key()? {
            match entries.next_value()? {
                Member::Is(HeaderValues::One(Text(value))) => parameters.add(&name, &value),
                Member::Is(HeaderValues::Several(values)) => {
                    values.iter().for_each(|value| parameters.add(&name, value));
                }
                Member::Absent => parameters.add(&name, ""),
                Member::Other => parameters.is_malformed = true,
            }
        }
        Ok(Some(parameters))
    }
}

/// `cookies` of a payload-2.0 event as one `Cookie` header value; `None` inside if an element is not a string.
pub(super) struct Cookies(pub(super) Option<String>);

impl<'de> FromMember<'de> for Cookies {
    fn from_seq<A: SeqAccess<'de>>(mut elements: A) -> Result<Option<Self>, A::Error> {
        let mut header = Some(String::new());
        while let Some(element) = elements.next_element::<Member<Text<'de>>>()? {
            match (element, &mut header) {
                (Member::Is(Text(cookie)), Some(header)) => {
                    if !header.is_empty() {
                        header.push_str("; ");
                    }
                    header.push_str(&cookie);
                }
                _ => header = None,
            }
        }
        Ok(Some(Self(header)))
    }
}
