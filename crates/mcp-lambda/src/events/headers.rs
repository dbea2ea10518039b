//! The headers of an event, with their limits.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::member::{FromMember, Member, Text};
use crate::headers;

/// Headers as events write them: each value a string, or, with multi-value headers, a list of strings.
pub(super) struct Headers {
    pub(super) map: HeaderMap,
    /// The names and values in it, each with its name.
    bytes: usize,
    pub(super) has_malformed: bool,
    /// More than is read.
    pub(super) is_too_much: bool,
}

/// As many as a request through a Function URL or an API mostly has.
const USUAL_HEADERS: usize = 24;
/// The most values that are read of the headers that are looked at, and the most bytes of them with their names. No platform
/// passes on more than 64 KiB, a load balancer's limit; who may invoke the function directly can write 6 MB, and
/// [`HeaderMap`] panics from 24,576 on.
const MAX_HEADERS: usize = 256;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The most values of one header or query parameter that are read, and one more.
const MAX_VALUES: usize = 1000;

impl Default for Headers {
    fn default() -> Self {
        Self { map: HeaderMap::with_capacity(USUAL_HEADERS), bytes: 0, has_malformed: false, is_too_much: false }
    }
}

impl Headers {
    // What is malformed or too much is not dropped silently: an `Origin` that is not seen would not be checked.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.bytes += name.len() + value.len();
        if self.map.len() == MAX_HEADERS || self.bytes > MAX_HEADER_BYTES {
            self.is_too_much = true;
            return;
        }
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            self.has_malformed = true;
            return;
        };
        let value = match HeaderValue::from_bytes(value.as_bytes()) {
            // These have an error code of their own, for which the body must be read first.
            Err(_) if headers::is_mirrored(&name) => headers::invalid_value(),
            value => value,
        };
        match value {
            Ok(value) => self.is_too_much |= self.map.try_append(name, value).is_err(),
            Err(_) => self.has_malformed = true,
        }
    }
}

impl<'de> FromMember<'de> for Headers {
    fn from_map<M: MapAccess<'de>>(mut entries: M) -> Result<Option<Self>, M::Error> {
        let mut headers = Self::default();
        while let Some(Text(name)) = entries.next_key()? {
            if is_unread(&name) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            match entries.next_value()? {
                Member::Is(HeaderValues::One(Text(value))) => headers.add(&name, &value),
                Member::Is(HeaderValues::Several(values)) => values.iter().for_each(|value| headers.add(&name, value)),
                Member::Absent => {}
                Member::Other => headers.has_malformed = true,
            }
        }
        Ok(Some(headers))
    }
}

/// Headers that nothing here reads, or may rely on: what the platform adds and proxies claim about the way that a request has
/// come, and what clients send with every request. They are most of its headers, and reading one takes time.
const UNREAD_PREFIXES: [&str; 2] = ["x-amzn-", "x-forwarded-"];
const UNREAD: [&str; 5] = ["accept-encoding", "accept-language", "content-length", "host", "user-agent"];

fn is_unread(header: &str) -> bool {
    let starts_with = |prefix: &&str| header.get(..prefix.len()).is_some_and(|own| own.eq_ignore_ascii_case(prefix));
    UNREAD_PREFIXES.iter().any(starts_with) || UNREAD.iter().any(|name| name.eq_ignore_ascii_case(header))
}

/// What a header has.
pub(super) enum HeaderValues<'a> {
    One(Text<'a>),
    Several(Vec<String>),
}

impl<'de> FromMember<'de> for HeaderValues<'de> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self::One(Text(text)))
    }

    fn from_seq<A: SeqAccess<'de>>(mut elements: A) -> Result<Option<Self>, A::Error> {
        let mut values = Some(Vec::new());
        while let Some(element) = elements.next_element::<Member<Text<'de>>>()? {
            match (element, &mut values) {
                // More than any reader of them takes.
                (Member::Is(_), Some(values)) if values.len() > MAX_VALUES => {}
                (Member::Is(Text(value)), Some(values)) => values.push(value.into_owned()),
                _ => values = None,
            }
        }
        Ok(values.map(Self::Several))
    }
}
