//! The headers of an event, with their limits.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::member::{FromMember, Member, Text};
use crate::headers;

/// The headers of an event: each value is a string or, with multi-value headers, a list of strings.
pub(super) struct Headers {
    pub(super) map: HeaderMap,
    /// The total size of the values, each with its name.
    bytes: usize,
    pub(super) has_malformed: bool,
    /// There are more headers, or larger ones, than allowed.
    pub(super) exceeds_limits: bool,
}

/// A typical number of headers of a request through a Function URL or an API.
const USUAL_HEADERS: usize = 24;
/// The limits for the headers of a request: number of values, and bytes of values with their names. The platform allows at most
/// 64 KiB (load balancers). A caller with `lambda:InvokeFunction` can send 6 MB, and [`HeaderMap`] panics from 24,576 entries on.
const MAX_HEADERS: usize = 256;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The largest number of values of one header or query parameter. One more is kept, so that the caller's limit is exceeded.
const MAX_VALUES: usize = 1000;

impl Default for Headers {
    fn default() -> Self {
        Self { map: HeaderMap::with_capacity(USUAL_HEADERS), bytes: 0, has_malformed: false, exceeds_limits: false }
    }
}

impl Headers {
    // Malformed or excess headers are not dropped silently: a dropped `Origin` would bypass the origin check.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.bytes += name.len() + value.len();
        if self.map.len() == MAX_HEADERS || self.bytes > MAX_HEADER_BYTES {
            self.exceeds_limits = true;
            return;
        }
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            self.has_malformed = true;
            return;
        };
        let value = match HeaderValue::from_bytes(value.as_bytes()) {
            // An invalid mirrored header has its own JSON-RPC error code, which needs the request id from the body.
            Err(_) if headers::is_mirrored(&name) => headers::invalid_value(),
            value => value,
        };
        match value {
            Ok(value) => self.exceeds_limits |= self.map.try_append(name, value).is_err(),
            Err(_) => self.has_malformed = true,
        }
    }
}

impl<'de> FromMember<'de> for Headers {
    fn from_map<M: MapAccess<'de>>(mut entries: M) -> Result<Option<Self>, M::Error> {
        let mut headers = Self::default();
        while let Some(Text(name)) = entries.next_key()? {
            if is_ignored(&name) {
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

/// Headers that are ignored: those that the platform and proxies add, which must not be trusted, and those of every HTTP client.
/// They are most of the headers of a request, and skipping them saves time.
const IGNORED_PREFIXES: [&str; 2] = ["x-amzn-", "x-forwarded-"];
const IGNORED: [&str; 4] = ["accept-encoding", "content-length", "host", "user-agent"];

fn is_ignored(header: &str) -> bool {
    let starts_with = |prefix: &&str| header.get(..prefix.len()).is_some_and(|own| own.eq_ignore_ascii_case(prefix));
    IGNORED_PREFIXES.iter().any(starts_with) || IGNORED.iter().any(|name| name.eq_ignore_ascii_case(header))
}

/// The values of a header or query parameter.
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
                // Already above every limit: the rest need not be kept.
                (Member::Is(_), Some(values)) if values.len() > MAX_VALUES => {}
                (Member::Is(Text(value)), Some(values)) => values.push(value.into_owned()),
                _ => values = None,
            }
        }
        Ok(values.map(Self::Several))
    }
}
