//! Parameters of requests, in a query or a form body (`application/x-www-form-urlencoded`).

use std::{borrow::Cow, collections::BTreeMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// Maximum length of a query or form body, in bytes.
pub(crate) const MAX_BYTES: usize = 16 * 1024;
/// Maximum number of parameters.
const MAX_PARAMETERS: usize = 64;
/// All characters but the unreserved ones (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters of a request. A parameter without a value counts as omitted (RFC 6749, section 3.1). `Debug` prints names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    values: BTreeMap<String, String>,
    /// The names that occur more than once, in the order of their second values.
    repeated: Vec<String>,
}

/// Why a query or form body was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// It has more than 16 KiB or 64 parameters.
    #[error("the parameters have more than 16 KiB, or are more than 64")]
    TooLarge,
    /// A percent-encoding is incomplete, or the decoded text is not UTF-8.
    #[error("the parameters are not encoded as application/x-www-form-urlencoded")]
    Malformed,
}

impl Parameters {
    /// Parses a query or form body.
    ///
    /// A repeated parameter is not an error here, because the caller decides whether the error may be sent to a redirect URI:
    /// see [`repeated`](Self::repeated).
    ///
    /// # Errors
    ///
    /// When the text is too large or malformed.
    pub fn parse(text: &[u8]) -> Result<Self, ParametersError> {
        if text.len() > MAX_BYTES {
            return Err(ParametersError::TooLarge);
        }
        let mut own = Self::default();
        for (index, pair) in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).enumerate() {
            if index == MAX_PARAMETERS {
                return Err(ParametersError::TooLarge);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if own.values.insert(name.clone(), value).is_some() {
                own.repeated.push(name);
            }
        }
        Ok(own)
    }

    /// Returns the value of a parameter; `None` if it is omitted or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the first name that occurs more than once.
    pub fn repeated(&self) -> Option<&str> {
        self.repeated.first().map(String::as_str)
    }

    /// Whether a name occurs more than once.
    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.repeated.iter().any(|own| own == name)
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Adds parameters to a URL without fragment, which keeps its own query. Names need no encoding.
pub(crate) fn append(url: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let delimiter = if url.contains('?') { '&' } else { '?' };
    format!("{url}{delimiter}{}", encode(parameters))
}

/// Encodes parameters as a query or form body. Names need no encoding. `None` is left out.
pub(crate) fn encode(parameters: &[(&str, Option<&str>)]) -> String {
    let pairs =
        parameters.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={}", encode_value(value))));
    pairs.collect::<Vec<_>>().join("&")
}

/// Percent-encodes all characters but the unreserved ones.
pub(crate) fn encode_value(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, RESERVED)
}

fn decode(text: &[u8]) -> Result<String, ParametersError> {
    let is_whole = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    if !text.split(|byte| *byte == b'%').skip(1).all(is_whole) {
        return Err(ParametersError::Malformed);
    }
    let spaced: Cow<'_, [u8]> = match text.contains(&b'+') {
        true => text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<_>>().into(),
        false => text.into(),
    };
    let decoded = percent_decode(&spaced).decode_utf8().map_err(|_| ParametersError::Malformed)?;
    // NUL is cut off by some programs that log or compare texts.
    if decoded.contains('\0') { Err(ParametersError::Malformed) } else { Ok(decoded.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parameters, ParametersError> {
        Parameters::parse(text.as_bytes())
    }

    #[test]
    fn names_and_values_are_decoded_and_empty_values_are_omitted() {
        let own = parse("a=1+2%2B&&b=%C3%A9&empty=&flag&a%20b=c=d").unwrap();

        assert_eq!(own.get("a"), Some("1 2+"));
        assert_eq!(own.get("b"), Some("é"));
        assert_eq!(own.get("a b"), Some("c=d"));
        assert_eq!([own.get("empty"), own.get("flag"), own.get("other")], [None; 3]);
        assert_eq!(own.repeated(), None);
        assert_eq!(format!("{own:?}"), r#"{"a", "a b", "b", "empty", "flag"}"#);
    }

    #[test]
    fn a_repeated_parameter_is_reported_also_if_it_is_empty_or_encoded() {
        for text in ["a=1&a=2", "a=1&a=1", "a=&a=1", "a&a", "a=1&%61=2"] {
            assert_eq!(parse(text).unwrap().repeated(), Some("a"), "{text}");
        }
    }

    #[test]
    fn malformed_and_large_texts_are_rejected() {
        for text in ["a=%", "a=%2", "a=%g0", "%f=1", "a=%FF", "a=%C3%28", "a=%00", "a%00=1", "a=%ED%A0%80"] {
            assert_eq!(parse(text), Err(ParametersError::Malformed), "{text}");
        }
        assert_eq!(Parameters::parse(b"a=\xff"), Err(ParametersError::Malformed));
        let many = |count: usize| (0..count).map(|number| format!("p{number}=1&")).collect::<String>();
        assert!(parse(&many(64)).is_ok());
        assert_eq!(parse(&many(65)), Err(ParametersError::TooLarge));
        assert!(parse(&format!("a={}", "x".repeat(MAX_BYTES - 2))).is_ok());
        assert_eq!(parse(&format!("a={}", "x".repeat(MAX_BYTES - 1))), Err(ParametersError::TooLarge));
    }
}
